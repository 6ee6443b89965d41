"""What can be said of a file: one code word for each finding, its kind, and what it means."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["bad", "short", "odd", "twice", "leak", "contradiction"]


@dataclass(frozen=True)
class Meaning:
    """What a code word stands for."""

    kind: Kind
    text: str


KINDS: dict[Kind, str] = {
    "bad": "cannot be used",
    "contradiction": "one video under two labels",
    "leak": "in training and in a test",
    "short": "fewer frames than a clip takes; frames are repeated",
    "twice": "one video listed more than once",
    "odd": "can be used, and is worth knowing of",
}
"""The kinds in the order of a report, and what they mean."""

OF_SEVERAL: tuple[Kind, ...] = ("contradiction", "leak", "twice")
"""The kinds whose findings are about several samples together."""

CODES: dict[str, Meaning] = {
    "missing": Meaning("bad", "there is no such file"),
    "empty": Meaning("bad", "the file has no bytes"),
    "unreadable": Meaning("bad", "no video file, one whose header is missing, or one that cannot be opened or fetched"),
    "no-video-stream": Meaning("bad", "no moving pictures: sound, a single picture or text, or a broken header"),
    "no-frames": Meaning("bad", "a video stream, but no frame can be decoded"),
    "too-damaged": Meaning("bad", "more of its frames are lost than --most-lost allows"),
    "too-large": Meaning("bad", "its pictures do not fit into the memory of a reading process"),
    "crashes-decoder": Meaning("bad", "reading it ended the process"),
    "takes-too-long": Meaning("bad", "reading it gave no sign of life for the time of --timeout"),
    "part-outside": Meaning("bad", "the listed part is not in the video"),
    "two-labels": Meaning("contradiction", "the same pictures are listed under different classes"),
    "train-test": Meaning("leak", "the same pictures are in the training list and in the one for validation or test"),
    "single-frame": Meaning("short", "a single frame"),
    "few-frames": Meaning("short", "fewer frames than a clip takes"),
    "listed-twice": Meaning("twice", "one file, or overlapping parts of it, more than once in a list"),
    "same-bytes": Meaning("twice", "files with the same content"),
    "same-pictures": Meaning("twice", "other files, the same pictures: the video in another container"),
    "val-test": Meaning("twice", "the same pictures are in the validation list and in the test list"),
    "damaged": Meaning("odd", "some of its frames are lost"),
    "header-lies": Meaning("odd", "the header promises another number of frames, or another duration"),
    "times-not-increasing": Meaning(
        "odd", "frames without a later time than the frame before: they are counted, not timed"
    ),
    "variable-rate": Meaning("odd", "the gaps between frames differ"),
    "no-duration": Meaning("odd", "the header has no duration"),
    "no-frame-rate": Meaning("odd", "the header has no frame rate"),
    "rotated": Meaning("odd", "stored lying down; frames are turned upright"),
    "changes-size": Meaning("odd", "pictures of several sizes; all are brought to that of the first"),
    "interlaced": Meaning("odd", "each frame holds two half pictures of different moments"),
    "non-square-pixels": Meaning("odd", "players stretch the pictures; training takes the stored pixels"),
    "odd-size": Meaning("odd", "an odd number of pixels a row or column"),
    "tiny": Meaning("odd", "a side of fewer than 64 pixels"),
    "several-video-streams": Meaning("odd", "only the first video stream is read"),
    "alpha": Meaning("odd", "an alpha layer, which is left out"),
    "high-bit-depth": Meaning("odd", "more than 8 bits a colour; frames come in 8"),
    "full-range": Meaning("odd", "YUV values of the full range 0..255"),
    "rare-chroma": Meaning("odd", "colour is not stored as 4:2:0"),
}
"""Every code word; within a kind in the order of a report."""
