"""Packet tables of long files, kept across processes, so that a 10-minute file opens as fast as a 10-second one.

Reading all packets costs about 3 us each and the reading of the whole file. A table is kept for a file as it is: another path,
size, inode, time of change (of content or of attributes) or FFmpeg has no table yet. Decoding compares each picture with the
table in any case.
"""

import os
import time
from pathlib import Path

import av
import numpy as np
import safetensors
import safetensors.numpy

from m2clip.data.decode.opening import VideoFile
from m2clip.data.decode.packets import PacketTable, read_packets
from m2clip.kept_files import KeptFiles

_FORMAT = 2  # to be raised when `read_packets` reads anything else than before
_FEWEST_PACKETS = 1500  # a minute of video; reading fewer takes less than 5 ms
_KEPT = KeptFiles("packets", most_bytes=256 * 2**20)
_COLUMNS = ("pts", "ordinals", "spare", "key_ordinals", "key_pts")
_SETTLED_SECONDS = 2.0  # within the tick of a file system's clock a second change would leave the same time


def packet_table(file: VideoFile) -> PacketTable:
    """The table of an open file: an earlier one if the file is the same, else read now."""
    key = _key(file)
    table = None if key is None else _parse(_KEPT.get(key))
    if table is not None:
        return table
    table = read_packets(file.container, file.stream)
    if (
        key is not None
        and len(table.pts) >= _FEWEST_PACKETS
        and not (table.doubt or table.damaged)
        and key == _key(file)
    ):
        _KEPT.put(key, _content(table))
    return table


def _key(file: VideoFile) -> str | None:
    """All that a table depends on; None for what cannot be told from other contents: an open file, and a file changed just now."""
    if not isinstance(file.source, Path):
        return None
    try:
        found = os.stat(file.source)
        path = os.path.realpath(file.source)
    except OSError:
        return None
    if time.time() - max(found.st_mtime, found.st_ctime) < _SETTLED_SECONDS:
        return None
    facts = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino, file.stream.index)
    return repr((_FORMAT, av.library_versions["libavformat"], path, facts))


def _content(table: PacketTable) -> bytes:
    facts = np.array([table.packet_count, table.last_duration])
    return safetensors.numpy.save({**{name: getattr(table, name) for name in _COLUMNS}, "facts": facts})


def _parse(content: bytes | None) -> PacketTable | None:
    if content is None:
        return None
    try:
        columns = safetensors.numpy.load(content)
        packet_count, last_duration = columns["facts"].tolist()
        return PacketTable(
            **{name: columns[name] for name in _COLUMNS},  # type: ignore[arg-type]
            packet_count=packet_count,
            last_duration=last_duration,
        )
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError):
        return None
