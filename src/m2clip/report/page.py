"""One HTML page of headings, paragraphs, tables and pictures.

Whatever text comes in is escaped: a class may be called <script>.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
body { color: #1a1a1a; background: #fff; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; } caption { text-align: left; color: #555; padding: .3rem 0; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem; border-bottom: 1px solid #ddd; }
th, td { overflow-wrap: anywhere; }
thead th { border-bottom: 2px solid #888; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; } figcaption { color: #555; }
"""


@dataclass(frozen=True)
class Table:
    """A header and rows of cells; numbers are set to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """An image file beside the page and what it shows, in words."""

    file: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; a string is a paragraph."""

    heading: str
    parts: Sequence[str | Table | Picture]


def page(title: str, sections: Sequence[Section]) -> str:
    """A whole HTML document, without scripts and without anything from the network."""
    body = "\n".join(
        f"<section>\n<h2>{escape(section.heading)}</h2>\n" + "\n".join(map(_part, section.parts)) + "\n</section>"
        for section in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _part(part: str | Table | Picture) -> str:
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Picture):
        source, caption = escape(quote(part.file)), escape(part.caption)
        return f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    return f"<p>{escape(part)}</p>"


def _table(table: Table) -> str:
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    header = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.header)
    rows = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in table.rows)
    head = f"<thead><tr>{header}</tr></thead>"
    return f'<div class="wide"><table>{caption}\n{head}\n<tbody>\n{rows}\n</tbody></table></div>'


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f'<td class="number">{value:.4g}</td>'
    if isinstance(value, int):
        return f'<td class="number">{value}</td>'
    return f"<td>{escape(str(value))}</td>"
