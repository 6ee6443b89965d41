"""Bulk work on a Ray of this machine: the same table as without it, whoever is killed."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torturing.bulk import DRIVER, descendants

from m2clip import Recognizer
from m2clip.bulk.batches import Reading
from m2clip.bulk.ray_engine import RayEngine, started
from m2clip.bulk.run import Done, LocalEngine, bring_up_to_date
from m2clip.bulk.source_model import SourceModel
from m2clip.bulk.wanted_videos import wanted_videos
from m2clip.bulk.work import EmbeddingWork, Work
from m2clip.errors import M2CLIPError
from tests.small_inputs import moving_square, tiny_model, write_video

ray = pytest.importorskip("ray")
# Ray starts in ten seconds, and each actor in four; it has one thread.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

READING = Reading(batch_size=2, workers=2, file_seconds=300.0, most_lost=0.5)
# Loaded at the start of each interpreter below: a video of this name ends whatever process reads it, as a broken decoder may.
POISON = """
import os, signal, sys

class EndAtPoison:
    def find_spec(self, name, path=None, target=None):
        if name == "m2clip.bulk.ray_actor":
            from m2clip.bulk.stretches import StretchDataset
            read = StretchDataset._item
            def read_or_die(self, sample, index):
                if "poison" in str(sample.path):
                    os.kill(os.getpid(), signal.SIGKILL)
                return read(self, sample, index)
            StretchDataset._item = read_or_die

sys.meta_path.insert(0, EndAtPoison())
"""


@pytest.fixture(scope="module")
def own_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray with room for two actors, whose processes end at poison."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(POISON)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        with started(None, actors=READING.workers, bytes_held=0):
            yield


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-two videos, one that is none, and one that ends the processes of `own_ray`."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(22):
        write_video(folder / f"{number:02d}.mp4", moving_square(frames=10 + number % 5, shift=number))
    (folder / "07 noise.mp4").write_bytes(b"noise")
    (folder / "12 poison.mp4").write_bytes(b"noise")  # so that this process has the same batches, and lives
    return folder


@pytest.fixture(scope="module")
def alone(recognizer: Recognizer, source: SourceModel, many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table that this process makes of them."""
    out = tmp_path_factory.mktemp("alone") / "v.parquet"
    done = alone_run(EmbeddingWork(recognizer, source), out, many)
    assert (done.rows, len(done.bad)) == (22, 2)
    return out


def alone_run(work: Work, out: Path, folder: Path) -> Done:
    return bring_up_to_date(work, wanted_videos([str(folder)]), out, LocalEngine(replace(READING, workers=0)))


def run(work: Work, out: Path, *sources: Path, **options: Any) -> Done:
    return bring_up_to_date(work, wanted_videos([str(one) for one in sources]), out, RayEngine(READING), **options)


def bad_files(out: Path) -> dict[str, str]:
    with out.with_name(out.stem + ".bad_files.csv").open() as file:
        return {Path(row["path"]).name: row["reason"] for row in csv.DictReader(file)}


def actors() -> list[int]:
    """The processes below this one that are actors which read."""
    return [pid for pid, name in descendants(os.getpid()) if name.startswith("ray::MapWorker")]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for actors in /proc")
def test_a_killed_actor_costs_nothing(
    own_ray: None, recognizer: Recognizer, source: SourceModel, many: Path, alone: Path, tmp_path: Path
) -> None:
    """Nor does a video that kills each actor which reads it: it is named, and the others are there, each once."""
    out, killed = tmp_path / "v.parquet", list[int]()

    def kill_one(done: int, total: int) -> None:
        if done >= 4 and not killed:
            killed.extend(actors()[:1])
            os.kill(killed[0], signal.SIGKILL)

    done = run(EmbeddingWork(recognizer, source), out, many, progress=kill_one)
    assert len(killed) == 1
    assert (done.videos, done.rows, len(done.bad)) == (22, 22, 2)
    assert out.read_bytes() == alone.read_bytes()
    reasons = bad_files(out)
    assert reasons.keys() == {"07 noise.mp4", "12 poison.mp4"}
    assert reasons["07 noise.mp4"] == bad_files(alone)["07 noise.mp4"]
    assert reasons["12 poison.mp4"] == (
        f"the process that read {many}/12 poison.mp4 was killed twice, as happens where memory runs out"
    )
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_killed_driver_is_taken_up_where_it_was(
    own_ray: None,
    recognizer: Recognizer,
    source: SourceModel,
    checkpoint: Path,
    many: Path,
    alone: Path,
    tmp_path: Path,
) -> None:
    """Through the command line, with the Ray that is there."""
    out, count = tmp_path / "v.parquet", tmp_path / "count"
    count.touch()
    command = ["embed", str(many), "--out", str(out), "--checkpoint", str(checkpoint), "--engine", "ray"]
    command += ["--batch-size", "2", "--ray-address", ray.get_runtime_context().gcs_address]
    process = subprocess.Popen([sys.executable, "-c", DRIVER, str(count), *command], stderr=subprocess.PIPE, text=True)
    try:
        while count.stat().st_size < 6 and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.kill()
    _, told = process.communicate()
    safe = count.stat().st_size
    assert process.returncode == -signal.SIGKILL, told
    assert 6 <= safe < 22, told
    assert not out.exists()
    done = alone_run(EmbeddingWork(recognizer, source), out, many)  # on this machine, after Ray
    assert done.rows == 22
    assert done.done_before >= safe
    assert out.read_bytes() == alone.read_bytes()


def test_errors_of_actors_end_the_run_in_a_sentence(
    own_ray: None, source: SourceModel, videos: Path, tmp_path: Path
) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.clip.visual.ln_post.weight.fill_(float("nan"))
    with pytest.raises(M2CLIPError, match="its embedding is not finite; the checkpoint's weights are broken"):
        run(EmbeddingWork(Recognizer(model, device="cpu"), source), tmp_path / "v.parquet", videos / "d.mp4")


class Deadly(EmbeddingWork):
    """Ends each process that it is sent to, as a model does for which there is no memory."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.abort, ()


def test_a_model_that_ends_each_actor_ends_the_run_in_a_sentence(
    own_ray: None, recognizer: Recognizer, source: SourceModel, videos: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        M2CLIPError, match="each process that loads the model is killed, as happens where memory runs out"
    ):
        run(Deadly(recognizer, source), tmp_path / "v.parquet", videos / "d.mp4")
