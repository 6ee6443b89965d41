"""Text for a terminal: names of files and classes come from strangers and must not steer it."""

import re

# Control characters but the line feed, separators of lines and paragraphs, marks that turn the direction of writing.
_STEERING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Text with each character that steers a terminal as its JSON escape; line feeds stay."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
