"""The model against its plain form (benchmarks/plain.py): every shortcut gives the same numbers and the same gradients."""

import warnings
from typing import Any

import plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from m2clip import create
from m2clip.config import BackboneConfig, RunConfig
from m2clip.data.dataset import Batch
from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.model.precision import lower
from m2clip.train.objective import Objective, Step
from m2clip.train.preparation import start_fabric

SIZES = BackboneConfig(
    image_size=32, patch_size=8, vision_width=64, vision_layers=3, vision_heads=2,
    embed_dim=48, text_width=32, text_layers=3, text_heads=2,
)  # fmt: skip
NAMES = ("waving a hand", "jumping", "pushing something from left to right until it falls", "running")
BOTH = ("pre_attention", "pre_mlp")
LAYOUTS: dict[str, dict[str, Any]] = {
    "pre_mlp": {},
    "pre_attention": {"ted_positions": ("pre_attention",)},
    "both places": {"ted_positions": BOTH},
    "some layers": {"ted_positions": BOTH, "ted_layers": (1,), "ted_width": 5},
    "last layer": {"ted_layers": (2,)},
    "enhancement": {"ted": "enhancement", "ted_positions": BOTH},
    "difference": {"ted": "difference", "ted_positions": BOTH},
    "off": {"ted": "off"},
    "output temporal adapter alone": {"ted": "off", "output_temporal": True},
    "no output temporal adapter": {"output_temporal": False},
    "all texts": {"text_adapter_layers": 3},
    "no text adapter": {"text_adapter_layers": 0},
    "exact GELU": {"quick_gelu": False},
}
OUTPUT, GRADIENT = 1e-5, 1e-4


def model_of(**options: Any) -> Any:
    """A model none of whose tensors is where it starts: zeros and ones hide faults."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # another image size than the backbone's is meant
        torch.manual_seed(0)
        model = create(SIZES, **{"class_names": NAMES, "frames": 4} | options)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def clips_of(batch: int, frames: int, height: int = 32, width: int = 32) -> Tensor:
    return torch.randn(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(3))


def close(ours: Tensor | None, plainly: Tensor | None, *, tolerance: float, what: str) -> None:
    """The largest difference, as a share of the largest number."""
    assert ours is not None, what
    assert plainly is not None, what
    assert ours.shape == plainly.shape, what
    largest = float(plainly.detach().abs().max())
    assert largest > 0, f"{what}: zeros prove nothing"
    difference = float((ours - plainly).detach().abs().max()) / largest
    assert difference <= tolerance, f"{what} differs by {difference:.1e}"


def check_video(model: Any, clips: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, plainly = model.encode_video(clips), plain.encode_video(model, clips)
    for name in ("embedding", "frames", "visual_logits"):
        close(getattr(ours, name), getattr(plainly, name), tolerance=OUTPUT, what=name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_video(layout: str) -> None:
    model = model_of(**LAYOUTS[layout])
    with torch.inference_mode():
        check_video(model, clips_of(2, 4))
    check_video(model, clips_of(2, 4))  # with gradients other kernels may run


@settings(max_examples=25)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    batch=st.integers(1, 3),
    frames=st.sampled_from([1, 2, 3, 8, 9]),
    height=st.sampled_from([8, 32, 40]),
    width=st.sampled_from([16, 32, 56]),
)
def test_video_of_any_shape(layout: str, batch: int, frames: int, height: int, width: int) -> None:
    with torch.inference_mode():
        check_video(model_of(**LAYOUTS[layout]), clips_of(batch, frames, height, width))


@pytest.mark.parametrize("layout", ["pre_mlp", "all texts", "no text adapter", "exact GELU"])
def test_texts(layout: str) -> None:
    """Cut at the longest text, the hidden states are the first columns of those at full length."""
    model = model_of(**LAYOUTS[layout])
    texts = ["a video of jumping", "a video of pushing something from left to right until it falls", "x"]
    cut, full = get_tokenizer()(texts, pad_to_longest=True), get_tokenizer()(texts)
    assert cut.shape[1] < full.shape[1]
    with torch.inference_mode():
        ours, plainly = model.encode_text(cut), plain.encode_text(model, full)
    close(ours.embedding, plainly.embedding, tolerance=OUTPUT, what="embedding")
    close(ours.hidden, plainly.hidden[:, : cut.shape[1]], tolerance=OUTPUT, what="hidden")


@pytest.mark.parametrize("embed_dim", [48, 32])  # 32 is the text's width: then frames need no map
def test_masked_words(embed_dim: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create(SIZES.model_copy(update={"embed_dim": embed_dim}), class_names=NAMES)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        hidden, frames = torch.randn(2, 7, 32), torch.randn(2, 4, embed_dim)
    close(model.mlm_logits(hidden, frames), plain.mlm_logits(model, hidden, frames), tolerance=OUTPUT, what="logits")


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_strength(strength: float) -> None:
    model = model_of(ted_positions=BOTH)
    model.set_strength(strength)
    tokens = get_tokenizer()(["jumping"])
    with torch.inference_mode():
        check_video(model, clips_of(1, 3))
        ours, plainly = model.encode_text(tokens).embedding, plain.encode_text(model, tokens).embedding
    close(ours, plainly, tolerance=OUTPUT, what="text")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_step(layout: str) -> None:
    """Terms and gradients of a batch with all four heads, dropout included; two videos share a class."""
    config = RunConfig.model_validate({"out": "unused", "train": {"seed": 5}, "loss": {"mlm_rate": 0.5}})
    model = model_of(**LAYOUTS[layout]).train()
    labels = torch.tensor([2, 0, 2])
    batch = Batch(clips_of(3, 4).unsqueeze(1), labels, torch.tensor([4, 1, 7]))

    objective = Objective(model, config=config, largest=3, device=torch.device("cpu"))
    ours = objective(start_fabric("fp32"), Step(model), batch, epoch=2)
    ours.total.backward()
    gradients = {name: p.grad for name, p in model.trained_parameters().items()}
    model.zero_grad(set_to_none=True)

    plainly = plain.step_losses(model, plain.step_inputs(model, batch, config=config, epoch=2), config=config)
    plainly["total"].backward()
    for name, value in ours.terms().items():
        close(value.detach(), plainly[name].detach(), tolerance=OUTPUT, what=name)
    for name, parameter in model.trained_parameters().items():
        gradient = gradients[name]
        if parameter.grad is None or not parameter.grad.any():  # nothing downstream reads it: nothing, or zeros
            assert gradient is None or not gradient.any(), name
        else:
            close(gradient, parameter.grad, tolerance=GRADIENT, what=name)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_the_plain_form_of_a_changed_model_is_refused() -> None:
    model = model_of()
    lower(model)
    with pytest.raises(ValueError, match="rounded and folded"):
        plain.encode_video(model, clips_of(1, 2))
