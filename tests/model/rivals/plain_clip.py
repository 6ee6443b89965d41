"""A CLIP and its adapted forms written down plainly: PyTorch's own attention, all tokens in all blocks, loops over frames."""

import torch
from torch import Tensor, nn

from m2clip.config import BackboneConfig
from m2clip.model.clip import CLIP, Block, VisionTower
from m2clip.model.video_clip import VideoCLIP

SIZES = BackboneConfig(
    image_size=32, patch_size=8, vision_width=64, vision_layers=3, vision_heads=2,
    embed_dim=48, text_width=32, text_layers=3, text_heads=2, context_length=24,
)  # fmt: skip
NAMES = ("waving a hand", "jumping", "running")
TOKENS = torch.tensor([[49406, 320, 1455, 539, 49407], [49406, 12, 49407, 0, 0]])


def model_of(method: str, *, learned: bool = True, **options: object) -> VideoCLIP:
    """A model of SIZES; `learned`: all that is trained has been moved away from where it starts."""
    from m2clip import create

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create(SIZES, **{"class_names": NAMES, "frames": 4, "method": method, **options})  # type: ignore[arg-type]
        if learned:
            with torch.no_grad():
                for parameter in model.trained_parameters().values():
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def clips(*, batch: int = 2, frames: int = 4, height: int = 32, width: int = 32, seed: int = 2) -> Tensor:
    """Random clips [B, T, 3, H, W]."""
    return torch.randn(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


def attend(block: Block, x: Tensor, *, causal: bool = False) -> Tensor:
    """The block's attention over x [B, N, C], by `nn.MultiheadAttention`."""
    own = block.attention
    plain = nn.MultiheadAttention(x.shape[-1], own.heads, batch_first=True)
    with torch.no_grad():
        plain.in_proj_weight.copy_(own.qkv.weight)
        plain.in_proj_bias.copy_(own.qkv.bias)
        plain.out_proj.weight.copy_(own.out.weight)
        plain.out_proj.bias.copy_(own.out.bias)
    mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1) if causal else None
    return plain(x, x, x, need_weights=False, attn_mask=mask)[0]


def patch_tokens(tower: VisionTower, image: Tensor) -> Tensor:
    """Tokens [N, C] of one image [3, H, W] of the tower's own size, with positions, before `ln_pre`."""
    side = tower.patch_size
    cells = [
        torch.einsum("kcij,cij->k", tower.patch_embedding.weight, image[:, i : i + side, j : j + side])
        for i in range(0, image.shape[1], side)
        for j in range(0, image.shape[2], side)
    ]
    return torch.stack([tower.class_embedding, *cells]) + tower.positional_embedding


def read_text(clip: CLIP, embedded: Tensor, end: int) -> Tensor:
    """One text's embedded words [L, C], with positions, through the text tower -> its embedding [D] at column `end`."""
    x = embedded[None]
    for block in clip.text.blocks:
        assert isinstance(block, Block)
        x = x + attend(block, block.ln_1(x), causal=True)
        x = x + block.mlp(block.ln_2(x))
    return clip.text.ln_final(x[0, end]) @ clip.text.projection
