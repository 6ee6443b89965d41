"""Processes that read: a crash or a hang costs the sample that it met, all else is as without it, and none outlives its owner."""

import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from m2clip.data import readers as readers_module
from m2clip.data import workers as workers_module
from m2clip.data.dataset import BadFile, Batch, Item, VideoDataset
from m2clip.data.loading import VideoLoader, make_loader
from m2clip.data.manifest import Manifest, Sample
from m2clip.errors import ConfigError, M2CLIPError
from tests.processes import alive
from tests.small_inputs import moving_square, write_video

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked, and looked at in /proc")
SETTINGS = {"frames": 4, "size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "seed": 3, "train": True}


class Dangerous(VideoDataset):
    """Files do what their names say, each time noting it in a file of the same name with .log."""

    def __getitem__(self, index: int) -> Item | BadFile:
        path = self.manifest.samples[index].path
        assert isinstance(path, Path)
        met = path.with_suffix(".log")
        if path.stem in ("segfault", "exit", "hang", "killed", "killed_once", "warned", "bug", "refused"):
            with met.open("a") as file:
                file.write("x")
        match path.stem:
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "exit":
                os._exit(3)
            case "hang":
                time.sleep(1000)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "killed_once" if met.read_text() == "x":
                os.kill(os.getpid(), signal.SIGKILL)
            case "warned":
                os.kill(os.getpid(), signal.SIGUSR1)
            case "bug":
                raise ZeroDivisionError("a mistake of ours")
            case "refused":
                raise ConfigError("this cannot be")
        return super().__getitem__(index)


@pytest.fixture(autouse=True)
def _no_core_files() -> Iterator[None]:
    import faulthandler
    import resource

    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, before[1]))
    enabled = faulthandler.is_enabled()
    faulthandler.disable()  # the crashes are meant
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)
    if enabled:
        faulthandler.enable()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{i}.mp4", moving_square(shift=i)) for i in range(3)]


def listed(videos: list[Path], folder: Path, *names: str, count: int = 11) -> Manifest:
    """`count` good samples, and behind each second one a dangerous one as long as there are some."""
    paths = [videos[i % len(videos)] for i in range(count)]
    for i, name in enumerate(names):
        path = folder / f"{name}.mp4"
        path.write_bytes(videos[0].read_bytes())
        paths.insert(3 * i + 2, path)
    samples = tuple(Sample(path, i % 2, where=f"list.txt:{i + 1}") for i, path in enumerate(paths))
    return Manifest(samples, ("one", "two"), (), "list.txt", "0" * 64)


def loader_of(manifest: Manifest, **options: object) -> VideoLoader:
    dataset = Dangerous(manifest, **SETTINGS)  # type: ignore[arg-type]
    return make_loader(dataset, **{"batch_size": 4, "workers": 2, "shuffle": True, "context": "fork", **options})  # type: ignore[arg-type]


def need_same_but_bad(found: list[Batch], manifest: Manifest, bad: set[int], *, epoch: int = 0) -> None:
    """The batches are those of one process without danger, less the rows of the bad samples."""
    plain = VideoDataset(manifest, **SETTINGS)  # type: ignore[arg-type]
    plain.set_epoch(epoch)
    expected = list(make_loader(plain, batch_size=4, shuffle=True))
    assert len(found) == len(expected)
    for batch, whole in zip(found, expected, strict=True):
        kept = torch.tensor([index not in bad for index in whole.indices.tolist()])
        assert torch.equal(batch.indices, whole.indices[kept])
        assert torch.equal(batch.labels, whole.labels[kept])
        assert torch.equal(batch.pixels, whole.pixels[kept])
        assert [file.index for file in batch.bad] == [index for index in whole.indices.tolist() if index in bad]


def children() -> set[int]:
    own = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return {pid for pid in map(int, own) if alive(pid)}


