"""The launch files of docs/cluster, as far as they can be tried without a cluster; tests/train/test_processes.py runs torchrun.sh."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser
from typer.testing import CliRunner

from m2clip.cli import app

ROOT = Path(__file__).resolve().parents[1]
FILES = ROOT / "docs/cluster"


def stand_in(folder: Path, name: str, script: str) -> None:
    """A program that says what it was called with, in a file of its name."""
    path = folder / name
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{folder}/{name}.txt"\n{script}\n')
    path.chmod(0o755)


def said(folder: Path, name: str) -> list[str]:
    path = folder / f"{name}.txt"
    return path.read_text().splitlines() if path.exists() else []


def run(folder: Path, shell: str, file: str, *arguments: str, **more: str) -> int:
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", **more}
    return subprocess.run([shell, str(FILES / file), *arguments], env=environment, check=False).returncode


def test_torchrun_is_told_of_machines_and_processes(tmp_path: Path) -> None:
    stand_in(tmp_path, "torchrun", "exit 0")
    assert run(tmp_path, "sh", "torchrun.sh", "my run.yaml", "out=x", NODES="4", HEAD="m1:29500", PROCESSES="8") == 0
    told = get_args_parser().parse_args(said(tmp_path, "torchrun"))
    assert (told.nnodes, told.nproc_per_node, told.rdzv_endpoint, told.max_restarts) == ("4", "8", "m1:29500", 3)
    assert (told.module, told.training_script) == (True, "m2clip")
    assert told.training_script_args == ["train", "my run.yaml", "out=x", "--auto-resume"]


@pytest.mark.parametrize(("code", "again"), [(0, False), (1, False), (138, True)])
def test_slurm_sends_a_job_again_whose_time_was_up(tmp_path: Path, code: int, again: bool) -> None:
    stand_in(tmp_path, "srun", f"exit {code}")
    stand_in(tmp_path, "scontrol", "exit 0")
    place = {"SLURM_JOB_ID": "77", "SLURM_CPUS_PER_TASK": "8"}
    assert run(tmp_path, "bash", "slurm.sbatch", "my run.yaml", "out=x", **place) == code
    assert said(tmp_path, "srun") == [
        "--kill-on-bad-exit=1", "m2clip", "train", "my run.yaml", "out=x", "--auto-resume"
    ]  # fmt: skip
    assert said(tmp_path, "scontrol") == (["requeue", "77"] if again else [])


def test_slurm_starts_a_process_for_each_gpu() -> None:
    lines = (FILES / "slurm.sbatch").read_text().splitlines()
    options = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if line.startswith("#SBATCH"))
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert options["signal"] == "USR1@90"  # to the processes, not to the script, which "B:" would mean
    assert {"nodes", "requeue", "open-mode", "time", "output"} < set(options)


def test_kubernetes_starts_torchrun_with_the_number_of_its_machine() -> None:
    service, job = yaml.safe_load_all((FILES / "kubernetes.yaml").read_text())
    name, spec = job["metadata"]["name"], job["spec"]
    pod: dict[str, Any] = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert (service["kind"], job["apiVersion"], job["kind"]) == ("Service", "batch/v1", "Job")
    assert service["spec"]["selector"] == {"job-name": name}  # the label that a Job gives to its pods
    assert service["metadata"]["name"] == pod["subdomain"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"]
    assert container["command"] == ["torchrun"]
    told = get_args_parser().parse_args([argument.replace("$(NODE_RANK)", "1") for argument in container["args"]])
    assert int(told.nnodes) == spec["completions"]
    assert int(told.nproc_per_node) == container["resources"]["limits"]["nvidia.com/gpu"]
    assert (told.node_rank, told.master_addr) == (1, f"{name}-0.{service['metadata']['name']}")
    assert [*told.training_script_args] == ["train", "run.yaml", "--auto-resume"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_command_of_all_of_them_is_there() -> None:
    told = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"}).output
    assert "--auto-resume" in told
