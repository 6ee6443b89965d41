"""Ranks come from the environment, whoever started the processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from m2clip.errors import ConfigError
from m2clip.launcher import Processes, lost_process, read_launcher
from m2clip.train.log import read_log
from m2clip.train.preparation import start_fabric
from tests.ranks import free_port
from tests.small_inputs import class_folders

TORCHRUN = {
    "WORLD_SIZE": "8", "RANK": "5", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1234",
}  # fmt: skip
SRUN = {
    "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "5", "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[03-04]", "SLURM_JOB_ID": "1270042", "SLURM_NTASKS": "8",
}  # fmt: skip


@pytest.mark.case("T5")
def test_the_place_of_a_process() -> None:
    assert read_launcher({}) == Processes() == Processes(count=1, rank=0, on_machine=1, local_rank=0)
    assert read_launcher(TORCHRUN) == Processes(8, 5, 4, 1, "a", 1234)
    assert read_launcher(TORCHRUN).machines == 2
    assert read_launcher(SRUN) == Processes(8, 5, 4, 1, "gpu03", 15042)
    assert read_launcher(SRUN | {"MASTER_ADDR": "b", "MASTER_PORT": "7"}) == Processes(8, 5, 4, 1, "b", 7)
    # srun starts one torchrun on each machine
    assert read_launcher(SRUN | TORCHRUN | {"SLURM_STEP_NUM_TASKS": "2"}).rank == 5


@pytest.mark.case("T5")
def test_an_allocation_without_srun_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    allocation = {
        "SLURM_NTASKS": "8",
        "SLURM_JOB_ID": "7",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
    }
    assert read_launcher(allocation) == Processes()
    for name, value in (allocation | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_JOB_NAME": "train"}).items():
        monkeypatch.setenv(name, value)
    fabric = start_fabric("fp32")  # Lightning left alone refuses this environment
    assert (fabric.world_size, fabric.global_rank) == (1, 0)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("gpu[03-05,9],cpu1", "gpu03"), ("gpu-a,gpu-b", "gpu-a"), ("rack[2-3]n[07,9]", "rack2n07")],
)
def test_rank_0_is_on_the_first_machine(nodes: str, first: str) -> None:
    assert read_launcher(SRUN | {"SLURM_STEP_NODELIST": nodes}).address == first


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "another launcher than torchrun"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "4 processes were started by mpirun"),
        (TORCHRUN | {"RANK": "8"}, "rank 8 of 8"),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "7"}, "equally many processes on each machine"),
        (TORCHRUN | {"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', which is no number"),
        ({"LOCAL_WORLD_SIZE": "2"}, "WORLD_SIZE is not set"),
    ],
)
def test_what_does_not_fit_is_one_sentence(environment: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read_launcher(environment)
    assert "\n" not in str(caught.value)


class DistError(RuntimeError):
    """Named as PyTorch's own."""


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:8577"), True),
        (RuntimeError("Timed out waiting 3600000ms for recv operation to complete"), True),
        (DistError("NCCL error: remote process exited or there was a network error"), True),
        (RuntimeError("a fault of the program"), False),
    ],
)
def test_an_exchange_with_a_process_that_is_gone_is_one_sentence(error: RuntimeError, is_lost: bool) -> None:
    told = lost_process(error, TORCHRUN)
    assert (told is not None) == is_lost
    assert told is None or str(error) in told
    assert lost_process(error, {}) is None  # nobody else is there to be lost


@pytest.mark.slow
@pytest.mark.case("T5")
def test_two_processes_of_srun_share_the_videos(tmp_path: Path) -> None:
    """Each of four videos is learned once an epoch, and one of the processes speaks for both."""
    videos = class_folders(tmp_path / "videos", ("a", "b"), each=2)
    (tmp_path / "run.yaml").write_text(
        f"out: {tmp_path / 'run'}\ndata: {{train: {videos}, frames: 2, workers: 0}}\nmodel: {{backbone: builtin}}\n"
        "train: {epochs: 1, warmup_epochs: 0, batch_size: 2, precision: fp32}\n"
    )
    port = str(free_port())
    place = SRUN | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NODELIST": "127.0.0.1"}
    started = []
    for rank in ("0", "1"):
        own = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "m2clip", "train", str(tmp_path / "run.yaml"), "--json"]
        environment = {**os.environ, **place, **own, "CUDA_VISIBLE_DEVICES": ""}
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    outputs = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    assert json.loads(outputs[0][0])["out"] == str(tmp_path / "run")
    assert outputs[1][0] == ""
    steps = [line for line in read_log(tmp_path / "run") if line["kind"] == "step"]
    assert [line["videos"] for line in steps] == [2, 2]
