"""m2clip data check: whether a data set can be used."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2clip.cli.options import Classes, Json, Root
from m2clip.cli.output import print_json, progress_bar, say, show
from m2clip.errors import ConfigError

if TYPE_CHECKING:
    from m2clip.check.listing import Listing
    from m2clip.config.run import DataConfig


def check_data(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="What is to be trained on: a folder with one folder a class, CSV, list, shards; or any folder of videos.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Instead of DATA: the YAML file of a run, whose lists are checked.")
    ] = None,
    classes: Classes = None,
    root: Root = None,
    val: Annotated[str | None, typer.Option("--val", help="The list or folder that models are chosen by.")] = None,
    test: Annotated[str | None, typer.Option("--test", help="The list or folder that models are tested on.")] = None,
    frames: Annotated[
        int | None,
        typer.Option("--frames", min=1, max=1024, help="Frames of a clip, 8 by default: a video with fewer is short."),
    ] = None,
    most_bad: Annotated[
        float, typer.Option("--most-bad", min=0, max=1, help="Share of a list's videos that may be bad.")
    ] = 0.0,
    most_lost: Annotated[
        float | None,
        typer.Option(
            "--most-lost",
            min=0,
            max=1,
            help="Share of its frames that a video may have lost to damage; as in training.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for check.json, index.html and files.jsonl; made if needed.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, max=256, help="Processes that read; 0: as many as processor cores.")
    ] = 0,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds without a sign of life after which a file is given up.")
    ] = 120.0,
    json: Json = False,
) -> None:
    """Read every video to its end and tell what is bad, short, odd, twice there, or in training and test at once.

    Exit code 0: the data set can be used; 1: it cannot, and the last lines say why. A check that was broken off goes on where it
    was. `data list` only counts, and opens no video.
    """
    from m2clip.check.document import check_lines
    from m2clip.check.judging import Limits
    from m2clip.check.listing import read_listings
    from m2clip.check.run import FACTS, PAGE, Readers
    from m2clip.check.run import check_data as run
    from m2clip.config.run import DataConfig
    from m2clip.report.files import results_folder

    settings = DataConfig()
    if config is not None:
        given = {"DATA": data, "--classes": classes, "--root": root, "--val": val, "--test": test, "--frames": frames}
        settings = _settings(config, [name for name, value in given.items() if value is not None])
        data, val, test = settings.train, settings.val, settings.test
        classes, root = (None if path is None else Path(path) for path in (settings.classes, settings.root))
    if data is None:
        raise typer.BadParameter("give DATA, or --config with a run's YAML file", param_hint="DATA")
    if out is not None and os.path.isdir(data) and out.resolve().is_relative_to(os.path.realpath(data)):
        raise ConfigError(
            f"--out {out} lies in the data set {data}, where it would be taken for a class; give another folder"
        )
    listings = read_listings(data, classes=classes, root=root, val=val, test=test)
    if not listings[0].class_names:
        say(
            f"{data} is not one folder a class, so its videos are checked as files without classes; "
            "with --classes its folders are classes"
        )
    kept = _kept(listings) if out is None else results_folder(out) / FACTS
    with progress_bar("reading videos") as progress:
        document = run(
            listings,
            limits=Limits(
                frames=settings.frames if frames is None else frames,
                most_lost=settings.most_lost if most_lost is None else most_lost,
                most_bad=most_bad,
            ),
            readers=Readers(workers or _cores(), timeout),
            kept=kept,
            out=out,
            progress=progress,
        )
    if json:
        print_json(document)
    else:
        show(*check_lines(document), *([] if out is None else [f"page: {out / PAGE}"]))
    if not document["usable"]:
        raise typer.Exit(1)


def _settings(config: Path, also_given: list[str]) -> "DataConfig":
    """The data of a run's file, which says itself what could be given beside it."""
    from m2clip.config import load_config

    if also_given:
        raise typer.BadParameter(f"{', '.join(also_given)} stand in the run's file", param_hint="--config")
    settings = load_config(config).data
    if settings.train is None:
        raise ConfigError(f"{config} names no videos to train on; set data.train")
    return settings


def _kept(listings: "list[Listing]") -> Path | None:
    """Where facts are kept without --out: a file of the cache folder for these lists; nowhere if it cannot be written to."""
    from m2clip.cache_folder import cache_folder

    sources = "\n".join(os.path.realpath(listing.source) for listing in listings)
    name = hashlib.sha256(os.fsencode(sources)).hexdigest()
    try:
        folder = cache_folder() / "checks"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder / f"{name}.jsonl"
    except OSError:
        return None


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
