"""docs/notebooks/quickstart.ipynb runs from top to bottom on a CPU without a network, and leaves what it speaks of."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

PAGE = Path(__file__).parents[1] / "docs" / "notebooks" / "quickstart.ipynb"


def test_it_is_kept_without_outputs() -> None:
    cells = [cell for cell in nbformat.read(PAGE, as_version=4).cells if cell.cell_type == "code"]
    assert len(cells) >= 10
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text("utf-8")):
        assert (PAGE.parent / target).exists(), target


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    notebook = nbformat.read(PAGE, as_version=4)
    # What cannot work ends the run with CellExecutionError; the time limit is for what hangs.
    NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    said = {
        number: "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")
        for number, cell in enumerate(cells)
    }
    assert (tmp_path / "quickstart/report/report.html").is_file()
    everything = "".join(said.values())
    assert "56 base classes" in everything
    assert "supervised, 56 classes" in everything
    assert "zero-shot, 24 classes" in everything
    assert len(re.findall(r"^[0-9.]+ - [0-9.]+ s  ", everything, re.MULTILINE)) == 5  # windows of the timeline
    assert "show none of the base classes" in everything
    assert any("image/png" in output.get("data", {}) for output in cells[-1].outputs)
