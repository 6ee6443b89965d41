"""The processes of a run as Lightning Fabric wants to be told of them.

Fabric would look for launchers by itself, and refuses the variables of an allocation of SLURM in which it was started without srun.
"""

from lightning.fabric.plugins.environments import ClusterEnvironment

from m2clip.launcher import Processes


class StartedProcesses(ClusterEnvironment):
    """Processes that somebody else has started: Fabric starts none."""

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self._processes = processes

    @property
    def creates_processes_externally(self) -> bool:
        """Whether Fabric need not start the others."""
        return True

    @property
    def main_address(self) -> str:
        """Where rank 0 is."""
        return self._processes.address

    @property
    def main_port(self) -> int:
        """Where rank 0 listens."""
        return self._processes.port

    @staticmethod
    def detect() -> bool:
        """Never by itself."""
        return False

    def world_size(self) -> int:
        """All processes."""
        return self._processes.count

    def set_world_size(self, size: int) -> None:
        """The launcher has decided it."""

    def global_rank(self) -> int:
        """The rank of this process."""
        return self._processes.rank

    def set_global_rank(self, rank: int) -> None:
        """The launcher has decided it."""

    def local_rank(self) -> int:
        """The rank on this machine."""
        return self._processes.local_rank

    def node_rank(self) -> int:
        """Which machine this is."""
        return self._processes.rank // self._processes.on_machine
