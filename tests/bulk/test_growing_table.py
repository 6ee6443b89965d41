"""A run that is killed while it reads, or between the steps of its end, loses next to nothing and leaves no broken file."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from m2clip import ConfigError, Recognizer
from m2clip.bulk.growing_table import GrowingTable
from m2clip.bulk.source_model import SourceModel
from m2clip.bulk.vector_table import VectorForm, VectorRow, table_of
from m2clip.bulk.wanted_videos import WantedVideos, wanted_videos
from m2clip.data.samples import Sample
from m2clip.data.shards.file_lock import file_lock
from tests.bulk.conftest import fill
from tests.bulk.embedded import embed_videos
from tests.small_inputs import moving_square, write_video

# Runs the command line and kills its own process, as no handler and no `finally` can see: when three videos are in parts
# and the fourth is in memory; when a part is written, but not yet under its name; when the whole table is; or when the table is in
# its place and one part of two kinds is gone.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from m2clip.cli import main
from m2clip.bulk import growing_table

moment = sys.argv.pop(1)
growing_table.PART_SECONDS = 0.0
add, replace, unlink, seen = growing_table.GrowingTable.add, os.replace, Path.unlink, []

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def add_or_die(self, rows):
    if moment == "memory" and len(seen) == 3:
        die()
    seen.append(rows)
    add(self, rows)

def replace_or_die(source, target):
    name = os.path.basename(target)
    if (moment == "part" and name == "000004.parquet") or (moment == "table" and name == "v.parquet"):
        die()
    replace(source, target)

def unlink_or_die(self, **options):
    if moment == "parts" and self.name == "000003.parquet":
        die()
    unlink(self, **options)

growing_table.GrowingTable.add, os.replace, Path.unlink = add_or_die, replace_or_die, unlink_or_die
main()
"""


