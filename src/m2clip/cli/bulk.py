"""What the commands share that make tables of many videos: options, the run on one machine or on Ray, and what is said of it."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2clip.cli.options import PrecisionName
from m2clip.cli.output import print_json, progress_bar, say

if TYPE_CHECKING:
    from m2clip.bulk.run import Engine
    from m2clip.bulk.wanted_videos import WantedVideos
    from m2clip.bulk.work import Work


class EngineName(StrEnum):
    """Where many videos are read and encoded."""

    local = "local"
    ray = "ray"


EngineOption = Annotated[
    EngineName, typer.Option("--engine", help="local: this machine; ray: Ray Data, with --workers actors.")
]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray-address", help="The Ray cluster (auto, host:port, ray://...); default: one on this machine."),
]


# Options of which each does something where a table is made, and nothing elsewhere.
_FOR_TABLES = (
    "every", "root", "classes", "batch_size", "workers", "file_seconds", "most_lost", "engine", "ray_address",
)  # fmt: skip


def model_device(engine: EngineName, device: str | None, precision: PrecisionName) -> str | None:
    """Where this process has its model; on Ray the actors have the devices, and this machine may be without any."""
    if engine is EngineName.local:
        return device
    if precision is PrecisionName.auto:
        raise typer.BadParameter("depends on the machine: say fp32 or bf16 with --engine ray", param_hint="--precision")
    return "cpu"


def chosen_engine(context: typer.Context) -> "Engine | None":
    """The engine that the options of embed or classify ask for; None without --out, where options for tables are refused."""
    given = context.params
    if given["out"] is None:
        _refuse_table_options(context)
        return None
    from m2clip.bulk.batches import Reading
    from m2clip.bulk.run import LocalEngine

    workers, device, ray_address = given["workers"], given["device"], given["ray_address"]
    reading = Reading(given["batch_size"], workers, given["file_seconds"], given["most_lost"])
    if given["engine"] is EngineName.local:
        if ray_address is not None:
            raise typer.BadParameter("is for --engine ray", param_hint="--ray-address")
        return LocalEngine(reading)
    if workers < 1:
        raise typer.BadParameter("Ray needs one actor or more", param_hint="--workers")
    if device not in (None, "cpu", "cuda"):
        raise typer.BadParameter(
            "is cpu or cuda on Ray, which gives each actor a GPU of its own", param_hint="--device"
        )
    from m2clip.bulk.ray_engine import RayEngine, import_ray

    import_ray()  # it may not be there, which is said before model and list are read

    return RayEngine(reading, address=ray_address, device=device or "cpu", compiled=given["compiled"])


def _refuse_table_options(context: typer.Context) -> None:
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in _FOR_TABLES and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter("is for tables: give --out FILE.parquet", param_hint=parameter.opts[0])


def make_table(
    work: "Work",
    sources: Sequence[str],
    out: Path,
    engine: "Engine",
    *,
    root: Path | None,
    classes: Path | None,
    what: str,
    verb: str,
    document: Mapping[str, Any] | None,
) -> int:
    """Bring the table up to date, say what was done, and give the exit code; `document` is what JSON says of the model, if wanted."""
    from m2clip.bulk.run import bring_up_to_date
    from m2clip.bulk.wanted_videos import wanted_videos

    wanted: WantedVideos = wanted_videos(sources, classes=classes, root=root)
    with progress_bar("videos") as progress:
        done = bring_up_to_date(work, wanted, out, engine, tell=say, progress=progress)
    parts = [f"{done.videos} {verb}", f"{done.done_before} there already", f"{done.dropped} gone"]
    say(f"{out}: {done.rows} {what}; videos: {', '.join(parts)}, {len(done.bad)} could not be read")
    for name in done.tables:
        say(f"{out.parent / name} names all such files")
    if document is not None:
        bad = [{"path": str(file.path), "where": file.where, "reason": file.reason} for file in done.bad]
        counts = {"rows": done.rows, verb: done.videos, "done_before": done.done_before, "dropped": done.dropped}
        print_json({**document, "out": str(out), **counts, "bad_files": bad})
    return 1 if done.bad else 0
