"""What a `data.timeline_reader.TimelineReader` reads -> the features of a video's windows, as they become complete.

Windows that share frames are read from one pass over the video (`model.frame_stream`): each frame is encoded once, and a window is
the mean of the frames that lie in it. Near a window's borders such frames have seen their neighbours outside of the window, where
a clip of its own has none; that is all that differs.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, pairwise

import torch
from torch import Tensor

from m2clip.data.timeline_reader import FrameWindow, WindowClips, WindowedFrames
from m2clip.data.transforms import PixelStatistics
from m2clip.errors import VideoError
from m2clip.model.frame_stream import FrameStream, StreamedFrames
from m2clip.model.video_clip import VideoCLIP, VideoFeatures
from m2clip.scoring import Prediction

WINDOWS_AT_ONCE = 64


@dataclass(frozen=True)
class Window:
    """A stretch of a video and what it shows, best first."""

    start_seconds: float
    end_seconds: float
    predictions: tuple[Prediction, ...]
    none_of_these: bool = False
    """Whether it shows none of the classes, where a threshold was set for them (`m2clip calibrate --reject`)."""


@dataclass(frozen=True)
class EncodedWindows:
    """R neighbouring windows."""

    spans: tuple[tuple[float, float], ...]
    """Start and end of each, seconds."""
    features: VideoFeatures
    """Of R windows."""

    def __post_init__(self) -> None:
        if len(self.spans) != len(self.features.embedding):
            raise ValueError(f"{len(self.spans)} spans and features of {len(self.features.embedding)} windows")


def encoded_windows(
    chunks: Iterable[WindowedFrames | WindowClips], model: VideoCLIP, *, encode: Callable[[Tensor], VideoFeatures]
) -> Iterator[EncodedWindows]:
    """The windows in order, each as soon as its frames are done; held are the frames of those that have begun.

    `encode` makes features of clips uint8 [R, T, 3, H, W] that are windows of their own. Where the video breaks off (VideoError),
    the windows that are complete come first. Raises ConfigError for shared frames and a model that cannot share them.
    """
    shared: SharedFrames | None = None
    try:
        for chunk in chunks:
            if isinstance(chunk, WindowClips):
                yield EncodedWindows(chunk.spans, encode(chunk.clips.pixels.flatten(0, 1)))
            else:
                shared = shared or SharedFrames(model)
                yield from shared.push(chunk)
    except VideoError:
        if shared is not None:
            yield from shared.finish()
        raise
    if shared is not None:
        yield from shared.finish()


class SharedFrames:
    """The frames of one video, encoded once, and the windows that are read from them."""

    def __init__(self, model: VideoCLIP) -> None:
        self._model = model
        self._stream = FrameStream(model)
        sizes = model.info.sizes
        self._statistics = PixelStatistics(sizes.mean, sizes.std)
        self._waiting: deque[FrameWindow] = deque()
        # Encoded frames from number `_first` on, and how many frames have been pushed.
        self._embeddings: Tensor | None = None
        self._class_tokens: Tensor | None = None
        self._first = self._pushed = 0

    def push(self, chunk: WindowedFrames) -> list[EncodedWindows]:
        """The next frames -> the windows that are complete now."""
        device = next(self._model.parameters()).device
        self._waiting += chunk.windows
        self._pushed += len(chunk.frames.pixels)
        found: list[EncodedWindows] = []
        # In pieces: the tower takes them like that anyway, and as numbers pixels are four times as large.
        for pixels in chunk.frames.pixels.split(self._stream.at_once(chunk.frames.pixels)):
            found += self._take(self._stream.push(self._statistics.normalize(pixels.to(device))))
        return found

    def finish(self) -> list[EncodedWindows]:
        """The video ends here -> the remaining windows that are complete."""
        return self._take(self._stream.finish())

    def _take(self, frames: StreamedFrames) -> list[EncodedWindows]:
        """Add frames that are finished, read the windows that they complete, and drop what no other needs."""
        embeddings, class_tokens = frames.embeddings, frames.class_tokens
        if self._embeddings is not None and self._class_tokens is not None:
            embeddings = torch.cat([self._embeddings, embeddings])
            class_tokens = torch.cat([self._class_tokens, class_tokens])
        self._embeddings, self._class_tokens = embeddings, class_tokens
        done: list[FrameWindow] = []
        while self._waiting and self._waiting[0].stop <= self._first + len(embeddings):
            done.append(self._waiting.popleft())
        found = [
            self._read(windows[start : start + WINDOWS_AT_ONCE])
            for _, some in groupby(done, key=lambda window: window.stop - window.first)
            for windows in [list(some)]
            for start in range(0, len(windows), WINDOWS_AT_ONCE)
        ]
        needed = self._waiting[0].first if self._waiting else self._pushed
        gone = min(max(needed - self._first, 0), len(embeddings))
        self._embeddings, self._class_tokens = embeddings[gone:].clone(), class_tokens[gone:].clone()
        self._first += gone
        return found

    def _read(self, windows: list[FrameWindow]) -> EncodedWindows:
        """Windows of as many frames each."""
        assert self._embeddings is not None
        assert self._class_tokens is not None
        places = torch.tensor([range(window.first - self._first, window.stop - self._first) for window in windows])
        places = places.to(self._embeddings.device)
        with torch.inference_mode():
            features = self._model.read_frames(self._embeddings[places], self._class_tokens[places])
        return EncodedWindows(tuple((window.start_seconds, window.end_seconds) for window in windows), features)


@dataclass(frozen=True)
class Moment:
    """A stretch of neighbouring windows with the same best label."""

    start_seconds: float
    end_seconds: float
    label: str
    score: float
    """The best that the label has there."""


def moments(windows: Iterable[Window]) -> Iterator[Moment]:
    """Windows in their order -> what is best when, one behind another without overlap; nothing where none of the classes is shown.

    A window speaks for the time that is nearer to its middle than to another window's, as far as it reaches.
    Example: windows 0-2, 1-3 and 2-4 s speak for 0-1.5, 1.5-2.5 and 2.5-4 s.
    """
    for label, stretches in groupby(_spoken_for(windows), key=lambda stretch: stretch[2]):
        held = list(stretches)
        if label is None:
            continue
        # Where steps are longer than windows there is a gap between two that show the same.
        runs = [[held[0]]]
        for stretch in held[1:]:
            if stretch[0] > runs[-1][-1][1]:
                runs.append([])
            runs[-1].append(stretch)
        for run in runs:
            yield Moment(run[0][0], run[-1][1], label, max(stretch[3] for stretch in run))


def _spoken_for(windows: Iterable[Window]) -> Iterator[tuple[float, float, str | None, float]]:
    """Start, end, best label (None: none of the classes) and its score."""
    start: float | None = None
    for window, following in pairwise(chain(windows, [None])):
        assert window is not None
        border = window.end_seconds
        if following is not None:
            middles = (window.start_seconds + window.end_seconds + following.start_seconds + following.end_seconds) / 2
            border = middles / 2
        best = window.predictions[0]
        first = window.start_seconds if start is None else max(start, window.start_seconds)
        yield first, min(border, window.end_seconds), None if window.none_of_these else best.label, best.score
        start = border
