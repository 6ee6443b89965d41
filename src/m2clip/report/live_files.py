"""The windows of a live source as lines of a file that grows while they come: what was written stays, however the program ends."""

import csv
import io
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from m2clip.errors import ConfigError
from m2clip.report.files import json_line, results_folder
from m2clip.report.timeline_files import SUBTITLES_HEAD, cue

if TYPE_CHECKING:
    from m2clip.live import LiveWindow

ENDINGS = (".jsonl", ".csv", ".vtt")
_COLUMNS = (
    "time",
    "start_seconds",
    "end_seconds",
    "rank",
    "label",
    "score",
    "none_of_these",
    "latency_seconds",
    "dropped_frames",
    "reconnects",
)


def check_ending(path: Path) -> None:
    """ConfigError, before any work, for a form that cannot grow line by line."""
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(
            f"a live source cannot be written to {path}: its name must end in {', '.join(ENDINGS)}, which can grow line by line"
        )


def window_document(window: "LiveWindow") -> dict[str, Any]:
    """What a line of JSON says of a window; `time` is when its newest picture came (ISO 8601, UTC)."""
    facts = {name: value for name, value in vars(window).items() if name != "arrived_at"}
    return {"time": _time(window), **facts, "predictions": [vars(one) for one in window.predictions]}


class LiveFile:
    """A file that the windows of a live source are written to as they come, in the form that its ending names.

    Lines of JSON and rows of CSV go on behind what an earlier run wrote. Subtitles count from the start of a run and need a file
    of their own. ConfigError for what cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._ending = path, path.suffix.lower()
        check_ending(path)
        results_folder(path.parent)
        head = {".csv": _csv_line(_COLUMNS), ".vtt": SUBTITLES_HEAD}.get(self._ending, "")
        try:
            self._file = path.open("a+", encoding="utf-8", errors="backslashreplace", newline="")
        except OSError as error:
            raise ConfigError(f"{path} cannot be written to ({error.strerror or error}); give another name") from None
        try:
            self._begin(head)
        except BaseException:
            self._file.close()
            raise
        self._shown_until = 0.0

    def _begin(self, head: str) -> None:
        if not self._file.seek(0, os.SEEK_END):
            self._write(head)
            return
        self._file.seek(0)
        if self._ending == ".vtt":
            raise ConfigError(
                f"{self._path} exists, and subtitles of two runs cannot stand in one file; give another name"
            )
        if self._ending == ".csv" and self._file.readline() != head:
            raise ConfigError(f"{self._path} exists and is no table of a live source; give another name")
        self._file.seek(0, os.SEEK_END)

    def begin(self, facts: Mapping[str, Any]) -> None:
        """What a run says of itself; only lines of JSON have room for it."""
        if self._ending == ".jsonl":
            self._write(json_line(facts) + "\n")

    def add(self, window: "LiveWindow") -> None:
        """Write a window. Raises OSError where the disk is full."""
        if self._ending == ".jsonl":
            self._write(json_line(window_document(window)) + "\n")
        elif self._ending == ".csv":
            self._write("".join(_rows(window)))
        else:
            # Windows overlap; what is shown is the newest one, from where the one before it ended.
            best, start = window.predictions[0], max(window.start_seconds, self._shown_until)
            if not window.none_of_these:
                self._write(cue(start, window.end_seconds, best.label, best.score))
            self._shown_until = window.end_seconds

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _rows(window: "LiveWindow") -> list[str]:
    return [
        _csv_line(
            (
                _time(window),
                window.start_seconds,
                window.end_seconds,
                rank,
                one.label,
                one.score,
                str(window.none_of_these).lower(),
                window.latency_seconds,
                window.dropped_frames,
                window.reconnects,
            )
        )
        for rank, one in enumerate(window.predictions, 1)
    ]


def _csv_line(values: tuple[Any, ...]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _time(window: "LiveWindow") -> str:
    return datetime.fromtimestamp(window.arrived_at, UTC).isoformat(timespec="milliseconds")
