"""Tensors in the key names of the method's reference implementation -> our model.

The reference keeps the masked-word block as one more text block behind the encoder's own (its 13th), and everything it trains
under names with "adapter" or "textad"; here each of them has its place.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from m2clip.checkpoint.files import unwrapped
from m2clip.checkpoint.layouts import NOT_WEIGHTS, clip_state, infer_sizes, rename_openai
from m2clip.errors import CheckpointError
from m2clip.model.adapters import TextAdapter
from m2clip.model.clip import CLIP
from m2clip.model.info import AdapterLayout, ModelInfo, Ted
from m2clip.model.m2clip import M2CLIP

_CLIP_LAYERS = 12  # text blocks of every CLIP of OpenAI's; a 13th is the masked-word block
_TED = re.compile(
    r"visual\.transformer\.resblocks\.(\d+)\.adapter_pre_(attn|mlp)\.(offset_adapter\.)?(fc1|conv|fc2)\.(weight|bias)"
)
_OUTPUT = re.compile(r"visual\.t_adapter\.(fc1|conv|fc2)\.(weight|bias)")
_TEXT = re.compile(r"transformer\.resblocks\.(\d+)\.adapter_pre_mlp\.textad_(fc1|fc2)\.(weight|bias)")
_TEXT_DOWN = re.compile(r"(text_adapters\.pre_mlp\.\d+|masked_words\.adapter)\.down\.bias")
_PART = {"fc1": "down", "conv": "convolution", "fc2": "up"}
_EXACT = {
    "visual.adapter_fc.weight": "visual_head.linear.weight",
    "visual.adapter_fc.bias": "visual_head.linear.bias",
    "mlm_adapter.transform.dense.weight": "masked_words.head.dense.weight",
    "mlm_adapter.transform.dense.bias": "masked_words.head.dense.bias",
    "mlm_adapter.transform.LayerNorm.weight": "masked_words.head.norm.weight",
    "mlm_adapter.transform.LayerNorm.bias": "masked_words.head.norm.bias",
    "mlm_adapter.decoder.weight": "masked_words.head.decoder.weight",
    "mlm_adapter.bias": "masked_words.head.decoder.bias",
}


def from_reference(
    state_dict: Mapping[str, Any],
    clip_weights: Mapping[str, Any] | None = None,
    *,
    class_names: Sequence[str] = (),
    words: Sequence[str] = (),
    frames: int = 8,
    stride_frames: int = 0,
    template: str = "A video of {}",
) -> M2CLIP:
    """Build the model from the reference implementation's tensors; sizes, adapter places, widths and counts come from keys and shapes.

    `state_dict`: all tensors, or only the trained ones; then `clip_weights` (a CLIP state dict in OpenAI's, Hugging Face's or our
    names) holds the frozen rest. Either may be what a training file holds, with the state dict under "model" or "state_dict".
    `class_names` and `words` are not in such files: without them they are "class 0", "word 0", ...
    Raises CheckpointError for keys that are unknown or missing, listing them.
    """
    where = "the reference state dict"
    given = unwrapped(state_dict, where)
    tensors = {key: value.float() for key, value in given.items() if not NOT_WEIGHTS.fullmatch(key)}
    blocks = {int(m[1]) for key in tensors if (m := re.match(r"transformer\.resblocks\.(\d+)\.(?!adapter)", key))}
    texts = {int(m[1]) for key in tensors if (m := _TEXT.fullmatch(key))}
    masked_block = _masked_block(tensors, blocks, texts)
    state: dict[str, Tensor] = {}
    if clip_weights is not None:
        clip, _ = clip_state(unwrapped(clip_weights, "the CLIP weights"), where="the CLIP weights")
        state |= {f"clip.{key}": value for key, value in clip.items()}
        if masked_block is not None:
            last = f"clip.text.blocks.{masked_block - 1}."
            state |= {f"masked_block.{k.removeprefix(last)}": v for k, v in state.items() if k.startswith(last)}
    unknown = []
    for key, value in tensors.items():
        if _has_no_use(key, tensors):
            continue
        place = _place(key, masked_block)
        if place is None:
            unknown.append(key)
        else:
            state[place] = _shaped(place, value)
    if unknown:
        raise CheckpointError(
            f"{where} has keys that the reference implementation does not write: {', '.join(sorted(unknown)[:8])}"
        )
    own_clip = {key.removeprefix("clip."): value for key, value in state.items() if key.startswith("clip.")}
    if not own_clip:
        raise CheckpointError(
            f"{where} holds trained tensors only; pass the CLIP weights it was trained on as clip_weights"
        )
    sizes = infer_sizes(own_clip, quick_gelu=True, where=where)
    loaded = len(state)
    if masked_block is not None and "masked_words.adapter.up.bias" not in state:
        # Trained without text adapters: ours is the identity as long as it is fresh.
        width = (
            len(next((value for key, value in state.items() if _TEXT_DOWN.fullmatch(key)), ()))
            or sizes.text_width * 3 // 4
        )
        adapter = TextAdapter(sizes.text_width, bottleneck=width)
        state |= {f"masked_words.adapter.{key}": value for key, value in adapter.state_dict().items()}
    names = _named(class_names, state, "visual_head.linear.bias", "class")
    info = ModelInfo.described(
        where="from_reference",
        backbone="custom",
        sizes=sizes,
        layout=_layout(state),
        image_size=sizes.image_size,
        frames=frames,
        stride_frames=stride_frames,
        template=template,
        class_names=names,
        texts=tuple((template.format(name),) for name in names),
        words=_named(words, state, "masked_words.head.decoder.bias", "word"),
        training={"source": "reference implementation"},
    )
    with torch.device("meta"):
        clip_model = CLIP(**sizes.towers())
        model = M2CLIP(clip_model, info=info)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    if shapes.keys() != state.keys():
        missing, extra = sorted(shapes.keys() - state.keys()), sorted(state.keys() - shapes.keys())
        raise CheckpointError(
            f"{where} does not fit together: missing {missing[:8] or 'nothing'}, without a place {extra[:8] or 'nothing'}"
        )
    other = [
        f"{key} {list(state[key].shape)} instead of {list(shape)}"
        for key, shape in shapes.items()
        if state[key].shape != shape
    ]
    if other:
        raise CheckpointError(
            f"{where} has tensors of unexpected shapes, adapters of different widths perhaps: {'; '.join(other[:4])}"
        )
    model.load_state_dict(state, assign=True)
    model.loaded_tensors = loaded
    return _frozen(model)


def _frozen(model: M2CLIP) -> M2CLIP:
    # Assigned tensors come without the flags that the constructor had set.
    trained = set(model.trained_parameters())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return model.eval()


def _masked_block(tensors: Mapping[str, Tensor], blocks: set[int], texts: set[int]) -> int | None:
    """The index of the masked-word block: one behind the encoder's last; None where the file has no masked-word head."""
    if "mlm_adapter.bias" not in tensors:
        return None
    return max(blocks) if blocks else max(max(texts, default=_CLIP_LAYERS), _CLIP_LAYERS)


