"""Kill -9 at any moment of training, of its saves, of a study, of embedding and of a check of data; then start again, to the end.

What is left in the end must be what a run without a break leaves: the same files and no others, with the same content to the last bit,
but for what a clock has measured. The moments are random times, random operations on files (each window between two of them is hit) and
random places within a file that is being written.
"""

import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from speed.markdown import table

from torturing.commands import COMMANDS, Command, make_inputs
from torturing.remains import differences, remains
from torturing.victims import Ended, Kill, Victims

KILLS, KILLS_A_CHAIN = 30, 3
SHORT_KILLS = 1
MOST_RUNS = 5
"""For each kill, since one that comes too late kills nothing."""
VICTIMS = 2
"""Commands at a time."""


@dataclass(frozen=True)
class Phase:
    """Which command is killed, and at which kinds of moments, in turn."""

    name: str
    command: str
    moments: tuple[str, ...]
    short: bool = True
    """Whether it is in the short form, too."""


PHASES = (
    Phase("training", "train", ("moment",), short=False),
    Phase("saving of a training run", "train", ("operation", "torn")),
    Phase("study", "study", ("moment", "operation", "torn"), short=False),
    Phase("embed", "embed", ("moment", "operation", "torn")),
    Phase("data check", "check", ("moment", "operation", "torn")),
)


@dataclass(frozen=True)
class Undisturbed:
    """What a run without a break takes and leaves."""

    seconds: float
    operations: int
    file_sizes: tuple[int, ...]
    left: dict[str, Any]


