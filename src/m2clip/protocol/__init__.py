"""Protocols of the field: what is tested, how it is read and put together; `run` measures a model by one."""

from m2clip.protocol.loading import Protocol, load_protocol, need_some_video, shipped_names, shipped_protocols

__all__ = ["Protocol", "load_protocol", "need_some_video", "shipped_names", "shipped_protocols"]
