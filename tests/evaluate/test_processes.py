"""Evaluation in two processes is that in one, also where a process has nothing to score."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2clip import load
from m2clip.data.manifest import ClassTable, read_manifest
from m2clip.data.shards.writing import write_shards
from m2clip.evaluate import evaluate
from tests.evaluate.test_evaluation import NAMES, damaged, trained_model
from tests.ranks import free_port
from tests.small_inputs import moving_square, write_video
from tests.web_server import body, serving


def counts(document: dict[str, Any]) -> dict[str, Any]:
    """The metrics, with means of probabilities rounded: another number of threads may change their last bit."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: rounded(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [rounded(inner) for inner in value]
        return round(value, 5) if isinstance(value, float) else value

    return {name: rounded(metrics) for name, metrics in document["metrics"].items()}


@pytest.mark.slow
@pytest.mark.case("E1", "E2")
def test_two_processes_count_each_of_five_videos_once(tmp_path: Path, report_of: Callable[..., dict[str, Any]]) -> None:
    listed, _ = damaged(tmp_path)
    for name in ("empty.mp4", "missing.mp4"):
        write_video(tmp_path / name, moving_square(shift=5))
    path = trained_model().save(tmp_path / "model.safetensors")
    manifest = read_manifest(listed, classes=ClassTable(NAMES))
    one = json.loads(json.dumps(evaluate(load(path), manifest, batch_size=2, per_view=True).document))
    two = report_of(path, listed, processes=2)
    assert two["protocol"]["data"] == one["protocol"]["data"]
    assert two["protocol"]["bad_files"] == one["protocol"]["bad_files"]
    assert (two["protocol"]["data"]["scored"], two["protocol"]["data"]["bad"]) == (4, 1)
    assert counts(two) == counts(one)
    assert two["masked_words"] == one["masked_words"]
    assert two["masked_words"]["verbs"]["words"] == 4
    for ours, theirs in zip(two["videos"], one["videos"], strict=True):
        assert ours["path"] == theirs["path"]
        assert np.allclose(ours["scores"]["ensemble"]["mean"], theirs["scores"]["ensemble"]["mean"], atol=1e-6)


@pytest.mark.slow
@pytest.mark.case("T5")
@pytest.mark.parametrize(
    ("launcher", "names"), [("torchrun", ["good.mp4"]), ("srun", ["good.mp4", "empty.mp4", "also good.mp4", "cut.mp4"])]
)
def test_a_process_may_have_nothing_to_score(
    tmp_path: Path, report_of: Callable[..., dict[str, Any]], launcher: str, names: list[str]
) -> None:
    """One video for two processes; then a second process whose files are all bad."""
    damaged(tmp_path)
    (tmp_path / "list.txt").write_text("".join(f"{name} {k % 3}\n" for k, name in enumerate(names)))
    path = trained_model().save(tmp_path / "model.safetensors")
    one = evaluate(load(path), read_manifest(tmp_path / "list.txt", classes=ClassTable(NAMES)), per_view=True)
    two = report_of(path, tmp_path / "list.txt", processes=2, launcher=launcher)
    expected = json.loads(json.dumps(one.document))
    assert counts(two) == counts(expected)
    assert [two["protocol"][key] for key in ("data", "bad_files")] == [
        expected["protocol"][key] for key in ("data", "bad_files")
    ]


@pytest.mark.slow
def test_two_processes_share_fetched_shards(
    tmp_path: Path, report_of: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three videos in two shards: each counts once, and each shard is fetched once."""
    monkeypatch.setenv("M2CLIP_CACHE", str(tmp_path / "cache"))
    for k, name in enumerate(NAMES):
        write_video(tmp_path / "videos" / name / "0.mp4", moving_square(shift=k))
    manifest = read_manifest(tmp_path / "videos")
    write_shards(manifest, tmp_path / "shards", base=tmp_path / "videos", shard_samples=2)
    path = trained_model().save(tmp_path / "model.safetensors")
    one = json.loads(json.dumps(evaluate(load(path), manifest, batch_size=2, per_view=True).document))
    with serving() as server:
        for file in (tmp_path / "shards").iterdir():
            server.answers[f"/{file.name}"] = body(file.read_bytes())
        two = report_of(path, f"{server.url}/shards.parquet", processes=2)
        asked = sorted(path for path, _ in server.seen)
    assert asked == ["/shard-000000.tar", "/shard-000001.tar", "/shards.parquet", "/shards.parquet"]
    assert counts(two) == counts(one)
    assert two["protocol"]["data"]["scored"] == 3


@pytest.fixture
def report_of() -> Callable[..., dict[str, Any]]:
    """Runs `m2clip evaluate` in one or more processes, as the launcher would start them, and gives the report."""

    def run(checkpoint: Path, data: Path | str, *, processes: int, launcher: str = "torchrun") -> dict[str, Any]:
        port = free_port()
        command = [
            sys.executable, "-m", "m2clip", "evaluate", str(checkpoint), "--data", str(data),
            "--batch-size", "2", "--per-view", "--json", "--device", "cpu",
        ]  # fmt: skip
        started = []
        for rank in range(processes):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
            if launcher == "srun":
                place = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_STEP_NUM_TASKS": processes}
            place["MASTER_PORT"] = port
            environment = {**os.environ, **{key: str(value) for key, value in place.items()}}
            environment |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
            started.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
        outputs = [process.communicate(timeout=120) for process in started]
        assert [process.returncode for process in started] == [0] * processes, outputs
        assert all(stdout == "" for stdout, _ in outputs[1:])
        return json.loads(outputs[0][0])

    return run
