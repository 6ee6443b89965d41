"""The command serve."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2clip.cli.options import (
    ClipSeconds,
    Device,
    Fps,
    Frames,
    LabelsFile,
    LabelsOption,
    Precision,
    PrecisionName,
    Strength,
    StrideFrames,
    Views,
    Weights,
    sampling_options,
    split_labels,
)
from m2clip.cli.output import say, show
from m2clip.cli.recognizing import asked_labels, make_recognizer
from m2clip.errors import ConfigError
from m2clip.freed_memory import share_freed_memory

if TYPE_CHECKING:
    from m2clip.recognizer import Recognizer

_TOKEN = "M2CLIP_TOKEN"


def serve(
    checkpoint: Annotated[
        str, typer.Argument(help="A checkpoint, hf-hub:owner/name, or a backbone with fresh adapters.")
    ] = "builtin",
    compare: Annotated[
        str | None, typer.Option("--compare", help="A second checkpoint, which the page shows beside the first.")
    ] = None,
    index: Annotated[str | None, typer.Option("--index", help="An index of videos (m2clip index) to search.")] = None,
    labels: LabelsOption = None,
    labels_file: LabelsFile = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; the default is reached from this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 7860,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help=f"File with a token that every request must bring (or set {_TOKEN})."),
    ] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Whether there is a web page beside the API.")] = True,
    most_mb: Annotated[float, typer.Option("--max-mb", min=0.001, help="Size of an upload.")] = 100.0,
    most_seconds: Annotated[float, typer.Option("--max-seconds", min=0.001, help="Length of a video.")] = 600.0,
    most_pixels: Annotated[int, typer.Option("--max-pixels", min=1, help="Width times height of a frame.")] = 3840
    * 2160,
    most_labels: Annotated[int, typer.Option("--max-labels", min=1, help="Labels of a request.")] = 1000,
    decoders: Annotated[int, typer.Option("--workers", min=1, max=64, help="Processes that decode uploads.")] = 2,
    queue: Annotated[int, typer.Option("--queue", min=1, help="Requests at a time; one more is answered 429.")] = 32,
    connections: Annotated[
        int, typer.Option("--connections", min=1, help="Connections at a time; those that only wait give way.")
    ] = 256,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Clips that go through the model together.")] = 8,
    request_seconds: Annotated[
        float, typer.Option("--timeout", min=0.001, help="Seconds that a request may take.")
    ] = 60.0,
    receive_seconds: Annotated[
        float, typer.Option("--receive-seconds", min=0.001, help="Seconds that an upload may take to arrive.")
    ] = 60.0,
    decode_seconds: Annotated[
        float, typer.Option("--file-seconds", min=0.001, help="Seconds that decoding one file may take.")
    ] = 30.0,
    stop_seconds: Annotated[
        int,
        typer.Option("--stop-seconds", min=1, help="Seconds that running requests have to end when the server stops."),
    ] = 10,
    weights: Weights = None,
    views: Views = "1x1",
    frames: Frames = None,
    stride_frames: StrideFrames = None,
    fps: Fps = None,
    clip_seconds: ClipSeconds = None,
    strength: Strength = None,
    precision: Precision = PrecisionName.fp32,
    device: Device = None,
) -> None:
    """Answer questions about videos over HTTP, and on a web page, until it is stopped (Ctrl-C)."""
    share_freed_memory()  # before there are threads
    names = split_labels(labels)
    token = _token(token_file)
    from m2clip.app.listening import bound_socket, open_to_others, run_server
    from m2clip.app.service import Limits, Service

    listening = bound_socket(host, port)
    limits = Limits(
        most_bytes=int(most_mb * 2**20),
        most_seconds=most_seconds,
        most_pixels=most_pixels,
        most_labels=most_labels,
        most_waiting=queue,
        most_connections=connections,
        most_batch=batch,
        receive_seconds=receive_seconds,
        request_seconds=request_seconds,
        decode_seconds=decode_seconds,
    )

    def model(name: str) -> "Recognizer":
        return make_recognizer(
            name,
            weights=weights,
            views=views,
            sampling=sampling_options(frames, stride_frames, fps, clip_seconds),
            strength=strength,
            device=device,
            precision=precision,
            compiled=False,
            web=False,
        )

    models = {_shown(checkpoint): model(checkpoint)}
    if compare is not None:
        models[_shown(compare) if _shown(compare) not in models else f"{_shown(compare)} (2)"] = model(compare)
    first = next(iter(models.values()))
    chosen = asked_labels(first.model, names, labels_file, None)
    if chosen is not None:
        limits.check_labels(list(chosen))
        first.prepare(chosen)  # a fault in the labels shows now, and the first request need not wait for their texts
    found = None
    if index is not None:
        from m2clip.search import VideoIndex

        found = VideoIndex.open(index)
        found.check(first)
    if token is None and open_to_others(host):
        say(f"whoever reaches {host} can use this server: set {_TOKEN} or --token-file to ask for a token")
    service = Service(models, limits=limits, index=found, labels=chosen, workers=decoders)
    run_server(
        service,
        listening,
        host=host,
        token=token,
        page=page,
        stop_seconds=stop_seconds,
        ready=lambda address: show(f"m2clip serves {' and '.join(models)} at {address} (stop: Ctrl-C)"),
    )


def _token(file: Path | None) -> str | None:
    """The token of the file or of the environment; never an option's value, which every user of the machine could see."""
    # No other process that this one starts has a use for it.
    token = os.environ.pop(_TOKEN, None) if file is None else file.read_text("utf-8", errors="replace").strip()
    if token is None:
        return None
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"the token in {_TOKEN if file is None else file} cannot be used: take 16 or more letters and digits, without spaces"
        )
    return token


def _shown(checkpoint: str) -> str:
    """A model's name for clients: a file's without its folders."""
    return Path(checkpoint).stem if checkpoint.endswith(".safetensors") else checkpoint