def _has_no_use(key: str, tensors: Mapping[str, Tensor]) -> bool:
    """The 13th text block serves the masked words alone: without their head it has no use, and never belongs to the encoder."""
    return "mlm_adapter.bias" not in tensors and key.startswith(f"transformer.resblocks.{_CLIP_LAYERS}.")


def _place(key: str, masked_block: int | None) -> str | None:
    """Our key for one of the reference's."""
    if key in _EXACT:
        return _EXACT[key]
    if match := _TED.fullmatch(key):
        position = "pre_attention" if match[2] == "attn" else "pre_mlp"
        branch = "difference" if match[3] else "enhancement"
        return f"vision_adapters.{position}.{match[1]}.{branch}.{_PART[match[4]]}.{match[5]}"
    if match := _OUTPUT.fullmatch(key):
        return f"vision_adapters.output_temporal.enhancement.{_PART[match[1]]}.{match[2]}"
    if match := _TEXT.fullmatch(key):
        owner = "masked_words.adapter" if int(match[1]) == masked_block else f"text_adapters.pre_mlp.{match[1]}"
        return f"{owner}.{_PART[match[2]]}.{match[3]}"
    name = rename_openai(key)
    if name is None:
        return None
    masked = f"text.blocks.{masked_block}."
    return f"masked_block.{name.removeprefix(masked)}" if name.startswith(masked) else f"clip.{name}"


def _shaped(place: str, value: Tensor) -> Tensor:
    """The reference's convolution weights carry singleton dimensions: [A, 1, 3] in time, [A, 1, 1, 3, 3] in space."""
    if not place.endswith("convolution.weight"):
        return value
    return value.squeeze(1).T.contiguous() if value.ndim == 3 else value.squeeze(1)


def _layout(state: Mapping[str, Tensor]) -> AdapterLayout:
    def layers(owner: str) -> tuple[int, ...]:
        return tuple(sorted({int(key.split(".")[2]) for key in state if key.startswith(f"{owner}.")}))

    def width(pattern: str) -> int:
        """Bottleneck of the first adapter whose `down` bias matches."""
        return next((len(value) for key, value in state.items() if re.fullmatch(pattern + r"\.down\.bias", key)), 0)

    branches = {match[1] for key in state if (match := re.match(r"vision_adapters\.pre_\w+\.\d+\.(\w+)\.", key))}
    ted: Ted = "off"
    if branches:
        ted = "both" if len(branches) == 2 else ("enhancement" if "enhancement" in branches else "difference")
    return AdapterLayout(
        ted=ted,
        pre_mlp=layers("vision_adapters.pre_mlp"),
        pre_attention=layers("vision_adapters.pre_attention"),
        ted_width=width(r"vision_adapters\.pre_\w+\.\d+\.\w+"),
        text=layers("text_adapters.pre_mlp"),
        text_width=next((len(value) for key, value in state.items() if _TEXT_DOWN.fullmatch(key)), 0),
        output_temporal_width=width(r"vision_adapters\.output_temporal\.enhancement"),
    )


def _named(names: Sequence[str], state: Mapping[str, Tensor], bias: str, kind: str) -> tuple[str, ...]:
    count = len(state[bias]) if bias in state else 0
    if names and len(names) != count:
        raise CheckpointError(
            f"{len(names)} names of a {kind} were given, but the tensors have {count}; pass one for each, in their order"
        )
    return tuple(names) or tuple(f"{kind} {index}" for index in range(count))
