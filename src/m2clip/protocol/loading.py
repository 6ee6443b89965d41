"""Protocols of the field: which lists, classes, views and texts a result is measured with, and how parts are averaged.

A protocol is a small YAML file. Those in the package name the lists of public data sets; the lists and the videos lie on
the user's disk. Nothing here imports torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2clip.config.file import Source, nearest, validate
from m2clip.data.lists.class_lists import read_class_lists
from m2clip.data.manifest import ClassTable, Manifest, read_manifest
from m2clip.data.places import is_absent
from m2clip.errors import ConfigError, ManifestError
from m2clip.protocol.file import GAP, Kind, ProtocolFile

if TYPE_CHECKING:
    from m2clip.data.text.descriptions import TextSource

_SHIPPED = Path(str(resources.files("m2clip").joinpath("protocol", "shipped")))


@dataclass(frozen=True)
class Part:
    """A test part with its paths as they are on this disk."""

    list: Path
    classes: Path | None
    kind: Kind
    code: int | None


@dataclass(frozen=True)
class Protocol:
    """A protocol on this disk, with what was chosen."""

    name: str
    """As it was asked for: the name of a shipped protocol, or the stem of a file's name."""
    path: Path
    """The YAML file."""
    written: ProtocolFile
    """The YAML file's values."""
    folder: Path
    """Where the lists lie."""
    root: Path | None
    """Where the videos lie; none: in the folder of each list."""
    chosen: Mapping[str, str]
    """The value of each choice that was made."""
    tests: Mapping[str, Part]
    """The parts to evaluate, in the order of the file."""

    @property
    def title(self) -> str:
        """One line that says what is measured."""
        return self.written.title

    @property
    def texts(self) -> "TextSource | None":
        """What the class texts are made from; None: from the checkpoint's templates."""
        from m2clip.data.text.descriptions import TextSource  # imports torch

        template = self.written.template
        return None if template is None else TextSource(templates=(template,))

    @property
    def views(self) -> tuple[int, int]:
        """Temporal and spatial views of each video."""
        temporal, spatial = self.written.views.split("x")
        return int(temporal), int(spatial)

    def files(self) -> dict[str, Path]:
        """What the protocol is read from, by a name for each: lists, class tables, and its YAML file where that is the user's."""
        found = {f"tests.{name}.list": part.list for name, part in self.tests.items()}
        found |= {f"tests.{name}.classes": part.classes for name, part in self.tests.items() if part.classes}
        found |= {"protocol": self.path}
        return {name: path for name, path in found.items() if not path.is_relative_to(_SHIPPED)}

    def manifest(self, part: str, *, class_names: Sequence[str] = ()) -> Manifest:
        """The videos of a test part. A supervised part without a class table takes `class_names`, the checkpoint's.

        Raises ManifestError for lists that cannot be read.
        """
        test = self.tests[part]
        classes: ClassTable | Path | None = test.classes
        if classes is None and test.kind == "supervised" and class_names:
            classes = ClassTable(tuple(class_names))
        if test.code is not None:
            return read_class_lists(test.list, code=test.code, classes=classes, root=self.root)
        return read_manifest(test.list, classes=classes, root=None if test.list.is_dir() else self.root)

    @property
    def trains(self) -> bool:
        """Whether `train_settings` has an answer: the protocol says what to train on, and the choices that it needs are made."""
        train = self.written.train
        texts = [] if train is None else [text for text in train.model_dump().values() if text is not None]
        return train is not None and all(gap in self.chosen for text in texts for gap in GAP.findall(text))

    def train_settings(self) -> dict[str, Any]:
        """The values of a run's `data`: train, val, classes, root. ConfigError where there is no training part, or a choice is open."""
        train = self.written.train
        if train is None:
            raise ConfigError(
                f"{self.path}: the protocol only tests and has nothing to train on; choose one with `train`"
            )
        sources = {key: self._fill(text) for key, text in train.model_dump().items() if text is not None}
        lists = {key: _listed(self.folder / sources[key]) for key in ("list", "val") if key in sources}
        settings = {"train": str(lists["list"])}
        if "val" in lists:
            settings["val"] = str(lists["val"])
        if "classes" in sources:
            settings["classes"] = str(_table(sources["classes"], self.folder, where=str(self.path)))
        if self.root is not None and not all(path.is_dir() for path in lists.values()):
            settings["root"] = str(self.root)
        return settings

    def _fill(self, text: str) -> str:
        return _fill(text, self.chosen, self.written.choices, where=str(self.path))


