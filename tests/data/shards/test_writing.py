"""Packing videos into shards: their bytes as they are, the same tar files each time, and no harm from what happens meanwhile."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from m2clip.data.manifest import Manifest, Sample
from m2clip.data.places import WebAddress
from m2clip.data.shards import sources as shard_sources
from m2clip.data.shards import writing as shard_writing
from m2clip.data.shards.file_lock import file_lock
from m2clip.data.shards.members import member_bytes
from m2clip.data.shards.reading import read_shards
from m2clip.data.shards.writing import WrittenShards, write_shards
from m2clip.errors import ConfigError, ManifestError, VideoError
from tests.odd_videos import encode, pattern
from tests.web_server import body, serving

NAMES = ("None", "a, b")


def listed(folder: Path, *files: tuple[str, bytes | None], texts: tuple[tuple[str, ...], ...] = ()) -> Manifest:
    """Files of any bytes (None: absent), with the labels 0, 1, 0, 1..."""
    samples = []
    for n, (name, data) in enumerate(files):
        path = folder / name
        if data is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        samples.append(Sample(path, n % 2, where=f"list.txt:{n + 1}"))
    return Manifest(samples, NAMES, texts, str(folder / "list.txt"), "1" * 64)  # type: ignore[arg-type]


def videos(folder: Path, count: int = 10, *, size: int = 1000) -> Manifest:
    return listed(folder, *((f"dir {n % 3}/{n}.avi", bytes([n]) * (size + n)) for n in range(count)))


def pack(manifest: Manifest, out: Path, **options: Any) -> WrittenShards:
    return write_shards(manifest, out, base=Path(manifest.source).parent, **options)


def sums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_every_video_is_there_as_it_was(tmp_path: Path) -> None:
    manifest = videos(tmp_path / "in")
    written = pack(manifest, tmp_path / "out", shard_samples=4)
    assert (written.shards, written.samples, written.left_out) == (3, 10, ())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "shard-000000.tar", "shard-000001.tar", "shard-000002.tar", "shards.parquet",
    ]  # fmt: skip
    assert written.bytes == sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tar"))
    found = read_shards(tmp_path / "out")
    assert found.classes.names == NAMES
    for ours, theirs in zip(found.samples, manifest.samples, strict=True):
        assert member_bytes(ours.path) == theirs.path.read_bytes()  # type: ignore[arg-type, union-attr]
        assert (ours.label, ours.start_seconds, ours.end_seconds) == (theirs.label, None, None)


def test_the_layout_is_webdatasets(tmp_path: Path) -> None:
    manifest = videos(tmp_path / "in", 2)
    pack(manifest, tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        assert tar.getnames() == [f"0000000{n}.{kind}" for n in (0, 1) for kind in ("avi", "cls", "json")]
        infos = tar.getmembers()
        assert {(info.mtime, info.uid, info.uname, info.mode, info.type) for info in infos} == {
            (0, 0, "", 0o644, tarfile.REGTYPE)
        }
        assert tar.extractfile("00000001.cls").read() == b"1"  # type: ignore[union-attr]
        record = json.loads(tar.extractfile("00000001.json").read())  # type: ignore[union-attr]
    sha256 = hashlib.sha256(manifest.samples[1].path.read_bytes()).hexdigest()  # type: ignore[union-attr]
    assert record == {"label": "a, b", "id": 1, "source": "dir 1/1.avi", "sha256": sha256}
    index = pq.read_table(tmp_path / "out" / "shards.parquet").to_pylist()
    assert index[1] == {
        "shard": 0, "member": "00000001.avi", "offset": infos[3].offset_data, "size": 1001, "label": 1,
        "start_seconds": None, "end_seconds": None, "source": "dir 1/1.avi", "sha256": sha256,
    }  # fmt: skip


def test_without_their_index_shards_say_the_same(tmp_path: Path) -> None:
    pack(videos(tmp_path / "in"), tmp_path / "out", shard_samples=4)
    with_index = read_shards(tmp_path / "out")
    without = read_shards(str(tmp_path / "out" / "*.tar"))
    assert without.classes.names == with_index.classes.names
    for one, other in zip(without.samples, with_index.samples, strict=True):
        assert (one.label, member_bytes(one.path)) == (other.label, member_bytes(other.path))  # type: ignore[arg-type]


def test_the_same_videos_and_settings_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = videos(tmp_path / "one"), videos(tmp_path / "two")
    for n, sample in enumerate(second.samples):
        os.utime(sample.path, (n, n))  # type: ignore[arg-type]
    for options in ({}, {"shuffle_seed": 5}):
        for number, manifest in enumerate((first, second)):
            pack(manifest, tmp_path / f"out{number}{len(options)}", shard_bytes=5000, **options)
        assert sums(tmp_path / f"out0{len(options)}") == sums(tmp_path / f"out1{len(options)}")
    plain, shuffled = (read_shards(tmp_path / f"out0{n}").samples for n in (0, 1))
    contents = [[member_bytes(sample.path) for sample in samples] for samples in (plain, shuffled)]  # type: ignore[arg-type]
    assert contents[0] != contents[1]
    assert sorted(contents[0]) == sorted(contents[1])


def test_how_large_shards_become(tmp_path: Path) -> None:
    manifest = listed(
        tmp_path / "in", *((f"{n}.mp4", bytes(size)) for n, size in enumerate((3000, 3000, 9000, 100, 100)))
    )
    pack(manifest, tmp_path / "out", shard_bytes=8192)
    members = []
    for path in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(path) as tar:
            members.append([name for name in tar.getnames() if name.endswith("mp4")])
        assert path.stat().st_size % 10240 == 0
    # a video of 3000 takes 512 + 3072, its notes twice 512 + 512: two are 11,264; the one of 9000 has a shard of its own
    assert members == [["00000000.mp4"], ["00000001.mp4"], ["00000002.mp4"], ["00000003.mp4", "00000004.mp4"]]


def test_parts_of_one_video_share_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    long, other = tmp_path / "in" / "long.mkv", tmp_path / "in" / "other.mp4"
    long.write_bytes(b"long")
    other.write_bytes(b"other")
    rows = [(long, 0, None, 4.0), (other, 1, None, None), (long, 1, 4.0, 9.5)]
    samples = tuple(Sample(path, label, start, end) for path, label, start, end in rows)
    manifest = Manifest(samples, NAMES, (), str(tmp_path / "in" / "list.csv"), "1" * 64)  # type: ignore[arg-type]
    written = pack(manifest, tmp_path / "out")
    assert written.samples == 3
    for source in (tmp_path / "out", tmp_path / "out" / "shard-000000.tar"):
        found = read_shards(source).samples
        told = sorted((member_bytes(one.path), one.label, one.start_seconds or 0.0, one.end_seconds) for one in found)  # type: ignore[arg-type]
        assert told == [(b"long", 0, 0.0, 4.0), (b"long", 1, 4.0, 9.5), (b"other", 1, 0.0, None)]
    assert [one.label for one in read_shards(tmp_path / "out").samples] == [0, 1, 1]  # the order of the list
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        assert tar.getnames() == ["00000000.mkv", "00000000.json", "00000001.mp4", "00000001.cls", "00000001.json"]


def bad_ones(folder: Path) -> Manifest:
    manifest = listed(
        folder, ("absent.mp4", None), ("0.mp4", b"good"), ("empty.mp4", b""), ("frames/0001.jpg", b"x"), ("array.npy", b"x"),
        ("1.mp4", b"good too"), ("pipe", None), ("last.mp4", None),
    )  # fmt: skip
    os.mkfifo(folder / "pipe")
    samples = [
        Sample(folder / "frames", 0, where="list.txt:4") if "frames" in str(one.path) else one
        for one in manifest.samples
    ]
    return Manifest(samples, NAMES, (), manifest.source, manifest.sha256)  # type: ignore[arg-type]


def test_what_cannot_be_packed_is_told_and_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    written = pack(bad_ones(tmp_path / "in"), tmp_path / "out", tell=said.append, shard_samples=1)
    assert (written.samples, written.shards) == (2, 2)
    told = [("absent.mp4", 1), ("empty.mp4", 3), ("frames", 4), ("array.npy", 5), ("pipe", 7), ("last.mp4", 8)]
    assert [(bad.path, bad.where) for bad in written.left_out] == [(name, f"list.txt:{n}") for name, n in told]
    reasons = (
        "No such file or directory",
        "the file is empty",
        "is a folder of images",
        "is an array",
        "it is no file",
        "No such file",
    )
    for sentence, reason, (name, n) in zip(said, reasons, told, strict=True):
        assert reason in sentence
        assert f"{tmp_path}/in/{name}" in sentence
        assert sentence.startswith("left out: ")
        assert sentence.endswith(f"(listed at list.txt:{n})")
    assert [member_bytes(one.path) for one in read_shards(tmp_path / "out").samples] == [b"good", b"good too"]  # type: ignore[arg-type]


def test_a_bad_video_ends_the_work_where_that_is_wished(tmp_path: Path) -> None:
    with pytest.raises(
        VideoError, match=r"absent\.mp4: No such file.*\(listed at list\.txt:1\); to go on without such files"
    ):
        pack(bad_ones(tmp_path / "in"), tmp_path / "out", on_bad_file="stop")
    assert list((tmp_path / "out").glob("*.tar")) == []


def test_nothing_to_pack(tmp_path: Path) -> None:
    manifest = listed(tmp_path / "in", ("a.mp4", None), ("b.mp4", b""))
    with pytest.raises(ManifestError, match=r"list\.txt: none of its 2 videos can be packed: cannot read .*a\.mp4"):
        pack(manifest, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_video_that_changes_meanwhile_is_left_out_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = listed(tmp_path / "in", ("a.mp4", b"a" * 3000), ("b.mp4", b"b" * 3000), ("c.mp4", b"c" * 3000))
    kept = listed(tmp_path / "kept", ("a.mp4", b"a" * 3000))
    original = shard_sources.opened
    wrong = {"b.mp4": 1, "c.mp4": -1}

    @contextmanager
    def opened(place: Path, *, scratch: Path) -> Iterator[tuple[Any, int]]:
        with original(place, scratch=scratch) as (file, size):
            yield file, size + wrong.get(place.name, 0)

    monkeypatch.setattr("m2clip.data.shards.packing.opened", opened)
    written = pack(manifest, tmp_path / "out")
    assert [bad.reason for bad in written.left_out] == [
        f"cannot read {tmp_path}/in/{name}: it changes while it is read; pack it when nothing writes it"
        for name in wrong
    ]
    pack(kept, tmp_path / "kept out")
    tar = "shard-000000.tar"
    assert (tmp_path / "out" / tar).read_bytes() == (tmp_path / "kept out" / tar).read_bytes()


def test_videos_from_the_web_and_from_other_shards(tmp_path: Path) -> None:
    with serving() as server:
        server.answers["/a.webm"] = body(b"from the web")
        samples = (
            Sample(WebAddress(f"{server.url}/a.webm"), 0),
            Sample(WebAddress(f"{server.url}/absent.mp4?key=1"), 0),
        )
        manifest = Manifest(samples, NAMES, (), "list.txt", "1" * 64)  # type: ignore[arg-type]
        written = pack(manifest, tmp_path / "one")
        assert [bad.path for bad in written.left_out] == [f"{server.url}/absent.mp4?..."]
    again = read_shards(tmp_path / "one")
    pack(Manifest(again.samples, NAMES, (), "one", "2" * 64), tmp_path / "two")
    ((sample),) = read_shards(tmp_path / "two").samples
    assert member_bytes(sample.path) == b"from the web"  # type: ignore[arg-type]
    (row,) = pq.read_table(tmp_path / "two" / "shards.parquet").to_pylist()
    assert row["member"] == "00000000.webm"
    assert row["source"].endswith("one/shard-000000.tar/00000000.webm")


def _killed(folder: Path, out: Path, after: int) -> None:
    """Packs, and dies when the so-manieth file gets its final name."""
    left = [after]
    replace = os.replace

    def dying(source: Any, target: Any) -> None:
        if str(target).endswith((".tar", ".tar.json", ".parquet")):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
        replace(source, target)

    shard_writing.os.replace = dying  # type: ignore[attr-defined]
    pack(videos(folder), out, shard_samples=3)


@pytest.mark.parametrize("after", [0, 1, 2, 5, 8])
def test_a_killed_run_goes_on_behind_its_last_whole_shard(tmp_path: Path, after: int) -> None:
    """Four shards, each named and then noted, and the index: 9 renamings."""
    manifest = videos(tmp_path / "in")
    pack(manifest, tmp_path / "whole", shard_samples=3)
    process = multiprocessing.get_context("fork").Process(
        target=_killed, args=(tmp_path / "in", tmp_path / "out", after)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    before = {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("*.tar")}
    assert len(before) == (after + 1) // 2
    assert not (tmp_path / "out" / "shards.parquet").exists()
    steps: list[tuple[int, int]] = []
    pack(manifest, tmp_path / "out", shard_samples=3, progress=lambda done, total: steps.append((done, total)))
    assert sums(tmp_path / "out") == sums(tmp_path / "whole")
    kept = after // 2  # shards that were noted
    assert steps == [(n, 10) for n in range(3 * kept + 1, 11)]
    after_all = {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("*.tar")}
    assert all(after_all[name] == before[name] for name in sorted(before)[:kept])


@pytest.mark.parametrize("removal", [None, 0, 2])
def test_a_run_that_was_killed_behind_its_index_is_made_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removal: int | None
) -> None:
    """`removal`: how many of the notes were removed; None: the index had just got its name."""
    manifest, out = videos(tmp_path / "in"), tmp_path / "out"
    whole = pack(manifest, tmp_path / "whole", shard_samples=3)

    def dying(work: Path, *, ignore_errors: bool) -> None:
        if work.exists():
            for path in sorted(work.iterdir())[:removal]:
                path.unlink()
            raise KeyboardInterrupt

    def before(work: Path, done: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", dying)
        if removal is None:
            patch.setattr(os, "rename", before)
        with pytest.raises(KeyboardInterrupt):
            pack(manifest, out, shard_samples=3)
    assert (out / "shards.parquet").exists()
    with pytest.raises(ConfigError, match=r"already holds shards and their index|holds the beginning of other shards"):
        pack(manifest, out, shard_samples=2)
    if removal is None:
        again = pack(manifest, out, shard_samples=3)
        assert (again.shards, again.samples, again.bytes) == (whole.shards, whole.samples, whole.bytes)
    else:  # all was done, and is not done again
        with pytest.raises(ConfigError, match="already holds shards and their index"):
            pack(manifest, out, shard_samples=3)
    assert sums(out) == sums(tmp_path / "whole")
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())


def test_a_beginning_of_something_else_is_left_alone(tmp_path: Path) -> None:
    manifest = bad_ones(tmp_path / "in")
    with pytest.raises(VideoError):
        pack(manifest, tmp_path / "out", on_bad_file="stop")
    with pytest.raises(ConfigError, match=r"out holds the beginning of other shards"):
        pack(manifest, tmp_path / "out", shard_samples=1)
    assert pack(manifest, tmp_path / "out").samples == 2


@pytest.mark.parametrize("name", ["shards.parquet", "shard-000000.tar"])
def test_shards_are_never_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"precious")
    with pytest.raises(ConfigError, match="already holds shards"):
        pack(videos(tmp_path / "in"), tmp_path / "out")
    assert sums(tmp_path / "out") == {name: hashlib.sha256(b"precious").hexdigest()}


def test_two_at_once(tmp_path: Path) -> None:
    (tmp_path / "out" / ".unfinished").mkdir(parents=True)
    with (
        file_lock(tmp_path / "out" / ".unfinished" / "lock"),
        pytest.raises(ConfigError, match="another process is writing shards there"),
    ):
        pack(videos(tmp_path / "in"), tmp_path / "out")


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / ".unfinished").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is a link, and nothing is written outside"):
        pack(videos(tmp_path / "in"), tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("call", ["pathlib.Path.open", "os.fsync", "os.replace"])
def test_a_full_disk_or_read_only_folder_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    manifest = videos(tmp_path / "in")

    def full(*arguments: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(call, full)
        with pytest.raises(
            ConfigError, match=r"out cannot be written \(No space left on device\): make room"
        ) as caught:
            pack(manifest, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "shards.parquet").exists()
    assert pack(manifest, tmp_path / "out").samples == 10  # when there is room


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file cannot be written \(File exists\)"):
        pack(videos(tmp_path / "in"), tmp_path / "file")


def test_class_texts_come_along(tmp_path: Path) -> None:
    manifest = listed(tmp_path / "in", ("a.mp4", b"a"), texts=(("nothing at all",), ()))
    pack(manifest, tmp_path / "out")
    assert read_shards(tmp_path / "out").classes.texts == (("nothing at all",), ())


def test_only_videos_are_packed_whatever_a_list_or_a_link_names(tmp_path: Path) -> None:
    """Whoever packs a stranger's list, and gives the shards away, must not give away other files with them."""
    secret = tmp_path / "id_rsa"
    secret.write_bytes(b"secret")
    video = encode(tmp_path / "a.mp4", "mpeg4", pattern(3)).rename(tmp_path / "real")
    folder = tmp_path / "in"
    manifest = listed(folder, ("../id_rsa", None), ("link.mp4", None), ("good", None), ("broken.mp4", b"any bytes"))
    (folder / "link.mp4").symlink_to(secret)
    (folder / "good").symlink_to(video)
    written = pack(manifest, tmp_path / "out")
    assert [Path(bad.path).name for bad in written.left_out] == ["id_rsa", "link.mp4"]
    assert all("it is no video file" in bad.reason for bad in written.left_out)
    packed = [member_bytes(sample.path) for sample in read_shards(tmp_path / "out").samples]  # type: ignore[arg-type]
    assert packed == [video.read_bytes(), b"any bytes"]
