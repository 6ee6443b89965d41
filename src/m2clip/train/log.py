"""The log of a training run: one JSON object a line in metrics.jsonl, and the same numbers for TensorBoard."""

import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from m2clip.report.files import write_whole

LOG_NAME = "metrics.jsonl"


class RunLog:
    """Lines of the kinds "step", "epoch" and "note" in `folder`/metrics.jsonl; numbers also go to `folder`/tensorboard.

    `steps_done`: steps of the run that is resumed; what an interrupted epoch had logged after them is dropped, since these
    steps come again.
    """

    def __init__(self, folder: Path, *, steps_done: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = folder / LOG_NAME
        kept = [line for line in read_log(folder) if line["step"] <= steps_done] if steps_done and path.exists() else []
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=steps_done + 1 if steps_done else None)

    def write(self, kind: str, *, step: int, **values: Any) -> None:
        """Log one line; numbers are drawn by TensorBoard under kind/name."""
        finite = {name: _json(value) for name, value in values.items()}
        self._file.write(json.dumps({"kind": kind, "step": step, **finite}, ensure_ascii=False) + "\n")
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._writer.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All lines of a run's log; a last line that was cut off by a crash is left out."""
    lines = []
    for text in (folder / LOG_NAME).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _json(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
