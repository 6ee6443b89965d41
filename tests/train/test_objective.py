"""The loss of a batch: what stands for a class, and several processes compute that of one, whatever their shares are."""

import os
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
from m2clip.train.sharding import set_up
from tests.small_inputs import tiny_model

# Each step is a list of parts, each part the samples of all processes: one part that is even for two processes and uneven for four;
# two uneven parts, in which some processes have nothing; a part without samples; a step without any; an uneven part.
STEPS = ([[0, 1, 2, 3, 4, 5]], [[5, 1, 3], [2]], [[4, 0, 2, 1], []], [[]], [[1, 3, 4, 0, 2]])

SCRIPT = """
import sys
import torch
import lightning.fabric.strategies, torch.distributed.fsdp, torch.distributed.tensor  # once, not in each process
from m2clip.config import RunConfig
from m2clip.data.dataset import Batch
from m2clip.train.objective import Objective, Step
from m2clip.train.preparation import start_fabric
from m2clip.train.readback import global_counts, read_step
from m2clip.train.sharding import clip_gradients, gathered_state, load_optimizer, set_up, whole
from tests.ranks import on_ranks
from tests.small_inputs import tiny_model
from tests.train.test_objective import STEPS

def run(way):
    fabric = start_fabric("fp32", sharding="off" if way == "off" else "full")
    rank, ranks = fabric.global_rank, fabric.world_size
    model = tiny_model(("red star growing", "blue square bouncing", "green circle spinning"), text_adapter_layers=1)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.train().recompute_blocks = way == "recompute"
    clips, labels = torch.randn(6, 1, 3, 3, 32, 32), torch.tensor([0, 1, 1, 2, 0, 1])
    objective = Objective(
        model, config=RunConfig(out="unused", train={"seed": 3}), largest=-(-6 // ranks), device=fabric.device
    )
    module = set_up(fabric, Step(model), model)
    optimizer = torch.optim.AdamW(model.parameter_groups(lr=0.01, text_lr_scale=0.5, weight_decay=0.01), fused=True)
    stepper = fabric.setup_optimizers(optimizer)
    held = sum(getattr(p, "_local_tensor", p).numel() for p in model.parameters()) / sum(p.numel() for p in model.parameters())
    results = []
    for step in STEPS:
        parts, terms = [], []
        for chosen in step:
            own = torch.tensor(chosen[rank::ranks], dtype=torch.int64)
            parts.append(Batch(clips[own], labels[own], own))
        counts = global_counts(fabric, parts)
        shares = counts / counts.sum().clamp(min=1)
        for part, batch in enumerate(parts):
            with fabric.no_backward_sync(module, enabled=part < len(parts) - 1):
                losses = objective(fabric, module, batch, epoch=2)
                fabric.backward(losses.total * shares[part])
            terms.append({name: value.detach() for name, value in losses.terms().items()})
        norm = clip_gradients(fabric, module, stepper, most=3.0)
        read = read_step(fabric, terms, norm=norm, counts=counts, batches=parts, largest=6, places=[], step=1, wish=rank)
        assert read.videos == sum(map(len, step))
        gradients = gathered_state({n: p.grad for n, p in model.trained_parameters().items() if p.grad is not None})
        results.append({"terms": read.terms, "norm": read.grad_norm, "gradients": {n: g.clone() for n, g in gradients.items()}})
        if read.videos:
            stepper.step()
        stepper.zero_grad()
    with whole(model) as plain, torch.inference_mode():
        state = {name: tensor.clone() for name, tensor in plain.state_dict().items() if "token_embedding" not in name}
        if rank == ranks - 1:  # no one else is needed to run it
            plain.eval().encode_video(clips[:, 0])
    moments = gathered_state(optimizer.state_dict())
    load_optimizer(optimizer, moments)
    again = gathered_state(optimizer.state_dict())
    torch.save(
        {"results": results, "state": state, "moments": moments, "again": again, "held": held},
        f"{sys.argv[1]}/{ranks}-{way}-{rank}.pt",
    )

def one():
    run("off")

def two():
    for way in ("off", "full", "recompute"):
        run(way)

def four():
    for way in ("off", "full"):
        run(way)

codes = on_ranks(1, one) + on_ranks(2, two) + on_ranks(4, four)
sys.exit(max(map(abs, codes)))
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


def test_dropout_depends_on_the_sample_and_the_epoch_and_not_on_the_batch() -> None:
    model = tiny_model(("red star growing", "blue square bouncing"))
    assert model.visual_head is not None

    def kept(*indices: int, epoch: int = 2, seed: int = 3) -> torch.Tensor | None:
        config = RunConfig.model_validate({"out": "unused", "train": {"seed": seed}})
        objective = Objective(model, config=config, largest=3, device=torch.device("cpu"))
        clips, labels = torch.zeros(len(indices), 1, 3, 3, 32, 32), torch.zeros(len(indices), dtype=torch.int64)
        return objective._kept(Batch(clips, labels, torch.tensor(indices, dtype=torch.int64)), epoch)

    assert kept(0) is None  # this model is not in training
    model.train()
    many = kept(*range(200))
    assert many is not None
    assert (many.dtype, tuple(many.shape)) == (torch.bool, (200, 32))
    assert many.float().mean() == pytest.approx(0.5, abs=0.03)  # of 6,400 draws: five deviations
    assert len({tuple(row) for row in many.tolist()}) == 200
    for other, row in ((kept(7, 5), many[[7, 5]]), (kept(7, epoch=3), None), (kept(7, seed=4), None)):
        assert other is not None
        assert torch.equal(other, many[[7]] if row is None else row) == (row is not None)
    empty = kept()  # of a process that has no video
    assert empty is not None
    assert len(empty) == 1
    model.visual_head.dropout.p = 0.0
    assert kept(0) is None


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


def test_ddp_exchanges_the_gradients_of_single_numbers_too() -> None:
    """Of all but the logit scale: an adapter's gate that is one number must not drift apart between processes."""
    model = tiny_model(("red star growing", "blue square bouncing"))
    model.visual_head.gate = torch.nn.Parameter(torch.tensor(0.0))  # type: ignore[union-attr]
    step = Step(model)
    set_up(start_fabric("fp32"), step, model)
    assert step._ddp_params_and_buffers_to_ignore == ["model.clip.logit_scale"]


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What 1, 2 and 4 processes have come to, in files."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, str(folder / "script.py"), str(folder)],
        env=environment, capture_output=True, text=True, timeout=580,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "deprecated" not in run.stderr
    return folder


