"""ST-Adapter (Pan et al. 2022, arXiv 2206.13559, section 3.2): a bottleneck with a depthwise convolution over space and time."""

from collections.abc import Iterable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2clip.model.adapters import Reach, TemporalAdapter, projection
from m2clip.model.clip import CLIP
from m2clip.model.info import ModelInfo
from m2clip.model.towers import VisionAdapters, encode_frames
from m2clip.model.video_clip import VideoCLIP

Kernel = tuple[int, int, int]


class SpaceTimeConvolution(nn.Module):
    """Depthwise 3-D convolution with zero padding: [B, T, h, w, A] -> the same shape. Starts at zero.

    Each tap is a shift, a multiplication and an addition, so tokens keep their layout; with the three taps of the paper's
    models that is much faster than a general convolution. `weight` [A, 1, kT, kh, kw] is as `nn.Conv3d` has it.
    """

    def __init__(self, width: int, *, kernel: Kernel) -> None:
        super().__init__()
        if any(size % 2 == 0 for size in kernel):
            raise ValueError(f"the kernel {kernel} has an even side; only odd sides keep the shape")
        self.weight = nn.Parameter(torch.zeros(width, 1, *kernel))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, h, w, A] -> [B, T, h, w, A]."""
        kernel = self.weight.shape[2:]
        weight = self.weight.to(x.dtype)
        pads = [side for size in reversed(kernel) for side in (size // 2, size // 2)]
        padded = F.pad(x, (0, 0, *pads))
        frames, rows, columns = x.shape[1:4]
        out = self.bias.to(x.dtype)
        for t, i, j in product(*map(range, kernel)):
            out = out + padded[:, t : t + frames, i : i + rows, j : j + columns] * weight[:, 0, t, i, j]
        return out


class STAdapter(TemporalAdapter):
    """p + Up(DWConv3D(Down(p))) on the patch tokens p; the class token passes untouched.

    `kernel` is (time, height, width); 3x1x1 is that of the released models. A fresh adapter is the identity: its convolution is zero.
    """

    def __init__(self, width: int, *, bottleneck: int, kernel: Kernel = (3, 1, 1)) -> None:
        super().__init__()
        self.down = projection(width, bottleneck)
        self.convolution = SpaceTimeConvolution(bottleneck, kernel=kernel)
        self.up = projection(bottleneck, width)

    @property
    def reach(self) -> Reach:
        """Half of the kernel's time on each side."""
        half = self.convolution.weight.shape[2] // 2
        return Reach(before=half, after=half)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens [B, T, N, C] with the class token first and N = 1 + h*w for grid (h, w) -> [B, T, N, C]."""
        hidden = self.convolution(self.down(x[:, :, 1:]).unflatten(2, grid))
        return x + F.pad(self.weakened(self.up(hidden.flatten(2, 3))), (0, 0, 1, 0))


class STAdapterCLIP(VideoCLIP):
    """An ST-Adapter before the attention of each image block, and the visual head; the text tower is CLIP's."""

    def __init__(self, clip: CLIP, *, info: ModelInfo, visual_head: bool = True) -> None:
        super().__init__(clip, info=info, visual_head=visual_head)
        width, bottleneck = info.sizes.vision_width, info.rival.width
        adapters = {layer: STAdapter(width, bottleneck=bottleneck) for layer in range(info.sizes.vision_layers)}
        self.vision_adapters = VisionAdapters(pre_attention=adapters, pre_mlp={}, output_temporal=None)

    def encode_frames(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips [B, T, 3, H, W] -> frame embeddings [B, T, D] and class tokens [B, T, C]."""
        return encode_frames(self.clip.visual, self.vision_adapters, clips, recompute=self.recompute_blocks)

    def frame_adapters(self) -> VisionAdapters:
        """The ST-Adapters."""
        return self.vision_adapters

    def block_adapters(self) -> Iterable[nn.Module]:
        """The ST-Adapters."""
        return (self.vision_adapters.pre_attention,)

    def trained_parts(self) -> dict[str, nn.Module]:
        """The adapters, and the visual head where there is one."""
        return {"vision_adapters": self.vision_adapters, **super().trained_parts()}
