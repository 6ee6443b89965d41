"""How many frames a damaged file had before, as far as it says."""

import numpy as np

from m2clip.data.decode.opening import VideoFile
from m2clip.data.decode.packets import PacketTable

_STEADY_SHARE = (
    0.9  # of the times between frames that must be one and the same, for a duration to tell a number of frames
)
_EARLY_SHARE = 0.05  # of a video that may be missing at its end before that is called damage: tags can be old
_WHOLE_DURATION = ("matroska", "flv")  # formats whose header gives the duration of the file as it was meant to be


def declared_frames(file: VideoFile, table: PacketTable) -> int:
    """Frames by the header's count, by the packets, or, where they come at a steady rate, by how long the video should be."""
    return max(file.stream.frames or 0, table.packet_count, _frames_by_duration(file, table))


def ends_early(file: VideoFile, table: PacketTable) -> bool:
    """Whether the frames end clearly before the time that the header gives for the end of just this stream (Matroska)."""
    step, declared = _step_seconds(file, table), _own_end_seconds(file)
    if not step:
        return False
    return declared - float(table.pts[-1] * file.stream.time_base) > max(_EARLY_SHARE * declared, 10 * step, 0.5)


def _frames_by_duration(file: VideoFile, table: PacketTable) -> int:
    step = _step_seconds(file, table)
    if not step:
        return 0
    end = max(float(table.pts[-1] * file.stream.time_base) + step, _declared_end_seconds(file))
    return round((end - _first_seconds(file, table)) / step)


def _first_seconds(file: VideoFile, table: PacketTable) -> float:
    return float(table.pts[0] * file.stream.time_base) if len(table.pts) and file.stream.time_base else 0.0


def _step_seconds(file: VideoFile, table: PacketTable) -> float:
    """The time between frames where that is steady; else 0."""
    if len(table.pts) < 2 or not file.stream.time_base:
        return 0.0
    steps = np.diff(table.pts * float(file.stream.time_base))
    step = float(np.median(steps))
    # Matroska and FLV keep times in whole milliseconds, so each may be off by half a one.
    usual = np.abs(steps - step) <= max(0.1 * step, 0.0011)
    return float(np.mean(steps[usual])) if step > 0 and np.mean(usual) >= _STEADY_SHARE else 0.0


def _declared_end_seconds(file: VideoFile) -> float:
    """When the video ends by its own header; 0 where that does not say. FFmpeg fills in a guess for other formats."""
    own = _own_end_seconds(file)
    if not own and any(name in file.container.format.name for name in _WHOLE_DURATION) and file.container.duration:
        return file.container.duration / 1_000_000
    return own


def _own_end_seconds(file: VideoFile) -> float:
    """The end of the one stream, as a tag of Matroska has it: 00:01:02.500000000."""
    hours, _, rest = file.stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return 0.0
