"""What `m2clip evaluate --protocol` and `m2clip data protocols` know of protocols."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2clip.cli.options import Json, Root
from m2clip.cli.output import print_json, show
from m2clip.errors import ManifestError

if TYPE_CHECKING:
    from m2clip.data.manifest import Manifest
    from m2clip.data.text.descriptions import TextSource
    from m2clip.protocol import Protocol
    from m2clip.protocol.file import Kind

KINDS: tuple["Kind", ...] = ("supervised", "zero-shot")
Choose = Annotated[
    list[str] | None, typer.Option("--choose", metavar="NAME=VALUE", help="A choice of the protocol, as in shots=4.")
]


def protocols(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A protocol, or its YAML file.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder with the lists.")] = None,
    root: Root = None,
    choose: Choose = None,
    json: Json = False,
) -> None:
    """List the protocols in the package, or tell what one of them tests and, with its choices made, trains on."""
    from m2clip.protocol import load_protocol, shipped_protocols

    if name is None:
        titles = shipped_protocols()
        if json:
            print_json({"protocols": [{"name": one, "title": title} for one, title in titles.items()]})
        else:
            width = max(map(len, titles))
            show(*(f"{one.ljust(width)}  {title}" for one, title in titles.items()))
        return
    protocol = load_protocol(name, folder=data, root=root, choices=chosen(choose))
    written = protocol.written
    document: dict[str, Any] = {
        "name": protocol.name,
        "title": protocol.title,
        "source": written.source,
        "views": written.views,
        "frames": written.frames,
        "template": written.template,
        "summary": written.summary,
        "choices": {key: list(values) for key, values in written.choices.items()},
        "chosen": dict(protocol.chosen),
        "root": None if protocol.root is None else str(protocol.root),
        "tests": {
            part: {
                "list": str(one.list),
                "classes": None if one.classes is None else str(one.classes),
                "kind": one.kind,
            }
            for part, one in protocol.tests.items()
        },
        "train": protocol.train_settings() if protocol.trains else None,
    }
    if json:
        print_json(document)
        return
    from m2clip.protocol.preview import overrides

    lines = [document["title"], document["source"], f"views: {written.views}; {written.summary} of the parts"]
    lines += [f"choose {key}: {', '.join(values)}" for key, values in document["choices"].items()]
    lines += [f"{part}: {one['kind']}, {one['list']}" for part, one in document["tests"].items()]
    lines += [f"videos: {document['root'] or 'in the folder of each list'}"]
    if document["train"]:
        lines.append(f"train: {overrides(document['train'])}")
    show(*lines)


def chosen(choose: Sequence[str] | None) -> dict[str, str]:
    """["shots=4"] -> {"shots": "4"}."""
    found: dict[str, str] = {}
    for text in choose or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise typer.BadParameter(f"{text!r} is not of the form shots=4", param_hint="--choose")
        if name in found:
            raise typer.BadParameter(f"{name} is chosen twice", param_hint="--choose")
        found[name] = value
    return found


@dataclass(frozen=True)
class PlainData:
    """Videos that are evaluated without a protocol file."""

    data: Path
    classes: Path | None
    root: Path | None
    kind: "Kind"

    def manifest(self, class_names: Sequence[str]) -> "Manifest":
        """Labels mean the classes of the file given, else the checkpoint's (supervised), else what the data itself names."""
        from m2clip.data.manifest import ClassTable, read_manifest

        if self.classes is not None or self.kind == "zero-shot" or not class_names:
            return read_manifest(self.data, classes=self.classes, root=self.root)
        try:
            return read_manifest(self.data, classes=ClassTable(tuple(class_names)), root=self.root)
        except ManifestError as error:
            try:
                read_manifest(self.data, root=self.root)
            except ManifestError:
                raise error from None
            raise ManifestError(f"{error} (the checkpoint's); --protocol zero-shot takes other classes") from None


def find_protocol(
    protocol: str, *, data: Path | None, classes: Path | None, root: Path | None, choose: Sequence[str] | None
) -> "Protocol | PlainData":
    """What --protocol, --data and their companions ask for."""
    choices = chosen(choose)
    kind = next((kind for kind in KINDS if kind == protocol), None)
    if kind is None:
        from m2clip.protocol import load_protocol, shipped_names

        if Path(protocol).suffix not in (".yaml", ".yml") and protocol not in shipped_names():
            known = ", ".join((*KINDS, *shipped_names()))
            raise typer.BadParameter(f"{protocol!r} is neither a YAML file nor one of {known}", param_hint="--protocol")
        return load_protocol(protocol, folder=data, root=root, choices=choices, classes=classes)
    if data is None:
        raise typer.BadParameter(f"--protocol {kind} needs --data, the videos to evaluate", param_hint="--data")
    if choices:
        raise typer.BadParameter(f"--protocol {kind} leaves nothing to choose", param_hint="--choose")
    return PlainData(data, classes, root, kind)


def dry_run(
    checkpoint: str,
    plan: "Protocol | PlainData",
    *,
    views: tuple[int, int] | None,
    sampling: Mapping[str, Any],
    strength: float | None,
    texts: "TextSource | None",
    json: bool,
) -> None:
    """Print what the evaluation would do. ManifestError, at the end, where not one video of a part is there."""
    from m2clip.checkpoint.record import read_record
    from m2clip.protocol import need_some_video
    from m2clip.protocol.preview import preview_lines, preview_part, preview_protocol

    info, head = read_record(checkpoint)
    document: dict[str, Any] = {"dry_run": True, "checkpoint": checkpoint}
    document["strength"] = info.strength if strength is None else strength
    if isinstance(plan, PlainData):
        manifests = {"data": plan.manifest(info.class_names)}
        part = preview_part(
            info,
            manifests["data"],
            plan.kind,
            visual_head=head,
            views=views or (1, 1),
            sampling=info.sampling.changed(**sampling),
            texts=texts,
        )
        document["parts"] = {"data": part}
    else:
        manifests = {name: plan.manifest(name, class_names=info.class_names) for name in plan.tests}
        document |= preview_protocol(info, plan, manifests, visual_head=head, views=views, texts=texts, **sampling)
    if json:
        print_json(document)
    else:
        show(*preview_lines(document))
    for name, manifest in manifests.items():
        need_some_video(manifest, part=name)
