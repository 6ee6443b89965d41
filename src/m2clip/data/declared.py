"""How many frames a damaged file had before, as far as it says."""

import numpy as np

from m2clip.data.opening import VideoFile
from m2clip.data.packets import PacketTable

_STEADY_SHARE = (
    0.9  # of the times between frames that must be one and the same, for a duration to tell a number of frames
)
_WHOLE_DURATION = ("matroska", "flv")  # formats whose header gives the duration of the file as it was meant to be


def declared_frames(file: VideoFile, table: PacketTable) -> int:
    """Frames by the header's count, by the packets, or, where they come at a steady rate, by how long the video should be."""
    return max(file.stream.frames or 0, table.packet_count, _frames_by_duration(file, table))


def _frames_by_duration(file: VideoFile, table: PacketTable) -> int:
    if len(table.pts) < 2 or not file.stream.time_base:
        return 0
    seconds = table.pts * float(file.stream.time_base)
    steps = np.diff(seconds)
    step = float(np.median(steps))
    # Matroska and FLV keep times in whole milliseconds, so each may be off by half a one.
    if step <= 0 or np.mean(np.abs(steps - step) <= max(0.1 * step, 0.0011)) < _STEADY_SHARE:
        return 0
    step = float(np.mean(steps[np.abs(steps - step) <= max(0.1 * step, 0.0011)]))
    end = max(float(seconds[-1]) + step, _declared_end_seconds(file))
    return round((end - float(seconds[0])) / step)


def _declared_end_seconds(file: VideoFile) -> float:
    """When the video ends by its own header; 0 where that does not say. FFmpeg fills in a guess for other formats."""
    hours, _, rest = file.stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        pass
    if any(name in file.container.format.name for name in _WHOLE_DURATION) and file.container.duration:
        return file.container.duration / 1_000_000
    return 0.0