@pytest.fixture(scope="module")
def undisturbed(recognizer: Recognizer, source: SourceModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos in the folder `videos`, and the table that a run makes which nothing ends."""
    folder = tmp_path_factory.mktemp("undisturbed")
    fill(folder / "videos")
    embed_videos(recognizer, wanted_videos([str(folder / "videos")]), folder / "v.parquet", source, batch_size=1)
    return folder


@pytest.mark.parametrize(("moment", "kept"), [("memory", 3), ("part", 3), ("table", 5), ("parts", 5)])
def test_a_killed_run_goes_on_to_the_same_bytes(
    moment: str,
    kept: int,
    recognizer: Recognizer,
    source: SourceModel,
    checkpoint: Path,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    folder, out = undisturbed / "videos", tmp_path / "v.parquet"
    command = ["embed", str(folder), "--out", str(out), "--checkpoint", str(checkpoint), "--workers", "0"]
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, moment, *command, "--batch-size", "1", "--device", "cpu"],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert out.exists() == (moment == "parts")
    done = embed_videos(recognizer, wanted_videos([str(folder)]), out, source, batch_size=1)
    assert (done.videos, done.done_before, done.rows, done.bad) == (5 - kept, kept, 5, ())
    assert out.read_bytes() == (undisturbed / "v.parquet").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["v.parquet"]


def rows_of(source: SourceModel, numbers: Sequence[int]) -> pa.Table:
    """Rows of the videos /v/0, /v/1 ...; the first number of each vector tells which."""
    vectors = np.eye(1, source.dim, dtype=np.float32)[0]
    return table_of([VectorRow(f"/v/{n}", None, None, n, 1, 1.0, 0, n * vectors) for n in numbers], source)


def wanted(numbers: Sequence[int]) -> WantedVideos:
    videos = WantedVideos()
    videos.add([Sample(Path(f"/v/{n}"), 0) for n in numbers])
    return videos


def numbers_in(out: Path) -> list[int]:
    return [int(row["vector"][0]) for row in pq.read_table(out).to_pylist()]


def test_new_rows_stand_in_the_order_that_was_asked_for(source: SourceModel, tmp_path: Path) -> None:
    """Whenever they came, and however often; rows of the table stay where they are."""
    out, form = tmp_path / "v.parquet", VectorForm(source)
    with GrowingTable(out, form, command="embed") as table:
        table.add(rows_of(source, [7, 3]))
        table.finish(wanted([3, 7]), failed=set())
    assert numbers_in(out) == [3, 7]
    with GrowingTable(out, form, command="embed") as table:
        for some in ([8, 9], [0, 6], [6, 1, 3], [5], [2, 4], [10]):  # 6 and 3 come again
            table.add(rows_of(source, some))
            table.save()
        rows, dropped = table.finish(wanted([*range(10)]), failed={("/v/9", None, None)})
    assert (rows, dropped) == (10, 1)
    assert numbers_in(out) == [3, 7, 10, 0, 1, 2, 4, 5, 6, 8]  # nobody asked for 10, and it stays


def test_the_bytes_do_not_tell_when_parts_were_written(
    source: SourceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m2clip.bulk.growing_table.ROWS_AT_A_TIME", 7)
    contents = set()
    for number, size in enumerate((1, 3, 40)):
        out = tmp_path / f"{number}.parquet"
        with GrowingTable(out, VectorForm(source), command="embed") as table:
            for first in reversed(range(0, 40, size)):
                table.add(rows_of(source, range(first, min(first + size, 40))))
                table.save()
            assert table.finish(wanted(range(40)), failed=set()) == (40, 0)
        assert [pq.ParquetFile(out).metadata.row_group(group).num_rows for group in range(6)] == [7, 7, 7, 7, 7, 5]
        contents.add(out.read_bytes())
    assert len(contents) == 1


def test_a_lock_that_its_holder_takes_away_is_none(
    source: SourceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder goes between the opening of the lock and its taking: the lock that is held must be the one that lies there."""
    folder, calls = tmp_path / "v.parquet.parts", []

    @contextmanager
    def late(path: Path, *, wait: bool) -> Iterator[int]:
        with file_lock(path, wait=wait) as held:
            calls.append(path)
            if len(calls) == 1:  # the holder before ends just now
                path.unlink()
                folder.rmdir()
            yield held

    monkeypatch.setattr("m2clip.bulk.growing_table.file_lock", late)
    with GrowingTable(tmp_path / "v.parquet", VectorForm(source), command="embed"):
        assert len(calls) == 2
        with pytest.raises(BlockingIOError), file_lock(folder / "lock", wait=False):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_loses_nothing(
    source: SourceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, form = tmp_path / "v.parquet", VectorForm(source)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with GrowingTable(out, form, command="embed") as table:
        table.add(rows_of(source, [0, 1]))
        table.save()
        monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(
            ConfigError, match=r"v.parquet cannot be written \(No space left on device\): make room .* kept"
        ):
            table.finish(wanted([0, 1]), failed=set())
    monkeypatch.undo()
    assert [path.name for path in tmp_path.rglob("*.parquet*")] == ["v.parquet.parts", "000001.parquet"]
    with GrowingTable(out, form, command="embed") as table:
        assert table.finish(wanted([0, 1]), failed=set()) == (2, 0)
    assert numbers_in(out) == [0, 1]


def test_what_is_in_memory_is_written_when_an_error_ends_the_run(
    recognizer: Recognizer, source: SourceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = fill(tmp_path / "videos"), tmp_path / "v.parquet"
    encode, calls = Recognizer.encode, []

    def interrupted(self: Recognizer, pixels: object) -> object:
        calls.append(pixels)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, pixels)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Recognizer, "encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embed_videos(recognizer, wanted_videos([str(folder)]), out, source, batch_size=1)
    assert not out.exists()
    assert embed_videos(recognizer, wanted_videos([str(folder)]), out, source).done_before == 2


def test_a_part_counts_more_than_the_table_before_it(
    recognizer: Recognizer, source: SourceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video was changed and read again, and the run ended before its table was written."""
    video, out = write_video(tmp_path / "videos" / "a.mp4", moving_square()), tmp_path / "v.parquet"
    embed_videos(recognizer, wanted_videos([str(video)]), out, source)
    write_video(video, moving_square(shift=5))
    with monkeypatch.context() as patched:
        patched.setattr("m2clip.bulk.growing_table.GrowingTable.finish", None)
        with pytest.raises(TypeError):
            embed_videos(recognizer, wanted_videos([str(video)]), out, source)
    done = embed_videos(recognizer, wanted_videos([str(video)]), out, source)
    assert (done.videos, done.rows) == (0, 1)
    (row,) = pq.read_table(out).to_pylist()
    assert row["vector"] == pytest.approx(recognizer.embed(video).tolist(), abs=1e-5)
