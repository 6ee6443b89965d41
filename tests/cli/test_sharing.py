"""Under a launcher of several processes a command shares its work or refuses; nothing is written twice."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.program import Ran, one_sentence

TORCHRUN = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": "29600"}
SRUN = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize("launcher", [TORCHRUN, SRUN], ids=["torchrun", "srun"])
@pytest.mark.parametrize("command", ["embed", "study", "data"])
def test_what_does_not_share_its_work_refuses(
    m2: Callable[..., Ran],
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    launcher: dict[str, str],
) -> None:
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    arguments = {
        "embed": [place / "data", "--checkpoint", "builtin", "--out", "table.parquet"],
        "study": [place / "study.yaml"],
        "data": ["make-shapes", "shapes"],
    }
    ran = m2(command, *arguments[command])
    assert ran.code == 1
    assert one_sentence(ran).startswith(f"m2clip: {command} works in one process, but the launcher started 2")
    assert list(tmp_path.iterdir()) == []


def test_an_allocation_of_which_nobody_started_processes_is_no_launcher(
    m2: Callable[..., Ran], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SLURM_NTASKS": "2", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert m2("info", place / "model.safetensors").code == 0
