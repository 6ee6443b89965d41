"""Commands whose work the processes that torchrun or srun started share, and the refusal of all others."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from m2clip.errors import ConfigError
from m2clip.launcher import read_launcher

if TYPE_CHECKING:
    import torch

SHARED = ("train", "evaluate", "calibrate", "tune-strength")
"""What works in shares. Elsewhere every process would do all of the work, and write the same files."""

_START = timedelta(minutes=10)
"""How long a process waits for the others to start."""
_LONGEST_WAIT = timedelta(days=1)
"""And how long at the end, where they put their shares together: PyTorch's own half an hour would end a run whose slow files all lie with
one process. One that has ended is noticed at once, by its closed connections."""


def expect_processes(command: str) -> None:
    """ConfigError where a launcher started several processes of a command that does not share its work; else they are made ready."""
    try:
        count = read_launcher(os.environ).count
    except ConfigError:  # numbers of a launcher, which are told by who asks for them
        return
    if count > 1 and command in SHARED:
        # DDP looks for weights that no loss has reached, and its C++ part warns each process where it finds none. Read with torch.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    elif count > 1:
        raise ConfigError(
            f"{command} works in one process, but the launcher started {count}, which would all do the same; start it without "
            f"torchrun or srun ({', '.join(SHARED)} share their work)"
        )


@contextmanager
def process_group(name: str | None) -> Iterator[tuple["torch.device", bool]]:
    """This process's device, and whether it is the first of those that a launcher started: the one that writes and prints."""
    processes = read_launcher(os.environ)
    from m2clip.recognizer import find_device

    device = find_device(name)
    if processes.count == 1:
        yield device, True
        return
    import torch
    import torch.distributed as dist

    try:
        from torch.distributed import set_timeout
    except ImportError:  # an older PyTorch has it under this name
        from torch.distributed.distributed_c10d import _set_pg_timeout as set_timeout

    if device.type == "cuda":
        device = torch.device("cuda", processes.local_rank)
        torch.cuda.set_device(device)
    os.environ.update(MASTER_ADDR=processes.address, MASTER_PORT=str(processes.port))
    # Also for GPUs: nothing is exchanged but the scores, once, and unlike NCCL gloo notices a process that has ended.
    dist.init_process_group("gloo", rank=processes.rank, world_size=processes.count, timeout=_START)
    set_timeout(_LONGEST_WAIT)
    try:
        yield device, dist.get_rank() == 0
    finally:
        dist.destroy_process_group()
