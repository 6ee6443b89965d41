"""Facts on disk: found again for an unchanged file, and never for anything else."""

import errno
import os
import resource
from contextlib import closing
from pathlib import Path

import pytest

from m2clip.check.kept_facts import KeptFacts, keys_of
from m2clip.check.reading import FileFacts, ReadJob
from m2clip.data.places import ShardMember, WebAddress
from m2clip.errors import M2CLIPError

GOOD = FileFacts(size_bytes=3, sha256="ab", frames=5, odd=(("tiny", "8x8 pixels"),), parts=((None, 1.5, 3),))


def kept(path: Path, job: ReadJob) -> FileFacts | None:
    with closing(KeptFacts(path)) as known:
        return known.find(keys_of([job.place])[0], job)


def keep(path: Path, place: Path, facts: FileFacts) -> None:
    with closing(KeptFacts(path)) as known:
        known.keep(keys_of([place])[0], place, facts)


def test_facts_are_found_until_the_file_changes(tmp_path: Path) -> None:
    video, lines = tmp_path / "a.mp4", tmp_path / "files.jsonl"
    video.write_bytes(b"abc")
    keep(lines, video, GOOD)
    assert kept(lines, ReadJob(video)) == GOOD
    assert kept(lines, ReadJob(video, ((None, 1.5),))) == GOOD
    assert kept(lines, ReadJob(video, ((None, 2.5),))) is None  # a part that was not asked for then
    assert kept(lines, ReadJob(tmp_path / "b.mp4")) is None
    os.utime(video, ns=(1, 1))
    assert kept(lines, ReadJob(video)) is None


def test_a_torn_line_is_passed_over_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    lines = tmp_path / "files.jsonl"
    videos = [tmp_path / f"{i}.mp4" for i in range(3)]
    for video in videos:
        video.write_bytes(b"abc")
    keep(lines, videos[0], GOOD)
    keep(lines, videos[1], GOOD)
    lines.write_bytes(lines.read_bytes()[:-20])
    keep(lines, videos[2], GOOD)
    assert [kept(lines, ReadJob(video)) for video in videos] == [GOOD, None, GOOD]


@pytest.mark.parametrize(
    "line", [b"[]", b"null", b'{"key": 1}', b'{"key": "a", "facts": {"frames": "many"}}', b"\xff\xfe", b"[" * 100_000]
)
def test_lines_of_others_are_passed_over(tmp_path: Path, line: bytes) -> None:
    video, lines = tmp_path / "a.mp4", tmp_path / "files.jsonl"
    video.write_bytes(b"abc")
    lines.write_bytes(line + b"\n")
    keep(lines, video, GOOD)
    assert kept(lines, ReadJob(video)) == GOOD


def test_what_may_have_been_the_machines_state_is_read_again(tmp_path: Path) -> None:
    video, lines = tmp_path / "a.mp4", tmp_path / "files.jsonl"
    video.write_bytes(b"abc")
    for code in ("crashes-decoder", "takes-too-long", "too-large", "unreadable"):
        bad = FileFacts(bad=(code, "why"))
        keep(lines, video, bad)
        assert kept(lines, ReadJob(video, ((0.0, 1.0),))) == (bad if code == "unreadable" else None)


def test_what_has_no_file_of_its_own_has_no_key(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"abcdef")
    member = ShardMember(str(tmp_path / "a.tar"), "a.mp4", 0, 3)
    keys = keys_of([WebAddress("http://a/b.mp4"), tmp_path, tmp_path / "gone.mp4", member])
    assert keys[:3] == ["", "", ""]
    assert "a.mp4" in keys[3]
    with closing(KeptFacts(tmp_path / "files.jsonl")) as known:
        known.keep("", tmp_path, GOOD)
        assert known.find("", ReadJob(tmp_path)) is None


def test_the_finished_file_has_a_line_a_video_in_order(tmp_path: Path) -> None:
    lines = tmp_path / "files.jsonl"
    known = KeptFacts(lines)
    for name in "cab":
        known.keep(name, tmp_path / name, GOOD)
    known.finish((name, tmp_path / name, GOOD) for name in "abc")
    assert [line.split('"')[3] for line in lines.read_text().splitlines()] == ["a", "b", "c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files.jsonl"]
    KeptFacts(None).finish([("a", tmp_path, GOOD)])


def test_a_full_disk_is_told_and_what_fits_is_kept(tmp_path: Path) -> None:
    lines = tmp_path / "files.jsonl"
    videos = [tmp_path / name for name in ("a.mp4", "b.mp4")]
    for video in videos:
        video.write_bytes(b"abc")
    keep(lines, videos[0], GOOD)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (lines.stat().st_size + 20, before[1]))  # a part of the next line fits
    try:
        with pytest.raises(
            M2CLIPError, match=r"files\.jsonl cannot be written \(File too large\); free space or give another folder"
        ):
            keep(lines, videos[1], GOOD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert kept(lines, ReadJob(videos[0])) == GOOD
    assert kept(lines, ReadJob(videos[1])) is None
    with pytest.raises(M2CLIPError, match=r"absent/files\.jsonl cannot be written \(No such file"):
        KeptFacts(tmp_path / "absent" / "files.jsonl")


def test_a_full_disk_at_the_end_keeps_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video, lines = tmp_path / "a.mp4", tmp_path / "files.jsonl"
    video.write_bytes(b"abc")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    known = KeptFacts(lines)
    known.keep(keys_of([video])[0], video, GOOD)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(M2CLIPError, match=r"files\.jsonl cannot be written \(No space left on device"):
        known.finish([(keys_of([video])[0], video, GOOD)])
    assert kept(lines, ReadJob(video)) == GOOD
    assert [path.name for path in tmp_path.iterdir() if path != video] == ["files.jsonl"]
