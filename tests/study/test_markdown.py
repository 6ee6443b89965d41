"""Markdown pages: what stands where, and that names cannot break a table."""

from m2clip.report.page import Picture, Section, Table
from m2clip.study.markdown import markdown


def test_a_page() -> None:
    table = Table(["a", "b"], [["1|2", "<script>"], ["line\nfeed", 3], ["[x](javascript:y)", 4]], caption="Caption.")
    text = markdown(
        "Title", [Section("Part", ["A paragraph.", table, Picture("p.png", "What it shows")])], folder="page"
    )
    assert text.splitlines() == [
        "# Title",
        "",
        "## Part",
        "",
        "A paragraph.",
        "",
        "| a | b |",
        "|---|---|",
        "| 1\\|2 | &lt;script> |",
        "| line feed | 3 |",
        "| [x]\\(javascript:y) | 4 |",
        "",
        "Caption.",
        "",
        "![What it shows](page/p.png)",
    ]
