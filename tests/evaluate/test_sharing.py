"""Whoever is in a batch, and however many processes share the work: the documents of an evaluation are the same to the last bit."""

import json
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from m2clip import load
from m2clip.data.dataset import Batch
from m2clip.data.manifest import ClassTable, read_manifest
from m2clip.evaluate import evaluate, evaluation_dataset
from m2clip.evaluate.scoring_pass import ScoringPass
from m2clip.model.video_clip import VideoCLIP, VideoFeatures
from tests.evaluate.test_evaluation import NAMES, trained_model
from tests.small_inputs import moving_square, write_video

COUNTS = (1, 2, 3, 5, 8)
"""How many videos the lists hold; of three processes at least one has nothing to do, or one video less, but with 3."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, lists of good videos and two with broken ones."""
    root = tmp_path_factory.mktemp("sharing")
    trained_model().save(root / "model.safetensors")
    for n in range(max(COUNTS)):
        write_video(root / f"{n}.mp4", moving_square(shift=n))
    (root / "broken.mp4").write_text("not a video")
    for count in COUNTS:
        (root / f"{count}.txt").write_text("".join(f"{n}.mp4 {n % 3}\n" for n in range(count)))
    names = ["0.mp4", "broken.mp4", "1.mp4", "2.mp4", "missing.mp4"]  # of three processes the second has no good one
    (root / "bad.txt").write_text("".join(f"{name} {k % 3}\n" for k, name in enumerate(names)))
    (root / "all_bad.txt").write_text("broken.mp4 0\nmissing.mp4 1\nbroken.mp4 2\n")
    return root


def told(model: VideoCLIP, place: Path, name: str, *, batch_size: int) -> str:
    """The report of the list of this name, or the error, as the text that would be written; all but the time that it took."""
    manifest = read_manifest(place / f"{name}.txt", classes=ClassTable(NAMES))
    try:
        document = evaluate(model, manifest, batch_size=batch_size, views_temporal=2, frames=2, per_view=True).document
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    del document["seconds"]
    return json.dumps(document)


def share(
    rank: int, processes: int, meeting: Path, place: Path, cells: list[tuple[str, int]], answers: Connection
) -> None:
    """One of several processes: all cells, one after another."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes)
    model = load(place / "model.safetensors")
    for name, batch_size in cells:
        answers.send(told(model, place, name, batch_size=batch_size))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_documents_do_not_depend_on_processes_or_batches(place: Path, tmp_path: Path) -> None:
    cells = [(str(count), 1 + count % 2) for count in COUNTS] + [("8", 4), ("bad", 2), ("all_bad", 1)]
    processes = 3
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    started = [
        context.Process(
            target=share, args=(rank, processes, tmp_path / "meeting", place, cells, pipes[rank][1]), daemon=True
        )
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    for _, theirs in pipes:
        theirs.close()
    model = load(place / "model.safetensors")
    alone = {name: told(model, place, name, batch_size=3) for name, _ in cells}
    for name, size in cells:
        for rank, (ours, _) in enumerate(pipes):
            assert ours.poll(300), (rank, name, size)
            assert ours.recv() == alone[name], (rank, name, size)
    for process in started:
        process.join(300)
    assert [process.exitcode for process in started] == [0] * processes
    assert alone["all_bad"].startswith("VideoError: ")
    counted = {name: json.loads(text)["protocol"]["data"] for name, text in alone.items() if name != "all_bad"}
    assert {name: one["scored"] for name, one in counted.items()} == {**{str(n): n for n in COUNTS}, "bad": 3}
    assert (counted["bad"]["missing"], counted["bad"]["bad"]) == (1, 1)


class Counting(torch.nn.Module):
    """Stands for a model, and notes how many clips it gets at once."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def encode_video(self, clips: torch.Tensor) -> VideoFeatures:
        self.calls.append(len(clips))
        frames = clips.flatten(2)[..., :2]
        return VideoFeatures(embedding=frames.mean(1), frames=frames, visual_logits=None)


def three_of_four(place: Path) -> tuple[ScoringPass, Batch]:
    """A pass whose batches hold four videos, and a batch in which one of them could not be read."""
    model = load(place / "model.safetensors")
    manifest = read_manifest(place / "3.txt", classes=ClassTable(NAMES))
    dataset = evaluation_dataset(
        model.info, manifest, views_temporal=1, views_spatial=1, sampling=model.info.sampling, most_lost=0.5
    )
    batch = Batch(
        pixels=torch.rand(3, 1, 2, 3, 4, 4), labels=torch.zeros(3, dtype=torch.int64), indices=torch.arange(3)
    )
    return ScoringPass(dataset, torch.eye(3, 2), head_columns=None, batch_size=4), batch


def test_a_cpu_reads_each_video_by_itself(place: Path) -> None:
    run, batch = three_of_four(place)
    model = Counting()
    run.score(model, batch)  # type: ignore[arg-type]
    assert model.calls == [1, 1, 1]
    assert run.merge() == [0, 1, 2]


def test_a_gpu_reads_as_many_videos_as_a_batch_has(place: Path) -> None:
    """One that is there stands for the one that is not; of equal rows it does not matter which is kept."""
    run, batch = three_of_four(place)
    run.device = torch.device("cuda")
    (together,) = run._together(batch)
    assert together.indices.tolist() == [0, 1, 2, 2]
    assert torch.equal(together.pixels[3], batch.pixels[2])
