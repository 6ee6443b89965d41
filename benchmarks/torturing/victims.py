"""Commands of m2clip, each in a process of its own that may be killed at a chosen moment.

A process that has loaded everything once and has no threads forks them, since to start Python with torch takes seconds. What the
victims start in their turn is watched, too, and must have ended when they have.
"""

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LOADED = (
    "m2clip.cli", "m2clip.train.loop", "m2clip.check.run", "m2clip.study.cell", "m2clip.study.output", "m2clip.protocol.run",
    "torch.utils.tensorboard", "matplotlib.backends.backend_agg", "pyarrow.parquet",
)  # fmt: skip
MOST_SECONDS = 300.0
"""After which a run counts as one that hangs."""
ORPHAN_SECONDS = 10.0
"""How long what a killed process has started may live on."""


@dataclass(frozen=True)
class Kill:
    """The moment: after some seconds, or at an operation, or in a write that follows it."""

    seconds: float | None = None
    """After the start of the command."""
    operation: int | None = None
    """Before the n-th operation that changes a file or folder, counted from 1."""
    torn_bytes: int | None = None
    """From that operation on: when a file grows beyond so many bytes. It is left with just these."""
    everything: bool = False
    """Whether all processes of the command die at that moment, as in a power cut, or the first one alone."""

    @property
    def how(self) -> str:
        """Its kind."""
        if self.seconds is not None:
            return "moment"
        return "operation" if self.torn_bytes is None else "torn"

    def __str__(self) -> str:
        who = "all of it" if self.everything else "the main process"
        if self.seconds is not None:
            return f"{who} after {self.seconds:.2f} s"
        if self.torn_bytes is None:
            return f"{who} before file operation {self.operation}"
        return f"at {self.torn_bytes} bytes of a file from file operation {self.operation} on"


@dataclass(frozen=True)
class Ended:
    """How a run came to its end."""

    code: int
    """Exit code; below 0 the signal that ended it."""
    seconds: float
    operations: int
    """Operations that changed files or folders."""
    orphans: tuple[str, ...]
    """Processes that outlived it by ORPHAN_SECONDS, by name; they have been killed by now."""
    hung: bool
    said: str
    """The last lines of what it printed."""


@dataclass(frozen=True)
class _Order:
    arguments: list[str]
    folder: str
    log: str
    environment: dict[str, str]
    settings: dict[str, float]
    kill: dict[str, Any]


class Victims:
    """A process that runs one command at a time; to be used by one thread."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(HERE / "interpreter"), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            text=True,
        )

    def run(
        self,
        arguments: Sequence[str],
        folder: Path,
        log: Path,
        kill: Kill | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        settings: Mapping[str, float] | None = None,
    ) -> Ended:
        """Run `m2clip ARGUMENTS` in a folder. `settings`: numbers to be put in place of those of a module, "m2clip.x:NAME"."""
        log.touch()  # the kill may come before the command has opened it
        order = _Order(
            list(arguments),
            str(folder),
            str(log),
            dict(environment or {}),
            dict(settings or {}),
            asdict(kill or Kill()),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        said = log.read_text("utf-8", "replace").splitlines()[-5:]
        return Ended(**{**answer, "orphans": tuple(answer["orphans"])}, said=" | ".join(said))

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def _serve() -> None:
    for name in LOADED:
        importlib.import_module(name)
    assert threading.active_count() == 1  # a fork has no copy of other threads, but of the locks that they hold
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        order = _Order(**json.loads(line))
        answers.write(json.dumps(_run(order)) + "\n")
        answers.flush()


def _run(order: _Order) -> dict[str, Any]:
    kill = Kill(**order.kill)
    count = Path(order.log).with_suffix(".count")
    count.write_bytes(b"")
    started = time.monotonic()
    victim = os.fork()
    if victim == 0:
        _be_victim(order, kill, count)
    status, hung = None, False
    while status is None:
        seconds = time.monotonic() - started
        if kill.seconds is not None and seconds >= kill.seconds:
            with suppress(ProcessLookupError, PermissionError):
                (os.killpg if kill.everything else os.kill)(victim, signal.SIGKILL)
        if seconds > MOST_SECONDS:
            hung = True
            os.kill(victim, signal.SIGKILL)
        ended, code = os.waitpid(victim, os.WNOHANG)
        status = code if ended else None
        time.sleep(0 if ended else 0.002)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - started,
        "operations": count.stat().st_size,
        "orphans": _orphans(victim),
        "hung": hung,
    }


def _be_victim(order: _Order, kill: Kill, count: Path) -> None:
    os.setsid()  # all that it starts can be found by this
    os.chdir(order.folder)
    with open(order.log, "ab") as log, open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    for name, value in order.settings.items():
        module, _, constant = name.partition(":")
        assert hasattr(importlib.import_module(module), constant), name
        setattr(sys.modules[module], constant, value)
    os.environ |= order.environment
    os.environ |= {
        "TRIPWIRE_FOLDER": order.folder,
        "TRIPWIRE_COUNT": str(count),
        "TRIPWIRE_AT": str(kill.operation or 0),
        "TRIPWIRE_MAIN": str(0 if kill.everything else os.getpid()),
        "TRIPWIRE_TORN": str(kill.torn_bytes or 0),
    }
    import tripwire

    tripwire.arm()
    sys.argv = ["m2clip", *order.arguments]
    from m2clip.cli import main

    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 70
    threading._shutdown()  # type: ignore[attr-defined]  # as at the end of an interpreter, of which only this part is the victim's own
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _orphans(session: int) -> list[str]:
    """Names of the processes of a session that do not end by themselves."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    while (left := _of_session(session)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return list(left.values())


def _of_session(session: int) -> dict[int, str]:
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with suppress(OSError):
            name, _, rest = Path("/proc", entry, "stat").read_text().partition("(")[2].rpartition(")")
            state, _, _, of = rest.split()[:4]
            if int(of) == session and state != "Z":
                found[int(entry)] = name
    return found


if __name__ == "__main__":
    _serve()
