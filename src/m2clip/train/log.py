"""The log of a training run: one JSON object a line in metrics.jsonl, and the same numbers for TensorBoard."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from m2clip.errors import M2CLIPError
from m2clip.report.files import append
from m2clip.train.curves import FOLDER, Curves, event_files

LOG_NAME = "metrics.jsonl"


class RunLog:
    """Lines of the kinds "step", "epoch", "warning" and "test" in `folder`/metrics.jsonl; numbers also go to `folder`/tensorboard.

    `kept`: of a resumed run, what `sizes` said when its state was written; what an interrupted run has logged since comes again,
    and is cut off. None: a new run, which leaves nothing of what a killed one without a state may have logged. `steps_done`: the
    steps before. Raises M2CLIPError for a full disk and for files that cannot be written.
    """

    def __init__(self, folder: Path, *, kept: Mapping[str, int] | None = None, steps_done: int = 0) -> None:
        self._folder, self._path = folder, folder / LOG_NAME
        with self._told():
            for path in event_files(folder):
                _cut(path, 0 if kept is None else kept.get(f"{FOLDER}/{path.name}", 0))
            _cut(self._path, 0 if kept is None else kept.get(LOG_NAME, 0))
            self._warned: set[str] = set()
            if self._path.exists():
                lines = list(_lines(folder))
                self._warned |= {line["text"] for line, _ in lines if line["kind"] == "warning"}
                _cut(self._path, lines[-1][1] if lines else 0)  # whole lines only, should the disk have lost some
            self._file = self._path.open("ab", buffering=0)
            self._curves = Curves(folder, after=None if kept is None else steps_done)

    def write(self, kind: str, *, step: int, **values: Any) -> None:
        """Log one line; numbers are drawn by TensorBoard under kind/name. Raises M2CLIPError for a full disk."""
        finite = {name: _json(value) for name, value in values.items()}
        # ASCII: names of files may hold what is no valid Unicode, or what other readers take for the end of a line.
        line = json.dumps({"kind": kind, "step": step, **finite}) + "\n"
        numbers = {f"{kind}/{name}": value for name, value in values.items() if isinstance(value, int | float)}
        with self._told():
            append(self._file, line.encode("ascii"))
            if numbers:
                self._curves.add(numbers, step=step)

    def warn(self, sentence: str, *, step: int) -> None:
        """Log a warning once in a run; a resumed run meets the same bad files again."""
        if sentence not in self._warned:
            self._warned.add(sentence)
            self.write("warning", step=step, text=sentence)

    def sizes(self) -> dict[str, int]:
        """The size in bytes of each file of the log, by its path in the folder; all of it is on the disk then."""
        with self._told():
            os.fsync(self._file.fileno())
            self._curves.sync()
            return {
                path.relative_to(self._folder).as_posix(): path.stat().st_size
                for path in (self._path, *event_files(self._folder))
            }

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            name = error.filename or self._path
            raise M2CLIPError(
                f"{name} cannot be written ({error.strerror or error}); free space or give the right to write, and resume: the "
                "run goes on after what it kept last"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._curves.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All lines of a run's log; a last line that was cut off by a crash is left out."""
    return [line for line, _ in _lines(folder)]


def sizes_after(folder: Path, steps_done: int) -> dict[str, int]:
    """What `RunLog.sizes` would have said at the end of the epoch that ended with this step: for states that do not say it."""
    kept = 0
    if (folder / LOG_NAME).exists():
        for line, end in _lines(folder):
            if line["step"] > steps_done or line["kind"] == "test":
                break
            kept = end
    return {LOG_NAME: kept} | {f"{FOLDER}/{path.name}": path.stat().st_size for path in event_files(folder)}


def _lines(folder: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Each line, and where in the file it ends."""
    end = 0
    for text in (folder / LOG_NAME).read_bytes().splitlines(keepends=True):
        end += len(text)
        try:
            line = json.loads(text)
        except ValueError:  # no JSON, or not even text
            return
        if not text.endswith(b"\n"):
            return
        yield line, end


def _cut(path: Path, size: int) -> None:
    """Leave the first `size` bytes of a file; of the folder of events, no empty file."""
    if size == 0:
        path.unlink(missing_ok=True)
    elif path.exists() and path.stat().st_size > size:
        os.truncate(path, size)


def _json(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
