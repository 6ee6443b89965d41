"""Inside a process that is to be killed: an eye on its file operations, which kills at the n-th of those that change something.

It is told by the environment what to do, so that processes which the first one starts are watched, too, and share one count:
TRIPWIRE_FOLDER below which operations count, TRIPWIRE_COUNT a file with a byte for each of them, TRIPWIRE_AT the one that kills (0: none),
TRIPWIRE_MAIN the process that is killed (0: all of its group). With TRIPWIRE_TORN nothing happens at once, but the first file that the
process makes longer than so many bytes is cut there, and the process dies; not one that reads videos for another, whose death
costs the video that it was at, by design, and not the run.
Only the standard library is needed: it is loaded at the start of each interpreter.
"""

import os
import resource
import signal
import sys
from typing import Any

_CHANGES = {
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.utime",
    "os.chmod",
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def arm() -> None:
    """Watch this process from now on, and those that it forks; nothing happens where the environment does not ask for it."""
    folder = os.environ.get("TRIPWIRE_FOLDER")
    if folder is None:
        return
    at, main, torn = (int(os.environ[f"TRIPWIRE_{name}"]) for name in ("AT", "MAIN", "TORN"))
    count = os.open(os.environ["TRIPWIRE_COUNT"], os.O_RDWR | os.O_CREAT | os.O_APPEND)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not flags & _WRITING or not _below(path, folder):
                return
        elif event not in _CHANGES or not _below(arguments[0], folder):
            return
        os.write(count, b".")  # appended, so that several processes count as one
        if os.lseek(count, 0, os.SEEK_CUR) == at:
            if torn and _reads_for_another():
                return
            if torn:
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it: a write would fail instead
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                resource.setrlimit(resource.RLIMIT_FSIZE, (torn, resource.RLIM_INFINITY))
            elif main:
                os.kill(main, signal.SIGKILL)
            else:
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(watch)


def _reads_for_another() -> bool:
    """Readers are the daemons among the processes that multiprocessing starts."""
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.current_process().daemon


def _below(path: Any, folder: str) -> bool:
    """Relative names count: they are of a folder that is being removed, or of the working folder, which is the watched one."""
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    name = os.fsdecode(path)
    return not os.path.isabs(name) or name.startswith(folder)
