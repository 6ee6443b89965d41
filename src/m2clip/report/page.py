"""One HTML page of headings, paragraphs, tables and pictures.

Whatever text comes in is escaped: a class may be called <script>. Pages have no script, but for one that sorts tables where a table asks
for it; such a page forbids every other by its content security policy.
"""

import base64
import hashlib
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
td { overflow-wrap: anywhere; } td:not(.number) { min-width: 7rem; } /* on a phone a table scrolls rather than break words */
thead th { border-bottom: 2px solid #888; } td.number { text-align: right; overflow-wrap: normal; font-variant-numeric: tabular-nums; }
@media (max-width: 40rem) { table { font-size: .875rem; } th, td { padding: .25rem .4rem; } }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; } figcaption { color: #555; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; }
.gallery figure { margin: 0; } .gallery figcaption { font-size: .8rem; line-height: 1.3; overflow-wrap: anywhere; }
th button { font: inherit; font-weight: bold; color: inherit; background: none; border: 0; padding: 0; text-align: left; cursor: pointer; }
th button::after { content: " \\2195"; color: #888; }
th[aria-sort=ascending] button::after { content: " \\2191"; } th[aria-sort=descending] button::after { content: " \\2193"; }
"""

_SORTING = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const text = row => row.cells[column].textContent;
      const numeric = [...body.rows].every(row => text(row) !== "" && !isNaN(text(row)));
      const rows = [...body.rows].sort((a, b) =>
        numeric ? text(a) - text(b) : text(a).localeCompare(text(b), undefined, {numeric: true}));
      body.append(...(down ? rows.reverse() : rows));
    });
  });
}
"""


@dataclass(frozen=True)
class Table:
    """A header and rows of cells; numbers are set to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    sortable: bool = False
    """Whether a click on a column's head sorts the rows by it."""


@dataclass(frozen=True)
class Picture:
    """An image file beside the page and what it shows, in words."""

    file: str
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Small pictures inside of the page: JPEG in base64, and what each shows."""

    pictures: Sequence[tuple[str, str]]


Part = str | Table | Picture | Gallery
"""What stands under a heading; a string is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    heading: str
    parts: Sequence[Part]


def page(title: str, sections: Sequence[Section]) -> str:
    """A whole HTML document, without anything from the network."""
    sorts = any(isinstance(part, Table) and part.sortable for section in sections for part in section.parts)
    script = f"<script>{_SORTING}</script>\n" if sorts else ""
    body = "\n".join(
        f"<section>\n<h2>{escape(section.heading)}</h2>\n" + "\n".join(map(_part, section.parts)) + "\n</section>"
        for section in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{_policy() if sorts else ''}"
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n{script}</body>\n</html>\n"
    )


def _policy() -> str:
    """Only the script that sorts may run, were ever another to get into the page."""
    digest = base64.b64encode(hashlib.sha256(_SORTING.encode()).digest()).decode()
    rules = f"default-src 'none'; img-src * data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f'<meta http-equiv="Content-Security-Policy" content="{rules}">\n'


def _part(part: Part) -> str:
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Picture):
        source, caption = escape(quote(part.file)), escape(part.caption)
        return f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    if isinstance(part, Gallery):
        figures = "\n".join(
            f'<figure><img src="data:image/jpeg;base64,{escape(content)}" alt="{escape(caption)}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
            for content, caption in part.pictures
        )
        return f'<div class="gallery">\n{figures}\n</div>'
    return f"<p>{escape(part)}</p>"


def _table(table: Table) -> str:
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    header = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.header)
    rows = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in table.rows)
    head = f"<thead><tr>{header}</tr></thead>"
    kind = ' class="sortable"' if table.sortable else ""
    return f'<div class="wide"><table{kind}>{caption}\n{head}\n<tbody>\n{rows}\n</tbody></table></div>'


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f'<td class="number">{value:.4g}</td>'
    if isinstance(value, int):
        return f'<td class="number">{value}</td>'
    return f"<td>{escape(str(value))}</td>"
