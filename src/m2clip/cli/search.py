"""The commands index and search."""

from pathlib import Path
from typing import Annotated, Any

import typer

from m2clip.cli.options import Device, Json, open_video
from m2clip.cli.output import print_json, progress_bar, say, show

_PLACE = "a folder, or s3://, gs://, az:// with credentials from the environment"


def index(
    tables: Annotated[list[Path], typer.Argument(metavar="VECTORS...", help="Parquet files of m2clip embed.")],
    out: Annotated[str, typer.Option("--out", help=f"The index to make or bring up to date: {_PLACE}.")],
    json: Json = False,
) -> None:
    """Make embeddings searchable; afterwards the index holds the rows of these tables and no others."""
    from m2clip.search.building import build_index
    from m2clip.search.video_index import shown_uri

    with progress_bar("embeddings") as progress:
        changes = build_index(tables, out, progress=progress)
    if json:
        facts = {"rows": changes.rows, "added": changes.added, "changed": changes.changed, "removed": changes.removed}
        print_json({"index": shown_uri(out), **facts, "approximate": changes.approximate})
    else:
        show(shown_uri(out))
        way = "approximately, the best candidates exactly" if changes.approximate else "all of them"
        counts = f"{changes.added} added, {changes.changed} changed, {changes.removed} removed"
        say(f"{changes.rows} embeddings ({counts}); a search compares {way}")


def search(
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="What the videos show, as a sentence.")] = None,
    place: Annotated[str, typer.Option("--index", help=f"An index of m2clip index: {_PLACE}.")] = ...,  # type: ignore[assignment]
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="VIDEO", help="Instead of a text: a video that others are to be like."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, max=10_000, help="How many videos to give.")] = 10,
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", help="Where the model that made the index lies now; default: where it lay then."),
    ] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Find videos, or moments in them, by a text or by an example; the scores are cosines."""
    if (text is None) == (like is None):
        raise typer.BadParameter("give a text or --like VIDEO, one of them", param_hint="TEXT")
    from m2clip.search import VideoIndex
    from m2clip.search.video_index import shown_uri

    opened = VideoIndex.open(place)
    recognizer = opened.source.recognizer(checkpoint=checkpoint, device=device)
    if like is None:
        query = recognizer.embed_text(text or "")
    else:
        with open_video(like) as video:
            query = recognizer.embed(video)
    found = opened.search(query, top)
    if json:
        asked: dict[str, Any] = {"text": text} if like is None else {"video": like}
        facts = {
            "index": shown_uri(place),
            "model_id": opened.model_id,
            "checkpoint": checkpoint or opened.source.checkpoint,
        }
        print_json({**facts, "query": asked, "results": [vars(one) for one in found]})
        return
    for one in found:
        times = [one.start_seconds, one.end_seconds]
        ends = "-".join("" if time is None else f"{time:.1f}" for time in times)
        show(f"{one.score:.4f}  {one.path}" + ("" if times == [None, None] else f"  {ends} s"))
    if not found:
        say(f"{shown_uri(place)} holds no embeddings")
