"""Attention in bfloat16 and the frozen MLP on a CPU, piece by piece, so that what lies between two products stays in the cache.

Both give what the plain form gives, up to rounding, with gradients written by hand. The MLP keeps the input of its activation
only, for frozen weights need no more; attention keeps its input and computes its weights again on the way back, which costs a
few percent of a step and saves a tenth of its memory. Attention is written with batched products: PyTorch's fused kernel needs
half as long again in bfloat16 and on the way back two to ten times as long; in float32 it is the fused kernel that is faster.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

SCORES_BYTES = 2**22
"""How large the attention weights of a piece may be: some megabytes stay in a processor's cache."""
HIDDEN_BYTES = 24 * 2**20
"""How large an MLP's hidden layer of a piece may be: below what the C library gives back to the system after each use. Smaller pieces
would read the weights more often."""


def attention(qkv: Tensor, *, causal: bool) -> Tensor:
    """softmax(q k^T / sqrt(d)) v: queries, keys and values in one tensor [B, N, 3, heads, d] -> [B, N, heads, d].

    In compiled code it is one operation, without gradients.
    """
    return _operation(qkv, causal) if torch.compiler.is_compiling() else _Attention.apply(qkv, causal)


@torch.library.custom_op("m2clip::attention", mutates_args=())
def _operation(qkv: Tensor, causal: bool) -> Tensor:
    batch, tokens, _, heads, width = qkv.shape
    out = qkv.new_empty(batch, tokens, heads, width)
    for piece in _pieces(batch, heads * tokens * tokens * qkv.element_size(), SCORES_BYTES):
        query, key, value = _split(qkv[piece])
        mixed = torch.bmm(_weights(query, key, causal), value)
        out[piece] = mixed.unflatten(0, (-1, heads)).transpose(1, 2)
    return out


@_operation.register_fake
def _(qkv: Tensor, causal: bool) -> Tensor:
    batch, tokens, _, heads, width = qkv.shape
    return qkv.new_empty(batch, tokens, heads, width)


class Activation(nn.Module):
    """An activation that can work on a piece of memory that is already there."""

    def write(self, x: Tensor, out: Tensor) -> Tensor:
        """The activation of x, written to `out`, which may be x itself."""
        raise NotImplementedError

    def gradient_(self, gradient: Tensor, x: Tensor) -> Tensor:
        """`gradient` times the derivative at x, written over `gradient`."""
        raise NotImplementedError


def frozen_mlp(x: Tensor, up: nn.Linear, activation: Activation, down: nn.Linear) -> Tensor:
    """down(activation(up(x))) for weights that are not trained: [..., C] -> [..., C]; under autocast in its arithmetic."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    weights = [tensor.to(dtype) for tensor in (up.weight, up.bias, down.weight, down.bias)]
    return _FrozenMLP.apply(x.to(dtype), activation, *weights)


def _pieces(rows: int, row_bytes: int, most_bytes: int) -> Iterator[slice]:
    step = max(1, most_bytes // max(row_bytes, 1))
    # As even as they can be: a last piece of a few rows would cost as many calls as a full one.
    count = max(1, math.ceil(rows / step))
    borders = [rows * i // count for i in range(count + 1)]
    return (slice(*pair) for pair in pairwise(borders))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, causal: bool) -> Tensor:
        ctx.save_for_backward(qkv)
        ctx.causal = causal
        return _operation(qkv, causal)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (qkv,) = ctx.saved_tensors
        batch, tokens, _, heads, width = qkv.shape
        result = torch.empty_like(qkv, memory_format=torch.contiguous_format)
        for piece in _pieces(batch, heads * tokens * tokens * qkv.element_size(), SCORES_BYTES):
            query, key, value = _split(qkv[piece])
            weights = _weights(query, key, ctx.causal)
            outward = gradients[0][piece].transpose(1, 2).reshape(-1, tokens, width)
            to_weights = torch.bmm(outward, value.transpose(1, 2))
            to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            into = result[piece].permute(2, 0, 3, 1, 4)  # [3, B, heads, N, d]
            into[0] = torch.bmm(to_scores, key).mul_(width**-0.5).unflatten(0, (-1, heads))
            into[1] = torch.bmm(to_scores.transpose(1, 2), query).unflatten(0, (-1, heads))  # the query is scaled
            into[2] = torch.bmm(weights.transpose(1, 2), outward).unflatten(0, (-1, heads))
        return result, None


def _split(qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[B, N, 3, heads, d] -> query / sqrt(d), key, value, each a contiguous [B * heads, N, d]: a product would copy a strided one."""
    query, key, value = qkv.permute(2, 0, 3, 1, 4).clone(memory_format=torch.contiguous_format).flatten(1, 2)
    return query.mul_(query.shape[-1] ** -0.5), key, value


def _weights(query: Tensor, key: Tensor, causal: bool) -> Tensor:
    """Scaled queries and keys [B * heads, N, d] -> attention weights [B * heads, N, N]."""
    scores = torch.bmm(query, key.transpose(1, 2))
    if causal:
        future = torch.ones(scores.shape[1:], dtype=torch.bool).triu_(1)
        scores.masked_fill_(future, -torch.inf)
    return torch.softmax(scores, dim=-1, out=scores)


class _FrozenMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, activation: Activation, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        out = torch.empty_like(rows)
        keep = ctx.needs_input_grad[0]
        pieces = list(_pieces(len(rows), up.shape[0] * x.element_size(), HIDDEN_BYTES))
        longest = max((piece.stop - piece.start for piece in pieces), default=0)
        hidden = rows.new_empty(len(rows) if keep else longest, up.shape[0])
        scratch = hidden.new_empty(longest, up.shape[0]) if keep else hidden
        for piece in pieces:
            size = piece.stop - piece.start
            before = hidden[piece] if keep else hidden[:size]
            torch.addmm(up_bias, rows[piece], up.t(), out=before)
            after = activation.write(before, scratch[:size])
            torch.addmm(down_bias, after, down.t(), out=out[piece])
        if keep:
            ctx.save_for_backward(hidden, up, down)
            ctx.activation = activation
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        hidden, up, down = ctx.saved_tensors
        outward = gradients[0].reshape(-1, up.shape[1])
        result = torch.empty_like(outward, memory_format=torch.contiguous_format)
        pieces = list(_pieces(len(outward), up.shape[0] * outward.element_size(), HIDDEN_BYTES))
        scratch = hidden.new_empty(max((piece.stop - piece.start for piece in pieces), default=0), up.shape[0])
        for piece in pieces:
            gradient = scratch[: piece.stop - piece.start]
            torch.mm(outward[piece], down, out=gradient)
            torch.mm(ctx.activation.gradient_(gradient, hidden[piece]), up, out=result[piece])
        return result.view(gradients[0].shape), None, None, None, None, None
