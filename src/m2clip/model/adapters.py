"""The trained adapters of M2-CLIP (arXiv 2401.11649, section 3.2 and 3.3). Each starts as the identity: a fresh model IS the frozen CLIP.

All of an adapter module's parameters are trained; the frozen model never lives in one.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Branches = Literal["both", "enhancement", "difference"]


def projection(inputs: int, outputs: int) -> nn.Linear:
    """A linear map with PyTorch's default weights and a zero bias (every adapter bias starts at zero)."""
    linear = nn.Linear(inputs, outputs)
    nn.init.zeros_(linear.bias)
    return linear


class Residual(nn.Module):
    """An adapter whose residual can be weakened at run time: at `strength` 1 it is as trained, at 0 it is not there."""

    strength: float = 1.0

    def weakened(self, residual: Tensor) -> Tensor:
        """The residual times the strength; at 1 the very same tensor."""
        return residual if self.strength == 1.0 else self.strength * residual


class Reach(NamedTuple):
    """How many frames before a frame, and after it, go into what an adapter makes of that frame."""

    before: int
    after: int


class TemporalAdapter(Residual):
    """An adapter through which a frame sees its neighbours: `[B, T, ...]` -> the same shape, beyond the ends of T there is nothing."""

    @property
    def reach(self) -> Reach:
        """How far it looks (`model.frame_stream` counts on it)."""
        raise NotImplementedError


class TemporalConvolution(nn.Module):
    """Depthwise convolution in time, kernel 3, zero padding: [B, T, N, A] -> the same shape. Starts at zero.

    out[t] = w[0] x[t-1] + w[1] x[t] + w[2] x[t+1] + b.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, N, A] -> [B, T, N, A]; time and tokens are the two sides of a channels-last picture, so nothing is copied."""
        kernel = self.weight.T[:, None, :, None].to(x.dtype)  # [A, 1, 3, 1]
        out = F.conv2d(x.permute(0, 3, 1, 2), kernel, self.bias.to(x.dtype), padding=(1, 0), groups=x.shape[-1])
        return out.permute(0, 2, 3, 1)


