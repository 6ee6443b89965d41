"""Each adapter against its formula written out plainly, and against the identity it starts as."""

import pytest
import torch
from torch import nn

from m2clip.model.adapters import (
    OutputTemporalAdapter,
    SpatialConvolution,
    TEDAdapter,
    TemporalConvolution,
    TextAdapter,
)


def shaken(module: nn.Module) -> nn.Module:
    """All parameters random, so that nothing is hidden behind a zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module


@pytest.mark.case("T12")
def test_fresh_adapters_change_nothing_to_the_last_bit() -> None:
    tokens = torch.randn(2, 3, 5, 16)
    assert torch.equal(TEDAdapter(16, bottleneck=8)(tokens, (2, 2)), tokens)
    assert torch.equal(TextAdapter(16, bottleneck=8)(tokens[0]), tokens[0])
    assert torch.equal(OutputTemporalAdapter(16, bottleneck=8)(tokens[:, :, 0]), tokens[:, :, 0])


@pytest.mark.case("T12")
def test_fresh_adapters_can_learn() -> None:
    """Zero convolutions must not block every gradient: the first step has to move something."""
    for adapter, call in (
        (TEDAdapter(16, bottleneck=8), lambda a: a(torch.randn(1, 3, 5, 16), (2, 2))),
        (TextAdapter(16, bottleneck=8), lambda a: a(torch.randn(1, 4, 16))),
        (OutputTemporalAdapter(16, bottleneck=8), lambda a: a(torch.randn(1, 3, 16))),
    ):
        call(adapter).square().sum().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in adapter.parameters())


def test_temporal_convolution_is_the_depthwise_convolution() -> None:
    ours = shaken(TemporalConvolution(8))
    plain = nn.Conv1d(8, 8, 3, padding=1, groups=8)
    with torch.no_grad():
        plain.weight.copy_(ours.weight.T.unsqueeze(1))
        plain.bias.copy_(ours.bias)
    x = torch.randn(2, 5, 3, 8)
    expected = plain(x.permute(0, 2, 3, 1).flatten(0, 1)).reshape(2, 3, 8, 5).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours(x), expected, atol=1e-6, rtol=0)


def test_temporal_convolution_by_hand() -> None:
    convolution = TemporalConvolution(1)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([[1.0], [10.0], [100.0]]))
        convolution.bias.fill_(0.5)
    frames = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    # t=0: 10*1 + 100*2; t=1: 1*1 + 10*2 + 100*3; t=2: 1*2 + 10*3 (zeros outside), each + 0.5
    assert convolution(frames).flatten().tolist() == [210.5, 321.5, 32.5]


def test_a_single_frame_is_its_own_middle() -> None:
    convolution = shaken(TemporalConvolution(4))
    x = torch.randn(1, 1, 2, 4)
    torch.testing.assert_close(convolution(x), x * convolution.weight[1] + convolution.bias)


def test_spatial_convolution_keeps_rows_and_columns_apart() -> None:
    convolution = SpatialConvolution(1)
    with torch.no_grad():
        convolution.weight[0, 0, 0, 1] = 1.0  # looks one row up
    grid = torch.arange(6.0).reshape(1, 2, 3, 1)
    assert convolution(grid).flatten().tolist() == [0, 0, 0, 0, 1, 2]


@pytest.mark.case("T12")
@pytest.mark.parametrize("grid", [(2, 3), (4, 1)])
def test_ted_is_its_formula(grid: tuple[int, int]) -> None:
    adapter = shaken(TEDAdapter(16, bottleneck=8))
    rows, columns = grid
    x = torch.randn(2, 4, 1 + rows * columns, 16)
    te, td = adapter.enhancement, adapter.difference
    assert te is not None
    assert td is not None
    expected = x + te.up(te.convolution(te.down(x)))
    for t in range(4):
        change = x[:, t, 1:] - x[:, t - 1, 1:] if t else torch.zeros_like(x[:, 0, 1:])
        maps = td.down(change).transpose(1, 2).reshape(2, 8, rows, columns)
        weight, bias = td.convolution.weight, td.convolution.bias
        maps = nn.functional.conv2d(maps, weight, bias, padding=1, groups=8)
        expected[:, t, 1:] = expected[:, t, 1:] + td.up(maps.flatten(2).transpose(1, 2))
    torch.testing.assert_close(adapter(x, grid), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.case("T12")
def test_the_difference_leaves_the_class_token_alone() -> None:
    adapter = shaken(TEDAdapter(16, bottleneck=8, branches="difference"))
    x = torch.randn(1, 3, 5, 16)
    assert torch.equal(adapter(x, (2, 2))[:, :, 0], x[:, :, 0])


@pytest.mark.case("T12")
@pytest.mark.parametrize(("branches", "parts"), [("both", 2), ("enhancement", 1), ("difference", 1)])
def test_parameter_counts(branches: str, parts: int) -> None:
    """Two linear maps with biases and a depthwise convolution a branch: 3 taps in time, 9 in space."""
    adapter = TEDAdapter(16, bottleneck=8, branches=branches)
    linear = 16 * 8 + 8 + 8 * 16 + 16
    taps = {"both": 3 + 9, "enhancement": 3, "difference": 9}[branches]
    assert sum(p.numel() for p in adapter.parameters()) == parts * (linear + 8) + taps * 8


@pytest.mark.case("T12")
def test_initialisation() -> None:
    adapter = TEDAdapter(16, bottleneck=8)
    for name, parameter in adapter.named_parameters():
        zero = name.endswith("bias") or ".convolution." in name
        assert (parameter.abs().sum() == 0) == zero, name
    text = TextAdapter(16, bottleneck=8)
    assert text.up.weight.abs().sum() == 0
    assert text.down.weight.abs().sum() > 0


@pytest.mark.parametrize("branches", ["both", "enhancement", "difference"])
def test_class_tokens_alone_are_those_of_the_full_adapter(branches: str) -> None:
    """The shortcut of the last block: same values, same gradients, zero where the full form gives zero."""
    adapter = shaken(TEDAdapter(16, bottleneck=8, branches=branches))
    x = torch.randn(2, 4, 5, 16)
    full, short = adapter(x, (2, 2))[:, :, :1], adapter.class_tokens(x[:, :, :1])
    torch.testing.assert_close(short, full, atol=1e-6, rtol=0)
    parameters = list(adapter.parameters())
    weights = torch.randn_like(full)
    expected = torch.autograd.grad((full * weights).sum(), parameters)
    actual = torch.autograd.grad((short * weights).sum(), parameters)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
