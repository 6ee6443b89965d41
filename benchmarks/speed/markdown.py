"""Numbers and tables of pages that are made from measurements."""

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


def put_between(text: str, begin: str, end: str, made: str) -> str:
    """A page with what was made between two marks in place of what stood there. ValueError where there is not one mark of each."""
    head, rest = text.split(begin)
    _, tail = rest.split(end)
    return f"{head}{begin}\n{made}\n{end}{tail}"
