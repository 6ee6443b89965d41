"""What an evaluation would do, told before it is done: videos and missing files, classes and their texts, views and readings."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from m2clip.data.manifest import Manifest
from m2clip.data.sampling import SETTINGS, ClipSampling
from m2clip.data.text.descriptions import TextSource
from m2clip.evaluate.classes import evaluated_classes
from m2clip.model.info import ModelInfo
from m2clip.protocol.file import Kind
from m2clip.protocol.loading import Protocol

SHOWN = 3
"""How many missing files and class texts are shown as text."""


def preview_protocol(
    info: ModelInfo,
    protocol: Protocol,
    manifests: Mapping[str, Manifest],
    *,
    visual_head: bool,
    views: tuple[int, int] | None = None,
    frames: int | None = None,
    stride_frames: int | None = None,
    fps: float | None = None,
    clip_seconds: float | None = None,
    texts: TextSource | None = None,
) -> dict[str, Any]:
    """The document of a dry run of these parts; the settings are those of `run_protocol`. Raises ConfigError where classes do not fit."""
    sampling = info.sampling.changed(
        frames=frames or protocol.written.frames, stride_frames=stride_frames, fps=fps, clip_seconds=clip_seconds
    )
    return {
        "name": protocol.name,
        "title": protocol.title,
        "source": protocol.written.source,
        "choices": dict(protocol.chosen),
        "summary": protocol.written.summary,
        "train": protocol.train_settings() if protocol.trains else None,
        "parts": {
            name: preview_part(
                info,
                manifest,
                protocol.tests[name].kind,
                visual_head=visual_head,
                views=views or protocol.views,
                sampling=sampling,
                texts=texts or protocol.texts,
            )
            for name, manifest in manifests.items()
        },
    }


def preview_part(
    info: ModelInfo,
    manifest: Manifest,
    kind: Kind,
    *,
    visual_head: bool,
    views: tuple[int, int],
    sampling: ClipSampling | None = None,
    texts: TextSource | None = None,
) -> dict[str, Any]:
    """What evaluating these videos would do; `sampling` None: as trained. `clips` counts the views of all videos that are there."""
    classes = evaluated_classes(info, manifest, kind, visual_head=visual_head, texts=texts)
    missing = manifest.missing()
    found = len(manifest.samples) - len(missing)
    return {
        "kind": kind,
        "list": manifest.source,
        "sha256": manifest.sha256,
        "videos": {
            "listed": len(manifest.samples),
            "found": found,
            "missing": len(missing),
            "first_missing": [{"path": str(one.path), "where": one.where} for one in missing[:SHOWN]],
        },
        "classes": len(manifest.class_names),
        "class_names": list(manifest.class_names),
        "classes_without_videos": int((manifest.samples.counts(len(manifest.class_names)) == 0).sum()),
        **classes.texts_from,
        "texts": [list(of_class) for of_class in classes.texts],
        "readings": list(classes.readings),
        "views": {"temporal": views[0], "spatial": views[1]},
        **(sampling or info.sampling).document(),
        "clips": found * views[0] * views[1],
    }


def preview_lines(document: Mapping[str, Any]) -> list[str]:
    """A dry run as lines of text."""
    lines = [document["title"]] if document.get("title") else []
    for name, part in document["parts"].items():
        videos, views = part["videos"], part["views"]
        sampling = ClipSampling(**{setting: part[setting] for setting in SETTINGS})
        lines += [
            "",
            f"{name}: {part['kind']}, {part['classes']} classes, {sampling.frames} frames {sampling.way}, "
            f"{views['temporal']}x{views['spatial']} views, readings {', '.join(part['readings'])}",
            f"  list      {part['list']}",
            f"  videos    {videos['listed']} listed, {videos['found']} found, {videos['missing']} missing; "
            f"{part['clips']} clips to encode",
            *(f"  missing   {one['path']} (listed at {one['where']})" for one in videos["first_missing"]),
            *(f"  text      {_first(of_class)}" for of_class in part["texts"][:SHOWN]),
            *([f"  ...       {part['classes'] - SHOWN} classes more"] if part["classes"] > SHOWN else []),
        ]
        if part["classes_without_videos"]:
            lines.append(f"  empty     {part['classes_without_videos']} classes have no video")
    if len(document["parts"]) > 1:
        rule = {"mean": "mean and standard deviation (n - 1) over the parts", "harmonic": "harmonic mean of the parts"}
        lines += ["", f"summary: {rule[document['summary']]}"]
    if document.get("strength", 1.0) != 1.0:
        lines += ["", f"adapters at strength {document['strength']:g}"]
    if document.get("train"):
        lines += ["", f"train: {overrides(document['train'])}"]
    return lines if lines[0] else lines[1:]


def overrides(settings: Mapping[str, str]) -> str:
    """`Protocol.train_settings` as arguments of `m2clip train`; what they leave out is taken away from the run's file, too."""
    keys = ("train", "val", "test", "classes", "root")
    return " ".join(shlex.quote(f"data.{key}={settings.get(key, 'null')}") for key in keys)


def _first(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{texts[0]} (and {len(texts) - 1} more)"
