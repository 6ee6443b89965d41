"""The numbers of a run for TensorBoard: one event file, which a resumed run goes on with.

TensorBoard's own writer begins a file in each process, writes from a thread, and so loses what a kill finds in its queue.
"""

import io
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from m2clip.report.files import append

FOLDER = "tensorboard"
_OWN = "events.out.tfevents.*.m2clip"


class Curves:
    """Scalars in `folder`/tensorboard; what is written is in the file.

    `after`: the step that a resumed run goes on after, where there is no file to go on with: TensorBoard then leaves out what others
    have of later steps.
    """

    def __init__(self, folder: Path, *, after: int | None) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2

        self._events, self._summaries = event_pb2, summary_pb2
        place = folder / FOLDER
        place.mkdir(exist_ok=True)
        own = sorted(place.glob(_OWN))
        self._file = (own[-1] if own else place / _OWN.replace("*", f"{time.time():010.0f}")).open("ab", buffering=0)
        if not own:
            begin = [event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2")]
            if after is not None:
                start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
                begin.append(event_pb2.Event(wall_time=time.time(), step=after + 1, session_log=start))
            self._append(begin)

    def add(self, scalars: Mapping[str, float], *, step: int) -> None:
        """Write scalars by their tag. Raises OSError."""
        values = [self._summaries.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._append([
            self._events.Event(wall_time=time.time(), step=step, summary=self._summaries.Summary(value=values))
        ])  # fmt: skip

    def _append(self, events: Sequence[Any]) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        records = io.BytesIO()
        writer = RecordWriter(records)
        for event in events:
            writer.write(event.SerializeToString())
        append(self._file, records.getvalue())

    def sync(self) -> None:
        """See that a power cut takes nothing of it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Nothing is written any more."""
        self._file.close()


def event_files(folder: Path) -> list[Path]:
    """The files of `folder`/tensorboard that TensorBoard reads, in its order."""
    return sorted((folder / FOLDER).glob("events.out.tfevents.*"))
