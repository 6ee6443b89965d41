"""Attention and the frozen MLP in pieces: the plain forms' numbers and gradients, for any size of a piece."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2clip.model import in_pieces
from m2clip.model.clip import GELU, MLP, Attention, QuickGELU, SiLU


def plain_attention(qkv: Tensor, causal: bool) -> Tensor:
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("piece_bytes", [1, 2000, 2**22])
def test_attention(monkeypatch: pytest.MonkeyPatch, causal: bool, piece_bytes: int) -> None:
    monkeypatch.setattr(in_pieces, "SCORES_BYTES", piece_bytes)
    qkv = torch.randn(5, 7, 3, 2, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: in_pieces.attention(x, causal=causal), qkv)
    torch.testing.assert_close(in_pieces.attention(qkv, causal=causal), plain_attention(qkv, causal))
    with torch.no_grad():
        torch.testing.assert_close(in_pieces.attention(qkv, causal=causal), plain_attention(qkv, causal))


@pytest.mark.parametrize("activation", [QuickGELU(), GELU(), SiLU()], ids=lambda module: type(module).__name__)
@pytest.mark.parametrize("piece_bytes", [1, 1000, 2**22])
def test_frozen_mlp(monkeypatch: pytest.MonkeyPatch, activation: nn.Module, piece_bytes: int) -> None:
    monkeypatch.setattr(in_pieces, "HIDDEN_BYTES", piece_bytes)
    mlp = MLP(6, activation=activation).double().requires_grad_(False)
    x = torch.randn(3, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mlp, x)
    up, act, down = mlp
    plain = F.linear(act(F.linear(x, up.weight, up.bias)), down.weight, down.bias)
    torch.testing.assert_close(mlp(x), plain)
    (ours,) = torch.autograd.grad(mlp(x).square().sum(), x)
    (theirs,) = torch.autograd.grad(plain.square().sum(), x)
    torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), plain)


def test_frozen_mlp_keeps_the_input_of_its_activation_and_nothing_else() -> None:
    mlp = MLP(6, activation=QuickGELU()).requires_grad_(False)
    x = torch.randn(10, 6, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        mlp(x)
    weights = {mlp[0].weight.data_ptr(), mlp[2].weight.data_ptr()}
    assert [tuple(t.shape) for t in kept if t.data_ptr() not in weights] == [(10, 24)]


def test_a_trained_mlp_has_gradients() -> None:
    mlp = MLP(6, activation=QuickGELU())
    mlp(torch.randn(4, 6)).sum().backward()
    assert all(parameter.grad is not None for parameter in mlp.parameters())


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_any_number_of_rows(rows: int) -> None:
    mlp = MLP(6, activation=GELU()).requires_grad_(False)
    assert mlp(torch.randn(rows, 6)).shape == (rows, 6)
    assert in_pieces.attention(torch.randn(rows, 4, 3, 2, 3), causal=False).shape == (rows, 4, 2, 3)


@pytest.mark.parametrize("sequences", [1, 3])
def test_one_query_needs_neither_keys_nor_values(sequences: int) -> None:
    """Equal to the same query among others, gradients too; the keys' bias has none, for the softmax ignores it."""
    attention = Attention(12, heads=3, causal=False).double()
    memory = torch.randn(sequences, 5, 12, dtype=torch.float64)
    x = torch.randn(sequences, 1, 12, dtype=torch.float64, requires_grad=True)
    alone = attention(x, memory)
    among = attention(torch.cat([x, x], dim=1), memory)[:, :1]
    torch.testing.assert_close(alone, among)
    wanted = [x, *attention.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(alone.square().sum(), wanted),
        torch.autograd.grad(among.square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("causal", [False, True])
def test_bfloat16_is_as_close_to_the_exact_result_as_the_plain_form(causal: bool) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(4, 33, 3, 2, 16).bfloat16()
    exact = plain_attention(qkv.double(), causal)
    ours, plain = in_pieces.attention(qkv, causal=causal), plain_attention(qkv, causal)
    assert plain.dtype == torch.bfloat16
    assert (ours - exact).abs().mean() < 1.2 * (plain - exact).abs().mean()
