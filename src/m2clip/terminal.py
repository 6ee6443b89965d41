"""Text for a terminal: names of files and classes come from strangers and must not steer it; columns of tables stand in line."""

import re
from collections.abc import Sequence

# Control characters but the line feed, separators of lines and paragraphs, marks that turn the direction of writing.
_STEERING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Text with each character that steers a terminal as its JSON escape; line feeds stay."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def aligned(rows: Sequence[Sequence[object]]) -> list[str]:
    """Rows of equally many cells -> a line each, the columns one below another, two spaces apart."""
    cells = [list(map(str, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