@pytest.mark.case("D5")
@pytest.mark.parametrize(
    ("name", "reason", "times"),
    [
        ("segfault", "the decoder crashed on {} (signal SIGSEGV)", 1),
        ("exit", "the decoder crashed on {} (exit code 3)", 1),
        ("hang", "{} took longer than 3 s to read", 1),
        ("killed", "the process that read {} was killed twice (signal SIGKILL), as happens where memory runs out", 2),
    ],
)
def test_a_crash_costs_its_sample_alone(videos: list[Path], tmp_path: Path, name: str, reason: str, times: int) -> None:
    manifest = listed(videos, tmp_path, name)
    with loader_of(manifest, file_seconds=3.0 if name == "hang" else 300.0) as loader:
        for epoch in (0, 1):
            loader.dataset.set_epoch(epoch)
            batches = list(loader)
            need_same_but_bad(batches, manifest, {2}, epoch=epoch)
            (bad,) = [file for batch in batches for file in batch.bad]
            path = tmp_path / f"{name}.mp4"
            assert bad == BadFile(path, "list.txt:3", reason.format(path), 2, crashed=True)
    assert path.with_suffix(".log").read_text() == "x" * times  # in the second epoch it was not tried again


def test_what_crashed_in_an_earlier_pass_is_not_read_again(videos: list[Path], tmp_path: Path) -> None:
    manifest = listed(videos, tmp_path, "exit", "refused")
    crashed = BadFile(tmp_path / "exit.mp4", "list.txt:3", "it crashed", 2, crashed=True)
    unread = BadFile(videos[2], "list.txt:6", "it could not be read", 5)
    with loader_of(manifest, known_bad=[crashed]) as loader, pytest.raises(ConfigError):
        list(loader)  # the other one is read
    assert not (tmp_path / "exit.log").exists()
    manifest = listed(videos, tmp_path, "exit")
    with loader_of(manifest, known_bad=[crashed, unread]) as loader:
        need_same_but_bad(list(loader), manifest, {2})  # one that could not be read then may be readable now
    assert not (tmp_path / "exit.log").exists()


def test_many_crashes_each_cost_their_sample(videos: list[Path], tmp_path: Path) -> None:
    names = ("segfault", "exit", "killed", "hang")
    manifest = listed(videos, tmp_path, *names)
    with loader_of(manifest, file_seconds=3.0, workers=3) as loader:
        need_same_but_bad(list(loader), manifest, {2, 5, 8, 11})


def test_a_spawned_worker_may_crash(videos: list[Path], tmp_path: Path) -> None:
    manifest = listed(videos, tmp_path, "segfault", count=4)
    with loader_of(manifest, context="spawn", workers=1) as loader:
        need_same_but_bad(list(loader), manifest, {2})


def test_a_worker_that_somebody_kills_costs_nothing(videos: list[Path], tmp_path: Path) -> None:
    manifest = listed(videos, tmp_path, "killed_once")
    before = children()
    with loader_of(manifest) as loader:
        need_same_but_bad(list(loader), manifest, set())
        assert (tmp_path / "killed_once.log").read_text() == "xx"
        idle = min(children() - before)
        os.kill(idle, signal.SIGKILL)
        while alive(idle):
            time.sleep(0.01)
        loader.dataset.set_epoch(1)
        need_same_but_bad(list(loader), manifest, set(), epoch=1)


def test_the_warning_of_a_scheduler_is_not_for_workers(videos: list[Path], tmp_path: Path) -> None:
    manifest = listed(videos, tmp_path, "warned")
    with loader_of(manifest) as loader:
        need_same_but_bad(list(loader), manifest, set())
    assert (tmp_path / "warned.log").read_text() == "x"


def test_workers_live_through_epochs_and_end_with_the_loader(videos: list[Path], tmp_path: Path) -> None:
    manifest = listed(videos, tmp_path)
    before = children()
    loader = loader_of(manifest)
    list(loader)
    workers = children() - before
    assert len(workers) == 2
    list(loader)
    assert children() - before == workers
    loader.close()
    assert children() == before
    list(loader)  # begins anew
    assert len(children() - before) == 2
    del loader
    assert children() == before


