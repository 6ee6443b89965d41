"""Video that does not end by itself: cameras and streams, read as they come."""

from m2clip.data.live.addresses import LiveAddress, live_address
from m2clip.data.live.connection import LiveLimits
from m2clip.data.live.source import LiveCounts, LiveFrame, LiveSource, LiveState

__all__ = ["LiveAddress", "LiveCounts", "LiveFrame", "LiveLimits", "LiveSource", "LiveState", "live_address"]
