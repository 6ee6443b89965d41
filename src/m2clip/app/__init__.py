"""The server: a service that decodes and recognises for many at once, its HTTP API, and its page. Imported by `m2clip serve` alone."""
