"""The command that puts a checkpoint on the Hugging Face hub."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from m2clip.cli.options import Json, Weights
from m2clip.cli.output import print_json, say, show


def push(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint file.")],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="The hub repository; made if it is not there.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Make a repository that others cannot see.")] = False,
    message: Annotated[str | None, typer.Option("--message", help="Of the commit.")] = None,
    license_id: Annotated[
        str | None, typer.Option("--license", help="The hub's name of a license for the card, as in apache-2.0.")
    ] = None,
    new_card: Annotated[bool, typer.Option("--new-card", help="Replace a card that is there.")] = False,
    dry_run: Annotated[
        Path | None,
        typer.Option("--dry-run", metavar="FOLDER", help="Write the files to this folder, and push nothing."),
    ] = None,
    weights: Weights = None,
    json: Json = False,
) -> None:
    """Put a checkpoint with a model card on the Hugging Face hub; others load it as hf-hub:OWNER/NAME.

    The token is that of `hf auth login`, or HF_TOKEN.
    """
    from huggingface_hub.utils import disable_progress_bars

    from m2clip.hub import push as run
    from m2clip.hub import write_folder

    if dry_run is not None:
        files = write_folder(checkpoint, dry_run, repository=repository, license_id=license_id, weights=weights)
        if json:
            print_json({"repository": repository, "commit": None, "files": list(map(str, files))})
        else:
            show(*map(str, files))
        return
    if not sys.stderr.isatty():
        disable_progress_bars()
    commit = run(
        checkpoint,
        repository,
        private=private,
        message=message,
        license_id=license_id,
        new_card=new_card,
        weights=weights,
        tell=say,
    )
    if json:
        print_json({"repository": repository, "commit": commit, "load": f"hf-hub:{repository}"})
    else:
        show(commit, f'm2clip.load("hf-hub:{repository}")')
