"""Processes of one run on this machine, forked from a process that has imported everything, so that many of them cost little.

`on_ranks` is only for scripts that tests start: a process of pytest has threads, and must not be forked.
"""

import os
import socket
import sys
import traceback
from collections.abc import Callable


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def place(rank: int, ranks: int, port: int) -> dict[str, str]:
    """The environment that torchrun would give to a process."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "GROUP_RANK": 0}
    own = {name: str(value) for name, value in numbers.items()} if ranks > 1 else {}
    return own | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


def on_ranks(ranks: int, work: Callable[[], None]) -> list[int]:
    """Do `work` in each of so many processes; how they ended: exit codes, or minus the signal."""
    port, children = free_port(), []
    sys.stdout.flush()
    sys.stderr.flush()
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            os.environ.update(place(rank, ranks, port))
            code = 0
            try:
                work()
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
            except BaseException:
                traceback.print_exc()
                code = 70
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
