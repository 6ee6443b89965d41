"""A few MotionShapes videos, drawn when the server starts."""

from dataclasses import dataclass
from pathlib import Path

from m2clip.app.page.pictures import frame_picture
from m2clip.builtin.shapes import render_motion, write_video

# A class of the training set each; the last is three motions one after the other, for the timeline.
_SCENES = (
    ("a red circle moving left to right", (("red circle", "moving left to right"),)),
    ("a green triangle circling clockwise", (("green triangle", "circling clockwise"),)),
    (
        "three motions, one after the other",
        (("yellow star", "moving up"), ("blue heart", "spinning clockwise"), ("pink cross", "growing")),
    ),
)
_FRAMES, _SIDE = 24, 160  # a motion: two seconds


@dataclass(frozen=True)
class Example:
    """A video that can be tried without one's own."""

    key: str
    """Part of its address."""
    name: str
    path: Path
    picture: str
    """Its middle frame as a data: address."""

    @property
    def token(self) -> str:
        """What stands for it where a visitor's own video has the token of its upload."""
        return f"example-{self.key}"


def make_examples(folder: Path) -> tuple[Example, ...]:
    """Draw the examples into a folder; the same ones each time."""
    import numpy as np

    made = []
    for number, (name, scenes) in enumerate(_SCENES):
        frames = np.concatenate(
            [render_motion(thing, motion, seed=7 + number, frames=_FRAMES, size=_SIDE) for thing, motion in scenes]
        )
        path = folder / f"example-{number}.mp4"
        write_video(path, frames)
        made.append(Example(str(number), name, path, frame_picture(frames[len(frames) // 2].transpose(2, 0, 1))))
    return tuple(made)
