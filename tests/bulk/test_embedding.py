"""Folders and lists become a table of embeddings; what is done is left alone, what is bad is named, what is gone goes."""

import csv
import faulthandler
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from m2clip import ConfigError, ManifestError, Recognizer, Video, VideoError
from m2clip.bulk.run import Done
from m2clip.bulk.source_model import SourceModel
from m2clip.bulk.stretches import ReadStretches, StretchDataset
from m2clip.bulk.wanted_videos import wanted_videos
from m2clip.data.parts import shown_part
from m2clip.data.samples import Sample
from m2clip.data.shards.file_lock import file_lock
from m2clip.errors import M2CLIPError
from tests.bulk.conftest import fill
from tests.bulk.embedded import embed_videos
from tests.small_inputs import moving_square, tiny_model, write_video


def run(recognizer: Recognizer, source: SourceModel, out: Path, *sources: Path | str, **options: Any) -> Done:
    return embed_videos(recognizer, wanted_videos([str(one) for one in sources]), out, source, **options)


def rows(out: Path) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in pq.read_table(out).to_pylist()}


def test_every_video_has_the_vector_that_embed_gives(
    recognizer: Recognizer, source: SourceModel, videos: Path, table: Path
) -> None:
    found = rows(table)
    assert sorted(found) == sorted(str(path) for path in videos.rglob("*.*"))
    for path, row in found.items():
        np.testing.assert_allclose(row["vector"], recognizer.embed(path), atol=1e-5)
        assert np.linalg.norm(row["vector"]) == pytest.approx(1, abs=1e-6)
        stat = os.stat(path)
        assert (row["size_bytes"], row["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)
        assert (row["start_seconds"], row["end_seconds"], row["lost_frames"]) == (None, None, 0)
        assert row["model_id"] == source.model_id
    assert found[str(videos / "d.mp4")]["duration_seconds"] == pytest.approx(20 / 12)
    kind = pq.read_schema(table).field("vector").type
    assert (kind.list_size, str(kind.value_type)) == (24, "float")
    assert SourceModel.from_json(pq.read_schema(table).metadata[b"m2clip"], where="") == source


def test_workers_views_and_batches_change_no_vector(checkpoint: Path, videos: Path, tmp_path: Path) -> None:
    recognizer = Recognizer(checkpoint, device="cpu", views_temporal=2, views_spatial=3, frames=4)
    source = SourceModel.of(recognizer, str(checkpoint))
    run(recognizer, source, tmp_path / "a.parquet", videos, workers=1, batch_size=2)
    for path, row in rows(tmp_path / "a.parquet").items():
        np.testing.assert_allclose(row["vector"], recognizer.embed(path), atol=1e-5)


def test_only_new_and_changed_videos_are_read(recognizer: Recognizer, source: SourceModel, tmp_path: Path) -> None:
    folder, out = fill(tmp_path / "videos"), tmp_path / "v.parquet"
    first = run(recognizer, source, out, folder)
    assert (first.videos, first.done_before, first.dropped, first.rows) == (5, 0, 0, 5)
    content = out.read_bytes()
    again = run(recognizer, source, out, folder)
    assert (again.videos, again.done_before, again.rows) == (0, 5, 5)
    assert out.read_bytes() == content
    assert not (tmp_path / "v.parquet.parts").exists()

    before = rows(out)
    write_video(folder / "new.mp4", moving_square(shift=4))
    write_video(folder / "d.mp4", moving_square(frames=30, shift=5))  # another video under an old name
    (folder / "deep" / "b.mp4").unlink()
    third = run(recognizer, source, out, folder)
    assert (third.videos, third.done_before, third.dropped, third.rows) == (2, 3, 1, 5)
    after = rows(out)
    assert str(folder / "deep" / "b.mp4") not in after
    np.testing.assert_allclose(after[str(folder / "d.mp4")]["vector"], recognizer.embed(folder / "d.mp4"), atol=1e-5)
    assert after[str(folder / "d.mp4")]["vector"] != before[str(folder / "d.mp4")]["vector"]
    assert after[str(folder / "deep" / "er" / "a.mp4")] == before[str(folder / "deep" / "er" / "a.mp4")]


def test_a_file_of_the_same_size_with_another_time_is_read_again(
    recognizer: Recognizer, source: SourceModel, tmp_path: Path
) -> None:
    video, out = write_video(tmp_path / "a.mp4", moving_square()), tmp_path / "v.parquet"
    run(recognizer, source, out, video)
    os.utime(video, ns=(1, os.stat(video).st_mtime_ns + 1))
    assert run(recognizer, source, out, video).videos == 1


def test_rows_of_other_folders_stay(recognizer: Recognizer, source: SourceModel, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.parquet"
    other = write_video(tmp_path / "other" / "x.mp4", moving_square(shift=3))
    run(recognizer, source, out, videos)
    done = run(recognizer, source, out, other.parent)
    assert (done.videos, done.dropped, done.rows) == (1, 0, 6)
    other.rename(tmp_path / "moved.mp4")
    done = run(recognizer, source, out, videos)  # nobody looked into the other folder
    assert (done.dropped, done.rows) == (0, 6)


def test_bad_files_are_named_and_the_others_done(recognizer: Recognizer, source: SourceModel, tmp_path: Path) -> None:
    folder, out, told = tmp_path / "videos", tmp_path / "v.parquet", list[str]()
    good = write_video(folder / "good.mp4", moving_square())
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "empty.mp4").touch()
    odd = os.fsdecode(os.fsencode(folder) + b"/\xff.mp4")
    Path(odd).write_bytes(good.read_bytes())
    done = run(recognizer, source, out, folder, tmp_path / "gone.mp4", tell=told.append, workers=1)
    assert (done.videos, done.rows, len(done.bad)) == (1, 1, 4)
    assert list(rows(out)) == [str(good)]
    for name in ("noise.mp4", "empty.mp4", "\\xff.mp4", "gone.mp4"):
        assert sum(name in sentence for sentence in told) == 1
    with (tmp_path / "v.bad_files.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
    # A video that was good and is broken now has no row any more; a table of bad files that are mended goes.
    good.write_bytes(b"broken")
    for name in ("noise.mp4", "empty.mp4"):
        write_video(folder / name, moving_square(shift=6))
    Path(odd).unlink()
    done = run(recognizer, source, out, folder)
    assert (done.rows, done.dropped, [Path(file.path).name for file in done.bad]) == (2, 1, ["good.mp4"])
    write_video(good, moving_square())
    assert run(recognizer, source, out, folder).rows == 3
    assert not (tmp_path / "v.bad_files.csv").exists()


def test_stretches_of_a_long_video(recognizer: Recognizer, source: SourceModel, tmp_path: Path) -> None:
    video = write_video(tmp_path / "long.mp4", moving_square(frames=125))  # 10.4 s: two pieces of eight stretches
    short = write_video(tmp_path / "short.mp4", moving_square(frames=6))
    (tmp_path / "noise.mp4").write_bytes(b"noise")
    every = source.model_copy(update={"every_seconds": 1.0})
    done = run(recognizer, every, tmp_path / "v.parquet", tmp_path, workers=1)
    assert (done.videos, done.rows, len(done.bad)) == (2, 12, 1)
    found = [row for row in pq.read_table(tmp_path / "v.parquet").to_pylist() if row["path"] == str(video)]
    spans = [(float(n), n + 1.0) for n in range(10)] + [(10.0, 125 / 12)]
    np.testing.assert_allclose([(row["start_seconds"], row["end_seconds"]) for row in found], spans, atol=1e-9)
    with Video(video) as opened:
        times, duration = opened.info.pts_seconds, opened.info.duration_seconds
        for (start, end), row in zip(spans, found, strict=True):
            clips = recognizer.reader.read(opened, [shown_part(times, duration, start, end)])
            alone = recognizer.encode(clips.pixels[0]).embedding[0]
            np.testing.assert_allclose(row["vector"], torch.nn.functional.normalize(alone, dim=0), atol=1e-5)
    assert run(recognizer, every, tmp_path / "v.parquet", tmp_path).done_before == 2
    write_video(short, moving_square(frames=30))  # three stretches in place of one
    assert run(recognizer, every, tmp_path / "v.parquet", tmp_path).rows == 14
    with pytest.raises(ConfigError, match=r"v.parquet holds embeddings of stretches of 1 s: ask for the same"):
        run(recognizer, source, tmp_path / "v.parquet", tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="the worker must be a fork, to have what is patched here")
def test_a_crash_costs_the_video_and_nothing_else(
    recognizer: Recognizer, source: SourceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies at the second piece of a long video, whose first one was read."""
    write_video(tmp_path / "long.mp4", moving_square(frames=125))
    write_video(tmp_path / "short.mp4", moving_square(frames=13))
    read = StretchDataset._item

    def read_or_crash(self: StretchDataset, sample: Sample, index: int) -> ReadStretches:
        if index >= len(self):
            faulthandler.disable()
            os.kill(os.getpid(), signal.SIGSEGV)
        return read(self, sample, index)

    monkeypatch.setattr(StretchDataset, "_item", read_or_crash)
    every = source.model_copy(update={"every_seconds": 1.0})
    done = run(recognizer, every, tmp_path / "v.parquet", tmp_path, workers=1)
    assert [file.reason for file in done.bad] == [f"the decoder crashed on {tmp_path}/long.mp4 (signal SIGSEGV)"]
    assert (done.videos, done.rows) == (1, 2)
    assert {row["path"] for row in pq.read_table(tmp_path / "v.parquet").to_pylist()} == {str(tmp_path / "short.mp4")}


def test_parts_that_a_list_names(recognizer: Recognizer, source: SourceModel, videos: Path, tmp_path: Path) -> None:
    listed, out = tmp_path / "list.csv", tmp_path / "v.parquet"
    listed.write_text(f"path,label,start_seconds,end_seconds\n{videos}/d.mp4,x,0,0.5\n{videos}/d.mp4,x,0.5,1\n")
    assert run(recognizer, source, out, listed, listed).rows == 2
    found = pq.read_table(out).to_pylist()
    assert [(row["start_seconds"], row["end_seconds"]) for row in found] == [(0, 0.5), (0.5, 1)]
    assert found[0]["vector"] != found[1]["vector"]
    assert run(recognizer, source, out, listed).done_before == 2
    # Of a video that is looked for, the table has what is asked for now.
    listed.write_text(f"path,label,start_seconds,end_seconds\n{videos}/d.mp4,x,0.5,1\n{videos}/d.mp4,x,9,10\n")
    done = run(recognizer, source, out, listed)
    assert (done.rows, done.dropped, len(done.bad)) == (1, 1, 1)
    every = source.model_copy(update={"every_seconds": 1.0})
    with pytest.raises(ConfigError, match=r"d.mp4 is listed with times: leave out every_seconds"):
        run(recognizer, every, tmp_path / "w.parquet", listed)


def test_sources_of_every_kind(
    recognizer: Recognizer, source: SourceModel, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, picture in enumerate(moving_square(frames=4)):
        Image.fromarray(picture).save(pictures / f"{number}.png")
    monkeypatch.chdir(videos)  # relative paths are found from anywhere
    found = wanted_videos([str(pictures), "d.mp4", "deep", str(videos / "deep" / "b.mp4")])
    expected = [pictures, videos / "d.mp4", videos / "deep/b.mp4", videos / "deep/c.avi", videos / "deep/er/a.mp4"]
    assert [key[0] for key in found.positions] == [str(path) for path in expected]
    assert embed_videos(recognizer, found, tmp_path / "v.parquet", source).rows == 5
    with pytest.raises(VideoError, match="- is standard input, which cannot be found again"):
        wanted_videos(["-"])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ManifestError, match="nothing holds no video"):
        wanted_videos([str(tmp_path / "nothing")])


def test_a_table_of_another_model_is_left_alone(
    recognizer: Recognizer, source: SourceModel, videos: Path, table: Path
) -> None:
    content = table.read_bytes()
    other = Recognizer(tiny_model(seed=1), device="cpu")
    with pytest.raises(ConfigError, match=r"vectors.parquet holds embeddings of another model \(.*tiny.safetensors"):
        run(other, SourceModel.of(other, "other"), table, videos)
    assert table.read_bytes() == content
    assert not table.with_name(table.name + ".parts").exists()
    ids = {
        SourceModel.of(one, "x").model_id
        for one in (
            recognizer,
            other,
            Recognizer(tiny_model(), device="cpu", strength=0.5),
            Recognizer(tiny_model(), device="cpu", frames=4),
            Recognizer(tiny_model(), device="cpu", views_temporal=2),
            Recognizer(tiny_model(), device="cpu", precision="bf16"),
        )
    }
    assert len(ids) == 6
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert SourceModel.of(recognizer, "x").model_id == source.model_id  # on whatever machine
    finally:
        torch.set_num_threads(threads)


def test_what_is_no_table(recognizer: Recognizer, source: SourceModel, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.parquet"
    out.write_bytes(b"PAR1 this is none PAR1")
    with pytest.raises(ConfigError, match=r"v.parquet is no Parquet file that can be read"):
        run(recognizer, source, out, videos)
    pq.write_table(pa.table({"path": ["a"]}), out)
    with pytest.raises(ConfigError, match=r"v.parquet does not say which model made it"):
        run(recognizer, source, out, videos)


def test_two_runs_do_not_write_one_table(
    recognizer: Recognizer, source: SourceModel, videos: Path, tmp_path: Path
) -> None:
    (tmp_path / "v.parquet.parts").mkdir()
    with (
        file_lock(tmp_path / "v.parquet.parts" / "lock"),
        pytest.raises(ConfigError, match=r"v.parquet is being written by another process"),
    ):
        run(recognizer, source, tmp_path / "v.parquet", videos)


def test_weights_that_give_no_numbers_are_told(source: SourceModel, videos: Path, tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.clip.visual.ln_post.weight.fill_(float("nan"))
    with pytest.raises(M2CLIPError, match="its embedding is not finite"):
        run(Recognizer(model, device="cpu"), source, tmp_path / "v.parquet", videos)
    assert not (tmp_path / "v.parquet").exists()


def test_a_folder_is_no_table(
    recognizer: Recognizer, source: SourceModel, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    for name in (".", "there", "/"):
        with pytest.raises(ConfigError, match="is a folder; give the name of a file"):
            run(recognizer, source, Path(name), videos)
    with pytest.raises(ConfigError, match=r"give it the ending \.parquet"):
        run(recognizer, source, Path("vectors.txt"), videos)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
