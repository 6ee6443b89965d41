"""The pages in docs/protocols against the protocols themselves."""

import re
from pathlib import Path

import pytest
import yaml

from m2clip.data.lists.class_files import read_classes
from m2clip.protocol import load_protocol, shipped_names
from m2clip.protocol.file import ProtocolFile
from tests.protocol.test_lists import VIDEOS

PAGES = Path(__file__).parents[2] / "docs" / "protocols"


def rows(text: str) -> list[list[str]]:
    """The cells of the table rows of a page, without header and rule."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return [cells for cells in lines[2:] if not set("".join(cells)) <= set("-")]


def test_every_protocol_has_a_page_and_a_line_in_the_index() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {*shipped_names(), "README"}
    index = {re.sub(r"\[(.*)\]\(.*", r"\1", cells[0]): cells for cells in rows((PAGES / "README.md").read_text())}
    assert set(index) == set(shipped_names())
    for name, (link, what, summary) in index.items():
        written = load_protocol(name).written
        assert link == f"[{name}]({name}.md)"
        several = {"mean": "mean, std", "harmonic": "harmonic mean"}[written.summary]
        assert summary == (several if len(written.tests) > 1 else "one part")
        if "views" in what:
            assert written.views in what


@pytest.mark.parametrize("name", shipped_names())
def test_a_page_says_what_the_protocol_does(name: str) -> None:
    protocol, text = load_protocol(name), (PAGES / f"{name}.md").read_text()
    written = protocol.written
    expected = []
    for part, test in written.tests.items():
        table = protocol.tests[part].classes
        assert table is not None
        place = f"`{test.list}`" + (f" (code {test.code})" if test.code is not None else "")
        classes = str(len(read_classes(table).names))
        expected.append([part, test.kind, f"{VIDEOS[name][part]:,}", classes, str(test.classes), place])
    assert rows(text) == expected
    assert f"- **Views:** {written.views} (" in text
    assert "- **Frames:** as the checkpoint was trained" in text
    assert written.frames is None
    assert written.template is None
    summary = re.search(r"- \*\*Summary:\*\* (.*?)\n\n", text, re.DOTALL)
    assert summary is not None
    words = {"mean": "mean and standard deviation (n - 1)", "harmonic": "the harmonic mean"}[written.summary]
    assert summary[1].startswith(words if len(written.tests) > 1 else "one part")
    assert f"    {written.folder}/\n" in text  # the layout on the disk
    top = (written.root or ".").removeprefix(".")
    assert not top or f"\n      {top}/" in text
    folders = {Path(test.list).parent.as_posix() for test in written.tests.values()} - {"."}
    assert all(f"\n      {folder}/" in text for folder in folders)
    assert f"    m2clip evaluate CHECKPOINT --protocol {name} --dry-run\n" in text
    assert ("## Training" in text) == (written.train is not None)
    for choice in written.choices:
        assert f"--choose {choice}=" in text


def test_the_example_of_an_own_protocol_names_every_setting() -> None:
    text = (PAGES / "README.md").read_text().split("## Your own protocol")[1]
    example = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    written = ProtocolFile.model_validate(yaml.safe_load(example))
    assert written.model_fields_set == set(ProtocolFile.model_fields)
    assert written.summary == "harmonic"
