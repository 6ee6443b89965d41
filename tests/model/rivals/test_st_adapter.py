"""ST-Adapter against PyTorch's 3-D convolution and against a tower written out plainly."""

import pytest
import torch
from torch import nn

from m2clip.model.clip import Block
from m2clip.model.rivals.st_adapter import SpaceTimeConvolution, STAdapter, STAdapterCLIP
from tests.model.rivals.plain_clip import attend, clips, model_of, patch_tokens


def shaken(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module


def plain_adapter(adapter: STAdapter, x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Tokens [B, T, N, C] through linear map, `nn.Conv3d` in groups of one channel, and linear map; patches only."""
    width, _, *kernel = adapter.convolution.weight.shape
    convolution = nn.Conv3d(width, width, tuple(kernel), padding=tuple(k // 2 for k in kernel), groups=width)
    convolution.load_state_dict(adapter.convolution.state_dict())
    batch, frames, _, channels = x.shape
    hidden = torch.einsum("btnc,ac->btna", x[:, :, 1:], adapter.down.weight) + adapter.down.bias
    volume = hidden.reshape(batch, frames, *grid, width).permute(0, 4, 1, 2, 3)  # [B, A, T, h, w]
    hidden = convolution(volume).permute(0, 2, 3, 4, 1).reshape(batch, frames, -1, width)
    change = torch.einsum("btna,ca->btnc", hidden, adapter.up.weight) + adapter.up.bias
    return torch.cat([x[:, :, :1], x[:, :, 1:] + change], dim=2).reshape(batch, frames, -1, channels)


@pytest.mark.parametrize("kernel", [(3, 1, 1), (3, 3, 3), (1, 3, 5), (5, 1, 3)])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_it_computes_down_convolution_up_on_the_patches(kernel: tuple[int, int, int], frames: int) -> None:
    adapter = shaken(STAdapter(12, bottleneck=6, kernel=kernel))
    x = torch.randn(2, frames, 1 + 3 * 4, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(adapter(x, (3, 4)), plain_adapter(adapter, x, (3, 4)), atol=1e-5, rtol=1e-4)


def test_a_frame_is_mixed_with_its_neighbours_and_no_further() -> None:
    adapter = shaken(STAdapter(8, bottleneck=4))
    x = torch.randn(1, 5, 1 + 4, 8)
    changed = x.clone()
    changed[0, 2, 3] += 1  # one patch of the frame in the middle
    with torch.no_grad():
        difference = (adapter(changed, (2, 2)) - adapter(x, (2, 2))).abs().amax(-1)[0] > 1e-6  # [T, N]
    assert sorted(map(tuple, difference.nonzero().tolist())) == [(1, 3), (2, 3), (3, 3)]


def test_the_class_token_passes_untouched() -> None:
    adapter = shaken(STAdapter(8, bottleneck=4))
    x = torch.randn(2, 3, 1 + 4, 8)
    assert torch.equal(adapter(x, (2, 2))[:, :, 0], x[:, :, 0])


def test_it_starts_as_the_identity_with_a_convolution_and_biases_of_zero() -> None:
    adapter = STAdapter(8, bottleneck=4)
    state = {name: bool(value.count_nonzero()) for name, value in adapter.state_dict().items()}
    assert state == {
        "down.weight": True,
        "down.bias": False,
        "convolution.weight": False,
        "convolution.bias": False,
        "up.weight": True,
        "up.bias": False,
    }
    x = torch.randn(2, 3, 1 + 4, 8)
    assert torch.equal(adapter(x, (2, 2)), x)
    (adapter(x, (2, 2)) * torch.randn_like(x)).sum().backward()
    assert adapter.convolution.weight.grad is not None
    assert adapter.convolution.weight.grad.count_nonzero()  # so it can leave its start


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="even side"):
        SpaceTimeConvolution(4, kernel=(2, 1, 1))


@pytest.mark.parametrize("frames", [1, 4, 6])
def test_the_tower_has_an_adapter_before_each_attention(frames: int) -> None:
    model, videos = model_of("st-adapter"), clips(frames=frames)
    assert isinstance(model, STAdapterCLIP)
    tower, head = model.clip.visual, model.visual_head
    assert head is not None
    with torch.no_grad():
        x = tower.ln_pre(torch.stack([torch.stack([patch_tokens(tower, image) for image in v]) for v in videos]))
        for layer, block in enumerate(tower.blocks):
            assert isinstance(block, Block)
            x = plain_adapter(model.vision_adapters.pre_attention[str(layer)], x, (4, 4))  # type: ignore[arg-type]
            x = x + attend(block, block.ln_1(x).flatten(0, 1)).unflatten(0, (2, frames))
            x = x + block.mlp(block.ln_2(x))
        embeddings = tower.ln_post(x[:, :, 0]) @ tower.projection
        logits = head.linear(tower.ln_post(x[:, :, 0].mean(1)))
        got = model.encode_video(videos)
    torch.testing.assert_close(got.frames, embeddings, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.visual_logits, logits, atol=1e-5, rtol=1e-4)
