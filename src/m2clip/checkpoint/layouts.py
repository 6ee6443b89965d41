"""Key names of foreign CLIP files and of the reference implementation -> ours, with an account of each key.

Known layouts: "m2clip" (ours), "openai" (OpenAI's state dicts; open_clip writes the same names) and "huggingface"
(`CLIPModel` of transformers). A layout is recognised by names only this layout has.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from m2clip.config import BackboneConfig
from m2clip.errors import CheckpointError

Layout = Literal["m2clip", "openai", "huggingface"]
Rename = tuple[str, str]

_TOWER = {"visual.": "visual.", "text.": "text.", "": "text.", "vision_model.": "visual.", "text_model.": "text."}
# A block key begins with its tower; OpenAI's text tower has no prefix at all.

_OPENAI: tuple[Rename, ...] = (
    (r"visual\.conv1\.weight", "visual.patch_embedding.weight"),
    (r"visual\.(class_embedding|positional_embedding)", r"visual.\1"),
    (r"visual\.proj", "visual.projection"),
    (r"visual\.(ln_pre|ln_post)\.(weight|bias)", r"visual.\1.\2"),
    (r"(?:text\.)?token_embedding\.weight", "text.token_embedding.weight"),
    (r"(?:text\.)?positional_embedding", "text.positional_embedding"),
    (r"(?:text\.)?text_projection", "text.projection"),
    (r"(?:text\.)?ln_final\.(weight|bias)", r"text.ln_final.\1"),
    (r"logit_scale", "logit_scale"),
)
_OPENAI_BLOCK = re.compile(r"(visual\.|text\.|)transformer\.resblocks\.(\d+)\.(.+)")
_OPENAI_IN_BLOCK = {
    "ln_1.weight": "ln_1.weight",
    "ln_1.bias": "ln_1.bias",
    "attn.in_proj_weight": "attention.qkv.weight",
    "attn.in_proj_bias": "attention.qkv.bias",
    "attn.out_proj.weight": "attention.out.weight",
    "attn.out_proj.bias": "attention.out.bias",
    "ln_2.weight": "ln_2.weight",
    "ln_2.bias": "ln_2.bias",
    "mlp.c_fc.weight": "mlp.0.weight",
    "mlp.c_fc.bias": "mlp.0.bias",
    "mlp.c_proj.weight": "mlp.2.weight",
    "mlp.c_proj.bias": "mlp.2.bias",
}
# Numbers and buffers that these files carry beside the weights; they follow from the sizes.
NOT_WEIGHTS = re.compile(r"(input_resolution|context_length|vocab_size|(text\.)?attn_mask|.*\.position_ids)")

_HUGGINGFACE: tuple[Rename, ...] = (
    (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.weight", "visual.patch_embedding.weight"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"vision_model\.pre_layrnorm\.(weight|bias)", r"visual.ln_pre.\1"),  # spelled so in transformers
    (r"vision_model\.post_layernorm\.(weight|bias)", r"visual.ln_post.\1"),
    (r"visual_projection\.weight", "visual.projection"),
    (r"text_model\.embeddings\.token_embedding\.weight", "text.token_embedding.weight"),
    (r"text_model\.embeddings\.position_embedding\.weight", "text.positional_embedding"),
    (r"text_model\.final_layer_norm\.(weight|bias)", r"text.ln_final.\1"),
    (r"text_projection\.weight", "text.projection"),
    (r"logit_scale", "logit_scale"),
)
_HUGGINGFACE_BLOCK = re.compile(r"(vision_model\.|text_model\.)encoder\.layers\.(\d+)\.(.+)")
_HUGGINGFACE_IN_BLOCK = {
    "layer_norm1": "ln_1",
    "self_attn.out_proj": "attention.out",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
}


@dataclass(frozen=True)
class KeyAccount:
    """What became of each key of a file."""

    loaded: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    """Keys that are known and no weights of the CLIP."""


def recognise(keys: Mapping[str, Tensor], *, where: str) -> Layout:
    """The layout of a state dict; CheckpointError where it is none of the known ones."""
    if "visual.patch_embedding.weight" in keys or "clip.visual.patch_embedding.weight" in keys:
        return "m2clip"
    if "visual.conv1.weight" in keys:
        return "openai"
    if "vision_model.embeddings.patch_embedding.weight" in keys:
        return "huggingface"
    some = ", ".join(sorted(keys)[:3]) or "nothing"
    raise CheckpointError(
        f"{where} holds no CLIP with a ViT image tower in a known layout (OpenAI, open_clip, Hugging Face or m2clip): it begins with {some}"
    )


def clip_state(tensors: Mapping[str, Tensor], *, where: str) -> tuple[dict[str, Tensor], KeyAccount]:
    """A foreign state dict -> tensors in the names of `model.clip.CLIP`, float32.

    Raises CheckpointError for unknown keys, and for weights that are whole numbers; it lists them.
    """
    layout = recognise(tensors, where=where)
    if layout == "m2clip":
        # In a whole checkpoint of ours the CLIP's tensors have a prefix, and what is no part of the CLIP has another.
        whole = any(key.startswith("clip.") for key in tensors)
        weights = {key: value for key, value in tensors.items() if key.startswith("clip.") or not whole}
        state = {key.removeprefix("clip."): value for key, value in weights.items()}
        return _floats(state, where=where), KeyAccount(
            loaded=tuple(weights), ignored=tuple(tensors.keys() - weights.keys())
        )
    convert = _from_openai if layout == "openai" else _from_huggingface
    ignored = tuple(key for key in tensors if NOT_WEIGHTS.fullmatch(key))
    weights = {key: value for key, value in tensors.items() if key not in ignored}
    state, unknown = convert(weights)
    if unknown:
        raise CheckpointError(
            f"{where} has {len(unknown)} keys that CLIP has not: {listed(unknown)}; pass a file of a plain CLIP (ViT image tower)"
        )
    return _floats(state, where=where), KeyAccount(loaded=tuple(weights), ignored=ignored)


def _floats(state: Mapping[str, Tensor], *, where: str) -> dict[str, Tensor]:
    # Quantised weights, whose scales lie elsewhere: read as they stand they would give scores without a meaning.
    odd = sorted(key for key, value in state.items() if not value.is_floating_point())
    if odd:
        raise CheckpointError(
            f"{where} holds whole numbers where weights belong: {listed(odd, most=5)}; use the file with 16-bit or 32-bit weights"
        )
    return {key: value.float() for key, value in state.items()}


def infer_sizes(state: Mapping[str, Tensor], *, quick_gelu: bool, where: str) -> BackboneConfig:
    """Sizes of the CLIP whose weights these are (our names). Heads have 64 channels, as in every CLIP of OpenAI's family."""
    try:
        width, _, patch, _ = state["visual.patch_embedding.weight"].shape
        grid = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
        vocabulary, text_width = state["text.token_embedding.weight"].shape
        return BackboneConfig(
            image_size=grid * patch,
            patch_size=patch,
            vision_width=width,
            vision_layers=_layers(state, "visual"),
            vision_heads=max(width // 64, 1),
            embed_dim=state["visual.projection"].shape[1],
            text_width=text_width,
            text_layers=_layers(state, "text"),
            text_heads=max(text_width // 64, 1),
            vocab_size=vocabulary,
            context_length=len(state["text.positional_embedding"]),
            quick_gelu=quick_gelu,
        )
    except KeyError as error:
        raise CheckpointError(f"{where} lacks the tensor {error.args[0]} of CLIP; the file is incomplete") from None
    except (ValueError, IndexError) as error:  # too few dimensions, or sizes that no CLIP has
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{where} holds tensors whose shapes are no CLIP's ({reason}); fetch the file again"
        ) from None


def rename_openai(key: str) -> str | None:
    """One key in OpenAI's names -> ours, or None if it is not CLIP's."""
    block = _OPENAI_BLOCK.fullmatch(key)
    if block:
        inner = _OPENAI_IN_BLOCK.get(block[3])
        return None if inner is None else f"{_TOWER[block[1]]}blocks.{block[2]}.{inner}"
    return _renamed(key, _OPENAI)


def _from_openai(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    state, unknown = {}, []
    for key, value in tensors.items():
        name = rename_openai(key)
        if name is None:
            unknown.append(key)
        else:
            state[name] = value
    return state, unknown


def _from_huggingface(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    state: dict[str, Tensor] = {}
    unknown = []
    thirds: dict[str, dict[str, Tensor]] = {}  # separate q, k, v -> one fused projection
    for key, value in tensors.items():
        block = _HUGGINGFACE_BLOCK.fullmatch(key)
        if block is None:
            name = _renamed(key, _HUGGINGFACE)
            if name is None:
                unknown.append(key)
            else:
                # transformers keeps projections as linear layers [D, C]; ours multiply from the right, [C, D].
                state[name] = value.T.contiguous() if name.endswith(".projection") else value
            continue
        prefix = f"{_TOWER[block[1]]}blocks.{block[2]}."
        inner, _, kind = block[3].rpartition(".")
        if inner in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            thirds.setdefault(f"{prefix}attention.qkv.{kind}", {})[inner[10]] = value
        elif inner in _HUGGINGFACE_IN_BLOCK and kind in ("weight", "bias"):
            state[f"{prefix}{_HUGGINGFACE_IN_BLOCK[inner]}.{kind}"] = value
        else:
            unknown.append(key)
    for name, parts in thirds.items():
        if set(parts) == {"q", "k", "v"}:
            state[name] = torch.cat([parts["q"], parts["k"], parts["v"]])
    return state, unknown


def _renamed(key: str, table: tuple[Rename, ...]) -> str | None:
    for pattern, name in table:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(name)
    return None


def _layers(state: Mapping[str, Tensor], tower: str) -> int:
    numbers = {int(key.split(".")[2]) for key in state if key.startswith(f"{tower}.blocks.")}
    return max(numbers, default=-1) + 1


def need_same(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], *, complaint: str) -> None:
    """CheckpointError, the complaint and the keys, where the keys or the shapes of two state dicts differ."""
    missing, unexpected = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    wrong = sorted(key for key in expected.keys() & given.keys() if expected[key].shape != given[key].shape)
    if missing or unexpected or wrong:
        raise CheckpointError(
            f"{complaint}: missing {listed(missing, most=5)}; unexpected {listed(unexpected, most=5)}; "
            f"of another shape {listed(wrong, most=5)}"
        )


def listed(names: Sequence[str], *, most: int = 8) -> str:
    """The first names, and how many more there are; "nothing" for none."""
    if not names:
        return "nothing"
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