def test_a_pass_that_is_left_early_leaves_nothing_behind(videos: list[Path], tmp_path: Path) -> None:
    manifest = listed(videos, tmp_path)
    before = children()
    with loader_of(manifest) as loader:
        for _ in loader:
            break
        assert children() == before
        need_same_but_bad(list(loader), manifest, set())


def test_two_passes_at_a_time_are_refused(videos: list[Path], tmp_path: Path) -> None:
    with loader_of(listed(videos, tmp_path)) as loader:
        first = iter(loader)
        next(first)
        with pytest.raises(RuntimeError, match="end that pass first"):
            next(iter(loader))
        first.close()  # type: ignore[attr-defined]


def test_a_worker_that_never_gets_ready_ends_the_run(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "read_samples", lambda *arguments: os._exit(7))
    before = children()
    with pytest.raises(M2CLIPError, match=r"ended \(exit code 7\) before it was ready.*workers to 0"):
        list(loader_of(listed(videos, tmp_path)))
    assert children() == before


def test_what_kills_every_worker_is_no_fault_of_files(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers_module, "_MOST_CRASHES", 3)
    (path := tmp_path / "exit.mp4").write_bytes(videos[0].read_bytes())
    samples = tuple(Sample(path, 0, where=f"list.txt:{i + 1}") for i in range(8))
    manifest = Manifest(samples, ("one",), (), "list.txt", "0" * 64)
    with pytest.raises(M2CLIPError, match=r"3 videos, one after another.*not the videos"):
        list(loader_of(manifest))
    assert path.with_suffix(".log").read_text().count("x") <= 4


def test_other_errors_come_through(videos: list[Path], tmp_path: Path) -> None:
    before = children()
    with pytest.raises(ConfigError, match=r"^this cannot be$"):
        list(loader_of(listed(videos, tmp_path, "refused")))
    with pytest.raises(RuntimeError, match=r"(?s)in __getitem__.*ZeroDivisionError: a mistake of ours"):
        list(loader_of(listed(videos, tmp_path, "bug")))
    assert children() == before


def test_too_little_shared_memory_is_told_before_it_is_used(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(readers_module.shutil, "disk_usage", lambda path: usage(2**20, 2**20, 100))
    with pytest.raises(M2CLIPError, match=r"need 0 MB of shared memory, but /dev/shm has 0 MB free.*--shm-size"):
        list(loader_of(listed(videos, tmp_path)))


def test_nothing_is_shared_where_there_are_no_workers(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container whose /dev/shm is full, that is what the message above says to do."""
    monkeypatch.setattr(torch.Tensor, "share_memory_", lambda tensor: pytest.fail("shared memory was taken"))
    batches = list(loader_of(listed(videos, tmp_path), workers=0))
    assert sum(len(batch.labels) for batch in batches) == 11


_PROGRAM = """
import multiprocessing, signal, sys
from pathlib import Path
from tests.data.test_readers import Dangerous, SETTINGS, listed
from m2clip.data.loading import make_loader
folder = Path(sys.argv[1])
manifest = listed([folder / "0.mp4"], folder, "hang", count=2)
loader = make_loader(Dangerous(manifest, **SETTINGS), batch_size=1, workers=2, context="fork")
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in its background is deaf to Ctrl-C
try:
    for batch in loader:
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_program(tmp_path: Path, ending: signal.Signals) -> None:
    """One of its two workers hangs, and the other waits for work: Ctrl-C reaches all three, a kill the main process alone."""
    write_video(tmp_path / "0.mp4", moving_square())
    program = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(tmp_path)],
        cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert program.stdout is not None
    workers = list(map(int, program.stdout.readline().split()))
    assert len(workers) == 2
    while not (tmp_path / "hang.log").exists():
        time.sleep(0.01)
    if ending == signal.SIGINT:
        os.killpg(program.pid, ending)
    else:
        program.kill()
    _, said = program.communicate(timeout=60)  # returns when the last of them has closed its stderr
    assert said == ""
    assert program.returncode == (130 if ending == signal.SIGINT else -9)
    while any(map(alive, workers)):
        time.sleep(0.01)
