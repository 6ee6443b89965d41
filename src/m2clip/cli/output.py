"""What the program prints: results to stdout, everything else to stderr."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer

from m2clip.terminal import harmless


def show(*lines: str) -> None:
    """Lines of a result on stdout; a line feed inside of a line is written as \\n."""
    typer.echo("\n".join(harmless(line).replace("\n", "\\n") for line in lines))


def say(sentence: str) -> None:
    """One line on stderr, whatever breaks a message quotes."""
    print("m2clip: " + harmless(" ".join(sentence.splitlines())), file=sys.stderr, flush=True)


def print_json(document: Mapping[str, Any]) -> None:
    """The one document on stdout."""
    from m2clip.report import json_text

    typer.echo(harmless(json_text(document)))


def print_json_line(document: Mapping[str, Any]) -> None:
    """One of many documents on stdout, a line each."""
    from m2clip.report.files import json_line

    typer.echo(harmless(json_line(document)))


@contextmanager
def progress_bar(what: str, *, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left, on a terminal; elsewhere nothing. Gets (done, total)."""
    if not (shown and sys.stderr.isatty()):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    # By default rich sends what is printed to stdout to the bar's stream as well: results would end up on stderr.
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
