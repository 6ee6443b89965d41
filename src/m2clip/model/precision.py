"""bfloat16: where it pays, and models whose weights are stored in it, so that no step converts them again."""

import copy
from typing import Literal, get_args

import torch

from m2clip.config import Precision
from m2clip.errors import ConfigError
from m2clip.model.clip import Block
from m2clip.model.video_clip import VideoCLIP


def native_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively: GPUs from Ampere on, CPUs with AMX or AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    questions = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # not public, so they may be gone
    return device.type == "cpu" and any(getattr(torch.cpu, question, bool)() for question in questions)


def for_inference(model: VideoCLIP, precision: Precision, *, in_place: bool = False) -> VideoCLIP:
    """The model in this precision: itself for fp32 and where it is lowered already, else lowered, as a copy or `in_place`.

    auto is bf16 where the model's device computes it natively. Raises ConfigError for any other word.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"the precision {precision!r} does not exist: choose {', '.join(get_args(Precision))}")
    device = next(model.parameters()).device
    if model.rounded == "all" or precision == "fp32" or (precision == "auto" and not native_bf16(device)):
        return model
    model = model if in_place else copy.deepcopy(model)
    lower(model)
    return model


def precision_of(model: VideoCLIP) -> Literal["bf16", "fp32"]:
    """What the image blocks compute in, here and now."""
    device = next(model.parameters()).device
    return "bf16" if model.rounded == "all" or torch.is_autocast_enabled(device.type) else "fp32"


def lower(model: VideoCLIP) -> None:
    """Store the image side in bfloat16, in place, for inference: patches, blocks and what sits in the blocks.

    `encode_video` takes float32 clips and gives float32 as before; from the last block on it computes in float32. The text side is
    not touched: texts are encoded once. The model cannot be trained or saved afterwards.
    """
    for tower in model.image_towers():
        for block in tower.blocks:
            _fold(block)
        for part in (tower.patch_embedding, tower.ln_pre, tower.blocks):
            part.to(torch.bfloat16)
    for adapters in model.block_adapters():
        adapters.to(torch.bfloat16)
    _leave_file(model)
    model.requires_grad_(False)
    model.rounded = "all"
    model.compiled = None  # of the weights before


def lower_frozen(model: VideoCLIP) -> None:
    """Store the frozen products of all blocks in bfloat16, in place, for training under autocast, which would round them anew at
    each step. The trained tensors stay float32.

    Weights that some file holds cannot be saved afterwards. Random ones, which no file holds, are these from now on.
    """
    known = model.info.weights.source is not None
    for block in model.frozen_blocks():
        if known:
            _fold(block)
        for part in (block.attention, block.mlp):
            part.to(torch.bfloat16)
    _leave_file(model)
    model.rounded = "frozen" if known else "nothing"


def _leave_file(model: VideoCLIP) -> None:
    """Copy what is still as a file had it: the tensors of a file share one mapping, and all of it stays as long as one of them does."""
    for parameter in model.parameters():
        if not parameter.requires_grad and parameter.dtype == torch.float32:
            parameter.data = parameter.data.clone()


def _fold(block: torch.nn.Module) -> None:
    assert isinstance(block, Block)
    block.mlp.fold()  # before the rounding, so that each weight is rounded once
