"""What is read off a run's log, by hand, and a frozen CLIP with the classes of the data."""

import json
from pathlib import Path

import torch

from m2clip import create
from m2clip.study.measure import loss_curves, trained_parameters, untrained
from tests.small_inputs import TINY
from tests.study.small_study import BASE, small_study


def step(number: int, epoch: int, *, mlm: float, videos: int, seconds: float = 2.0) -> dict[str, object]:
    own = {"kind": "step", "step": number, "epoch": epoch, "mlm": mlm, "total": 2 * mlm, "lr": 0.1, "grad_norm": 1.0}
    return {**own, "videos": videos, "seconds": seconds, "wait_seconds": 0.5}


def test_loss_curves_by_hand(tmp_path: Path) -> None:
    lines = [
        step(1, 1, mlm=4.0, videos=3),
        step(2, 1, mlm=2.0, videos=1),
        {"kind": "epoch", "step": 2, "epoch": 1, "loss": 1.0, "similarity_top1": 0.25},
        {"kind": "warning", "step": 3, "text": "odd"},
        step(3, 2, mlm=1.0, videos=2),
        {"kind": "epoch", "step": 3, "epoch": 2, "loss": 1.0, "similarity_top1": 0.5},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert loss_curves(tmp_path) == {
        "epochs": 2,
        "steps": 3,
        "seconds": 6.0,
        "loss": {
            "mlm": {"first_step": 4.0, "last_step": 1.0, "epochs": [3.5, 1.0]},  # (3 * 4 + 1 * 2) / 4
            "total": {"first_step": 8.0, "last_step": 2.0, "epochs": [7.0, 2.0]},
        },
        "validation": {"similarity": [0.25, 0.5]},
        "warnings": ["odd"],
    }


def test_trained_parameters_are_counted_part_by_part() -> None:
    model = create(TINY, class_names=("a", "b"), method="st-adapter")
    found = trained_parameters(model)
    assert found["total"] == sum(found["parts"].values()) == sum(p.numel() for p in model.trained_parameters().values())
    assert found["parts"]["visual_head"] == 2 * 32 + 2


def test_an_untrained_model_knows_the_classes_and_is_clip(tmp_path: Path) -> None:
    methods = {"m2clip": {"set": {"model.method": "frozen"}}, "st": {}}
    _, cells = small_study(tmp_path, "run.model.backbone=builtin", "run.data.frames=3", methods=methods)
    model = untrained(cells[0].config)
    assert model.info.class_names == tuple(sorted(BASE))
    assert (model.info.frames, model.info.method, model.info.trained) == (3, "frozen", False)
    clips = torch.rand(1, 2, 3, 64, 64)
    with torch.no_grad():
        own, clip = (one.encode_video(clips).embedding for one in (model, create("builtin", method="frozen")))
    assert torch.equal(own, clip)
    without = cells[0].config.data.model_copy(update={"train": None})
    assert untrained(cells[0].config.model_copy(update={"data": without})).info.class_names == ()
