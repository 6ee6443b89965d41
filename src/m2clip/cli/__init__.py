"""The command line: parse, call, print. Results go to stdout, everything else to stderr.

Exit codes: 0 done, 1 failed on input (one sentence on stderr, no traceback), 2 wrong usage, 130 interrupted. Nothing heavy is
imported before a command runs, so that `m2clip --help` answers at once.
"""

import io
import os
import sys
import warnings
from typing import Annotated

import typer

from m2clip import __version__
from m2clip.cli import files, runs
from m2clip.cli.calibration import calibrate
from m2clip.cli.check import check_data
from m2clip.cli.embedding import embed
from m2clip.cli.explanation import explain
from m2clip.cli.export import export
from m2clip.cli.hub import push
from m2clip.cli.options import LocalRank
from m2clip.cli.output import say
from m2clip.cli.protocols import protocols
from m2clip.cli.recognition import classify
from m2clip.cli.rerun import rerun
from m2clip.cli.search import index, search
from m2clip.cli.serve import serve
from m2clip.cli.shard import shard
from m2clip.cli.sharing import expect_processes
from m2clip.cli.show import show_clips
from m2clip.cli.strength import tune_strength
from m2clip.cli.study import study
from m2clip.cli.timeline import timeline
from m2clip.errors import Interrupted, M2CLIPError
from m2clip.freed_memory import keep_freed_memory
from m2clip.launcher import lost_process, read_launcher

app = typer.Typer(
    help="Adapt a frozen CLIP to videos, evaluate it on trained and on never-seen classes, name the action in a video.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (runs.demo, runs.train, runs.evaluate, classify, timeline, embed):
    app.command()(command)
app.command()(index)
app.command()(search)
app.command()(serve)
app.command()(explain)
app.command()(tune_strength)
app.command()(calibrate)
app.command()(study)
app.command()(rerun)
app.command()(files.convert)
app.command()(export)
app.command()(push)
app.command()(files.info)

data_app = typer.Typer(help="Make and look at data sets.", no_args_is_help=True, rich_markup_mode=None)
data_app.command()(files.make_shapes)
data_app.command("list")(files.list_data)
data_app.command("check")(check_data)
data_app.command()(shard)
data_app.command("show")(show_clips)
data_app.command()(protocols)
app.add_typer(data_app, name="data")


_EXTRAS = {
    "train": {"lightning", "lightning_utilities", "torchmetrics", "tensorboard", "matplotlib"},
    "search": {"lancedb"},
    "ray": {"ray"},
    "serve": {"fastapi", "gradio", "prometheus_client", "python_multipart", "starlette", "structlog", "uvicorn"},
}
_FULL = (
    "the memory of the GPU is full; take a smaller batch size, and for training more parts (train.accumulate), train.recompute=true or, "
    "with several GPUs, train.sharding=full"
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _program(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
    local_rank: LocalRank = None,
) -> None:
    """Options of the program itself."""
    expect_processes(context.invoked_subcommand or "")


def _missing(error: ImportError) -> str:
    """What to install for a package that is absent, or broken (a shared library that it needs is not found)."""
    package = (error.name or "unknown").partition(".")[0]
    reason = str(error).splitlines()[0][:200] if str(error) else "no reason given"
    if not isinstance(error, ModuleNotFoundError):
        return f"the package {package} cannot be loaded ({reason}): install it again with pip install --force-reinstall"
    extra = next((f"[{name}]" for name, packages in _EXTRAS.items() if package in packages), "")
    return f"this command needs the package {package}, which is not installed: pip install 'm2clip{extra}'"


def main() -> None:
    """Run the program; bad input ends in one sentence and exit code 1."""
    keep_freed_memory()
    warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
    for stream in (sys.stdout, sys.stderr):
        # A file name that is not valid in the terminal's encoding is printed with escapes; JSON knows the same ones.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if (encoding := sys.getfilesystemencoding()) != "utf-8":
        say(f"warning: names of files are read as {encoding} here, which misreads those in UTF-8: set PYTHONUTF8=1")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except M2CLIPError as error:
        if not isinstance(error, Interrupted) or read_launcher(os.environ).rank == 0:  # which tells it for all
            say(str(error))
        sys.exit(error.exit_code)
    except ImportError as error:
        say(_missing(error))
    except RuntimeError as error:
        lost = lost_process(error, os.environ)
        if type(error).__name__ == "OutOfMemoryError":  # of PyTorch, which is not imported for this
            say(_FULL)
        elif lost is not None:
            say(lost)
        else:
            raise
    except OSError as error:
        say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    sys.exit(1)
