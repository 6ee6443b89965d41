"""docs/own-data.md, run as it stands: from folders of clips to an answer of the server."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest

from tests.program import Ran
from tests.small_inputs import write_video

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-data.md").read_text("utf-8")
# What makes a run of seconds of it: the page's commands are for ViT-B/16 and real videos.
SMALL = {
    "train": "model.backbone=builtin model.weights=null train.epochs=4 train.warmup_epochs=0 train.batch_size=6 train.lr=1e-2 "
    "data.workers=0 data.frames=2",
    "serve": "--port 0 --no-page --workers 1",
}
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60)}


def five_lines() -> list[list[str]]:
    block = PAGE.split("<!-- five lines -->")[1].split("<!-- end -->")[0]
    return [shlex.split(line)[1:] for line in block.strip().splitlines()]


def clip(path: Path, colour: tuple[int, int, int], *, seed: int) -> Path:
    """Four frames of one colour with some noise, so that no two videos are the same."""
    noise = np.random.default_rng(seed).integers(-30, 30, (4, 80, 80, 3))
    return write_video(path, np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's three folders, and the config beside them as in a checkout."""
    root = tmp_path_factory.mktemp("own")
    seed = 0
    for part, each in (("train", 6), ("val", 10), ("test", 2)):
        for name, colour in COLOURS.items():
            for n in range(each):
                clip(root / "videos" / part / name / f"{n}.mp4", colour, seed=(seed := seed + 1))
    clip(root / "clip.mp4", COLOURS["green"], seed=1000)
    (root / "configs").mkdir()
    shutil.copy(ROOT / "configs" / "own-data.yaml", root / "configs")
    return root


@contextmanager
def started(arguments: list[str], folder: Path) -> Iterator[str]:
    """The address of a server that these arguments start, while it runs."""
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "m2clip", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()  # comes when it listens
        found = re.search(r"http://127\.0\.0\.1:[0-9]+", line)
        assert found is not None, (folder / "log").read_text()
        yield found[0]
    finally:
        server.terminate()
        assert server.wait(60) in (0, -15)


def upload(address: str, video: Path) -> Request:
    """What curl -F file=@clip.mp4 sends."""
    body = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="clip.mp4"\r\n\r\n%b\r\n--edge--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    return Request(f"{address}/v1/classify", body % video.read_bytes(), headers)


def test_the_page_has_five_lines() -> None:
    assert [line[0] for line in five_lines()] == ["data", "train", "calibrate", "evaluate", "serve"]


@pytest.mark.slow
def test_from_folders_to_a_served_model(m2: Callable[..., Ran], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    *before, serve = five_lines()
    for command in before:
        ran = m2(*command, *SMALL.get(command[0], "").split())
        assert ran.code == 0, ran.err
    assert "4 of 4 videos scored" in ran.out
    assert (folder / "runs/mine/test/report.html").is_file()
    (classify,) = re.findall(r"^    m2clip (classify .*)$", PAGE, re.MULTILINE)
    ran = m2(*shlex.split(classify))
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-2].split()[1] == "green"
    with started([*serve, *SMALL["serve"].split()], folder) as address:
        with urlopen(f"{address}/healthz", timeout=60) as answer:
            assert answer.status == 200
        with urlopen(upload(address, folder / "clip.mp4"), timeout=60) as answer:
            said = json.load(answer)
    assert said["predictions"][0]["label"] == "green"
    assert f"{said['predictions'][0]['score']:.4f}" == ran.out.splitlines()[-2].split()[0]
    assert said["none_of_these"] == ("none of these" in ran.out)
