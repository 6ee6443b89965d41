"""Frames piece by piece: the numbers of one pass over the whole sequence, each frame once through each block."""

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from m2clip import create
from m2clip.errors import ConfigError
from m2clip.model import frame_stream
from m2clip.model.frame_stream import FrameStream, StreamedFrames
from m2clip.model.precision import lower
from m2clip.model.video_clip import VideoCLIP
from tests.model.rivals.plain_clip import clips, model_of

BOTH_PLACES = {"ted_positions": ("pre_attention", "pre_mlp")}
LAYOUTS: dict[str, tuple[str, dict[str, Any], int]] = {
    # What delays: the enhancement of each of the three blocks, and the output adapter, by a frame each.
    "pre_mlp": ("m2clip", {}, 4),
    "pre_attention": ("m2clip", {"ted_positions": ("pre_attention",)}, 4),
    "both places": ("m2clip", BOTH_PLACES, 7),
    "without output adapter": ("m2clip", {"output_temporal": False}, 3),
    "output adapter alone": ("m2clip", {"ted": "off", "output_temporal": True}, 1),
    "enhancement": ("m2clip", {"ted": "enhancement", **BOTH_PLACES}, 7),
    "difference": ("m2clip", {"ted": "difference", **BOTH_PLACES, "output_temporal": False}, 0),
    "some blocks": ("m2clip", {"ted_layers": (0, 2)}, 3),
    "off": ("m2clip", {"ted": "off"}, 0),
    "st-adapter": ("st-adapter", {}, 3),
    "frozen": ("frozen", {}, 0),
    "linear-probe": ("linear-probe", {}, 0),
    "text-prompts": ("text-prompts", {}, 0),
    "full": ("full", {}, 0),
}
SEQUENCE = clips(batch=1, frames=23)[0]


@cache
def model(layout: str) -> VideoCLIP:
    method, options, _ = LAYOUTS[layout]
    return model_of(method, **options).double().eval()


def one_pass(layout_or_model: str | VideoCLIP, frames: Tensor) -> StreamedFrames:
    chosen = model(layout_or_model) if isinstance(layout_or_model, str) else layout_or_model
    with torch.inference_mode():
        (embeddings,), (tokens,) = chosen.encode_frames(frames[None])
    return StreamedFrames(embeddings, tokens)


def joined(parts: list[StreamedFrames]) -> StreamedFrames:
    return StreamedFrames(
        torch.cat([part.embeddings for part in parts]), torch.cat([part.class_tokens for part in parts])
    )


def same(found: StreamedFrames, expected: StreamedFrames, **tolerance: float) -> None:
    """Not to the last bit: a product of other rows adds up in another order. In float64 nothing else is left to see."""
    tolerance = tolerance or {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(found.embeddings, expected.embeddings, **tolerance)
    torch.testing.assert_close(found.class_tokens, expected.class_tokens, **tolerance)


@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    sizes=st.lists(st.integers(0, 7), max_size=6).filter(lambda sizes: 1 <= sum(sizes) <= len(SEQUENCE)),
    strength=st.sampled_from([0.0, 0.3, 1.0]),
)
@example("both places", [1] * 9, 1.0)
@example("pre_mlp", [1], 1.0)
@example("both places", [0, 2], 0.3)
@settings(max_examples=60, deadline=None)
def test_pieces_are_one_pass(layout: str, sizes: list[int], strength: float) -> None:
    chosen, delay = model(layout), LAYOUTS[layout][2]
    chosen.set_strength(strength if chosen.info.method in ("m2clip", "st-adapter", "full") else 1.0)
    stream = FrameStream(chosen)
    assert stream.delay_frames == delay
    parts: list[StreamedFrames] = []
    for piece in SEQUENCE[: sum(sizes)].split(sizes):
        parts.append(stream.push(piece))
        assert len(parts[-1].embeddings) <= max(len(piece), 1) or delay == 0
    assert sum(len(part.embeddings) for part in parts) == max(sum(sizes) - delay, 0)
    same(joined([*parts, stream.finish()]), one_pass(layout, SEQUENCE[: sum(sizes)]))


@pytest.mark.parametrize("layout", ["both places", "enhancement", "st-adapter"])
def test_in_float32(layout: str) -> None:
    method, options, _ = LAYOUTS[layout]
    chosen = model_of(method, **options).eval()
    stream = FrameStream(chosen)
    found = joined([*(stream.push(piece) for piece in SEQUENCE.split(5)), stream.finish()])
    expected = one_pass(chosen, SEQUENCE)
    same(found, expected, rtol=1e-5, atol=1e-5 * float(expected.class_tokens.abs().max()))


