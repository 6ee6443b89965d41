"""The model card (README.md) of a checkpoint on the hub: what its own record says, and nothing else."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import yaml

from m2clip import __version__
from m2clip.checkpoint.clip_weights import OPENAI_HUB
from m2clip.checkpoint.files import CHECKPOINT_NAME
from m2clip.config import BACKBONES
from m2clip.model.info import ModelInfo

_MOST_SHOWN = 20  # classes; more are folded away


def model_card(info: ModelInfo, *, repository: str, trained_parameters: int, license_id: str | None = None) -> str:
    """Markdown with the hub's YAML header. `repository`: "owner/name"; `trained_parameters`: how many numbers were trained."""
    base = base_model(info)
    header: dict[str, Any] = {
        "library_name": "m2clip",
        "pipeline_tag": "video-classification",
        "tags": list(dict.fromkeys(("m2clip", "clip", "video", "action-recognition", info.method))),
        **({} if base is None else {"base_model": base, "base_model_relation": "adapter"}),
        **({} if license_id is None else {"license": license_id}),
    }
    sections = (
        _use(info, base, repository),
        _what_it_is(info, base, trained_parameters),
        _training(info),
        _calibration(info),
        _classes(info.class_names),
        _limits(info),
    )
    body = "\n".join(line for section in sections for line in section)
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n\n# {repository.partition('/')[2]}\n\n{body}\n"


def base_model(info: ModelInfo) -> str | None:
    """The hub id of the frozen CLIP, where its record names one."""
    source = info.weights.source
    if source == "openai":
        return OPENAI_HUB.get(info.backbone)
    if source in (None, "builtin"):
        return None
    return str(source).removeprefix("hf-hub:").partition("@")[0]


def _use(info: ModelInfo, base: str | None, repository: str) -> Iterator[str]:
    method = "M2-CLIP (arXiv 2401.11649)" if info.method == "m2clip" else f"the method `{info.method}` of m2clip"
    yield f"A CLIP adapted to name the action in a video by {method}."
    yield ""
    yield "    from m2clip import Recognizer"
    yield f'    recognizer = Recognizer("hf-hub:{repository}")'
    labels = "" if info.class_names else ', labels=["running", "jumping"]'
    yield f'    print(recognizer.classify("video.mp4"{labels}))'
    yield ""
    inside = {None: "with the frozen CLIP inside", "builtin": "the frozen CLIP comes with m2clip"}
    where = inside.get(info.weights.source, f"the frozen CLIP is fetched from {_text(base or '')}")
    yield f"`m2clip.load` gives the model itself. The weights are in `{CHECKPOINT_NAME}`, {where}; nothing is executed."
    yield ""


def _what_it_is(info: ModelInfo, base: str | None, trained_parameters: int) -> Iterator[str]:
    sizes, layout = info.sizes, info.layout
    known = info.backbone in BACKBONES and info.backbone != "builtin"
    rows = {
        "backbone": info.backbone
        if known
        else f"{_text(info.backbone)}: {sizes.vision_layers} blocks of {sizes.vision_width}",
        "frozen weights": _frozen(info, base),
        "method": info.method,
        "trained parameters": f"{trained_parameters:,}",
        "input": f"{info.frames} frames {info.sampling.way}, {info.image_size} x {info.image_size} pixels",
        "texts": "; ".join(f"`{_one_line(text)}`" for text in (info.template, *info.more_templates)),
        "adapter strength": f"{info.strength:g} (0: the frozen CLIP, 1: as trained)",
    }
    if info.method == "m2clip":
        places = {
            "before the MLP": layout.pre_mlp,
            "before attention": layout.pre_attention,
        }
        where = ", ".join(f"{len(blocks)} {place}" for place, blocks in places.items() if blocks) or "none"
        rows["TED-Adapters"] = f"{where}; branches: {layout.ted}, width {layout.ted_width}"
        rows["text adapters"] = f"{len(layout.text)}, width {layout.text_width}" if layout.text else "none"
    yield "## What it is"
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in rows.items():
        yield f"| {name} | {value} |"
    yield ""


def _frozen(info: ModelInfo, base: str | None) -> str:
    sha256 = info.weights.sha256
    origin = (
        f"[{_text(base)}](https://huggingface.co/{quote(base)})"
        if base
        else ("" if info.weights.source is None else "builtin")
    )
    if info.weights.source is None:
        origin = "inside the file"
    return origin if sha256 is None else f"{origin}, SHA-256 `{sha256[:16]}...`"


def _training(info: ModelInfo) -> Iterator[str]:
    yield "## Training and figures"
    yield ""
    if not info.trained:
        yield "The adapters are fresh: nothing was trained, and its scores are the frozen CLIP's."
        yield ""
        return
    record = dict(info.training)
    validation = record.pop("validation", None)
    yield from _record(record)
    if isinstance(validation, dict) and validation:
        yield "Top-1 on the validation videos of its training run, one view a video, not calibrated:"
        yield ""
        for reading, value in validation.items():
            yield f"- {_text(reading)}: " + (
                f"{100 * value:.1f} %" if isinstance(value, int | float) else _text(str(value))
            )
        yield ""
        yield "The best of a run's epochs is chosen by such a figure, so on other videos expect less. The checkpoint holds no others."
    else:
        yield "The checkpoint holds no figures of accuracy."
    yield ""


def _calibration(info: ModelInfo) -> Iterator[str]:
    calibration = info.calibration
    if calibration is None:
        return
    yield "## Calibration"
    yield ""
    for reading, temperature in calibration.temperatures.items():
        yield f"- {reading}: temperature {temperature:.4g}"
    if calibration.threshold is not None:
        yield f'- "none of these" where the best {calibration.evidence} is below {calibration.threshold:.4g}'
    yield ""
    yield from _record(calibration.measured)


def _classes(names: Sequence[str]) -> Iterator[str]:
    yield "## Classes"
    yield ""
    if not names:
        yield "It has no classes of its own: pass labels."
        yield ""
        return
    folded = len(names) > _MOST_SHOWN
    yield f"{len(names)} trained classes" + ("" if folded else ":")
    yield ""
    if folded:
        yield "<details><summary>all of them</summary>"
        yield ""
    for name in names:
        yield f"    {_one_line(name)}"  # indented: whatever a name holds, it is text
    yield ""
    if folded:
        yield "</details>"
        yield ""


def _limits(info: ModelInfo) -> Iterator[str]:
    yield "## Limits"
    yield ""
    if info.backbone == "builtin":
        yield "- Its CLIP knows generated coloured shapes, not the world."
    yield "- Probabilities are shares among the labels that are given and sum to 1, also where none of them fits the video."
    yield "- Labels beside the trained classes are read by their texts alone."
    yield f"- It was trained on clips of {info.frames} frames taken {info.sampling.way}; other numbers run, and are told."
    yield "- Whatever the frozen CLIP and the training videos leave out or show one-sidedly, it does, too."
    yield ""
    yield f"Card written by m2clip {__version__} from the checkpoint's record."


def _record(values: dict[str, Any]) -> Iterator[str]:
    """A record as it stands, indented, so that it is text whatever it holds."""
    for line in json.dumps(values, indent=1, ensure_ascii=False).splitlines():
        yield f"    {line}"
    yield ""


def _text(text: str) -> str:
    """Text of a record, which may come from a stranger, outside of code: no tag, no link, no cell and no line of its own."""
    return re.sub(r"([\\<>\[\]`|])", r"\\\1", " ".join(text.split()))


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("`", "'").replace("|", "/")
