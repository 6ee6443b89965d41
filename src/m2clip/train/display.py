"""What a training run shows on standard error: a progress bar with the time left on a terminal, a line an epoch elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from m2clip.terminal import harmless


class Display:
    """Shows `steps` steps. `progress` None: a bar where there is a terminal; True: always; False: warnings only."""

    def __init__(self, *, progress: bool | None, steps: int) -> None:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = progress is False
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=self._quiet or not (progress or console.is_terminal),
        )
        self._task = self._bar.add_task("training", total=steps)

    def advance(self, description: str) -> None:
        """One step is done."""
        self._bar.update(self._task, advance=1, description=description)

    def say(self, sentence: str, *, warning: bool = False) -> None:
        """Print a sentence above the bar; where there is nothing to see, warnings only."""
        if warning or not self._quiet:
            self._bar.console.print(("warning: " if warning else "") + harmless(sentence), markup=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
