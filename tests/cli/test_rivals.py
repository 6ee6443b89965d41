"""A rival from its YAML to a named action, by the program alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.program import NAMES, Ran, one_sentence
from tests.small_inputs import class_folders

RIVALS = {
    "linear-probe": {},
    "full": {},
    "st-adapter": {"adapter_width": 24},
    "aim": {"adapter_width": 12},
    "text-prompts": {"prompt_tokens": 4},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("videos"), NAMES, each=1)


@pytest.mark.slow
@pytest.mark.parametrize("method", RIVALS)
def test_train_info_evaluate_and_classify(m2: Callable[..., Ran], method: str, videos: Path, tmp_path: Path) -> None:
    config = {
        "out": str(tmp_path / "run"),
        "data": {"train": str(videos), "workers": 0, "flip": False, "frames": 2},
        "model": {"method": method, **RIVALS[method]},
        "train": {"epochs": 1, "warmup_epochs": 0, "batch_size": 3},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(config))  # JSON is YAML, too
    ran = m2("train", tmp_path / "run.yaml")
    assert ran.code == 0, ran.err
    best = tmp_path / "run" / "best.safetensors"

    info = json.loads(m2("info", best, "--json").out)
    assert info["method"] == method
    assert info["rival"] == {
        "width": RIVALS[method].get("adapter_width", 0),
        "prompt_tokens": RIVALS[method].get("prompt_tokens", 0),
    }
    document = json.loads(m2("evaluate", best, "--data", videos, "--workers", 0, "--json").out)
    assert document["metrics"]["similarity"]["videos"] == 3
    video = videos / NAMES[0] / "0.mp4"
    for choices in ((), ("--labels", "a,b")):
        ran = m2("classify", video, "--checkpoint", best, *choices)
        assert ran.code == 0, ran.err
        assert str(video) in ran.out


def test_a_setting_of_another_method_is_refused_with_its_line(m2: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("out: run\nmodel:\n  method: aim\n  prompt_tokens: 4\n")
    ran = m2("train", tmp_path / "run.yaml")
    assert ran.code == 1
    sentence = one_sentence(ran)
    assert "run.yaml" in sentence
    assert "prompt_tokens is set, but the method aim has no use for it" in sentence
