"""Every file of the folder of odd ones, and the counts of all listed videos, against stored values and FFmpeg's own program.

Tolerances. Facts are exact, but for times, which files give in milliseconds. A colour may be off by 2 of 255 in a pixel and by
0.5 in the mean of a picture: decoders give the same numbers everywhere, but the step to RGB rounds by the processor and by the
version of the library. On the machine that this was written on, every value was equal.
"""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2clip.data.video import Video
from m2clip.errors import VideoError
from tests.ffmpeg_pictures import ffmpeg_pictures
from tests.make_odd_files import PLACES, TABLE, colours, is_deep, moments

ROWS: dict[str, dict[str, Any]] = json.loads(TABLE.read_text())
READABLE = [name for name, row in ROWS.items() if "error" not in row]
PIXEL, MEAN = 2, 0.5
CONCEALED = {"decord_corrupted.mp4": 49}  # FFmpeg's program also gives the pictures that are built on the broken one

pytestmark = pytest.mark.shared


@pytest.fixture
def odd(shared: Path) -> Path:
    return shared / "data/videos/odd"


def test_the_table_names_every_file(odd: Path) -> None:
    assert sorted(ROWS) == sorted(path.name for path in odd.iterdir())
    assert len(READABLE) == 26


@pytest.mark.case("D7", "D8", "D10", "D11")
@pytest.mark.parametrize("name", READABLE)
def test_facts_and_colours(odd: Path, name: str) -> None:
    row = ROWS[name]
    with Video(odd / name) as video:
        info = video.info
        ranks = moments(info.frame_count)
        frames = dict(zip(ranks, video.frames(list(ranks.values())), strict=True))
    for fact in ("frame_count", "width", "height", "rotation_degrees", "lost_frames"):
        assert getattr(info, fact) == row[fact], fact
    assert (info.fps, info.duration_seconds) == pytest.approx((row["fps"], row["duration_seconds"]), abs=2e-3)
    for moment, expected in row["colours"].items():
        found = colours(frames[moment])
        np.testing.assert_allclose(found.pop("mean"), expected["mean"], atol=MEAN, err_msg=moment)
        for place in PLACES:
            np.testing.assert_allclose(found[place], expected[place], atol=PIXEL, err_msg=f"{moment}, {place}")


@pytest.mark.case("D1", "D12")
@pytest.mark.parametrize("name", [name for name in ROWS if name not in READABLE])
def test_what_cannot_be_read_says_why(odd: Path, name: str) -> None:
    with pytest.raises(VideoError) as caught:
        Video(odd / name)
    assert str(caught.value).replace(f"{odd}/", "") == ROWS[name]["error"]


@pytest.mark.case("D10")
@pytest.mark.parametrize("name", READABLE)
def test_pictures_are_those_of_ffmpegs_program(odd: Path, name: str) -> None:
    row = ROWS[name]
    ranks = sorted(set(moments(row["frame_count"]).values()))
    size = row["width"], row["height"]
    count, expected = ffmpeg_pictures(odd / name, size=size, ranks=ranks, chroma_left=is_deep(name))
    assert count == CONCEALED.get(name, row["frame_count"])
    with Video(odd / name) as video:
        for rank, frame in zip(ranks, video.frames(ranks), strict=True):
            assert np.abs(frame.astype(int) - expected[rank]).max() <= PIXEL


@pytest.mark.case("D1", "D11", "D12")
def test_counts_and_sizes_of_all_listed_videos(shared: Path) -> None:
    with (shared / "data/videos/manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    wrong = []
    for row in rows:
        if row["decoded_frames"] in ("", "0"):
            with pytest.raises(VideoError, match=r"cannot read .*|no video stream in .*|no frame of .*"):
                Video(shared / "data" / row["path"])
            continue
        with Video(shared / "data" / row["path"]) as video:
            info = video.info
        size = int(row["width"]), int(row["height"])
        upright = size[::-1] if row["rotation"] in ("90", "-90") else size
        lost = 22 if "corrupted" in row["path"] else 0
        found = (info.frame_count, info.width, info.height, info.lost_frames)
        if found != (int(row["decoded_frames"]), *upright, lost):
            wrong.append((row["path"], found))
    assert not wrong
    assert len(rows) == 300
