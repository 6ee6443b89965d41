"""A run that is killed while it reads, or between the steps of its end, loses next to nothing and leaves no broken file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from m2clip import Recognizer
from m2clip.bulk.embedding import embed_videos
from m2clip.bulk.source_model import SourceModel
from m2clip.bulk.wanted_videos import wanted_videos
from tests.bulk.conftest import fill
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


@pytest.mark.parametrize(("moment", "kept"), [("memory", 3), ("part", 3), ("table", 5), ("parts", 5)])
def test_a_killed_run_goes_on_where_it_was(
    moment: str, kept: int, recognizer: Recognizer, source: SourceModel, checkpoint: Path, table: Path, tmp_path: Path
) -> None:
    folder, out = fill(tmp_path / "videos"), tmp_path / "v.parquet"
    command = ["embed", str(folder), "--out", str(out), "--checkpoint", str(checkpoint), "--workers", "0"]
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, moment, *command, "--batch-size", "1", "--device", "cpu"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert out.exists() == (moment == "parts")
    done = embed_videos(recognizer, wanted_videos([str(folder)]), out, source)
    assert (done.videos, done.done_before, done.rows, done.bad) == (5 - kept, kept, 5, ())
    whole = {Path(row["path"]).name: row["vector"] for row in pq.read_table(table).to_pylist()}
    found = {Path(row["path"]).name: row["vector"] for row in pq.read_table(out).to_pylist()}
    assert found.keys() == whole.keys()
    for name, vector in found.items():
        assert vector == pytest.approx(whole[name], abs=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.parquet", "videos"]


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
