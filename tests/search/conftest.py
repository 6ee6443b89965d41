"""The videos and the table that the tests of bulk work make."""

from tests.bulk.conftest import checkpoint, recognizer, source, table, videos

__all__ = ["checkpoint", "recognizer", "source", "table", "videos"]
