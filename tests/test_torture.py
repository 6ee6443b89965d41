"""The page's figures of reliability are those of the last measurement, and what measures them works."""

import json
import random
from pathlib import Path

import pytest
import torture
from torturing import kills
from torturing.commands import Command
from torturing.remains import differences, remains
from torturing.victims import Ended, Kill

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_has_the_figures_of_the_measurement() -> None:
    document = json.loads(torture.RESULT.read_text("utf-8"))
    page = torture.PAGE.read_text("utf-8")
    assert torture.with_tables(page, document) == page


@pytest.mark.slow
@pytest.mark.parametrize("name", torture.PARTS)
def test_every_part_survives_its_short_form(name: str) -> None:
    heard: list[str] = []
    found = torture.run(name, short=True, seed=1, note="tests run", say=heard.append)
    assert found["faults"] == [], heard
    assert torture.part(name).tables(json.loads(json.dumps(found["figures"])))


def test_what_is_left_is_compared_but_for_what_a_clock_measured(tmp_path: Path) -> None:
    for name, seconds in (("one", 1.5), ("other", 2.5)):
        (tmp_path / name / "empty").mkdir(parents=True)
        lines = [{"kind": "step", "step": 1, "total": 0.5, "seconds": seconds}, {"kind": "epoch", "step": 1}]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (tmp_path / name / "page.html").write_text(f"<p>it took 1 min {seconds:.0f} s")
    one, other = remains(tmp_path / "one"), remains(tmp_path / "other")
    assert one == other
    assert set(one) == {"empty", "metrics.jsonl", "page.html"}
    with (tmp_path / "other/metrics.jsonl").open("a") as file:
        file.write('{"kind": "epoch", "step": 1}\n')  # a line that comes twice
    (tmp_path / "other/empty").rmdir()
    (tmp_path / "other/best.safetensors.part").touch()
    assert differences(one, remains(tmp_path / "other")) == [
        "best.safetensors.part was left behind",
        "empty is missing",
        "metrics.jsonl differs: 3 entries instead of 2",
    ]


class Careless:
    """Stands for the process that runs commands: each one that is killed leaves a draft, which no other one cleans away."""

    def run(self, arguments: list[str], folder: Path, log: Path, kill: Kill | None, **options: object) -> Ended:
        if kill is not None:
            (folder / "a.draft").touch()
        (folder / "a").touch()
        return Ended(-9 if kill else 0, 1.0, 4, (), hung=False, said="")


def test_a_draft_that_stays_is_a_kill_that_was_not_survived(tmp_path: Path) -> None:
    whole = kills.Undisturbed(1.0, 4, (10,), {"a": remains_of(tmp_path / "whole")["a"]})
    phase = kills.Phase("work", "work", ("operation",))
    command = Command("work", lambda inputs: [], "a")
    chain = kills._Chain(phase, command, whole, tmp_path / "work" / "0", random.Random(0))
    chain.run(Careless(), 0, 1, 1)  # type: ignore[arg-type]
    assert len(chain.faults) == 1
    assert chain.faults[0].startswith("a.draft was left behind (killed: ")
    figures = {"work": kills._figures([chain], whole)}
    assert (figures["work"]["tried"], figures["work"]["survived"]) == (1, 0)
    assert kills.faults(figures) == [f"work: {chain.faults[0]}"]
    assert "| work | 0 of 1 | 0 | 1 | 0 |" in kills.tables(figures)


def remains_of(folder: Path) -> dict[str, object]:
    folder.mkdir()
    (folder / "a").touch()
    return remains(folder)
