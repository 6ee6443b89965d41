"""A short run of a tiny model, and the tensors that it leaves."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from m2clip.config import RunConfig
from m2clip.train import train
from tests.small_inputs import TINY


def run(
    out: Path, source: str | Path, *, resume: bool = False, epochs: int = 2, **data: Any
) -> dict[str, torch.Tensor]:
    """Train on `source` up to the end of an epoch, of two."""
    config = {
        "out": str(out),
        "data": {"train": str(source), "frames": 4, "workers": 0, **data},
        "model": {"backbone": TINY},
        "train": {
            "epochs": 2, "stop_after_epoch": epochs, "warmup_epochs": 1, "batch_size": 2, "lr": 0.01, "precision": "fp32",
        },
    }  # fmt: skip
    train(RunConfig.model_validate(config), progress=False, resume=resume)
    return load_file(out / "last.safetensors")
