"""Each rival is trained by the same loop as M2-CLIP: it learns, goes on where it was, and its checkpoint is used like any other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from m2clip import load
from m2clip.config import METHOD_TERMS, RunConfig
from m2clip.data.manifest import read_manifest
from m2clip.errors import ConfigError
from m2clip.evaluate import evaluate
from m2clip.train import train
from m2clip.train.log import read_log
from tests.small_inputs import TINY, class_folders

NAMES = ("red star growing", "blue square bouncing", "green circle spinning", "white heart falling")
RIVALS = ("linear-probe", "full", "st-adapter", "aim", "text-prompts")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of each of four classes."""
    return class_folders(tmp_path_factory.mktemp("videos"), NAMES, each=2)


def settings(out: Path, videos: Path, method: str, **train: Any) -> RunConfig:
    """Runs of a few steps of four videos each."""
    return RunConfig.model_validate(
        {
            "out": str(out),
            "data": {"train": str(videos), "val": str(videos), "frames": 4, "workers": 0, "flip": False},
            "model": {"backbone": TINY, "method": method},
            "train": {"epochs": 2, "warmup_epochs": 0, "batch_size": 4, "lr": 0.002, "precision": "fp32", **train},
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", RIVALS)
def test_a_rival_is_trained_resumed_and_evaluated(method: str, videos: Path, tmp_path: Path) -> None:
    straight = train(settings(tmp_path / "straight", videos, method), progress=False)
    steps = [line for line in read_log(straight.parent) if line["kind"] == "step"]
    assert len(steps) == 4
    terms = {"contrastive", "cross_modal", "visual", "mlm"} & steps[0].keys()
    assert terms == set(METHOD_TERMS[method])  # type: ignore[index]

    broken = tmp_path / "broken"
    train(settings(broken, videos, method, stop_after_epoch=1), progress=False)
    train(settings(broken, videos, method), resume=True, progress=False)
    whole, resumed = (load_file(out / "last.safetensors") for out in (straight.parent, broken))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())

    model = load(straight)
    assert model.info.method == method
    moved = {name: value for name, value in model.trained_parameters().items() if value.abs().sum() > 0}
    assert len(moved) == len(model.trained_parameters())  # also what began at zero
    result = evaluate(model, read_manifest(videos), workers=0, batch_size=4)
    assert {"similarity"} <= result.metrics.keys()
    assert ("visual" in result.metrics) == ("visual" in METHOD_TERMS[method])  # type: ignore[index]
    never_trained = evaluate(model, read_manifest(videos), protocol="zero-shot", workers=0, batch_size=4)
    assert set(never_trained.metrics) == {"similarity"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "aim", "linear-probe"])
def test_bfloat16_training_ends_in_finite_float32_weights(method: str, videos: Path, tmp_path: Path) -> None:
    best = train(settings(tmp_path / "run", videos, method, precision="bf16"), progress=False)
    for name, parameter in load(best).trained_parameters().items():
        assert parameter.dtype == torch.float32, name
        assert parameter.isfinite().all(), name


@pytest.mark.slow
def test_a_linear_probe_learns_eight_videos(videos: Path, tmp_path: Path) -> None:
    """Its best checkpoint is chosen by the visual head, the only reading that training changes."""
    config = settings(tmp_path / "run", videos, "linear-probe", epochs=40, batch_size=8, lr=0.2, weight_decay=0.0)
    assert config.best_by == "visual"
    best = train(config, progress=False)
    assert load(best).info.training["validation"]["visual"] >= 0.75  # by chance 0.25


def test_the_frozen_clip_is_not_trained(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the method frozen trains nothing"):
        train(settings(tmp_path / "run", videos, "frozen"), progress=False)
    assert not (tmp_path / "run" / "best.safetensors").exists()
