"""Commands about files: convert, info, data make-shapes, data list."""

import json as json_format
from pathlib import Path
from typing import Annotated

import typer

from m2clip.cli.options import Classes, Json, Root
from m2clip.cli.output import print_json, progress_bar, say, show
from m2clip.errors import ManifestError

_MOST_NAMED = 50  # missing videos: with a wrong root, a list of a million would fill the terminal


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Tensors of the reference implementation, or a CLIP.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors file to write, all weights inside.")],
    clip_weights: Annotated[
        Path | None, typer.Option("--clip-weights", help="The CLIP file, where SOURCE holds trained tensors only.")
    ] = None,
    classes: Classes = None,
    words: Annotated[
        Path | None,
        typer.Option("--words", help="Words of the masked-word head, one a line; lines may end in its index."),
    ] = None,
    frames: Annotated[int, typer.Option("--frames", min=1, max=1024, help="Frames the model was trained with.")] = 8,
    stride_frames: Annotated[
        int, typer.Option("--stride-frames", min=0, max=2**31 - 1, help="0: uniform segments.")
    ] = 0,
    quick_gelu: Annotated[
        bool | None, typer.Option("--quick-gelu/--gelu", help="The activation, where the file does not say it.")
    ] = None,
    json: Json = False,
) -> None:
    """Turn foreign weights into a checkpoint of ours. Nothing in the file is executed."""
    from m2clip.checkpoint import convert as run
    from m2clip.data.manifest import read_classes

    model = run(
        source,
        out,
        clip_weights=clip_weights,
        class_names=() if classes is None else read_classes(classes).names,
        words=() if words is None else _read_words(words),
        frames=frames,
        stride_frames=stride_frames,
        quick_gelu=quick_gelu,
    )
    say(f"{model.loaded_tensors} of {len(model.state_dict())} tensors came from files, the others are fresh")
    if json:
        print_json(
            {"out": str(out), "loaded_tensors": model.loaded_tensors, "info": model.info.model_dump(mode="json")}
        )
    else:
        show(str(out))


def info(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint file.")], json: Json = False
) -> None:
    """Tell what a checkpoint says of itself: backbone, adapters, classes, frames, training."""
    from m2clip.checkpoint import read_info
    from m2clip.checkpoint.safetensors_files import read_header

    header = read_header(checkpoint)
    record = read_info(header, where=str(checkpoint)).model_dump(mode="json")
    record = {"format_version": header["format_version"], "code_version": header.get("code_version"), **record}
    if json:
        print_json(record)
    else:
        for key, value in record.items():
            show(f"{key}: {value if isinstance(value, str) else json_format.dumps(value, ensure_ascii=False)}")


def make_shapes(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same videos.")] = 0,
    train: Annotated[int, typer.Option("--train", min=0, help="Training videos a base class.")] = 12,
    val: Annotated[int, typer.Option("--val", min=0, help="Validation videos a base class.")] = 2,
    test: Annotated[int, typer.Option("--test", min=0, help="Test videos a class, base and novel.")] = 4,
    frames: Annotated[int, typer.Option("--frames", min=8, max=1024, help="Frames of a video.")] = 24,
    size: Annotated[int, typer.Option("--size", min=32, max=2048, help="Side of the picture, pixels, even.")] = 80,
    json: Json = False,
) -> None:
    """Make MotionShapes: videos of moving shapes, base classes to train on and novel ones to test."""
    from m2clip.builtin.shapes import make_shapes as run

    with progress_bar("making videos") as progress:
        run(
            out,
            seed=seed,
            train_per_class=train,
            val_per_class=val,
            test_per_class=test,
            frames=frames,
            size=size,
            progress=progress,
        )
    files = sorted(str(path) for path in out.glob("*/*.csv"))
    if json:
        print_json({"out": str(out), "lists": files})
    else:
        show(*files)


def list_data(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder with one folder a class, CSV, list file, or shards.")
    ],
    classes: Classes = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Count the videos of a data set, class by class, and name those that are missing; `data check` reads them, too."""
    from m2clip.data.lists.splits import check_repeats
    from m2clip.data.manifest import read_manifest
    from m2clip.data.places import absence

    manifest = read_manifest(data, classes=classes, root=root)
    counts = manifest.samples.counts(len(manifest.class_names)).tolist()
    absent = manifest.missing()
    missing = [{"path": str(sample.path), "where": sample.where} for sample in absent]
    if json:
        by_class = [{"name": name, "videos": count} for name, count in zip(manifest.class_names, counts, strict=True)]
        numbers = {"listed": len(manifest.samples), "found": len(manifest.samples) - len(missing)}
        print_json(
            {"source": manifest.source, "sha256": manifest.sha256, **numbers, "classes": by_class, "missing": missing}
        )
    else:
        for name, count in zip(manifest.class_names, counts, strict=True):
            show(f"{count:7d}  {name}")
        show(f"{len(manifest.samples)} videos, {len(counts)} classes, {len(missing)} missing")
    for sentence in check_repeats(manifest):
        say(sentence)
    for sample in absent[:_MOST_NAMED]:
        say(f"missing: {sample.path} (listed at {sample.where}): {absence(sample.path)}")
    if len(absent) > _MOST_NAMED:
        where = "; check the folder that paths start in (--root)" if len(absent) == len(manifest.samples) else ""
        say(
            f"missing: {len(absent) - _MOST_NAMED} more, {len(absent)} of {len(manifest.samples)} in all{where}; --json names each"
        )


def _read_words(path: Path) -> tuple[str, ...]:
    """Lines `word`, or `word index` with the indices 0..W-1 in any order."""
    try:
        lines = [line.split() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise ManifestError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    if all(len(line) == 1 for line in lines):
        return tuple(word for (word,) in lines)
    if not all(len(line) == 2 and line[1].isdecimal() for line in lines):
        raise ManifestError(f"{path}: write one word a line, or on every line a word and its index")
    ordered = sorted((int(index), word) for word, index in lines)
    if [index for index, _ in ordered] != list(range(len(ordered))):
        raise ManifestError(f"{path}: the indices must be 0 to {len(ordered) - 1}, each once")
    return tuple(word for _, word in ordered)
