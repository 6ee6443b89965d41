"""A page as Markdown: the same sections, tables and pictures as `report.page` makes HTML of."""

from collections.abc import Sequence

from m2clip.report.page import Picture, Section, Table


def markdown(title: str, sections: Sequence[Section], *, folder: str) -> str:
    """The text of a page. Pictures lie in `folder`, as seen from the page."""
    parts = [f"# {_text(title)}"]
    for section in sections:
        parts.append(f"## {_text(section.heading)}")
        for part in section.parts:
            if isinstance(part, Table):
                parts += [markdown_table(part), *([_text(part.caption)] if part.caption else [])]
            elif isinstance(part, Picture):
                parts.append(f"![{_text(part.caption)}]({folder}/{part.file})")
            elif isinstance(part, str):
                parts.append(part.strip())
            else:
                raise TypeError("the pictures of a gallery lie inside of a page; Markdown has no place for them")
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """The table alone, without its caption."""
    rows = [table.header, *table.rows]
    lines = ["| " + " | ".join(_text(str(cell)) for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(table.header))
    return "\n".join(lines)


def _text(text: str) -> str:
    """Nothing in a name or a number may end a cell, begin a tag or be a link."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("](", "]\\(")