class SpatialConvolution(nn.Module):
    """Depthwise 3x3 convolution over the patch grid, zero padding: [F, h, w, A] -> the same shape. Starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, 1, 3, 3))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """[F, h, w, A] -> [F, h, w, A]; the permuted view is channels-last, so nothing is copied."""
        out = F.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias, padding=1, groups=x.shape[-1])
        return out.permute(0, 2, 3, 1)


class Enhancement(nn.Module):
    """TE(x) = Up(DWConv_time(Down(x))): every token, the class token too, is mixed with itself in the neighbouring frames."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down = projection(width, bottleneck)
        self.convolution = TemporalConvolution(bottleneck)
        self.up = projection(bottleneck, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, N, C] -> [B, T, N, C]."""
        return self.up(self.convolution(self.down(x)))


class Difference(nn.Module):
    """TD(p) = Up(DWConv_space(Down(p_t - p_{t-1}))): what moved between neighbouring frames, seen in a 3x3 neighbourhood.

    Frame 0 has no predecessor; its difference is zero.
    """

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down = projection(width, bottleneck)
        self.convolution = SpatialConvolution(bottleneck)
        self.up = projection(bottleneck, width)

    def forward(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patch tokens [B, T, h*w, C] and their grid (h, w) -> [B, T, h*w, C]."""
        return self.up(self.between_frames(F.linear(patches, self.down.weight), grid))

    def between_frames(self, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
        """DWConv_space(Down(p_t - p_{t-1})) from hidden = W_down p [B, T, h*w, A], without the bias: -> [B, T, h*w, A].

        W (p_t - p_{t-1}) = W p_t - W p_{t-1}: taken after the projection the difference is half as wide.
        """
        bias = self.down.bias.to(hidden.dtype)
        if torch.compiler.is_compiling() and not torch.is_grad_enabled():
            # The same numbers: a graph that is exported for any T cannot hold a tensor of T - 1 frames.
            change = torch.diff(hidden, dim=1, prepend=hidden[:, :1]).add_(bias)
        else:
            change = (hidden[:, 1:] - hidden[:, :-1]).add_(bias)
            change = torch.cat([bias.expand_as(hidden[:, :1]), change], dim=1)
        return self.convolution(change.reshape(-1, *grid, change.shape[-1])).reshape(change.shape)


class TEDAdapter(TemporalAdapter):
    """x + TE(x) + pad(TD(x)); `branches` leaves one of the two out (an ablation). pad: nothing is added to the class token."""

    def __init__(self, width: int, *, bottleneck: int, branches: Branches = "both") -> None:
        super().__init__()
        self.enhancement = Enhancement(width, bottleneck) if branches != "difference" else None
        self.difference = Difference(width, bottleneck) if branches != "enhancement" else None

    @property
    def reach(self) -> Reach:
        """The enhancement sees a neighbour on each side, the difference the one before."""
        return Reach(before=1, after=0 if self.enhancement is None else 1)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens [B, T, N, C] with the class token first and N = 1 + h*w for grid (h, w) -> [B, T, N, C]."""
        if self.enhancement is None or self.difference is None:
            out = x if self.enhancement is None else x + self.weakened(self.enhancement(x))
            if self.difference is not None:
                out = out + F.pad(self.weakened(self.difference(x[:, :, 1:], grid)), (0, 0, 1, 0))
            return out
        return x + self.weakened(self._both(x, self.enhancement, self.difference, grid))

    def _both(self, x: Tensor, enhancement: Enhancement, difference: Difference, grid: tuple[int, int]) -> Tensor:
        """TE(x) + pad(TD(x)) by one product down and one up, of the branches' weights side by side."""
        bottleneck = len(enhancement.down.weight)
        down = torch.cat([enhancement.down.weight, difference.down.weight])
        # The difference has its bias behind the subtraction, so none comes from here.
        hidden = F.linear(x, down, F.pad(enhancement.down.bias, (0, bottleneck)))  # [B, T, N, 2A]
        changed = difference.between_frames(hidden[:, :, 1:, bottleneck:], grid)
        mixed = torch.cat([enhancement.convolution(hidden[..., :bottleneck]), F.pad(changed, (0, 0, 1, 0))], dim=-1)
        up = torch.cat([enhancement.up.weight, difference.up.weight], dim=1)
        residual = F.linear(mixed, up, enhancement.up.bias + difference.up.bias)
        residual[:, :, 0] -= difference.up.bias.to(residual.dtype)  # the class token has no difference, nor its bias
        return residual

    def class_tokens(self, x: Tensor) -> Tensor:
        """What `forward` makes of the class tokens [B, T, 1, C], for a place where nothing reads the patches: exactly x + TE(x).

        The difference branch is not run. Its parameters stay in the graph with a gradient of zero, which is what `forward`
        would give them, so that each trained tensor has a gradient (distributed training counts on it).
        """
        out = x if self.enhancement is None else x + self.weakened(self.enhancement(x))
        if self.difference is not None and torch.is_grad_enabled():
            out = out + 0.0 * torch.stack([p.sum() for p in self.difference.parameters()]).sum().to(out.dtype)
        return out


class TextAdapter(Residual):
    """x + Up(GELU(Down(x))) with exact GELU. Up starts at zero, so a fresh adapter changes nothing to the last bit."""

    def __init__(self, width: int, *, bottleneck: int) -> None:
        super().__init__()
        self.down = projection(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[K, L, C] -> [K, L, C]."""
        return x + self.weakened(self.up(F.gelu(self.down(x))))


class OutputTemporalAdapter(TemporalAdapter):
    """f + Up(DWConv_time(Down(f))) on the frame embeddings; bottleneck D/2 in the paper's models."""

    def __init__(self, embed_dim: int, *, bottleneck: int) -> None:
        super().__init__()
        self.enhancement = Enhancement(embed_dim, bottleneck)

    @property
    def reach(self) -> Reach:
        """A neighbour on each side."""
        return Reach(before=1, after=1)

    def forward(self, frames: Tensor) -> Tensor:
        """Frame embeddings [B, T, D] -> [B, T, D]."""
        return frames + self.weakened(self.enhancement(frames.unsqueeze(2)).squeeze(2))
