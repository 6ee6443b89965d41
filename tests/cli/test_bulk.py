"""embed --out and classify --out: what the commands say, and which options they refuse."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.program import Ran, one_sentence
from tests.small_inputs import moving_square, write_video


def test_options_of_ray_and_of_tables_are_refused_where_they_do_nothing(
    m2: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, out = write_video(tmp_path / "a.mp4", moving_square()), tmp_path / "v.parquet"
    for command in (["embed"], ["classify", "--labels", "a,b"]):
        for options, reason in (
            (["--json", "--engine", "ray"], "is for tables: give --out"),
            (["--json", "--ray-address", "auto"], "is for tables: give --out"),
            (["--json", "--workers", 2], "--workers: is for tables: give --out"),
            (["--json", "--batch-size", 8], "--batch-size: is for tables: give --out"),
            (["--json", "--file-seconds", 300], "--file-seconds: is for tables: give --out"),
            (["--json", "--most-lost", 0.5], "--most-lost: is for tables: give --out"),
            (["--json", "--classes", "c.csv"], "--classes: is for tables: give --out"),
            (["--out", out, "--ray-address", "auto"], "is for --engine ray"),
            (["--out", out, "--engine", "ray", "--workers", 0], "Ray needs one actor or more"),
            (["--out", out, "--engine", "ray", "--device", "cuda:1"], "is cpu or cuda on Ray"),
            (["--out", out, "--engine", "ray", "--precision", "auto"], "depends on the machine: say fp32 or bf16"),
        ):
            ran = m2(*command, video, *options)
            assert ran.code == 2
            assert reason in " ".join(ran.err.replace("│", " ").split())
        monkeypatch.setitem(sys.modules, "ray", None)
        ran = m2(*command, video, "--out", out, "--engine", "ray")
        assert one_sentence(ran) == (
            "m2clip: this command needs the package ray, which is not installed: pip install 'm2clip[ray]'"
        )
        monkeypatch.undo()
    assert not out.exists()


def test_classify_makes_a_table_and_says_what_it_did(m2: Callable[..., Ran], tmp_path: Path) -> None:
    folder, out = tmp_path / "videos", tmp_path / "labels.parquet"
    for number in range(3):
        write_video(folder / f"{number}.mp4", moving_square(shift=number))
    ran = m2("classify", folder, "--labels", "a,b", "--out", out, "--workers", 0, "--top", 1)
    assert ran.code == 0
    assert (
        "labels.parquet: 3 videos with labels; videos: 3 classified, 0 there already, 0 gone, 0 could not be read"
        in ran.err
    )
    (folder / "noise.mp4").write_bytes(b"noise")
    ran = m2("classify", folder, "--labels", "a,b", "--out", out, "--workers", 0, "--top", 1, "--json")
    assert ran.code == 1
    assert '"classified": 0' in ran.out
    assert '"done_before": 3' in ran.out
    assert '"texts"' in ran.out