@pytest.mark.parametrize("layout", ["both places", "difference", "st-adapter", "frozen"])
def test_a_look_ahead_is_the_end_and_changes_nothing(layout: str) -> None:
    stream, parts = FrameStream(model(layout)), []
    for count in range(1, 12):
        parts.append(stream.push(SEQUENCE[count - 1 : count]))
        for _ in range(2):
            same(joined([*parts, stream.peek()]), one_pass(layout, SEQUENCE[:count]))
    same(joined([*parts, stream.finish()]), one_pass(layout, SEQUENCE[:11]))


def test_after_the_end_a_stream_begins_anew() -> None:
    stream = FrameStream(model("both places"))
    for frames in (SEQUENCE[:9], SEQUENCE[9:10], SEQUENCE[10:]):
        same(joined([stream.push(frames), stream.finish()]), one_pass("both places", frames))
    for ended in (stream.finish(), stream.peek()):
        assert ended.embeddings.shape == (0, 48)
        assert ended.class_tokens.shape == (0, 64)


@pytest.mark.parametrize("layout", ["both places", "frozen"])
def test_each_frame_passes_each_block_once(layout: str) -> None:
    """Counted at the halves of each block, of which the last but one has all tokens and the last one class tokens."""
    chosen = model(layout)
    seen: dict[str, int] = {}
    hooks = []
    for layer, block in enumerate(chosen.clip.visual.blocks):
        for part in ("attention", "mlp"):

            def count(module: nn.Module, inputs: tuple[Tensor, ...], *, name: str = f"{layer} {part}") -> None:
                seen[name] = seen.get(name, 0) + len(inputs[0])
                if name == "2 mlp":
                    assert inputs[0].shape[1] == 1  # behind the last attention only class tokens go on

            hooks.append(getattr(block, part).register_forward_pre_hook(count))
    try:
        stream = FrameStream(chosen)
        for piece in SEQUENCE.split(3):
            stream.push(piece)
        stream.finish()
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == {f"{layer} {part}": len(SEQUENCE) for layer in range(3) for part in ("attention", "mlp")}


def test_what_is_held_does_not_grow() -> None:
    stream = FrameStream(model("both places"))
    sizes = []
    for _ in range(4):
        for piece in SEQUENCE.split(6):
            stream.push(piece)
        held = [adapter.state[0] for adapter in stream._adapters]
        sizes.append(sum(tensor.untyped_storage().nbytes() for tensor in held))
    assert len(set(sizes)) == 1


def test_many_frames_go_through_in_pieces_of_the_size_that_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = model("pre_mlp")
    pieces: list[int] = []
    hook = chosen.clip.visual.patch_embedding.register_forward_pre_hook(lambda _, inputs: pieces.append(len(inputs[0])))
    # Of a frame the largest tensor has 16 patches of 3 * 64 numbers of 8 bytes.
    monkeypatch.setattr(frame_stream, "PIECE_TENSOR_BYTES", 5 * 16 * 3 * 64 * 8)
    try:
        stream = FrameStream(chosen)
        found = stream.push(SEQUENCE[:12])
    finally:
        hook.remove()
    assert pieces == [5, 5, 2]
    same(joined([found, stream.finish()]), one_pass("pre_mlp", SEQUENCE[:12]))


def test_weights_in_bfloat16() -> None:
    torch.manual_seed(1)
    chosen = create("builtin", class_names=("run", "jump")).eval()
    with torch.no_grad():
        for parameter in chosen.trained_parameters().values():
            parameter.add_(0.02 * torch.randn_like(parameter))
    exact = one_pass(chosen, frames := torch.randn(10, 3, 64, 64))
    lower(chosen)
    stream = FrameStream(chosen)
    found = joined([*(stream.push(piece) for piece in frames.split(4)), stream.finish()])
    assert found.embeddings.dtype == found.class_tokens.dtype == torch.float32
    whole = one_pass(chosen, frames)
    # Rounding differs with the size of the products, by no more than bfloat16 differs from float32 anyway.
    rounding = float((whole.embeddings - exact.embeddings).abs().max())
    assert float((found.embeddings - whole.embeddings).abs().max()) < 2 * rounding
    assert torch.cosine_similarity(found.embeddings, exact.embeddings).min() > 0.999


def test_where_every_frame_sees_the_whole_clip() -> None:
    with pytest.raises(ConfigError, match="method aim every frame sees the whole clip"):
        FrameStream(model_of("aim"))

    class Reversed(VideoCLIP):
        def encode_frames(self, clips: Tensor) -> tuple[Tensor, Tensor]:
            return super().encode_frames(clips.flip(1))

    own = Reversed(model("frozen").clip, info=model("frozen").info)
    with pytest.raises(ConfigError, match="sees the whole clip"):
        FrameStream(own)


def test_shapes_that_are_no_frames() -> None:
    with pytest.raises(ValueError, match=r"\[n, 3, H, W\] is needed"):
        FrameStream(model("frozen")).push(torch.zeros(1, 2, 3, 32, 32))
