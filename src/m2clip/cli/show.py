"""The command that shows which frames of a video a clip takes: data show."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2clip.cli.options import (
    ClipSeconds,
    Fps,
    Frames,
    Json,
    OneVideo,
    StrideFrames,
    open_video,
    sampling_options,
    view_counts,
)
from m2clip.cli.output import print_json, say, show
from m2clip.errors import ConfigError

if TYPE_CHECKING:
    from m2clip.data.dataset import VideoDataset
    from m2clip.data.parts import Part
    from m2clip.data.video import Video

_MOST_PIXELS = 2**27  # of a strip: 2,675 frames of 224 x 224


def show_clips(
    video: OneVideo,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file of a run, whose clips are shown; default: its defaults.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="A checkpoint or backbone, whose test clips are shown.")
    ] = None,
    frames: Frames = None,
    stride_frames: StrideFrames = None,
    fps: Fps = None,
    clip_seconds: ClipSeconds = None,
    views: Annotated[
        str | None, typer.Option("--views", help="Temporal x spatial views, as in 4x3; default: those of the config.")
    ] = None,
    start_seconds: Annotated[float | None, typer.Option("--start", help="Where the part begins, seconds.")] = None,
    end_seconds: Annotated[float | None, typer.Option("--end", help="Where the part ends, seconds.")] = None,
    train: Annotated[bool, typer.Option("--train", help="The random clip of training instead of test views.")] = False,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of --train; default: the config's.")] = None,
    epoch: Annotated[int | None, typer.Option("--epoch", min=0, help="Of --train, counted from 0.")] = None,
    index: Annotated[
        int | None, typer.Option("--index", min=0, help="Of --train: the video's place in the training list, from 0.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the frames, as the model sees them, as a PNG.")
    ] = None,
    json: Json = False,
) -> None:
    """Show which frames of a video a clip takes, and when they are shown; write them as a picture."""
    if config is not None and checkpoint is not None:
        raise typer.BadParameter("give --config or --checkpoint, not both", param_hint="--config")
    if train and checkpoint is not None:
        raise typer.BadParameter(
            "a checkpoint does not hold how clips were augmented; give --config", param_hint="--train"
        )
    if train and views is not None:
        raise typer.BadParameter("training takes one clip of a video", param_hint="--views")
    for name, value in (("--seed", seed), ("--epoch", epoch), ("--index", index)):
        if value is not None and not train:
            raise typer.BadParameter("only the clips of training are random; add --train", param_hint=name)
    dataset = _dataset(
        config,
        checkpoint,
        sampling=sampling_options(frames, stride_frames, fps, clip_seconds),
        views=None if views is None else view_counts(views),
        train=train,
        seed=seed,
    )
    dataset.set_epoch(epoch or 0)
    names = _row_names(dataset, train)
    if out is not None:
        from m2clip.report.files import results_file

        results_file(out, ending=".png")  # before the work, which would be lost
        if len(names) * dataset.sampling.frames * dataset.size**2 > _MOST_PIXELS:
            raise ConfigError(
                f"{len(names)} views of {dataset.sampling.frames} frames are too many for one picture; "
                "ask for fewer with --views or --frames"
            )
    import numpy as np

    from m2clip.data.parts import part_between

    with open_video(video) as opened:
        info = opened.info
        part = part_between(
            info.pts_seconds, info.duration_seconds, start_seconds=start_seconds, end_seconds=end_seconds
        )
        pixels = None if out is None else dataset.clips_of(opened, part, index or 0).numpy()
        document = _document(video, opened, part, dataset, index=index or 0)
    if out is not None and pixels is not None:
        from m2clip.report.clip_strip import clip_strip
        from m2clip.report.files import write_whole

        # [temporal views, T] -> [V, T]: the crops of a view follow one another
        facts = (np.repeat(document[key], dataset.views_spatial, axis=0) for key in ("frame_indices", "frame_seconds"))
        write_whole(out, clip_strip(pixels, *facts, names=names))
        say(f"{out}: {dataset.sampling.frames} frames in each of {len(names)} rows")
    if train:
        document["train"] = {"seed": dataset.seed, "epoch": dataset.epoch, "index": index or 0}
    if json:
        print_json(document)
    else:
        show(*_lines(document, dataset))


def _dataset(
    config: Path | None,
    checkpoint: str | None,
    *,
    sampling: dict[str, Any],
    views: tuple[int, int] | None,
    train: bool,
    seed: int | None,
) -> "VideoDataset":
    """What reads the videos of such a run, without any."""
    from m2clip.config import RunConfig, load_config
    from m2clip.data.dataset import VideoDataset
    from m2clip.data.manifest import Manifest
    from m2clip.data.sampling import ClipSampling

    run = RunConfig(out="") if config is None else load_config(config)
    sizes, temporal, spatial = run.model.sizes, run.eval.views_temporal, run.eval.views_spatial
    size, trained = sizes.image_size, ClipSampling(**run.data.sampling)
    if checkpoint is not None:
        from m2clip.checkpoint.record import read_record

        info = read_record(checkpoint).info
        sizes, size, trained = info.sizes, info.image_size, info.sampling
    used = trained.changed(**sampling)
    if config is not None or checkpoint is not None:
        for sentence in used.departures(trained):
            say(sentence)
    return VideoDataset(
        Manifest((), (), (), "", ""),  # type: ignore[arg-type]
        **used.document(),
        size=size,
        mean=sizes.mean,
        std=sizes.std,
        train=train,
        recipe=run.data.recipe,
        flip=run.data.flips,
        views_temporal=temporal if views is None else views[0],
        views_spatial=spatial if views is None else views[1],
        seed=run.train.seed if seed is None else seed,
    )


def _document(video: str, opened: "Video", part: "Part", dataset: "VideoDataset", *, index: int) -> dict[str, Any]:
    import numpy as np

    info = opened.info
    indices = np.minimum(dataset.frames_of(part, index), info.frame_count - 1)  # reading may have met damage
    return {
        "video": video,
        "frame_count": info.frame_count,
        "lost_frames": info.lost_frames,
        "fps": info.fps,
        "duration_seconds": info.duration_seconds,
        "width": info.width,
        "height": info.height,
        "rotation_degrees": info.rotation_degrees,
        "codec": info.codec,
        "part": {"first_frame": part.first, "last_frame": part.stop - 1, "end_seconds": part.end_seconds},
        "sampling": dataset.sampling.document(),
        "views": {"temporal": dataset.views_temporal, "spatial": dataset.views_spatial},
        "size": dataset.size,
        "frame_indices": indices.tolist(),
        "frame_seconds": info.pts_seconds[indices].tolist(),
    }


def _lines(document: dict[str, Any], dataset: "VideoDataset") -> list[str]:
    sampling, views, train = dataset.sampling, document["views"], document.get("train")
    turned = f", turned by {document['rotation_degrees']} degrees" if document["rotation_degrees"] else ""
    lost = f", {document['lost_frames']} lost" if document["lost_frames"] else ""
    taken = (
        f"the training clip of seed {train['seed']}, epoch {train['epoch']}, index {train['index']}"
        if train
        else f"{views['temporal']}x{views['spatial']} views"
    )
    lines = [
        f"{document['video']}: {document['frame_count']} frames{lost}, {document['fps']:.6g} a second, "
        f"{document['duration_seconds']:.3f} s, {document['width']}x{document['height']}{turned}, {document['codec']}",
        f"{sampling.frames} frames {sampling.way}, {taken}",
    ]
    for view, (indices, seconds) in enumerate(zip(document["frame_indices"], document["frame_seconds"], strict=True)):
        cells = [(str(frame), f"{time:.3f}") for frame, time in zip(indices, seconds, strict=True)]
        widths = [max(map(len, cell)) for cell in cells]
        named = "" if train else f"view {view} "
        for name, row in zip(("frames", "seconds"), zip(*cells, strict=True), strict=True):
            lines.append(f"{named}{name:7}  " + "  ".join(text.rjust(w) for text, w in zip(row, widths, strict=True)))
    return lines


def _row_names(dataset: "VideoDataset", train: bool) -> list[str]:
    if train:
        return ["training clip"]
    temporal, spatial = dataset.views_temporal, dataset.views_spatial
    crops = [""] if spatial == 1 else [f", crop {crop}" for crop in range(spatial)]
    return [f"view {view}{crop}" for view in range(temporal) for crop in crops]
