"""Name the action in a video with an exported model: python onnx_classify.py model.onnx video.mp4

Needs av, numpy, pillow and onnxruntime, not torch or m2clip. For models that take uniform segments (the default)."""

import json
import sys
from pathlib import Path

import av
import numpy as np
import onnxruntime
from PIL import Image


def pixels(video: str, frames: int, size: int) -> np.ndarray:
    """The middle frame of each of `frames` equal segments, uint8 [frames, size, size, 3]; a short video repeats frames."""
    with av.open(video) as container:
        count = sum(1 for _ in container.decode(video=0))
        borders = np.rint(np.arange(frames + 1) * ((count - 1) / frames)).astype(int)
        wanted = borders[:-1] + np.diff(borders) // 2
        container.seek(0)
        shown = {i: frame.to_image() for i, frame in enumerate(container.decode(video=0)) if i in wanted}
    return np.stack([square(shown[index], size) for index in wanted])


def square(picture: Image.Image, size: int) -> np.ndarray:
    """The short side becomes `size`; of the long side the middle is kept."""
    width, height = (round(size * side / min(picture.size)) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))[top : top + size, left : left + size]


model, video = sys.argv[1:]
facts = json.loads(Path(model).with_suffix(".json").read_text(encoding="utf-8"))
clip = pixels(video, facts["sampling"]["frames"], facts["input"]["size"])
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
found = {o.name: r[0] for o, r in zip(session.get_outputs(), session.run(None, {"pixels": clip[None]}), strict=True)}
print("none of these; the nearest:" if found.get("none_of_these") else "the best:")  # only where a threshold was set
for best in found["probabilities"].argsort()[::-1][:5]:
    print(f"{found['probabilities'][best]:.4f}  {facts['labels']['names'][best]}")
