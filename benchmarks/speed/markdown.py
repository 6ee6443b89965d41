"""Numbers and tables of docs/performance.md."""

from collections.abc import Sequence


def number(value: float) -> str:
    """Three digits: 0.0123, 1.23, 12.3, 123."""
    digits = 3 - len(str(int(abs(value)))) if abs(value) >= 1 else 2
    if 0 < abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.{max(digits, 0)}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
