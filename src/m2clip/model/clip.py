"""The CLIP model: an image tower and a text tower with one embedding space (Radford et al. 2021, arXiv 2103.00020).

Plain and frozen-friendly: batch first everywhere, one fused projection for queries, keys and values, attention through
`scaled_dot_product_attention` (in bfloat16 on a CPU through `in_pieces`). Nothing here knows of video or adapters; `towers.py`
runs these blocks with adapters between them.
"""

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2clip.model import in_pieces
from m2clip.model.in_pieces import Activation

_QUICK = 1.702  # QuickGELU's factor


class _QuickGELUGradient(torch.autograd.Function):
    """x * sigmoid(1.702 x) that keeps only x and goes back in one kernel: with z = 1.702 x it is silu(z) / 1.702, so its
    derivative is silu'(z). Autograd's own way keeps three tensors and goes back in five steps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (_QUICK * x).sigmoid_().mul_(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradients[0], _QUICK * x)


class QuickGELU(Activation):
    """x * sigmoid(1.702 x): the activation of OpenAI's weights. With exact GELU the same weights give wrong scores silently."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape in, the same shape out; the same bits with and without gradients."""
        if x.requires_grad and torch.is_grad_enabled():
            return _QuickGELUGradient.apply(x)
        return x * torch.sigmoid(_QUICK * x)

    def write(self, x: Tensor, out: Tensor) -> Tensor:
        """As of `Activation`."""
        return torch.mul(x, (_QUICK * x).sigmoid_(), out=out)

    def gradient_(self, gradient: Tensor, x: Tensor) -> Tensor:
        """As of `Activation`."""
        return torch.ops.aten.silu_backward.grad_input(gradient, _QUICK * x, grad_input=gradient)


class GELU(Activation):
    """x * Phi(x), exact: the activation of most of open_clip's weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape in, the same shape out."""
        return F.gelu(x)

    def write(self, x: Tensor, out: Tensor) -> Tensor:
        """As of `Activation`."""
        return torch.ops.aten.gelu.out(x, out=out)

    def gradient_(self, gradient: Tensor, x: Tensor) -> Tensor:
        """As of `Activation`."""
        return torch.ops.aten.gelu_backward.grad_input(gradient, x, grad_input=gradient)


class SiLU(Activation):
    """x * sigmoid(x): what is left of QuickGELU where its factor has moved into the weights (`MLP.fold`)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape in, the same shape out."""
        return F.silu(x)

    def write(self, x: Tensor, out: Tensor) -> Tensor:
        """As of `Activation`."""
        return torch.ops.aten.silu.out(x, out=out)

    def gradient_(self, gradient: Tensor, x: Tensor) -> Tensor:
        """As of `Activation`."""
        return torch.ops.aten.silu_backward.grad_input(gradient, x, grad_input=gradient)


def _normal(*shape: int, std: float) -> Tensor:
    """Normal random numbers. On the meta device nothing is drawn: there PyTorch would load its compiler for it, a second at each start."""
    values = torch.empty(shape)
    return values if values.is_meta else values.normal_().mul_(std)


