"""The loss of a batch: what stands for a class, and two processes compute that of one, whatever their shares are."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from m2clip import losses
from m2clip.config import RunConfig
from m2clip.data.dataset import Batch
from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.train.objective import Objective, Step
from m2clip.train.preparation import start_fabric
from tests.small_inputs import tiny_model

SCRIPT = """
import sys
import torch
from m2clip.config import RunConfig
from m2clip.data.dataset import Batch
from m2clip.train.objective import Objective, Step
from m2clip.train.preparation import start_fabric
from m2clip.train.readback import global_counts, read_step
from tests.small_inputs import tiny_model

fabric = start_fabric("fp32")
rank, ranks = fabric.global_rank, fabric.world_size
model = tiny_model(("red star growing", "blue square bouncing", "green circle spinning"))
torch.manual_seed(1)
with torch.no_grad():
    for parameter in model.trained_parameters().values():
        parameter.add_(0.1 * torch.randn_like(parameter))
model.visual_head.dropout.p = 0.0  # it draws other numbers in each process
clips, labels = torch.randn(6, 1, 3, 3, 32, 32), torch.tensor([0, 1, 1, 2, 0, 1])
optimizer = torch.optim.SGD(list(model.trained_parameters().values()), lr=0.0)
module, _ = fabric.setup(Step(model), optimizer)
objective = Objective(model, config=RunConfig(out="unused", train={"seed": 3}), largest=-(-6 // ranks), device=fabric.device)
results = []
for chosen in ([0, 1, 2, 3, 4, 5], [1, 3, 4, 0, 2], [2], [], [5, 0]):  # even, uneven, one process empty, nothing at all
    own = torch.tensor(chosen[rank::ranks], dtype=torch.int64)
    batch = Batch(clips[own], labels[own], own)
    losses = objective(fabric, module, batch, epoch=2)
    counts = global_counts(fabric, [batch])
    fabric.backward(losses.total)
    read = read_step(
        fabric, [losses.terms()], norm=losses.total, counts=counts, batches=[batch], largest=6, places=[], step=1
    )
    assert read.videos == len(chosen)
    means = read.terms
    gradients = {name: p.grad.clone() for name, p in model.trained_parameters().items() if p.grad is not None}
    results.append({"means": means, "gradients": gradients})
    optimizer.zero_grad()
torch.save(results, f"{sys.argv[1]}/{ranks}-{rank}.pt")
"""


def terms(model: Any, **options: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The loss terms of one batch of three videos, and the gradients of the total."""
    config = RunConfig.model_validate({"out": "unused", "train": {"seed": 3, **options}})
    model.zero_grad()
    clips = torch.randn(3, 1, 3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    batch = Batch(clips, torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2]))
    objective = Objective(model, config=config, largest=3, device=torch.device("cpu"))
    found = objective(start_fabric("fp32"), Step(model.eval()), batch, epoch=0)
    found.total.backward()
    gradients = {name: p.grad.clone() for name, p in model.trained_parameters().items() if p.grad is not None}
    return {name: float(value.detach()) for name, value in found.terms().items()}, gradients


def test_a_class_may_stand_for_the_mean_of_its_texts() -> None:
    names = ("red star growing", "blue square bouncing")
    more = (("it grows", "it gets larger"), ())
    model = tiny_model(names, further_texts=more, text_adapter_layers=1)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter.add_(
                0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    first, by_first = terms(model)
    mean, by_mean = terms(model, class_text="mean")
    assert mean["visual"] == first["visual"]
    assert mean["mlm"] == first["mlm"]  # masked words are those of the first text in any case
    clips = torch.randn(3, 1, 3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    labels = torch.tensor([0, 1, 1])
    with torch.no_grad():
        videos = model.encode_video(clips[:, 0]).embedding
        for found, texts in (
            (first, [["A video of red star growing"], ["A video of blue square bouncing"]]),
            (mean, [["A video of red star growing", *more[0]], ["A video of blue square bouncing"]]),
        ):
            unit = [
                [normalize(model.encode_text(get_tokenizer()([t])).embedding[0], dim=0) for t in own] for own in texts
            ]
            classes = torch.stack([torch.stack(own).mean(0) for own in unit])
            by_hand = {
                "cross_modal": losses.cross_modal(videos, classes, labels),
                "contrastive": losses.contrastive(videos, classes[labels], labels, logit_scale=model.logit_scale),
            }
            for name, value in by_hand.items():
                assert found[name] == pytest.approx(float(value), rel=1e-4), name
    assert abs(first["cross_modal"] - mean["cross_modal"]) > 1e-3
    name = next(name for name in by_mean if name.startswith("text_adapters."))
    assert not torch.allclose(by_mean[name], by_first[name])


@pytest.mark.slow
def test_loss_and_gradient_are_those_of_the_global_batch(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for ranks, rank in ((1, 0), (2, 0), (2, 1)):
        place: dict[str, Any] = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        if ranks > 1:
            place |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
            place |= {"GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "none"}  # how Lightning knows torchrun
        environment = {**os.environ, **{key: str(value) for key, value in place.items()}, "CUDA_VISIBLE_DEVICES": ""}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path)]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], errors
    assert not any("deprecated" in error for error in errors)
    alone, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    assert len(alone) == 5
    for n, (one, *pair) in enumerate(zip(alone, first, second, strict=True)):
        for result in pair:
            assert result["means"] == pytest.approx(one["means"], rel=1e-4, abs=1e-6), n
            for name, gradient in one["gradients"].items():
                torch.testing.assert_close(
                    result["gradients"].get(name, torch.zeros_like(gradient)),
                    gradient,
                    rtol=1e-3,
                    atol=1e-5,
                    msg=f"{n} {name}",
                )
        strongest = max(gradient.abs().max() for gradient in one["gradients"].values())
        assert (strongest > 0.01) == (n != 3), n  # the comparison means something; nothing is learned from no video
