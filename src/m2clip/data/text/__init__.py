"""Class names become texts, and texts become tokens."""