class Attention(nn.Module):
    """Multi-head attention over [B, N, C]; keys and values come from `memory` [B, M, C] where it is given."""

    def __init__(self, width: int, *, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """[B, N, C] -> [B, N, C]. Cross-attention is never causal: a word may look at every frame."""
        if memory is None:
            projected = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # [B, N, 3, heads, d]
            if _in_pieces(projected):
                return self.out(in_pieces.attention(projected, causal=self.causal).flatten(2))
            query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)  # one view: backward makes a single copy
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        elif x.shape[1] == 1:
            return self.out(self._pooled(x[:, 0], memory))[:, None]
        else:
            width = x.shape[-1]
            (query,) = self._split(F.linear(x, self.qkv.weight[:width], self.qkv.bias[:width]), 1)
            key, value = self._split(F.linear(memory, self.qkv.weight[width:], self.qkv.bias[width:]), 2)
            # Few words and few frames: no kernel is worth its way back here.
            mixed = (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(dim=-1).to(value.dtype) @ value
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _pooled(self, x: Tensor, memory: Tensor) -> Tensor:
        """One query a sequence: x [B, C] and `memory` [B, M, C] -> [B, C], with neither keys nor values.

        q_h (W_k m)^T = (q_h W_k) m^T, so what each head asks for is brought to the memory, not the memory to each head; and the
        mean of W_v m is W_v of the mean. The keys' bias adds one number to all scores of a head, which the softmax ignores.
        """
        width = x.shape[-1]
        weights = self.qkv.weight.unflatten(0, (3, self.heads, -1))  # [3, heads, d, C]
        query = F.linear(x, self.qkv.weight[:width], self.qkv.bias[:width]).unflatten(-1, (self.heads, -1))
        asked = (query * query.shape[-1] ** -0.5).transpose(0, 1) @ weights[1]  # [heads, B, C]
        scores = asked.transpose(0, 1) @ memory.transpose(1, 2)  # [B, heads, M]
        seen = scores.softmax(dim=-1).to(memory.dtype) @ memory  # [B, heads, C]
        mixed = (seen.transpose(0, 1) @ weights[2].transpose(1, 2)).transpose(0, 1)  # [B, heads, d]
        return mixed.flatten(1) + self.qkv.bias[2 * width :].to(mixed.dtype)

    def _split(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        """[B, N, parts * C] -> `parts` views [B, heads, N, C / heads]. Unbinding one view costs backward a single copy; slices cost
        a zero-filled tensor each."""
        return projected.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def _in_pieces(projected: Tensor) -> bool:
    """Whether `in_pieces.attention` is the faster one: see there."""
    compiled_with_gradients = torch.compiler.is_compiling() and projected.requires_grad
    return projected.device.type == "cpu" and projected.dtype == torch.bfloat16 and not compiled_with_gradients


class MLP(nn.Sequential):
    """Linear, activation, linear."""

    def __init__(self, width: int, *, activation: Activation) -> None:
        super().__init__(nn.Linear(width, 4 * width), activation, nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        up, activation, down = self
        trained = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters())
        if trained or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        return in_pieces.frozen_mlp(x, cast(nn.Linear, up), cast(Activation, activation), cast(nn.Linear, down))

    def fold(self) -> None:
        """Move QuickGELU's factor into the weights, in place: x * sigmoid(a x) = silu(a x) / a, one kernel instead of three."""
        if isinstance(self[1], QuickGELU):
            up, down = cast(nn.Linear, self[0]), cast(nn.Linear, self[2])
            with torch.no_grad():
                up.weight.mul_(_QUICK)
                up.bias.mul_(_QUICK)
                down.weight.div_(_QUICK)
            self[1] = SiLU()


class Block(nn.Module):
    """One residual block: x + attention(LN1(x)), then x + MLP(LN2(x)). The two halves can be run apart, with adapters between them."""

    def __init__(self, width: int, *, heads: int, causal: bool, quick_gelu: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads=heads, causal=causal)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = MLP(width, activation=QuickGELU() if quick_gelu else GELU())

    def attend(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """The first half, [B, N, C] -> [B, N, C]; `memory` [B, M, C] goes through the block's own LN1, too."""
        return x + self.attention(self.ln_1(x), None if memory is None else self.ln_1(memory))

    def feed_forward(self, x: Tensor) -> Tensor:
        """The second half, [B, N, C] -> [B, N, C]."""
        return x + self.mlp(self.ln_2(x))

    def forward(self, x: Tensor) -> Tensor:
        """Both halves, [B, N, C] -> [B, N, C]."""
        return self.feed_forward(self.attend(x))


class VisionTower(nn.Module):
    """CLIP's ViT: patches, a class token first, positions, blocks, and the class token projected into the embedding space."""

    def __init__(
        self, *, image_size: int, patch_size: int, width: int, layers: int, heads: int, embed_dim: int, quick_gelu: bool
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.grid = image_size // patch_size
        scale = width**-0.5
        self.patch_embedding = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(_normal(width, std=scale))
        self.positional_embedding = nn.Parameter(_normal(self.grid**2 + 1, width, std=scale))
        self.ln_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            Block(width, heads=heads, causal=False, quick_gelu=quick_gelu) for _ in range(layers)
        )
        self.ln_post = nn.LayerNorm(width)
        self.projection = nn.Parameter(_normal(width, embed_dim, std=scale))

    def positions(self, rows: int, columns: int) -> Tensor:
        """Positions [1 + rows * columns, C]; another grid than the trained one is interpolated (bicubic, antialiased)."""
        if rows == columns == self.grid:
            return self.positional_embedding
        first, patches = self.positional_embedding[:1], self.positional_embedding[1:]
        grid = patches.float().reshape(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        resized = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False, antialias=True)
        return torch.cat([first, resized.flatten(2)[0].T.to(first.dtype)])

    def tokens(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Images [B, 3, H, W] (normalised) -> tokens [B, 1 + h*w, C] with positions, before `ln_pre`, and the patch grid (h, w)."""
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < self.patch_size:
            raise ValueError(
                f"images have shape {tuple(images.shape)}; [B, 3, H, W] with H, W >= patch size {self.patch_size} is needed"
            )
        patches = self.patch_embedding(images.to(self.patch_embedding.weight.dtype))
        rows, columns = patches.shape[2:]
        patches = patches.flatten(2).transpose(1, 2)
        first = self.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        return torch.cat([first, patches], dim=1) + self.positions(rows, columns).to(patches.dtype), (rows, columns)

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Images [B, 3, H, W] (normalised) -> tokens [B, 1 + h*w, C] before the first block, and the patch grid (h, w)."""
        tokens, grid = self.tokens(images)
        return self.ln_pre(tokens), grid

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] (normalised) -> embeddings [B, D], not normalised."""
        x, _ = self.embed(images)
        *blocks, last = cast(Iterable[Block], self.blocks)
        for block in blocks:
            x = block(x)
        # Only the class token is read in the end, so in the last block only it asks, of all tokens.
        x = last.feed_forward(last.attend(x[:, :1], x))
        return self.ln_post(x[:, 0]) @ self.projection


class TextTower(nn.Module):
    """CLIP's causal text transformer, read at the end-of-text token (the largest id of a row)."""

    def __init__(
        self,
        *,
        vocab_size: int,
        context_length: int,
        width: int,
        layers: int,
        heads: int,
        embed_dim: int,
        quick_gelu: bool,
    ) -> None:
        super().__init__()
        self.context_length = context_length
        self.token_embedding = nn.Embedding.from_pretrained(_normal(vocab_size, width, std=0.02), freeze=False)
        self.positional_embedding = nn.Parameter(_normal(context_length, width, std=0.01))
        self.blocks = nn.ModuleList(
            Block(width, heads=heads, causal=True, quick_gelu=quick_gelu) for _ in range(layers)
        )
        self.ln_final = nn.LayerNorm(width)
        self.projection = nn.Parameter(_normal(width, embed_dim, std=width**-0.5))

    def embed(self, tokens: Tensor) -> Tensor:
        """Token ids [K, L] -> hidden states [K, L, C] before the first block."""
        if tokens.ndim != 2 or tokens.shape[1] > self.context_length:
            raise ValueError(
                f"tokens have shape {tuple(tokens.shape)}; [K, L] with L <= {self.context_length} is needed"
            )
        return self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]

    def end_tokens(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Hidden states [K, L, C] -> those of each row's end token [K, C]."""
        return hidden[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=-1)]

    def read(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Hidden states [K, L, C] after the last block -> embeddings [K, D] at each row's end token, not normalised."""
        # LayerNorm acts on each token alone, so it is only applied to the one that is read.
        return self.ln_final(self.end_tokens(hidden, tokens)) @ self.projection

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [K, L] -> embeddings [K, D], not normalised."""
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.read(x, tokens)


class CLIP(nn.Module):
    """Both towers and the logit scale. Widths must be divisible by their heads."""

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        vision_width: int,
        vision_layers: int,
        vision_heads: int,
        embed_dim: int,
        text_width: int,
        text_layers: int,
        text_heads: int,
        vocab_size: int = 49408,
        context_length: int = 77,
        quick_gelu: bool = True,
    ) -> None:
        super().__init__()
        self.visual = VisionTower(
            image_size=image_size,
            patch_size=patch_size,
            width=vision_width,
            layers=vision_layers,
            heads=vision_heads,
            embed_dim=embed_dim,
            quick_gelu=quick_gelu,
        )
        self.text = TextTower(
            vocab_size=vocab_size,
            context_length=context_length,
            width=text_width,
            layers=text_layers,
            heads=text_heads,
            embed_dim=embed_dim,
            quick_gelu=quick_gelu,
        )
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_image(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] (normalised) -> embeddings [B, D], not normalised."""
        return self.visual(images)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids [K, L], any L up to the context length -> embeddings [K, D], not normalised."""
        return self.text(tokens)
