"""AIM against its formulas, written out with PyTorch's own attention and loops over videos, frames and places."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from m2clip.model.clip import Block
from m2clip.model.rivals.aim import AIM, Bottleneck, NormChange, TemporalEmbedding
from tests.model.rivals.plain_clip import attend, clips, model_of, patch_tokens


def plain(adapter: Bottleneck, x: Tensor) -> Tensor:
    """Up(GELU(Down(x))) with the exact GELU."""
    hidden = torch.einsum("...c,ac->...a", x, adapter.down.weight) + adapter.down.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return torch.einsum("...a,ca->...c", hidden, adapter.up.weight) + adapter.up.bias


@pytest.mark.parametrize("frames", [1, 4])
def test_the_tower_adapts_in_time_in_space_and_beside_the_mlp(frames: int) -> None:
    model = model_of("aim", frames=frames)
    assert isinstance(model, AIM)
    tower, adapters, head = model.clip.visual, model.vision_adapters, model.visual_head
    assert head is not None
    videos = clips(frames=frames)
    norm = (tower.ln_post.weight + adapters.ln_post.weight, tower.ln_post.bias + adapters.ln_post.bias)
    with torch.no_grad():
        got = model.encode_video(videos)
        for n, video in enumerate(videos):
            moments = adapters.temporal_embedding.weight
            x = torch.stack([tower.ln_pre(patch_tokens(tower, image) + moments[t]) for t, image in enumerate(video)])
            for block, adapted in zip(tower.blocks, adapters.blocks, strict=True):
                assert isinstance(block, Block)
                in_time = [
                    attend(block, block.ln_1(x[None, :, place])) for place in range(x.shape[1])
                ]  # N of [1, T, C]
                x = x + plain(adapted.temporal, torch.stack([one[0] for one in in_time], dim=1))
                in_space = torch.cat([attend(block, block.ln_1(x[t : t + 1])) for t in range(frames)])
                x = x + in_space + plain(adapted.spatial, in_space)
                x = x + block.mlp(block.ln_2(x)) + 0.5 * plain(adapted.joint, block.ln_2(x))
            features = F.layer_norm(x[:, 0], (64,), *norm)  # [T, C]
            torch.testing.assert_close(got.frames[n], features @ tower.projection, atol=1e-5, rtol=1e-4)
            logits = head.linear(features.mean(0))  # the mean comes after the LayerNorm
            torch.testing.assert_close(got.visual_logits[n], logits, atol=1e-5, rtol=1e-4)


def test_without_the_adapters_in_time_and_the_temporal_embedding_the_order_of_frames_is_nothing() -> None:
    model, videos = model_of("aim"), clips()
    assert isinstance(model, AIM)
    turned = videos.flip(1)
    with torch.no_grad():
        assert not torch.allclose(model.encode_video(videos).embedding, model.encode_video(turned).embedding, atol=1e-3)
        model.vision_adapters.temporal_embedding.weight.zero_()
        torch.testing.assert_close(model.encode_video(videos).embedding, model.encode_video(turned).embedding)


def test_an_adapter_starts_at_zero_with_a_small_down_projection() -> None:
    adapter = Bottleneck(256, bottleneck=64)
    assert torch.equal(adapter(torch.randn(3, 256)), torch.zeros(3, 256))
    assert not adapter.down.bias.count_nonzero()
    assert adapter.down.weight.std().item() == pytest.approx(0.02, rel=0.05)
    x = torch.randn(3, 256)
    (adapter(x) * torch.randn(3, 256)).sum().backward()
    assert adapter.up.weight.grad is not None
    assert adapter.up.weight.grad.count_nonzero()  # so it can leave its start


def test_the_temporal_embedding_starts_at_zero_and_is_interpolated_for_another_number_of_frames() -> None:
    embedding = TemporalEmbedding(2, frames=2)
    assert not embedding.weight.count_nonzero()
    with torch.no_grad():
        embedding.weight.copy_(torch.tensor([[0.0, 8.0], [4.0, 0.0]]))
    assert torch.equal(embedding(2), embedding.weight)
    # Four frames lie at -1/4, 1/4, 3/4, 5/4 of the way from the first to the second; the ends are held.
    assert embedding(4).tolist() == [[0, 8], [1, 6], [3, 2], [4, 0]]
    assert embedding(1).tolist() == [[2, 4]]


def test_the_change_of_the_norm_is_a_trained_copy_of_it() -> None:
    norm, change, x = torch.nn.LayerNorm(6, eps=1e-3), NormChange(6), torch.randn(4, 6)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(6))
        norm.bias.copy_(torch.rand(6))
        assert torch.equal(change(x, norm), norm(x))
        change.weight.fill_(0.5)
        change.bias.fill_(-2.0)
        change.strength = 0.5
        scale, shift = norm.weight + 0.25, norm.bias - 1
        wanted = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-3).sqrt() * scale + shift
        torch.testing.assert_close(change(x, norm), wanted)


def test_the_temporal_embedding_has_as_many_frames_as_the_clips_it_is_trained_on() -> None:
    model = model_of("aim", frames=7)
    assert model.trained_parameters()["vision_adapters.temporal_embedding.weight"].shape == (7, 64)
