"""Writes tests/data/decode/odd_files.json: the facts of the odd files, and their colours by FFmpeg's own program (5.1).

    python -m tests.make_odd_files ../shared/data/videos/odd

Facts were compared with ../shared/data/videos/manifest.csv and with ffprobe when they were written. The test reads the file.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from m2clip.data.video import Video
from m2clip.errors import VideoError
from tests.ffmpeg_pictures import ffmpeg_pictures

TABLE = Path(__file__).parent / "data" / "decode" / "odd_files.json"
PLACES = {"upper left": (0.25, 0.25), "centre": (0.5, 0.5), "lower right": (0.75, 0.75)}
"""Of a pixel: share of the height, share of the width."""


def moments(count: int) -> dict[str, int]:
    """The frames whose colours are kept."""
    return {"first": 0, "middle": count // 2, "last": count - 1}


def is_deep(name: str) -> bool:
    """Whether a file has more than 8 bits a colour."""
    return "10bits" in name


def colours(picture: np.ndarray) -> dict[str, Any]:
    """Mean RGB of a picture, and its pixels at PLACES."""
    height, width = picture.shape[:2]
    pixels = {place: picture[int(y * height), int(x * width)].tolist() for place, (y, x) in PLACES.items()}
    return {"mean": [round(float(value), 2) for value in picture.mean(axis=(0, 1))], **pixels}


def facts(path: Path) -> dict[str, Any]:
    """What is expected of one file."""
    try:
        with Video(path) as video:
            info = video.info
    except VideoError as error:
        return {"error": str(error).replace(str(path), path.name)}
    ranks = moments(info.frame_count)
    _, pictures = ffmpeg_pictures(
        path, size=(info.width, info.height), ranks=ranks.values(), chroma_left=is_deep(path.name)
    )
    return {
        "frame_count": info.frame_count,
        "width": info.width,
        "height": info.height,
        "rotation_degrees": info.rotation_degrees,
        "fps": round(info.fps, 4),
        "duration_seconds": round(info.duration_seconds, 4),
        "lost_frames": info.lost_frames,
        "colours": {moment: colours(pictures[rank]) for moment, rank in ranks.items()},
    }


def main(folder: str) -> None:
    """Write the table."""
    table = {path.name: facts(path) for path in sorted(Path(folder).iterdir())}
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in table.items())
    TABLE.write_text(f"{{\n{rows}\n}}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
