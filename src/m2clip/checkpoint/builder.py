"""Build a model from a CLIP's weights with fresh adapters (`create`), or load one that was saved (`load`)."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from m2clip.checkpoint.clip_weights import State, clip_weights
from m2clip.checkpoint.files import checkpoint_file, read_tensors
from m2clip.checkpoint.layouts import listed, need_same
from m2clip.checkpoint.record import read_info
from m2clip.config import BACKBONES, METHOD_TERMS, BackboneConfig, ModelConfig, checked
from m2clip.config.model import CLIP_MEAN, CLIP_STD
from m2clip.data.text.prompts import class_texts, mlm_words
from m2clip.errors import CheckpointError, ConfigError
from m2clip.model.clip import CLIP
from m2clip.model.info import AdapterLayout, ModelInfo, RivalLayout
from m2clip.model.methods import METHODS
from m2clip.model.video_clip import VideoCLIP


def create(
    backbone: str | BackboneConfig | Mapping[str, Any],
    *,
    weights: str | Path | None = None,
    class_names: Sequence[str] = (),
    further_texts: Sequence[Sequence[str]] = (),
    frames: int = 8,
    stride_frames: int = 0,
    fps: float | None = None,
    clip_seconds: float | None = None,
    image_size: int | None = None,
    method: str = "m2clip",
    ted: str = "both",
    ted_positions: Sequence[str] = ("pre_mlp",),
    ted_layers: Sequence[int] | None = None,
    ted_width: int | None = None,
    text_adapter_layers: int = 1,
    text_adapter_width: int | None = None,
    output_temporal: bool | None = None,
    adapter_width: int | None = None,
    prompt_tokens: int | None = None,
    template: str = "A video of {}",
    more_templates: Sequence[str] = (),
    visual_head: bool = True,
    masked_words: bool = True,
    quick_gelu: bool | None = None,
) -> VideoCLIP:
    """A frozen CLIP with fresh adapters: its scores are CLIP's. In eval mode, on the CPU, float32.

    `backbone`: a name of `config.BACKBONES` or sizes. `weights`: None (random; the shipped weights for "builtin"), "openai", a hub
    id ("owner/name") or a path to OpenAI's, open_clip's or Hugging Face's file. `class_names`: the K classes to train; without them
    there is neither a visual nor a masked-word head. `further_texts`: for each class, texts beside the template's. `image_size`:
    another input size, pixels; positions are interpolated. `frames` to `clip_seconds`: as in `ClipSampling`.
    `ted*`, `text_adapter*`, `output_temporal`: which adapters, see `config.ModelConfig`. `method`, `adapter_width`,
    `prompt_tokens`: a rival instead of M2-CLIP. Activation, mean and std are as the
    config files beside the weights say (hub repository, or a copy of its folder), but for other statistics in the sizes, and `quick_gelu`.

    Raises ConfigError for settings that do not fit and CheckpointError for weights that cannot be used, one sentence each.
    """
    config = checked(
        ModelConfig,
        {
            "backbone": dict(backbone) if isinstance(backbone, Mapping) else backbone,
            "weights": None if weights is None else str(weights),
            "image_size": image_size,
            "method": method,
            "ted": ted,
            "ted_positions": tuple(ted_positions),
            "ted_layers": None if ted_layers is None else tuple(ted_layers),
            "ted_width": ted_width,
            "text_adapter_layers": text_adapter_layers,
            "text_adapter_width": text_adapter_width,
            "output_temporal": output_temporal,
            "adapter_width": adapter_width,
            "prompt_tokens": prompt_tokens,
            "template": template,
            "more_templates": tuple(more_templates),
        },
        where="create",
    )
    name = config.backbone if isinstance(config.backbone, str) else "custom"
    sizes = BACKBONES[name] if isinstance(config.backbone, str) else config.backbone
    if quick_gelu is not None:
        sizes = sizes.model_copy(update={"quick_gelu": quick_gelu})
    chosen = {key for key, value in (("mean", CLIP_MEAN), ("std", CLIP_STD)) if getattr(sizes, key) != value}
    chosen |= {"quick_gelu"} if quick_gelu is not None else set()
    sizes, state, source = clip_weights(name, sizes, config.weights, chosen=chosen)
    if state is not None:
        _need_finite(state, where=source.source or name)
    _notice_size(image_size, sizes)
    names = tuple(class_names)
    if isinstance(class_names, str) or not all(isinstance(one, str) for one in names):
        raise ConfigError(f"class_names is {class_names!r:.80}, but must be a list of texts, one a class")
    info = ModelInfo.described(
        where="create",
        backbone=name,
        sizes=sizes,
        weights=source,
        method=config.method,
        layout=_layout(config, sizes) if config.method == "m2clip" else AdapterLayout(ted="off"),
        rival=_rival(config, sizes),
        image_size=image_size or sizes.image_size,
        frames=frames,
        stride_frames=stride_frames,
        fps=fps,
        clip_seconds=clip_seconds,
        template=template,
        more_templates=config.more_templates,
        class_names=names,
        texts=class_texts(names, template=template, more_templates=more_templates, further=further_texts)
        if names
        else (),
        words=mlm_words(names, template) if names and masked_words and "mlm" in METHOD_TERMS[config.method] else (),
    )
    head = visual_head and "visual" in METHOD_TERMS[config.method]
    model = METHODS[config.method](_clip(sizes, state), info=info, visual_head=head)
    model.loaded_tensors = len(state or ())
    return model.eval()


def load(path: str | Path, *, weights: str | Path | None = None) -> VideoCLIP:
    """Load a checkpoint of ours from a path or the hub ("hf-hub:owner/name"), in eval mode, on the CPU, float32.

    Its adapters act at the strength that the checkpoint names (1 unless it was tuned); `set_strength` changes it.

    The frozen CLIP comes from the checkpoint itself where it holds it, else from where it says (or from `weights`, if the file has
    moved); another file than the one trained on is refused by its hash. Raises CheckpointError, one sentence, listing keys that are
    missing or unexpected.
    """
    path = checkpoint_file(path)
    file = read_tensors(path)
    info = read_info(file.metadata, where=str(path))
    own_clip = {
        key.removeprefix("clip."): value.float() for key, value in file.tensors.items() if key.startswith("clip.")
    }
    rest = {key: value for key, value in file.tensors.items() if not key.startswith("clip.")}
    if own_clip:
        state = own_clip
    else:
        source = str(weights) if weights is not None else info.weights.source
        try:
            _, found, got = clip_weights(info.backbone, info.sizes, source, chosen=None)
        except CheckpointError as error:
            raise CheckpointError(
                f"{path} needs the CLIP that it was trained on: {error} (or name its place as weights)"
            ) from None
        if found is None:
            raise CheckpointError(f"{path} does not say which CLIP it was trained on; pass its file as weights")
        if info.weights.sha256 is not None and got.sha256 != info.weights.sha256:
            raise CheckpointError(
                f"{path} was trained on CLIP weights with SHA-256 {info.weights.sha256[:12]}..., but {source} has "
                f"{str(got.sha256)[:12]}...; pass the right file as weights"
            )
        state = found
    visual_head = "visual_head.linear.weight" in rest
    _same_layout(file.tensors, info, visual_head=visual_head, whole=bool(own_clip), where=path)
    model = METHODS[info.method](_clip(info.sizes, state), info=info, visual_head=visual_head)
    model.load_state_dict(rest, strict=False)  # the keys are known to be right, and the CLIP is there already
    model.loaded_tensors = len(state) + len(rest)
    try:
        model.set_strength(info.strength)
    except ConfigError as error:  # a header from elsewhere may ask this of a method that cannot do it
        raise CheckpointError(f"{path}: {error}") from None
    return model.eval()


def _same_layout(tensors: State, info: ModelInfo, *, visual_head: bool, whole: bool, where: str | Path) -> None:
    """CheckpointError where the tensors of a checkpoint are not those that its header describes."""
    with torch.device("meta"):  # a header that claims absurd sizes costs no memory
        model = METHODS[info.method](CLIP(**info.sizes.towers()), info=info, visual_head=visual_head)
    expected = model.state_dict() if whole else model.trained_parameters()
    need_same(expected, tensors, complaint=f"{where} does not fit the layout that its header describes")
    odd = sorted(key for key, value in tensors.items() if not value.is_floating_point())
    if odd:
        raise CheckpointError(
            f"{where} holds whole numbers where weights belong: {listed(odd, most=5)}; copy the file again"
        )
    _need_finite(tensors, where=where)


def _need_finite(tensors: State, *, where: str | Path) -> None:
    """CheckpointError for weights that would give scores without a meaning."""
    broken = sorted(key for key, value in tensors.items() if not value.float().isfinite().all())
    if broken:
        raise CheckpointError(
            f"{where} holds weights that are not finite: {listed(broken, most=5)}; use an earlier checkpoint, copy the file again or "
            "train again"
        )


def _clip(sizes: BackboneConfig, state: State | None) -> CLIP:
    arguments = sizes.towers()
    if state is None:
        return CLIP(**arguments)
    with torch.device("meta"):  # no time is spent on random numbers that the file replaces
        clip = CLIP(**arguments)
    need_same(clip.state_dict(), state, complaint="the CLIP weights do not fit")
    clip.load_state_dict(state, assign=True)
    return clip


def _layout(config: ModelConfig, sizes: BackboneConfig) -> AdapterLayout:
    every = tuple(range(sizes.vision_layers))
    output_temporal = config.ted != "off" if config.output_temporal is None else config.output_temporal
    layers = () if config.ted == "off" else (every if config.ted_layers is None else tuple(sorted(config.ted_layers)))
    return AdapterLayout(
        ted=config.ted,
        pre_mlp=layers if "pre_mlp" in config.ted_positions else (),
        pre_attention=layers if "pre_attention" in config.ted_positions else (),
        ted_width=config.ted_width or sizes.vision_width // 2,
        text=tuple(range(sizes.text_layers - config.text_adapter_layers, sizes.text_layers)),
        text_width=config.text_adapter_width or sizes.text_width * 3 // 4,
        output_temporal_width=sizes.embed_dim // 2 if output_temporal else 0,
    )


def _rival(config: ModelConfig, sizes: BackboneConfig) -> RivalLayout:
    shares = {"st-adapter": sizes.vision_width // 2, "aim": sizes.vision_width // 4}
    return RivalLayout(
        width=config.adapter_width or shares.get(config.method, 0),
        prompt_tokens=config.prompt_tokens or (16 if config.method == "text-prompts" else 0),
    )


def _notice_size(image_size: int | None, sizes: BackboneConfig) -> None:
    if image_size is not None and image_size != sizes.image_size:
        warnings.warn(
            f"the backbone was trained at {sizes.image_size} pixels and is used at {image_size}: its position embeddings are interpolated",
            stacklevel=3,
        )
