"""The command data shard: a data set becomes a few large files."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from m2clip.cli.options import BadFilePolicy, Classes, Json, OnBadFile, Root
from m2clip.cli.output import print_json, progress_bar, say, show


def shard(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Folder with one folder a class, CSV, list file, or other shards.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the shards and their index; nothing else is written.")],
    classes: Classes = None,
    root: Root = None,
    shard_mib: Annotated[
        int, typer.Option("--shard-mib", min=1, max=2**20, help="About how large a shard becomes, in MiB.")
    ] = 512,
    shard_samples: Annotated[
        int | None, typer.Option("--shard-samples", min=1, help="Most videos of a shard; default: as many as fit.")
    ] = None,
    shuffle_seed: Annotated[
        int | None,
        typer.Option("--shuffle-seed", min=0, help="Shuffle by this seed; default: the order of DATA."),
    ] = None,
    on_bad_file: BadFilePolicy = OnBadFile.skip,
    json: Json = False,
) -> None:
    """Pack the videos of a data set into tar files (WebDataset's layout) and write their index. Killed, it goes on where it was."""
    from m2clip.data.manifest import read_manifest
    from m2clip.data.shards.writing import write_shards

    manifest = read_manifest(data, classes=classes, root=root)
    with progress_bar("packing videos") as progress:
        written = write_shards(
            manifest,
            out,
            base=root or (Path(data) if Path(data).is_dir() else Path(data).parent),
            shard_bytes=shard_mib << 20,
            shard_samples=shard_samples,
            shuffle_seed=shuffle_seed,
            on_bad_file=on_bad_file.value,
            tell=say,
            progress=progress,
        )
    if json:
        print_json({**asdict(written), "index": str(written.index)})
    else:
        packed = f"{written.samples} samples in {written.shards} shard{'s' if written.shards > 1 else ''}"
        show(f"{written.index}: {packed}, {written.bytes / 2**20:.1f} MiB")
    if written.left_out:
        say(f"left out in all: {len(written.left_out)}")
