"""The tiny CLIP's file: how it is stored, and how the rows of the token table that were never trained come back.

CLIP's vocabulary has 49,408 tokens, the scenes' captions use a few dozen. Only those rows are stored; all others are what
they were before training, an integer hash of their place, the same on every machine. So a word that the tiny CLIP never
saw still has a vector of its own, and costs no byte in the package.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from m2clip.errors import CheckpointError

WEIGHTS = Path(__file__).with_name("tiny_clip.safetensors")
"""The shipped file."""

TABLE_STD = 0.02
"""Standard deviation of the token table before training, as in CLIP."""

_TABLE = "text.token_embedding.weight"
_AT_ONCE = 1 << 16  # values whose intermediate numbers stay in the processor's cache


def initial_table(vocab_size: int, width: int) -> Tensor:
    """The token table before training, float32 [vocab_size, width]: uniform, mean 0, deviation TABLE_STD, bit-exact everywhere.

    Each value is splitmix64 of its place in the table (Steele et al. 2014): integer arithmetic, then one exact division
    and one rounding, so that no random generator's version matters.
    """
    table = np.empty(vocab_size * width, dtype=np.float32)
    for first in range(0, len(table), _AT_ONCE):
        part = table[first : first + _AT_ONCE]
        with np.errstate(over="ignore"):  # the wrap-around at 2^64 is the hash
            z = np.arange(first + 1, first + 1 + len(part), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
        share = (z >> np.uint64(11)).astype(np.float64) / 2.0**53
        # A uniform value in [-a, a) has deviation a / sqrt(3).
        part[:] = (2.0 * share - 1.0) * (TABLE_STD * 3.0**0.5)
    return torch.from_numpy(table.reshape(vocab_size, width))


def save_tiny_clip(
    path: Path, *, sizes: dict[str, int | bool], state: dict[str, Tensor], trained_ids: Tensor, note: dict[str, str]
) -> None:
    """Writes the state dict of a CLIP in half precision, with only the rows `trained_ids` (int64 [V]) of its token table.

    `sizes` are the keyword arguments of CLIP; `note` is text that goes into the file's metadata.
    """
    tensors = {name: value.to(torch.float16).contiguous() for name, value in state.items() if name != _TABLE}
    tensors["token_embedding.ids"] = trained_ids.to(torch.int32)
    tensors["token_embedding.rows"] = state[_TABLE][trained_ids].to(torch.float16).contiguous()
    save_file(tensors, path, metadata={**note, "sizes": json.dumps(sizes)})


def load_tiny_clip(path: str | Path = WEIGHTS) -> tuple[dict[str, int | bool], dict[str, Tensor]]:
    """The sizes (keyword arguments of CLIP) and the full float32 state dict of a file that `save_tiny_clip` wrote.

    Raises CheckpointError where the file is missing or is not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            sizes = json.loads((file.metadata() or {})["sizes"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        ids, rows = tensors.pop("token_embedding.ids").long(), tensors.pop("token_embedding.rows")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; reinstall m2clip, whose package carries it") from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is not a tiny CLIP of m2clip ({error}); reinstall m2clip") from None
    state = {name: value.float() for name, value in tensors.items()}
    table = initial_table(int(sizes["vocab_size"]), int(sizes["text_width"]))
    table[ids] = rows.float()
    state[_TABLE] = table
    return sizes, state
