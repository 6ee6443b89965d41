"""Full fine-tuning: a copy of CLIP is trained, and the strength lies on the straight line between the two sets of weights."""

import copy

import pytest
import torch

from m2clip import losses
from m2clip.model.rivals.full import FullFineTuning
from m2clip.model.video_clip import VideoCLIP
from tests.model.rivals.plain_clip import TOKENS, clips, model_of


def tuned(**options: object) -> FullFineTuning:
    model = model_of("full", **options)
    assert isinstance(model, FullFineTuning)
    return model


def test_a_fresh_model_is_a_copy_that_shares_nothing_with_the_frozen_clip() -> None:
    model = tuned(learned=False)
    frozen, copied = model.clip.state_dict(), model.tuned.state_dict()
    assert frozen.keys() == copied.keys()
    for name, value in frozen.items():
        assert torch.equal(copied[name], value), name
        assert copied[name].data_ptr() != value.data_ptr(), name


def test_the_tuned_clip_reads_frames_and_texts() -> None:
    model, videos = tuned(), clips()
    with torch.inference_mode():
        frames = torch.stack([model.tuned.encode_image(video).mean(0) for video in videos])
        torch.testing.assert_close(model.encode_video(videos).embedding, frames, atol=1e-5, rtol=1e-4)
        assert torch.equal(model.encode_text(TOKENS).embedding, model.tuned.encode_text(TOKENS))
        assert model.encode_video(videos).visual_logits is None


@pytest.mark.parametrize("strength", [0.1, 0.5, 0.75])
def test_a_strength_is_the_model_with_its_weights_in_between(strength: float) -> None:
    model, videos = tuned(), clips()
    between = copy.deepcopy(model.clip)
    with torch.no_grad():
        for name, weight in between.named_parameters():
            weight += strength * (model.tuned.get_parameter(name) - weight)
    model.set_strength(strength)
    expected = VideoCLIP(between, info=model.info).eval()
    with torch.inference_mode():
        for clip in (videos, videos[:1, :1]):
            got, want = model.encode_video(clip), expected.encode_video(clip)
            torch.testing.assert_close(got.frames, want.frames, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            model.encode_text(TOKENS).embedding, expected.encode_text(TOKENS).embedding, atol=1e-5, rtol=1e-4
        )


def test_strengths_leave_both_sets_of_weights_as_they_are() -> None:
    model, videos = tuned(), clips()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        learned = model.encode_video(videos).embedding
        for strength in (0.3, 0, 0.9, 1, 0.5, 0, 1):
            model.set_strength(strength)
            again = model.encode_video(videos).embedding
            model.encode_text(TOKENS)
        assert torch.equal(again, learned)
    assert {name: torch.equal(value, before[name]) for name, value in model.state_dict().items()} == dict.fromkeys(
        before, True
    )


def test_the_logit_scale_of_the_contrastive_loss_is_trained() -> None:
    model = tuned()
    assert model.logit_scale is model.tuned.logit_scale
    out = model(clips(), model.prepare_texts(TOKENS))
    losses.contrastive(
        out.video.embedding, out.class_embeddings, torch.tensor([0, 1]), logit_scale=model.logit_scale
    ).backward()
    for name, parameter in model.trained_parameters().items():
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero(), name
    assert all(parameter.grad is None for parameter in model.clip.parameters())


def test_the_checkpoint_holds_the_tuned_clip_by_its_own_names() -> None:
    model = tuned()
    assert model.trained_state().keys() == {f"tuned.{name}" for name in model.clip.state_dict()}