def result(folder: Path, ranks: int, way: str, rank: int) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / f"{ranks}-{way}-{rank}.pt", weights_only=True)
    return loaded


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "way"), [(2, "off"), (2, "full"), (2, "recompute"), (4, "off"), (4, "full")])
def test_loss_gradient_and_weights_are_those_of_one_process(of_ranks: Path, ranks: int, way: str) -> None:
    alone = result(of_ranks, 1, "off", 0)
    strongest = [max(g.abs().max() for g in step["gradients"].values()) for step in alone["results"]]
    assert [value > 0.01 for value in strongest] == [True, True, True, False, True]  # the fourth has no sample
    norms = [step["norm"] for step, strength in zip(alone["results"], strongest, strict=True) if strength > 0.01]
    assert min(norms) < 3 < max(norms)  # one is clipped, and one is not
    for rank in range(ranks):
        other = result(of_ranks, ranks, way, rank)
        for number, (step, expected) in enumerate(zip(other["results"], alone["results"], strict=True)):
            assert step["terms"] == pytest.approx(expected["terms"], rel=1e-5, abs=1e-5), number
            assert step["norm"] == pytest.approx(expected["norm"], rel=1e-5, abs=1e-5), number
            for name, gradient in expected["gradients"].items():
                found = step["gradients"].get(name, torch.zeros_like(gradient))
                torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-5, msg=f"step {number}, {name}")
        assert other["state"].keys() == alone["state"].keys()
        for name, tensor in alone["state"].items():
            torch.testing.assert_close(other["state"][name], tensor, rtol=1e-5, atol=1e-5, msg=name)
        for number, state in alone["moments"]["state"].items():
            for name, tensor in state.items():
                torch.testing.assert_close(other["moments"]["state"][number][name], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_process_holds_its_share_and_gives_back_what_it_was_given(of_ranks: Path) -> None:
    for ranks in (2, 4):
        for rank in range(ranks):
            one = result(of_ranks, ranks, "full", rank)
            assert one["held"] == pytest.approx(1 / ranks, rel=0.05)
            assert result(of_ranks, ranks, "off", rank)["held"] == 1
            for number, state in one["moments"]["state"].items():
                for name, tensor in state.items():
                    assert torch.equal(one["again"]["state"][number][name], tensor)
