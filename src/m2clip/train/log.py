"""The log of a training run: one JSON object a line in metrics.jsonl, and the same numbers for TensorBoard."""

import json
import math
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from m2clip.errors import M2CLIPError
from m2clip.report.files import write_whole

LOG_NAME = "metrics.jsonl"


class RunLog:
    """Lines of the kinds "step", "epoch", "warning" and "test" in `folder`/metrics.jsonl; numbers also go to `folder`/tensorboard.

    `steps_done`: steps of the run that is resumed; what an interrupted epoch had logged after them is dropped, since these
    steps come again; so is the line of a test, which every run that reaches the end makes anew.
    """

    def __init__(self, folder: Path, *, steps_done: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = folder / LOG_NAME
        before = read_log(folder) if steps_done and path.exists() else []
        kept = [line for line in before if line["step"] <= steps_done and line["kind"] != "test"]
        self._warned = {line["text"] for line in kept if line["kind"] == "warning"}
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._path, self._file = path, path.open("a", encoding="utf-8", buffering=1)
        # Purged at 1, too: a run that was killed before its first epoch ended may have left curves here.
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=steps_done + 1)

    def write(self, kind: str, *, step: int, **values: Any) -> None:
        """Log one line; numbers are drawn by TensorBoard under kind/name. Raises M2CLIPError for a full disk."""
        finite = {name: _json(value) for name, value in values.items()}
        try:
            # ASCII: names of files may hold what is no valid Unicode, or what other readers take for the end of a line.
            self._file.write(json.dumps({"kind": kind, "step": step, **finite}) + "\n")
        except OSError as error:
            raise M2CLIPError(
                f"{self._path} cannot be written ({error.strerror}); free space and resume: finished epochs are kept"
            ) from error
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def warn(self, sentence: str, *, step: int) -> None:
        """Log a warning once in a run; a resumed run meets the same bad files again."""
        if sentence not in self._warned:
            self._warned.add(sentence)
            self.write("warning", step=step, text=sentence)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(
            OSError
        ):  # every line was flushed; what may be left is the one that a full disk refused, and that was told
            self._file.close()
        self._writer.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All lines of a run's log; a last line that was cut off by a crash is left out."""
    lines = []
    for text in (folder / LOG_NAME).read_bytes().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:  # no JSON, or not even text
            break
    return lines


def _json(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
