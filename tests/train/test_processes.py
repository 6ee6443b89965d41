"""Two processes of a run: what ends one of them is told by both."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from m2clip.config import RunConfig
from tests.small_inputs import TINY, class_folders


@pytest.mark.slow
def test_a_bad_file_that_stops_the_run_is_told_by_each_process(tmp_path: Path) -> None:
    videos = class_folders(tmp_path / "videos", ("moving", "bouncing"), each=1)
    (videos / "moving" / "empty.mp4").touch()
    sections = {
        "data": {"train": str(videos), "frames": 2, "workers": 0, "on_bad_file": "stop"},
        "model": {"backbone": TINY},
        "train": {"epochs": 1, "warmup_epochs": 0, "batch_size": 4, "lr": 0.01, "precision": "fp32"},
    }
    config = RunConfig.model_validate({"out": str(tmp_path / "run"), **sections})
    (tmp_path / "run.json").write_text(config.model_dump_json())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(2):  # by hand: a launcher ends the second process when it sees that the first one has ended
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
        environment = {**os.environ, **{name: str(value) for name, value in place.items()}}
        command = [sys.executable, "-m", "m2clip", "train", str(tmp_path / "run.json")]
        environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MASTER_ADDR": "127.0.0.1"}
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [1, 1], said
    told = [[line for line in text.splitlines() if line.startswith("m2clip: cannot read")] for text in said]
    assert told[0] == told[1]
    assert len(told[0]) == 1
    assert "empty.mp4: the file is empty" in told[0][0]
    assert "Traceback" not in "".join(said)