def load_protocol(
    name_or_path: str | Path,
    *,
    folder: str | Path | None = None,
    root: str | Path | None = None,
    choices: Mapping[str, Any] | None = None,
    classes: str | Path | None = None,
) -> Protocol:
    """Read a protocol: one of the package by its name, or a YAML file.

    `folder` takes the place of the file's own (where the lists lie), `root` is where the videos lie, `choices` are values
    such as {"shots": 4}, and `classes` is a class table in place of that of the test parts, where they share one.
    Raises ConfigError, one sentence, for what does not fit; the lists themselves are not yet read.
    """
    path = _find(name_or_path)
    source = Source.read(path)
    written = validate(ProtocolFile, source.values, where=source.where, overridable=False)
    chosen = _checked_choices(choices or {}, written, where=str(path))
    lists = Path(written.folder if folder is None else folder)
    videos = Path(root) if root is not None else None if written.root is None else lists / written.root
    if classes is not None and len({test.classes for test in written.tests.values()}) > 1:
        raise ConfigError(
            f"{path}: its parts have class tables of their own, so one table cannot stand for all; "
            "copy the file and set the classes of each part"
        )
    tests = {}
    for name, test in written.tests.items():
        table = None
        if classes is not None:
            table = Path(classes)
        elif test.classes is not None:
            table = _table(_fill(test.classes, chosen, written.choices, where=str(path)), lists, where=str(path))
        place = _listed(lists / _fill(test.list, chosen, written.choices, where=str(path)))
        tests[name] = Part(place, table, test.kind, test.code)
    return Protocol(path.stem, path, written, lists, videos, chosen, tests)


def need_some_video(manifest: Manifest, *, part: str) -> None:
    """ManifestError where not one of the listed files exists: most likely they lie in another folder."""
    if all(map(is_absent, manifest.samples.places)):
        first = manifest.samples[0]
        raise ManifestError(
            f"{part}: none of the {len(manifest.samples)} listed videos exists, the first being {first.path} "
            f"(listed at {first.where}); give the folder of the videos with --root"
        )


def shipped_names() -> tuple[str, ...]:
    """The names of the protocols in the package, sorted."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.yaml")))


def shipped_protocols() -> dict[str, str]:
    """Name -> title of the protocols in the package, sorted."""
    return {name: load_protocol(name).title for name in shipped_names()}


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if Path(text).suffix in (".yaml", ".yml"):
        return Path(text)
    if text not in shipped_names():
        raise ConfigError(
            f"there is no protocol {text!r}; give a YAML file, or one of {', '.join(shipped_names())}{nearest(text, shipped_names())}"
        )
    return _SHIPPED / f"{text}.yaml"


def _table(name: str, folder: Path, *, where: str) -> Path:
    """A class table: a file of the user, or one of the package by its name."""
    if Path(name).suffix:
        return folder / name
    path = _SHIPPED / "classes" / f"{name}.csv"
    names = [path.stem for path in sorted((_SHIPPED / "classes").glob("*.csv"))]
    if name not in names:
        raise ConfigError(
            f"{where}: the package has no class table {name!r}; give a file (.csv, .txt) or one of {', '.join(names)}{nearest(name, names)}"
        )
    return path


def _listed(path: Path) -> Path:
    """The list, or the same packed as .gz where only that exists."""
    packed = Path(f"{path}.gz")
    return packed if not path.exists() and packed.exists() else path


def _checked_choices(choices: Mapping[str, Any], written: ProtocolFile, *, where: str) -> dict[str, str]:
    chosen = {name: str(value) for name, value in choices.items()}
    for name, value in chosen.items():
        if name not in written.choices:
            has = f"has {', '.join(written.choices)}" if written.choices else "has none"
            raise ConfigError(f"{where}: there is no choice {name!r}; the protocol {has}")
        if value not in written.choices[name]:
            raise ConfigError(f"{where}: {name} is {value!r}, but it must be one of {', '.join(written.choices[name])}")
    return chosen


def _fill(text: str, chosen: Mapping[str, str], choices: Mapping[str, tuple[str, ...]], *, where: str) -> str:
    for gap in GAP.findall(text):
        if gap not in chosen:
            raise ConfigError(f"{where}: {text} needs a choice: set {gap} to one of {', '.join(choices[gap])}")
        text = text.replace(f"{{{gap}}}", chosen[gap])
    return text
