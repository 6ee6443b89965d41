"""The command embed."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2clip.cli.options import (
    Checkpoint,
    ClipSeconds,
    Compile,
    Device,
    Fps,
    Frames,
    Json,
    Precision,
    PrecisionName,
    Strength,
    StrideFrames,
    Videos,
    Views,
    Weights,
    sampling_options,
)
from m2clip.cli.output import print_json, say
from m2clip.cli.recognizing import for_each_video, make_recognizer, model_facts

if TYPE_CHECKING:
    pass


def embed(
    videos: Videos,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write an .npz: videos [N], embeddings float32 [N, D] of unit norm.")
    ] = None,
    checkpoint: Checkpoint = "builtin",
    weights: Weights = None,
    views: Views = "1x1",
    frames: Frames = None,
    stride_frames: StrideFrames = None,
    fps: Fps = None,
    clip_seconds: ClipSeconds = None,
    strength: Strength = None,
    precision: Precision = PrecisionName.fp32,
    compiled: Compile = False,
    device: Device = None,
    json: Json = False,
) -> None:
    """Turn videos into embeddings of unit norm; say with --out or --json where they go."""
    if out is None and not json:
        raise typer.BadParameter("say where the embeddings go: --out FILE.npz, --json, or both", param_hint="--out")
    recognizer = make_recognizer(
        checkpoint,
        weights=weights,
        views=views,
        sampling=sampling_options(frames, stride_frames, fps, clip_seconds),
        strength=strength,
        device=device,
        precision=precision,
        compiled=compiled,
    )
    if out is not None:
        from m2clip.report.files import results_folder

        results_folder(out.parent)  # before the work, which would be lost
    results, code = for_each_video(videos, lambda _, opened: {"embedding": recognizer.embed(opened).tolist()}, bar=True)
    if out is not None:
        _write_embeddings(out, [result for result in results if "embedding" in result], checkpoint)
    if json:
        print_json({**model_facts(recognizer, checkpoint), "unit_norm": True, "videos": results})
    raise typer.Exit(code)


def _write_embeddings(out: Path, results: Sequence[Mapping[str, Any]], checkpoint: str) -> None:
    import numpy as np

    from m2clip.report import write_whole

    buffer = io.BytesIO()
    embeddings = np.array([result["embedding"] for result in results], np.float32)
    np.savez(
        buffer, videos=np.array([result["video"] for result in results]), embeddings=embeddings, checkpoint=checkpoint
    )
    write_whole(out, buffer.getvalue())
    say(f"{out}: {len(embeddings)} embeddings, each of unit norm")
