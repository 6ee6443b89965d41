"""What a command's report says of how it was made: the command's own options, as a later call would give them."""

import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from m2clip.launcher import read_launcher

if TYPE_CHECKING:
    from m2clip.provenance import Command

DESTINATIONS = ("out", "save", "json", "dry_run", "local_rank")
"""Options that say where results go; they change none."""


def reported(
    context: typer.Context, *, seed: int | None = None, lists: Mapping[str, Path | None] | None = None
) -> dict[str, Any]:
    """The `run` of this command's report. `lists`: of a protocol its own files, in place of --data, their folder."""
    from m2clip.evaluate import versions
    from m2clip.provenance import FILE_SETTINGS, provenance

    command = cast("Command", context.info_name)
    inputs = {name: _shown(context.params.get(name)) for name in FILE_SETTINGS[command] if name != "protocol"}
    if lists is not None:
        inputs = {**inputs, "data": None, "classes": None, **lists}
    return provenance(
        command,
        {name: _plain(_shown(value)) for name, value in context.params.items() if name not in DESTINATIONS},
        inputs,
        processes=read_launcher(os.environ).count,
        seed=seed,
        versions=versions(),
    )


def _shown(value: Any) -> Any:
    """An option's value; of a web address without what may be secret in it."""
    from m2clip.data.web import as_written, is_web_address, shown_address

    text = as_written(value) if isinstance(value, str | Path) else ""
    return shown_address(text) if is_web_address(text) else value


def _plain(value: Any) -> Any:
    """An option's value as JSON."""
    from m2clip.provenance import as_text

    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return as_text(value)
    return list(value) if isinstance(value, tuple | list) else value
