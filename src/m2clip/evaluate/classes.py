"""The classes of an evaluation: with which texts the text head reads them, and where they stand in the visual head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from m2clip.data.manifest import Manifest
from m2clip.data.text.descriptions import TextSource
from m2clip.data.text.prompts import class_texts
from m2clip.errors import ConfigError
from m2clip.model.info import ModelInfo
from m2clip.protocol.file import Kind
from m2clip.scoring import Reading


@dataclass(frozen=True)
class EvaluatedClasses:
    """K classes, in the order of the manifest."""

    texts: Sequence[Sequence[str]]
    """The texts of each class; its embedding is their mean."""
    texts_from: dict[str, Any]
    """For the report: `template`, `more_templates` and, where files were given, these with their SHA-256."""
    head_columns: list[int] | None
    """The column of each class in the visual head; None: the head is not read."""

    @property
    def readings(self) -> tuple[Reading, ...]:
        """How the classes are scored."""
        return ("similarity",) if self.head_columns is None else ("similarity", "visual", "ensemble")


def evaluated_classes(
    info: ModelInfo,
    manifest: Manifest,
    protocol: Kind,
    *,
    visual_head: bool,
    texts: TextSource | Sequence[Sequence[str]] | None = None,
) -> EvaluatedClasses:
    """The classes of `manifest` as a model with this record reads them; `visual_head`: whether it has one.

    `supervised` needs the model's own classes, in any order. `zero-shot` takes any, and never reads the visual head. `texts`, a source
    of them or one sequence a class, take the place of the checkpoint's texts, or of the class names in its templates.
    Raises ConfigError where protocol, classes and texts do not fit.
    """
    names = manifest.class_names
    if protocol == "zero-shot":
        own = class_texts(
            names, template=info.template, more_templates=info.more_templates, further=manifest.further_texts
        )
        return EvaluatedClasses(*_chosen(texts, own, info, manifest, further=manifest.further_texts), None)
    if protocol != "supervised":
        raise ConfigError(f"the protocol {protocol!r} does not exist: choose supervised or zero-shot")
    if not info.class_names:
        raise ConfigError(
            "the supervised protocol needs a model with classes of its own, and it has none: choose zero-shot"
        )
    if sorted(names) != sorted(info.class_names):
        unknown = [name for name in names if name not in info.class_names]
        differs = f"{unknown[0]!r} is none of them" if unknown else f"the data names {len(names)}"
        raise ConfigError(
            f"{manifest.source}: the supervised protocol (readings similarity, visual, ensemble) needs the checkpoint's "
            f"{len(info.class_names)} classes, but {differs}: choose zero-shot, or read the data with the checkpoint's classes"
        )
    columns = [info.class_names.index(name) for name in names]
    own = tuple(info.texts[column] for column in columns)
    further = [info.further_texts[column] for column in columns]
    return EvaluatedClasses(
        *_chosen(texts, own, info, manifest, further=further), columns if info.trained and visual_head else None
    )


def _chosen(
    texts: TextSource | Sequence[Sequence[str]] | None,
    own: Sequence[Sequence[str]],
    info: ModelInfo,
    manifest: Manifest,
    *,
    further: Sequence[Sequence[str]],
) -> tuple[Sequence[Sequence[str]], dict[str, Any]]:
    """The texts of each class and where they come from: `own`, unless others are given."""
    unread = {"templates_file": None, "texts_file": None}
    if texts is None:
        return own, {"template": info.template, "more_templates": list(info.more_templates), **unread}
    if isinstance(texts, TextSource):
        return texts.texts(manifest.class_names, further=further), texts.document()
    if len(texts) != len(manifest.class_names) or not all(texts):
        raise ConfigError(
            f"{manifest.source}: texts for {len(texts)} classes, but it has {len(manifest.class_names)}: give each class one"
        )
    return texts, {"template": None, "more_templates": [], **unread}