def measure(folder: Path, *, short: bool, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Kill each phase KILLS times (`short`: some of them SHORT_KILLS times), up to KILLS_A_CHAIN in a row before a run may end."""
    make_inputs(folder, epochs=2 if short else 3)
    kills = SHORT_KILLS if short else KILLS
    free: SimpleQueue[Victims] = SimpleQueue()
    count = 1 if short else VICTIMS
    pool = [Victims() for _ in range(count)]
    for victims in pool:
        free.put(victims)
    figures: dict[str, Any] = {}
    expected: dict[str, Undisturbed] = {}
    try:
        for phase in (one for one in PHASES if one.short or not short):
            if phase.command not in expected:
                expected[phase.command] = _undisturbed(COMMANDS[phase.command], folder, pool[0], runs=1 if short else 2)
            whole = expected[phase.command]
            chain = partial(_chain, phase=phase, whole=whole, folder=folder, free=free, kills=kills, seed=seed)
            with ThreadPoolExecutor(count) as threads:
                chains = list(threads.map(chain, range(-(-kills // KILLS_A_CHAIN))))
            figures[phase.name] = _figures(chains, whole)
            say(f"{phase.name}: {figures[phase.name]['survived']} of {figures[phase.name]['tried']} kills survived")
    finally:
        for victims in pool:
            victims.close()
    return figures


def tables(figures: dict[str, Any]) -> str:
    """Kills by phase."""
    rows = []
    for name, one in figures.items():
        how = one["how"]
        rows.append(
            [name, f"{one['survived']} of {one['tried']}"]
            + [str(how.get(kind, 0)) for kind in ("moment", "operation", "torn")]
            + [
                str(one["everything"]),
                str(one["runs"]),
                str(one["orphans"]),
                f"{one['operations']}, {one['seconds']:.1f} s",
            ]
        )
    head = ("phase", "survived", "at a random time", "at a file operation", "in mid-write", "all processes at once")
    return table((*head, "runs in all", "processes left over", "a run without a break"), rows)


def faults(figures: dict[str, Any]) -> list[str]:
    """What was lost."""
    return [f"{name}: {fault}" for name, one in figures.items() for fault in one["faults"]]


def _undisturbed(command: Command, folder: Path, victims: Victims, *, runs: int) -> Undisturbed:
    """Runs without a break. Two must leave the same: else nothing could be said of those with one."""
    left = []
    for number in range(runs):
        place = folder / f"{command.name}-undisturbed" / str(number)
        place.mkdir(parents=True)
        ended = command.start(victims, folder, place)
        if ended.code != command.code:
            raise RuntimeError(f"{command.name} without a break ended with {ended.code}: {ended.said}")
        left.append(remains(place))
        if command.makes not in left[-1]:
            raise RuntimeError(f"{command.name} without a break made no {command.makes}: {ended.said}")
    if lost := differences(left[0], left[-1]):
        raise RuntimeError(f"{command.name}: two runs without a break differ: {lost[0]}")
    sizes = tuple(sorted(path.stat().st_size for path in place.rglob("*") if path.is_file()))
    return Undisturbed(ended.seconds, ended.operations, sizes, left[0])


def _chain(
    number: int, *, phase: Phase, whole: Undisturbed, folder: Path, free: SimpleQueue[Victims], kills: int, seed: int
) -> "_Chain":
    """The chain of this number, done by the next process of victims that is free."""
    place = folder / phase.name.replace(" ", "-") / str(number)
    made = _Chain(phase, COMMANDS[phase.command], whole, place, random.Random(f"{seed} {phase.name} {number}"))
    victims = free.get()
    try:
        first = number * KILLS_A_CHAIN
        made.run(victims, first, min(kills - first, KILLS_A_CHAIN), kills)
    finally:
        free.put(victims)
    return made


class _Chain:
    """A folder on which a command is killed again and again, and started again, until it may come to its end."""

    def __init__(self, phase: Phase, command: Command, whole: Undisturbed, place: Path, chance: random.Random) -> None:
        self._phase, self._command, self._whole, self._place, self._chance = phase, command, whole, place, chance
        self.kills: list[Kill] = []
        self.runs = self.orphans = 0
        self.faults: list[str] = []
        self._since_whole: list[Kill] = []

    def run(self, victims: Victims, first: int, kills: int, of: int) -> None:
        """Kills number `first` to `first + kills` of all `of`, then one run to the end."""
        self._place.mkdir(parents=True)
        begun = missed = False
        while len(self.kills) < kills and self.runs < MOST_RUNS * kills and not self.faults:
            kill = self._kill(first + len(self.kills), of, anywhere=begun or missed)
            ended = self._start(victims, kill)
            begun = True
            if ended.code == self._command.code:  # it was faster than the killer: a run like one without a break
                self._compare()
                shutil.rmtree(self._place)
                self._place.mkdir()
                begun, missed = False, True
            else:
                missed = False
                self.kills.append(kill)
                self._since_whole.append(kill)
        if not self.faults:
            self._start(victims, None)
            self._compare()
        if not self.faults:
            shutil.rmtree(self._place)

    def _kill(self, number: int, of: int, *, anywhere: bool) -> Kill:
        how = self._phase.moments[number % len(self._phase.moments)]
        everything = self._chance.random() < 0.5
        if how == "moment":
            return Kill(seconds=self._chance.uniform(0, self._whole.seconds), everything=everything)
        # The first kills of a folder are spread evenly over all of its operations; after them fewer are left. Where one has killed
        # nothing, such as in a write of a reader, another place is taken.
        share = self._chance.random() if anywhere else (number + self._chance.random()) / of
        operation = 1 + int(share * self._whole.operations)
        if how == "torn":
            return Kill(
                operation=operation,
                torn_bytes=1 + int(self._chance.choice(self._whole.file_sizes) * self._chance.random()),
            )
        return Kill(operation=operation, everything=everything)

    def _start(self, victims: Victims, kill: Kill | None) -> Ended:
        ended = self._command.start(victims, self._place.parents[1], self._place, kill)
        self.runs += 1
        self.orphans += len(ended.orphans)
        if ended.orphans:
            self._lose(f"{', '.join(ended.orphans)} outlived the main process", kill)
        if ended.hung:
            self._lose("it hung", kill)
        # A process that the main one has started may be the one that dies in its write: that is told, and the exit code is 1.
        killed: set[int] = set() if kill is None else {-signal.SIGXFSZ, 1} if kill.how == "torn" else {-signal.SIGKILL}
        expected = {self._command.code, *killed}
        if ended.code not in expected and not ended.hung:
            self._lose(f"it ended with {ended.code}: {ended.said}", kill)
        return ended

    def _compare(self) -> None:
        for difference in differences(self._whole.left, remains(self._place)):
            self._lose(difference, None)
        self._since_whole = []

    def _lose(self, what: str, kill: Kill | None) -> None:
        moments = [str(one) for one in (*self._since_whole, kill) if one is not None]
        self.faults.append(f"{what} (killed: {'; '.join(moments)})")


def _figures(chains: Sequence[_Chain], whole: Undisturbed) -> dict[str, Any]:
    kills = [kill for chain in chains for kill in chain.kills]
    return {
        "tried": len(kills),
        "survived": sum(len(chain.kills) for chain in chains if not chain.faults),
        "how": dict(Counter(kill.how for kill in kills)),
        "everything": sum(kill.everything for kill in kills),
        "runs": sum(chain.runs for chain in chains),
        "orphans": sum(chain.orphans for chain in chains),
        "operations": whole.operations,
        "seconds": round(whole.seconds, 2),
        "faults": [fault for chain in chains for fault in chain.faults],
    }
