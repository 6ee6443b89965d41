"""The files of the results: they say the same in every form, and a page follows from what stands beside it."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from m2clip.study import Study, load_study
from m2clip.study.output import COLUMNS, page_text, write_page, write_results
from m2clip.study.page import page_plan
from m2clip.study.results import Record, read_records
from tests.study.small_study import record, small_study

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "results").glob("*/records.json"))
SECTIONS = [
    {
        "title": "Methods",
        "about": "What was found.",
        "tables": [{"title": "T", "data": ["small"], "rows": ["m2clip", "st"], "compare": "m2clip"}],
        "figures": [{"kind": "scatter", "title": "F", "data": "small", "parts": ["base", "novel"], "rows": ["m2clip", "st"]}],
    },
    {
        "title": "Not yet",
        "figures": [{"kind": "line", "title": "G", "x": "n", "data": "small", "parts": ["base"], "lines": {"a": [[1, "st@half"]]}}],
    },
]  # fmt: skip
HALF = {"half": {"of": ["st"], "strength": 0.5}}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return small_study(tmp_path, sections=SECTIONS, evaluations=HALF)[0]


@pytest.fixture
def records() -> list[Record]:
    return [record(base=0.9, novel=0.5, seed=seed) for seed in (0, 1)] + [
        record("st", base=0.8, novel=0.6, parameters=70)
    ]


def test_csv_and_parquet_hold_the_same(tmp_path: Path, study: Study, records: list[Record]) -> None:
    named = write_results(study, records, tmp_path / "results")
    assert all(Path(name).is_file() for name in named)
    with (tmp_path / "results/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = pq.read_table(tmp_path / "results/results.parquet").to_pylist()
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(table) == 9  # three records with two readings of base and one of novel
    for row, other in zip(rows, table, strict=True):
        assert {key: None if value == "" else value for key, value in row.items()} == {
            key: None if value is None else str(value) for key, value in other.items()
        }
    assert (rows[0]["method"], rows[0]["part"], rows[0]["reading"], float(rows[0]["top1"])) == (
        *("m2clip", "base", "similarity"),
        0.45,
    )


def test_summary_is_the_mean_over_seeds(tmp_path: Path, study: Study, records: list[Record]) -> None:
    write_results(study, records, tmp_path / "results")
    with (tmp_path / "results/summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    first = rows[0]
    assert (first["row"], first["title"], first["part"], first["seeds"]) == ("m2clip", "M2-CLIP", "base", "2")
    assert (float(first["mean"]), float(first["std"])) == (pytest.approx(0.9), pytest.approx(0))
    alone = next(row for row in rows if row["row"] == "st" and row["part"] == "base")
    assert alone["std"] == ""


def test_a_page_follows_from_the_files_beside_it(tmp_path: Path, study: Study, records: list[Record]) -> None:
    page = tmp_path / "docs" / "small.md"
    page.parent.mkdir()
    write_page(study, records, page)
    path, overrides, kept = read_records(tmp_path / "docs/small/records.json")
    assert page_text(load_study(path, overrides), kept, page) == page.read_text("utf-8")
    text = page.read_text("utf-8")
    assert "What was found." in text
    assert "| M2-CLIP | 1 K | 90.0 ± 0.0 |" in text
    assert "![F](small/figure-1-1.png)" in text
    assert (tmp_path / "docs/small/figure-1-1.png").read_bytes().startswith(b"\x89PNG")
    assert "figure-2-1" not in text  # nothing was measured for it
    worse = [record(base=0.1, novel=0.5, seed=0), *kept[1:]]
    assert page_text(study, worse, page) != text


def test_without_sections_every_row_has_a_table(tmp_path: Path) -> None:
    config = small_study(tmp_path, evaluations=HALF)[0].config
    (section,) = page_plan(config)
    assert section.tables[0].rows == ("m2clip", "st", "st@half")


@pytest.mark.parametrize("path", PAGES, ids=[path.parent.name for path in PAGES])
def test_pages_of_the_documentation_follow_from_their_files(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    source, overrides, records = read_records(path)
    study, page = load_study(source, overrides), Path("docs/results") / f"{path.parent.name}.md"
    assert page_text(study, records, page) == page.read_text("utf-8")
    write_page(study, records, tmp_path / page.name)
    for name in ("results.csv", "summary.csv"):
        assert (tmp_path / page.stem / name).read_text("utf-8") == (path.parent / name).read_text("utf-8")
