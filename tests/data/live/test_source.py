"""A live source against servers on this machine that stall, break off, send rubbish or send too much."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from m2clip.data.live import LiveFrame, LiveLimits, LiveSource, LiveState
from m2clip.data.steady_frames import SteadyReader
from m2clip.data.video import Video
from m2clip.errors import ConfigError, VideoError
from tests.live_server import motion_jpeg, number, rtsp_serving, sending, silence, transport_stream
from tests.web_server import Server, body, serving

QUICK = LiveLimits(open_seconds=5, stall_seconds=0.4, first_wait_seconds=0.01, most_wait_seconds=0.05, tries=2)
WITHIN_SECONDS = 30  # far more than anything here takes


@pytest.fixture(scope="module")
def second() -> bytes:
    """Pictures 0 to 24."""
    return transport_stream(25)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


class Told:
    """The changes of state that were told."""

    def __init__(self) -> None:
        self.states: list[LiveState] = []
        self.sentences: list[str] = []

    def __call__(self, state: LiveState, sentence: str) -> None:
        self.states.append(state)
        self.sentences.append(sentence)


def opened(address: str, *, rate_fps: float = 25, tell: Told | None = None, **options: object) -> LiveSource:
    return LiveSource(address, rate_fps=rate_fps, image_size=16, limits=QUICK, tell=tell or Told(), **options)  # type: ignore[arg-type]


def taken(source: LiveSource, enough: Callable[[list[LiveFrame]], bool] = lambda frames: False) -> list[LiveFrame]:
    """Frames until they are enough, or to the end."""
    frames: list[LiveFrame] = []
    deadline = time.monotonic() + WITHIN_SECONDS
    while not enough(frames):
        assert time.monotonic() < deadline, f"{source.state} {source.counts}"
        more = source.take(0.05)
        if more is None:
            break
        frames += more
    return frames


def shown(frames: list[LiveFrame]) -> list[int]:
    return [number(float(frame.pixels.float().mean())) for frame in frames]


def read_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "m2clip-live"]


@pytest.fixture(autouse=True)
def _every_thread_ends() -> Iterator[None]:
    yield
    deadline = time.monotonic() + WITHIN_SECONDS
    while read_threads():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_pictures_arrive_with_their_times(server: Server, second: bytes) -> None:
    server.answers["/live"] = sending(second, silence)
    with opened(server.url + "/live") as source:
        frames = taken(source, lambda some: len(some) >= 20)
        assert shown(frames)[:20] == list(range(20))
        assert [frame.index for frame in frames] == list(range(len(frames)))
        assert [frame.seconds for frame in frames[:3]] == pytest.approx([0.02, 0.06, 0.1])
        assert frames[0].pixels.shape == (3, 16, 16)
        arrivals = [frame.arrived for frame in frames]
        assert arrivals == sorted(arrivals)
        assert arrivals[-1] <= time.monotonic()
        assert source.state is LiveState.live


def test_a_source_that_stalls_is_connected_to_again(server: Server, second: bytes) -> None:
    server.answers["/live"] = sending(second, silence)
    told = Told()
    with opened(server.url + "/live", tell=told) as source:
        frames = taken(source, lambda some: bool(some) and some[-1].row == 1)
        assert source.counts.reconnects == 1
    assert {frame.row for frame in frames} == {0, 1}
    assert shown([frame for frame in frames if frame.row == 1])[0] == 0
    assert told.states[:5] == ["connecting", "live", "stalled", "reconnecting", "live"]
    assert "nothing came for 0.4 s" in told.sentences[2]
    later = [frame.seconds for frame in frames]
    assert later == sorted(later)


def test_a_connection_that_breaks_is_made_again(server: Server, second: bytes) -> None:
    server.answers["/live"] = sending(second[: len(second) // 2])  # in the middle of a packet
    told = Told()
    with opened(server.url + "/live", tell=told) as source:
        frames = taken(source, lambda some: bool(some) and some[-1].row == 3)
    assert {frame.row for frame in frames} == {0, 1, 2, 3}
    assert told.states[:5] == ["connecting", "live", "lost", "reconnecting", "live"]


def test_rubbish_in_the_middle_costs_what_it_hits(server: Server, second: bytes) -> None:
    rubbish = np.random.default_rng(0).bytes(20 * 188)
    server.answers["/live"] = sending(second, rubbish, transport_stream(25, first=25), silence)
    with opened(server.url + "/live") as source:
        frames = taken(source, lambda some: bool(some) and shown(some)[-1] >= 45)
    assert {frame.row for frame in frames} == {0}
    seen = shown(frames)
    assert seen == sorted(seen)
    assert set(range(20)) <= set(seen)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (body(np.random.default_rng(0).bytes(100_000), kind="video/mp2t"), "no video that can be read"),
        (body(b"<html>no camera here</html>", kind="text/html"), "no video that can be read"),
        (None, "404"),
    ],
)
def test_an_address_that_was_never_live_ends_in_a_sentence(server: Server, answer: object, said: str) -> None:
    if answer is not None:
        server.answers["/live"] = answer  # type: ignore[assignment]
    address = server.url.replace("//", "//user:secret@") + "/live?token=secret"
    told = Told()
    with pytest.raises(VideoError, match=said) as raised, opened(address, tell=told) as source:
        taken(source)
    assert "(2 tries)" in str(raised.value)
    assert "secret" not in str(raised.value) + "".join(told.sentences)
    assert told.states == ["connecting", "lost", "reconnecting", "ended"]


@pytest.mark.parametrize("address", ["http://no-such-host.invalid/live", "rtsp://127.0.0.1:9/live"])
def test_a_server_that_is_not_there_ends_in_a_sentence(address: str) -> None:
    with pytest.raises(VideoError, match=r"cannot read .* tries"), opened(address) as source:
        taken(source)


def test_a_server_that_never_answers_is_given_up(server: Server) -> None:
    server.answers["/live"] = lambda handler, over: silence(over)
    limits = LiveLimits(open_seconds=0.3, first_wait_seconds=0.01, tries=2)
    with (
        pytest.raises(VideoError, match=r"does not answer within 0\.3 s"),
        LiveSource(server.url + "/live", rate_fps=5, image_size=16, limits=limits) as source,
    ):
        taken(source)


def test_the_newest_frames_wait_where_they_come_too_fast(server: Server) -> None:
    """All is sent at once and nobody takes anything until it is read: the last five frames are left, and the others are counted."""
    server.answers["/live"] = sending(transport_stream(60), silence)
    with opened(server.url + "/live", queue_frames=5) as source:
        deadline = time.monotonic() + WITHIN_SECONDS
        while source.counts.decoded < 58:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        counts = source.counts
        frames = source.take(1)
        assert frames is not None
        assert len(frames) == 5
        seen = shown(frames)
        assert seen == list(range(seen[0], seen[0] + 5))
        assert seen[-1] >= counts.decoded - 3
        assert counts.dropped == counts.kept - 5 >= 50
        assert [frame.index for frame in frames] == seen


def test_a_picture_of_another_size_in_the_middle_is_taken(server: Server, second: bytes) -> None:
    larger = transport_stream(25, first=25, size=(96, 128))
    server.answers["/live"] = sending(second, larger, silence)
    with opened(server.url + "/live") as source:
        frames = taken(source, lambda some: bool(some) and shown(some)[-1] >= 45)
    assert {frame.pixels.shape for frame in frames} == {(3, 16, 16)}
    assert {frame.row for frame in frames} == {0}


def test_pictures_without_times_are_timed_by_their_arrival(server: Server) -> None:
    """Motion JPEG comes with no clock; by the 25 a second that FFmpeg assumes, picture 10 would be shown after 0.4 s."""
    server.answers["/live"] = motion_jpeg(12, seconds_each=0.1)
    with opened(server.url + "/live") as source:
        frames = taken(source, lambda some: bool(some) and number(float(some[-1].pixels.float().mean())) >= 10)
    assert frames[-1].seconds > 0.5


def test_a_playlist_of_pieces_is_shown_at_its_own_pace(server: Server, second: bytes) -> None:
    server.answers["/0.ts"] = body(second, kind="video/mp2t")
    playlist = b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.0,\n0.ts\n"
    server.answers["/live.m3u8"] = body(playlist, kind="application/vnd.apple.mpegurl")
    start = time.monotonic()
    with opened(server.url + "/live.m3u8") as source:
        frames = taken(source, lambda some: len(some) >= 20)
    assert time.monotonic() - start > 0.7
    assert shown(frames)[:20] == list(range(20))


def test_a_playlist_cannot_lead_to_the_disk(server: Server, second: bytes, tmp_path: Path) -> None:
    (tmp_path / "private.ts").write_bytes(second)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\nfile://{tmp_path}/private.ts\n#EXT-X-ENDLIST\n"
    server.answers["/live.m3u8"] = body(playlist.encode(), kind="application/vnd.apple.mpegurl")
    with pytest.raises(VideoError, match="no video that can be read"), opened(server.url + "/live.m3u8") as source:
        taken(source)


@pytest.mark.parametrize(("ends", "state"), [(True, LiveState.lost), (False, LiveState.stalled)])
def test_rtsp_is_read_and_connected_to_again(ends: bool, state: LiveState, second: bytes) -> None:
    told = Told()
    with rtsp_serving(second, seconds=0.3, ends=ends) as address, opened(address, tell=told) as source:
        frames = taken(source, lambda some: bool(some) and some[-1].row == 1)
    first = shown([frame for frame in frames if frame.row == 0])
    assert first == list(range(len(first)))
    assert len(first) >= 20
    assert told.states[2] is state
    assert "secret" not in "".join(told.sentences)


def test_a_file_is_played_at_its_own_pace_and_ends(second: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip.ts"
    path.write_bytes(second)
    start = time.monotonic()
    with opened(str(path), rate_fps=8) as source:
        frames = taken(source)
        assert source.state is LiveState.ended
    assert time.monotonic() - start > 0.8
    with Video(path) as video:
        of_file = [int(value) for one in SteadyReader(8, 16).read(video) for value in one.pixels[:, 0, 0, 0]]
    assert [int(frame.pixels[0, 0, 0]) for frame in frames] == of_file
    assert source.counts.dropped == 0


def test_closing_ends_the_thread_whatever_it_waits_for(server: Server, second: bytes) -> None:
    server.answers["/live"] = sending(second, silence)
    source = opened(server.url + "/live")
    taken(source, lambda some: bool(some))
    source.close()
    taken(source)
    assert source.state is LiveState.ended


def test_limits_and_rates_are_above_zero() -> None:
    with pytest.raises(ConfigError, match="stall_seconds is 0"):
        LiveLimits(stall_seconds=0)
    with pytest.raises(ConfigError, match="rate_fps is 0"):
        LiveSource("0", rate_fps=0, image_size=16)
