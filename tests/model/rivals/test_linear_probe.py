"""A linear probe is a linear map of the mean frame feature, and CLIP in everything else."""

import torch
from torch import nn

from m2clip.model.clip import Block
from m2clip.model.video_clip import VideoCLIP
from tests.model.rivals.plain_clip import NAMES, attend, clips, model_of, patch_tokens


def test_logits_are_a_linear_map_of_the_mean_feature_before_the_projection() -> None:
    model, videos = model_of("linear-probe"), clips()
    tower, head = model.clip.visual, model.visual_head
    assert head is not None
    with torch.no_grad():
        for video, logits in zip(videos, model.encode_video(videos).visual_logits, strict=True):
            features = []
            for image in video:
                x = tower.ln_pre(patch_tokens(tower, image))[None]
                for block in tower.blocks:
                    assert isinstance(block, Block)
                    x = x + attend(block, block.ln_1(x))
                    x = x + block.mlp(block.ln_2(x))
                features.append(tower.ln_post(x[0, 0]))
            expected = head.linear.weight @ torch.stack(features).mean(0) + head.linear.bias
            torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


def test_there_is_no_dropout() -> None:
    model, videos = model_of("linear-probe"), clips()
    with torch.no_grad():
        calm = model.eval().encode_video(videos).visual_logits
        assert torch.equal(model.train().encode_video(videos).visual_logits, calm)
    assert any(isinstance(part, nn.Dropout) and part.p == 0 for part in model.modules())


def test_only_the_head_is_trained_and_texts_are_compared_as_by_the_frozen_clip() -> None:
    model, videos = model_of("linear-probe"), clips()
    assert sorted(model.trained_parameters()) == ["visual_head.linear.bias", "visual_head.linear.weight"]
    assert sum(p.numel() for p in model.trained_parameters().values()) == len(NAMES) * (64 + 1)
    with torch.inference_mode():
        frozen = VideoCLIP(model.clip, info=model.info).eval()
        assert torch.equal(model.encode_video(videos).embedding, frozen.encode_video(videos).embedding)
