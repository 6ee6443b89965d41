"""What the packets tell, and what they do not: odd formats, damage, and how much of a file it takes."""

from pathlib import Path

import av
import numpy as np
import pytest

from m2clip.data.decode.packets import PacketTable, read_packets
from m2clip.data.video import Video
from tests.odd_videos import break_packet, encode, packed_avi, pattern, vp8_with_hidden_frames, x264


def table_of(path: Path) -> PacketTable:
    with av.open(str(path)) as container:
        return read_packets(container, container.streams.video[0])


def test_the_table_of_a_video_with_b_frames(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", pattern(24), options=x264(keyint=8, bframes=2, scenecut=0))
    table = table_of(path)
    assert not table.doubt
    assert table.packet_count == 24
    assert np.diff(table.pts).tolist() == [512] * 23
    assert sorted(table.ordinals) == list(range(24)) != list(table.ordinals)  # stored in another order than shown
    assert table.key_ordinals.tolist() == [0, 8, 16]
    assert [table.start_for(rank)[0] for rank in (0, 7, 8, 15, 23)] == [0, 0, 8, 8, 16]


def test_leading_frames_of_an_open_group_need_the_group_before(tmp_path: Path) -> None:
    options = x264(open_gop=1, keyint=8, min_keyint=8, bframes=3, scenecut=0)
    table = table_of(encode(tmp_path / "a.mkv", "libx264", pattern(30), options=options))
    before, (key_ordinal, key_pts) = list(zip(table.key_ordinals, table.key_pts, strict=True))[:2]
    leading = [
        rank for rank, ordinal in enumerate(table.ordinals) if ordinal > key_ordinal and table.pts[rank] < key_pts
    ]
    assert leading
    assert {table.start_for(rank) for rank in leading} == {before}
    assert table.start_for(table.rank_at(key_pts)) == (key_ordinal, key_pts)


@pytest.mark.parametrize(("layers", "spare"), [(1, True), (3, False)])
def test_pictures_of_a_lower_layer_may_carry_others(tmp_path: Path, layers: int, spare: bool) -> None:
    """H.265 calls a picture no reference that its own temporal layer does not need; a higher layer may."""
    params = f"keyint=40:bframes=4:temporal-layers={layers}:pools=1:log-level=none"
    path = encode(tmp_path / "a.mp4", "libx265", pattern(20), options={"x265-params": params})
    assert table_of(path).spare.any() == spare


def test_hidden_vp8_frames_are_not_counted(tmp_path: Path) -> None:
    table = table_of(vp8_with_hidden_frames(tmp_path, 50))
    assert (table.packet_count, len(table.pts), table.doubt) == (40, 40, "")


def test_why_packets_are_doubted(tmp_path: Path) -> None:
    assert "without a picture" in table_of(packed_avi(tmp_path, 20)).doubt
    assert "no time" in table_of(encode(tmp_path / "a.h264", "libx264", pattern(9))).doubt
    broken = encode(tmp_path / "a.mp4", "libx264", pattern(9))
    break_packet(broken, 5, lambda payload: b"\xff" * len(payload))
    assert (table_of(broken).doubt, table_of(broken).damaged) == ("the data is broken in the middle", True)


def test_packed_avi_promises_frames_that_are_not_there(tmp_path: Path) -> None:
    path = packed_avi(tmp_path, 40)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 42
    with Video(path) as video:
        info = video.info
        assert (info.frame_count, info.lost_frames) == (40, 0)  # nothing is lost: the two never existed
        np.testing.assert_allclose(info.pts_seconds, np.arange(40) / 25)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("webm", "libvpx"), ("webm", "libvpx-vp9"), ("avi", "mpeg4"), ("avi", "mjpeg"), ("mp4", "libx264")],
)
def test_a_packet_of_zeros_is_broken(tmp_path: Path, suffix: str, codec: str) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = encode(tmp_path / f"a.{suffix}", codec, pattern(9), pix_fmt=pix_fmt)
    assert not table_of(path).damaged
    break_packet(path, 0, lambda payload: bytes(len(payload)))
    table = table_of(path)
    assert (table.doubt, table.damaged, table.packet_count) == ("the data is broken in the middle", True, 9)


@pytest.mark.parametrize(("suffix", "codec"), [("webm", "libvpx"), ("webm", "libvpx-vp9"), ("mp4", "libx264")])
def test_a_hole_in_a_packet_breaks_it(tmp_path: Path, suffix: str, codec: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    path = encode(tmp_path / f"a.{suffix}", codec, noise, options={"crf": "10", "b": "0"})
    break_packet(path, 1, lambda payload: payload[:500] + bytes(400) + payload[900:])
    assert table_of(path).damaged
