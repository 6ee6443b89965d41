"""Our model against tensors that the method's reference implementation computed (tests/parity_small/README.md)."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from m2clip import losses
from m2clip.checkpoint import from_reference
from m2clip.model.m2clip import M2CLIP

pytestmark = pytest.mark.parity
SMALL = Path(__file__).parents[1] / "parity_small"


class Fixture:
    """One parity folder: the tensors, the model built from them, and what it computes from the inputs."""

    def __init__(self, folder: Path) -> None:
        self.state = load_file(folder / "official_state_dict.safetensors")
        self.inputs = load_file(folder / "inputs.safetensors")
        self.outputs = load_file(folder / "outputs.safetensors")
        self.gradients = load_file(folder / "gradients.safetensors")
        self.modules = load_file(folder / "modules.safetensors")
        self.model: M2CLIP = from_reference(self.state)
        self.clips = self.inputs["video"].transpose(1, 2)  # the reference keeps channels before frames
        self.video = self.model.encode_video(self.clips)
        self.classes = self.model.encode_text(self.inputs["class_tokens"])
        self.masked = self.model.encode_text(self.inputs["masked_tokens"])
        self.words = self.model.mlm_logits(self.masked.hidden, self.video.frames)

    def terms(self, *, double_softmax: bool) -> dict[str, Tensor]:
        labels = self.inputs["labels"]
        video = self.video.embedding
        assert self.video.visual_logits is not None
        return {
            # The reference contrasts with the masked texts (its fault); the fixture holds what it computed.
            "contrastive": losses.contrastive(
                video, self.masked.embedding, labels, logit_scale=self.model.clip.logit_scale
            ),
            "cross_modal": losses.cross_modal(video, self.classes.embedding, labels, double_softmax=double_softmax),
            "visual": losses.visual(self.video.visual_logits, labels),
            "mlm": losses.mlm(self.words, self.inputs["mlm_labels"]),
        }


@pytest.fixture(scope="module", params=["small", pytest.param("full", marks=pytest.mark.shared)])
def fixture(request: pytest.FixtureRequest) -> Fixture:
    folder = SMALL if request.param == "small" else request.getfixturevalue("shared") / "parity"
    return Fixture(folder)


def close(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours.detach(), theirs, atol=tolerance, rtol=0)


def test_features(fixture: Fixture) -> None:
    close(fixture.video.embedding, fixture.outputs["video_features"], 1e-5)
    normalized = torch.nn.functional.normalize(fixture.video.embedding, dim=-1)
    close(normalized, fixture.outputs["video_features_normalized"], 1e-5)
    close(fixture.video.frames, fixture.outputs["frame_features"], 1e-5)
    close(fixture.classes.embedding, fixture.outputs["class_text_features"], 1e-5)
    close(fixture.masked.hidden, fixture.outputs["text_hidden"], 1e-5)


def test_logits(fixture: Fixture) -> None:
    assert fixture.video.visual_logits is not None
    close(fixture.video.visual_logits, fixture.outputs["visual_logits"], 1e-4)
    close(fixture.words, fixture.outputs["mlm_logits"], 1e-4)
    video = torch.nn.functional.normalize(fixture.video.embedding, dim=-1)
    masked = torch.nn.functional.normalize(fixture.masked.embedding, dim=-1)
    classes = torch.nn.functional.normalize(fixture.classes.embedding, dim=-1)
    close(fixture.model.clip.logit_scale.exp() * video @ masked.T, fixture.outputs["logits_per_image"], 1e-4)
    close(100 * video @ classes.T, fixture.outputs["class_logits"], 1e-4)


def test_losses(fixture: Fixture) -> None:
    single, double = fixture.terms(double_softmax=False), fixture.terms(double_softmax=True)
    outputs = fixture.outputs
    close(single["contrastive"], outputs["contrastive_loss_kl"], 1e-5)
    close(single["mlm"], outputs["mlm_loss"], 1e-5)
    close(single["visual"], outputs["visual_classification_loss"], 1e-5)
    close(single["cross_modal"], outputs["cross_modal_classification_loss_single_softmax"], 1e-5)
    close(double["cross_modal"], outputs["cross_modal_classification_loss_official_double_softmax"], 1e-5)
    close(losses.combine(double).total, outputs["total_loss_official"], 1e-5)


def test_gradients_of_the_total_loss(fixture: Fixture) -> None:
    """Every trained tensor's gradient. Theirs, put through the same renaming, must be ours: 1e-4 relative to its largest value."""
    total = losses.combine(fixture.terms(double_softmax=True)).total
    parameters = fixture.model.trained_parameters()
    ours = dict(zip(parameters, torch.autograd.grad(total, list(parameters.values()), retain_graph=True), strict=True))
    # The gradients take the places of the weights in a state dict, so that one renaming serves both.
    theirs = from_reference({**fixture.state, **fixture.gradients}).trained_state()
    assert len(fixture.gradients) == len(ours) == len(theirs)
    for name, gradient in ours.items():
        tolerance = 1e-4 * max(theirs[name].abs().max().item(), 1e-6)
        torch.testing.assert_close(gradient, theirs[name], atol=tolerance, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


def test_modules_alone(fixture: Fixture) -> None:
    modules, model = fixture.modules, fixture.model
    frames = fixture.clips.shape[1]
    table = model.vision_adapters.pre_mlp
    tokens = modules["ted.input"].unflatten(0, (-1, frames))
    candidates = [
        (adapter(tokens, (4, 4)).flatten(0, 1), adapter.difference(tokens[:, :, 1:], (4, 4)).flatten(0, 1))
        for adapter in [*table.values(), *model.vision_adapters.pre_attention.values()]
    ]
    # The fixture does not say which of the model's TED-Adapters it took; one of them must reproduce it.
    errors = [(out - modules["ted.output"]).abs().max().item() for out, _ in candidates]
    best = errors.index(min(errors))
    close(candidates[best][0], modules["ted.output"], 1e-5)
    close(candidates[best][1], modules["ted.difference_branch"], 1e-5)

    texts = [*model.text_adapters.pre_mlp.values(), model.masked_words.adapter]
    errors = [(adapter(modules["text.input"]) - modules["text.output"]).abs().max().item() for adapter in texts]
    assert min(errors) < 1e-5

    frame_embeddings = modules["output_temporal.input"].unflatten(0, (-1, frames))
    out = model.vision_adapters.output_temporal(frame_embeddings)
    close(out.flatten(0, 1), modules["output_temporal.output"], 1e-5)


def test_layout_is_inferred(fixture: Fixture) -> None:
    layout = fixture.model.info.layout
    assert layout.ted == "both"
    if fixture.state["visual.conv1.weight"].shape[0] == 64:
        assert (layout.pre_mlp, layout.pre_attention, layout.ted_width) == ((0, 1), (0, 1), 16)
        assert (layout.text, layout.text_width, layout.output_temporal_width) == ((10, 11), 16, 32)
    else:
        assert (layout.pre_mlp, layout.pre_attention, layout.ted_width) == ((1, 2), (), 32)
        assert (layout.text, layout.text_width, layout.output_temporal_width) == ((11,), 32, 64)


def test_trained_tensors_alone_need_the_clip(fixture: Fixture) -> None:
    """The authors' training files hold trained tensors only; CLIP's own come from another file, the 13th block is its last text block."""
    trained = {key: fixture.state[key] for key in fixture.gradients}
    clip = {k: v for k, v in fixture.state.items() if k not in trained and "resblocks.12." not in k}
    with pytest.raises(ValueError, match="trained tensors only; pass the CLIP weights"):
        from_reference(trained)
    model = from_reference({"model": trained, "epoch": 30}, clip)
    close(model.encode_video(fixture.clips).embedding, fixture.outputs["video_features"], 1e-5)
    last, block = model.clip.text.blocks[-1].state_dict(), model.masked_block.state_dict()
    assert all(torch.equal(last[key], block[key]) for key in last)


def test_an_unknown_key_is_refused(fixture: Fixture) -> None:
    with pytest.raises(ValueError, match=r"does not write: visual\.adapter_two"):
        from_reference({**fixture.state, "visual.adapter_two": torch.zeros(1)})


def test_a_missing_key_is_named(fixture: Fixture) -> None:
    state = {key: value for key, value in fixture.state.items() if key != "visual.t_adapter.fc2.bias"}
    with pytest.raises(ValueError, match=r"missing \['vision_adapters\.output_temporal\.enhancement\.up\.bias'\]"):
        from_reference(state)


def test_parts_that_a_file_lacks_are_left_out(fixture: Fixture) -> None:
    """Ablations of the reference: no difference branch, no text adapters, no masked words."""

    def built(keep: Callable[[str], bool]) -> M2CLIP:
        return from_reference({key: value for key, value in fixture.state.items() if keep(key)})

    assert built(lambda key: "offset_adapter" not in key).info.layout.ted == "enhancement"
    assert built(lambda key: "adapter_fc" not in key).encode_video(fixture.clips).visual_logits is None

    plain = built(lambda key: "textad" not in key)
    assert plain.info.layout.text == ()
    hidden = plain.encode_text(fixture.inputs["masked_tokens"]).hidden
    assert plain.mlm_logits(hidden, fixture.video.frames).shape == fixture.outputs["mlm_logits"].shape

    # Without their head the 13th text block is not the encoder's: the class texts stay what they were.
    silent = built(lambda key: "mlm_adapter" not in key)
    assert silent.info.words == ()
    close(silent.encode_text(fixture.inputs["class_tokens"]).embedding, fixture.outputs["class_text_features"], 1e-5)


def test_half_precision_and_numbers_beside_the_weights(fixture: Fixture) -> None:
    state = {f"module.{key}": value.half() for key, value in fixture.state.items()}
    model = from_reference({**state, "module.input_resolution": torch.tensor(32)})
    close(model.encode_video(fixture.clips).embedding, fixture.outputs["video_features"], 2e-2)


def test_adapters_of_different_widths_are_refused(fixture: Fixture) -> None:
    key = "visual.transformer.resblocks.1.adapter_pre_mlp.fc1"
    narrow = {f"{key}.weight": fixture.state[f"{key}.weight"][:8], f"{key}.bias": fixture.state[f"{key}.bias"][:8]}
    with pytest.raises(ValueError, match=r"unexpected shapes, adapters of different widths perhaps"):
        from_reference({**fixture.state, **narrow})
