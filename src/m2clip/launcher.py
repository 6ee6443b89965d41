"""Which of a run's processes this is: what torchrun or srun put into the environment, or one process where neither did."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from m2clip.errors import ConfigError

# Their processes would each believe to be alone and write the same files.
_OTHERS = {"OMPI_COMM_WORLD_SIZE": "mpirun", "PMI_SIZE": "mpiexec", "WORLD_SIZE": "another launcher than torchrun"}

# What gloo says of a process that it cannot reach any more, or that it has waited for in vain.
_GONE = ("by peer", "Broken pipe", "Socket closed", "Timed out waiting", "connectFullMesh failed")


@dataclass(frozen=True)
class Processes:
    """The processes of a run and the place of this one among them."""

    count: int = 1
    """Over all machines."""
    rank: int = 0
    """Of this process, 0..count-1."""
    on_machine: int = 1
    """Processes of one machine."""
    local_rank: int = 0
    """Of this process on its machine, 0..on_machine-1: the number of its GPU."""
    address: str = "127.0.0.1"
    """Where the process of rank 0 is found."""
    port: int = 29500

    def __post_init__(self) -> None:
        if self.count % self.on_machine or not (0 <= self.rank < self.count and 0 <= self.local_rank < self.on_machine):
            raise ConfigError(
                f"the launcher's numbers do not fit: rank {self.rank} of {self.count}, local rank {self.local_rank} of "
                f"{self.on_machine}; start equally many processes on each machine"
            )

    @property
    def machines(self) -> int:
        """How many machines there are."""
        return self.count // self.on_machine


def read_launcher(environment: Mapping[str, str]) -> Processes:
    """The processes that torchrun or srun started; one where nobody did. An allocation of SLURM alone starts none.

    Raises ConfigError for numbers that do not fit together, and for launchers that do not say enough.
    """
    if "LOCAL_WORLD_SIZE" in environment:  # torchrun, also where srun started one on each machine
        return Processes(
            count=_number(environment, "WORLD_SIZE"),
            rank=_number(environment, "RANK"),
            on_machine=_number(environment, "LOCAL_WORLD_SIZE"),
            local_rank=_number(environment, "LOCAL_RANK"),
            address=environment.get("MASTER_ADDR", "127.0.0.1"),
            port=_number(environment, "MASTER_PORT", 29500),
        )
    if _number(environment, "SLURM_STEP_NUM_TASKS", 1) > 1:  # srun
        count, machines = _number(environment, "SLURM_STEP_NUM_TASKS"), _number(environment, "SLURM_STEP_NUM_NODES", 1)
        nodes = environment.get("SLURM_STEP_NODELIST", "127.0.0.1")
        # One port a job, so that two jobs on a machine do not meet.
        job = _number(environment, "SLURM_JOB_ID", 0)
        return Processes(
            count=count,
            rank=_number(environment, "SLURM_PROCID"),
            on_machine=-(-count // machines),
            local_rank=_number(environment, "SLURM_LOCALID"),
            address=environment.get("MASTER_ADDR") or _first_machine(nodes),
            port=_number(environment, "MASTER_PORT", 15000 + job % 10000),
        )
    for name, launcher in _OTHERS.items():
        if _number(environment, name, 1) > 1:
            raise ConfigError(
                f"{environment[name]} processes were started by {launcher} ({name}), which does not say which of them share a "
                "machine; use torchrun, or srun"
            )
    return Processes()


def lost_process(error: RuntimeError, environment: Mapping[str, str]) -> str | None:
    """The sentence for an exchange that failed because another process of the run is gone; None: the error is another one."""
    kinds = {kind.__name__ for kind in type(error).__mro__}  # PyTorch is not imported for this
    first = str(error).strip().partition("\n")[0][:200]
    # gloo has no kind of its own.
    if read_launcher(environment).count == 1 or not ("DistError" in kinds or any(word in first for word in _GONE)):
        return None
    return f"another process of this run has ended, and this one with it; the other one's words tell why ({first})"


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    value = environment.get(name, default)
    try:
        return int(value if value is not None else "")
    except ValueError:
        said = "is not set" if value is None else f"is {value!r}, which is no number"
        raise ConfigError(f"{name} {said} in the environment; start the processes with torchrun or srun") from None


def _first_machine(nodes: str) -> str:
    """The first of SLURM's list of machines: "gpu[03-05,9],cpu1" -> "gpu03"."""
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", nodes).split(",")[0]
