"""The command that makes a report again and compares."""

import io
import json as plain_json
import tempfile
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2clip.cli.options import Json
from m2clip.cli.output import print_json, say, show
from m2clip.cli.reported import DESTINATIONS
from m2clip.errors import ConfigError

if TYPE_CHECKING:
    from m2clip.rerun import Report

_SHOWN = 10
"""How many differences are printed."""


def rerun(
    report: Annotated[
        Path, typer.Argument(metavar="REPORT", help="report.json of a run, or what a command printed by --json.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the new results; default: they are compared and deleted.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, max=1, help="How far numbers may differ: 1e-6 on another machine.")
    ] = 0.0,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch what the report names by an address or hub id.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a report of train, evaluate, calibrate or tune-strength again and compare: exit code 0 where all is the same, else 1.

    Lists, classes, texts and checkpoints must be what they were, by their SHA-256. A report may come from a stranger: it can name
    these commands and their settings only, and results go nowhere but to --out.
    """
    from m2clip.evaluate import versions
    from m2clip.report.files import results_folder
    from m2clip.rerun import compare, read_report

    before = read_report(report)
    before.need_same_inputs()
    before.need_known_files()
    if not fetch:
        before.need_no_addresses()
    if before.run.processes > 1 and before.run.command == "train":
        say(
            f"the run was trained by {before.run.processes} processes; one process gives the same numbers up to rounding"
        )
    other = {name: version for name, version in versions().items() if before.run.versions.get(name) != version}
    if other:
        had = ", ".join(f"{name} {version} ({before.run.versions.get(name)} then)" for name, version in other.items())
        say(f"other versions than those of the report, which may change last digits: {had}")
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="m2clip-rerun-")))
        results_folder(folder)
        now = _made_again(before, folder)
    compared, differences = compare(before.document, now, tolerance=tolerance)
    if json:
        listed = [{"place": one.place, "before": one.before, "now": one.now} for one in differences]
        print_json(
            {"same": not differences, "command": before.run.command, "compared": compared, "differences": listed}
        )
    elif differences:
        more = [f"and {len(differences) - _SHOWN} more"] if len(differences) > _SHOWN else []
        show(f"different in {len(differences)} of {compared} values:", *map(str, differences[:_SHOWN]), *more)
    else:
        show(f"the same in all {compared} values")
    if differences:
        raise typer.Exit(1)


def _made_again(report: "Report", folder: Path) -> dict[str, Any]:
    """The document of the same run with its results in `folder`."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(report.run.threads)
    try:
        return _trained(report, folder) if report.run.command == "train" else _commanded(report, folder)
    finally:
        torch.set_num_threads(threads)


def _trained(report: "Report", folder: Path) -> dict[str, Any]:
    from m2clip.config.run import RunConfig, checked
    from m2clip.train import REPORT, train

    config = checked(RunConfig, {**report.run.settings, "out": str(folder)}, where=f"{report.path}: run.settings")
    if config.data.cache is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"cache": str(folder / "frames")})})
    train(config)
    document: dict[str, Any] = plain_json.loads((folder / REPORT).read_text("utf-8"))
    return document


def _commanded(report: "Report", folder: Path) -> dict[str, Any]:
    """The program's own command, called with the report's settings as its arguments; no shell has a part in it."""
    from m2clip.cli import app

    name = report.run.command
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    known = {parameter.name: parameter for parameter in command.params if parameter.name not in DESTINATIONS}
    options: list[str] = []
    arguments: list[str] = []
    for key, value in report.run.settings.items():
        if key not in known:
            raise ConfigError(f"{report.path}: {name} has no setting {key!r}; the report is not one of ours")
        parameter = known[key]
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            if not isinstance(one, str | int | float) or (
                isinstance(one, bool) != bool(getattr(parameter, "is_flag", False))
            ):
                raise ConfigError(
                    f"{report.path}: run.settings.{key} cannot be {one!r:.60}; the report is not one of ours"
                )
            if isinstance(one, bool):
                options += [parameter.opts[0]] if one else []
            elif parameter.param_type_name == "argument":
                arguments.append(str(one))
            else:
                options.append(f"{parameter.opts[0]}={one}")
    target = folder / "calibrated.safetensors" if name == "calibrate" else folder
    called = [name, *options, f"--out={target}", "--json", "--", *arguments]
    if any("\0" in part for part in called):
        raise ConfigError(f"{report.path}: a setting holds a zero byte; the report is not one of ours")
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            app(called, standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's own, for arguments that a command does not take
            raise
        raise ConfigError(f"{report.path}: run.settings are not those of {name} ({error.format_message()})") from None
    document: dict[str, Any] = plain_json.loads(printed.getvalue())
    return document
