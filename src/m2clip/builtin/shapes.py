"""MotionShapes: generated, seeded video files whose classes are sentences, "a red star moving left to right".

In the spirit of Something-Something: motions come in time-reversed pairs. A video of the second motion of a pair is a
video of the first one played backwards, exactly; so no frame and no unordered set of frames tells the two apart.
`base` is for training; the objects of `novel` never occur in `base`, its motions all do. `novel-val` has yet other objects: a
choice for the sake of never-seen classes is made there.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from m2clip.builtin.scenes import (
    COLOURS,
    DISTRACTORS,
    SHAPES,
    Objects,
    backgrounds,
    jittered_colours,
    render,
    shape_id,
    uniform,
)
from m2clip.errors import M2CLIPError

PAIRS = {
    "across": ("moving left to right", "moving right to left"),
    "vertical": ("moving up", "moving down"),
    "size": ("growing", "shrinking"),
    "spin": ("spinning clockwise", "spinning counterclockwise"),
    "circle": ("circling clockwise", "circling counterclockwise"),
    "fade": ("fading in", "fading out"),
    "bounce": ("bouncing higher and higher", "bouncing lower and lower"),
}
"""Each pair's motions: the second is the first one played backwards."""

MOTIONS = tuple(motion for pair in PAIRS.values() for motion in pair)
"""All motions."""

# Objects, each with its motion pairs. In base, every pair comes with four objects and every object with two pairs, so that
# neither tells the other; "spin" only with shapes that need a full turn to look the same.
BASE = {
    "red circle": ("across", "size"),
    "white circle": ("vertical", "fade"),
    "blue square": ("circle", "bounce"),
    "orange square": ("across", "fade"),
    "green triangle": ("vertical", "circle"),
    "purple triangle": ("size", "bounce"),
    "yellow star": ("across", "vertical"),
    "cyan star": ("circle", "fade"),
    "pink cross": ("size", "circle"),
    "red cross": ("size", "bounce"),
    "blue heart": ("spin", "vertical"),
    "pink heart": ("spin", "bounce"),
    "green arrow": ("spin", "fade"),
    "yellow arrow": ("spin", "across"),
}
NOVEL = {
    "purple crescent": ("spin", "across"),
    "orange drop": ("spin", "bounce"),
    "cyan ring": ("vertical", "size"),
    "white diamond": ("across", "fade"),
    "pink bolt": ("circle", "vertical"),
    "green star": ("size", "bounce"),
}

NOVEL_VALIDATION = {
    "green crescent": ("spin", "vertical"),
    "yellow drop": ("spin", "size"),
    "red ring": ("across", "fade"),
    "blue bolt": ("circle", "bounce"),
}
"""Objects in neither base nor novel: what is chosen for never-seen classes is chosen on these, not on the novel tests."""

_SUBSETS = {"base": BASE, "novel": NOVEL, "novel-val": NOVEL_VALIDATION}
_LISTS = (("base", "train"), ("base", "val"), ("base", "test"), ("novel", "test"), ("novel-val", "val"))
_SHOTS = (2, 4, 8, 16)
_FPS = 12
_MARK = "shapes.json"  # stands for a finished folder


def class_names(subset: str) -> tuple[str, ...]:
    """The classes of "base", "novel" or "novel-val" by their ids; the two motions of a pair are neighbours (ids 2k, 2k + 1)."""
    names = []
    for thing, pairs in _SUBSETS[subset].items():
        article = "an" if thing[0] in "aeiou" else "a"
        names += [f"{article} {thing} {motion}" for pair in pairs for motion in PAIRS[pair]]
    return tuple(names)


def make_shapes(
    out: Path,
    *,
    seed: int = 0,
    train_per_class: int = 12,
    val_per_class: int = 2,
    test_per_class: int = 4,
    frames: int = 24,
    size: int = 80,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 2,
) -> Path:
    """Writes MotionShapes under `out` and returns `out`: the same arguments give the same frames, whatever `workers` is.

    `base/{train,val,test}.csv`, `novel/test.csv` and `novel-val/val.csv` have the columns path (relative to the list) and label (an id of
    `classes.csv` beside the list); `base/train_{2,4,8,16}.csv` list the first videos of each class only, for few shots;
    videos are H.264 files of `frames` frames, `size` pixels square, in a folder per split.
    `progress(done, total)` is called after each video. A finished folder of the same arguments is left as it is.

    Raises M2CLIPError for arguments out of range, and where `out` holds other data.
    """
    settings = {
        "version": 2,  # of what is written for the same numbers
        "seed": seed,
        "train_per_class": train_per_class,
        "val_per_class": val_per_class,
        "test_per_class": test_per_class,
        "frames": frames,
        "size": size,
    }
    for name, value, least in (
        ("train_per_class", train_per_class, 0),
        ("val_per_class", val_per_class, 0),
        ("test_per_class", test_per_class, 0),
        ("seed", seed, 0),
        ("frames", frames, 8),
        ("size", size, 32),
        ("workers", workers, 1),
    ):
        if value < least:
            raise M2CLIPError(f"{name} is {value}, but must be at least {least}")
    if size % 2:
        raise M2CLIPError(f"size is {size}, but H.264 needs an even number of pixels: take {size + 1}")
    mark = out / _MARK
    if mark.is_file() and json.loads(mark.read_text()) == settings:
        return out
    if any((out / subset).exists() for subset in _SUBSETS):
        raise M2CLIPError(f"{out} already holds other or unfinished data: remove it or choose another folder")

    with _telling_of_full_disks(out):
        _write_all(out, settings, workers=workers, progress=progress)
    return out


def _write_all(
    out: Path, settings: dict[str, int], *, workers: int, progress: Callable[[int, int], None] | None
) -> None:
    jobs = list(planned_videos(out, settings))
    for folder in {path.parent for path, _, _, _ in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
    for subset in _SUBSETS:
        (out / subset).mkdir(parents=True, exist_ok=True)
        _write_rows(out / subset / "classes.csv", ("id", "name"), list(enumerate(class_names(subset))))

    def work(job: tuple[Path, str, int, int]) -> None:
        path, name, _, video_seed = job
        thing, motion = thing_and_motion(name)
        clip = render_motion(thing, motion, seed=video_seed, frames=settings["frames"], size=settings["size"])
        write_video(path, clip)

    # Threads are enough: tensor operations and the encoder run outside the interpreter's lock. One thread inside each
    # operation, or the workers would get in each other's way.
    inner = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers) as pool:
            for done, _ in enumerate(pool.map(work, jobs), start=1):
                if progress:
                    progress(done, len(jobs))
    finally:
        torch.set_num_threads(inner)
    _write_lists(out, settings)
    (out / _MARK).write_text(json.dumps(settings, indent=1))


@contextmanager
def _telling_of_full_disks(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise M2CLIPError(
            f"{out} cannot be written ({error.strerror or error}); free space, remove what is there, and make the videos again, "
            "or choose another folder"
        ) from error


def render_motion(thing: str, motion: str, *, seed: int, frames: int, size: int) -> np.ndarray:
    """One video of a thing ("red star") in motion (one of MOTIONS), uint8 [frames, size, size, 3].

    With the same seed, a motion and its partner give the same frames in opposite order.
    """
    pair, (forward, _) = next((pair, motions) for pair, motions in PAIRS.items() if motion in motions)
    generator = torch.Generator().manual_seed(seed)
    objects = trajectory(thing, pair, frames, generator)
    images = render(objects, backgrounds(1, size, generator))
    video = (images * 255.0 + 0.5).to(torch.uint8).permute(0, 2, 3, 1)
    return (video if motion == forward else video.flip(0)).contiguous().numpy()


def write_video(path: Path, frames: np.ndarray, *, fps: int | Fraction = _FPS) -> None:
    """Writes uint8 [T, H, W, 3] (even H and W) as H.264 (yuv420p, near lossless to the eye)."""
    with av.open(str(path), "w") as container:
        # The same bytes from the same frames: one encoder thread, and plain code. With x264's assembly about one file in fifty
        # came out differently when several were encoded at a time.
        options = {"crf": "14", "preset": "veryfast", "threads": "1", "x264-params": "asm=0"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _write_lists(out: Path, settings: dict[str, int]) -> None:
    rows: dict[str, list[tuple[str, int]]] = {f"{subset}/{split}": [] for subset, split in _LISTS}
    for path, _, label, _ in planned_videos(out, settings):
        subset, split, name = path.parts[-3:]
        k = int(path.stem.split("_")[1])
        shots = [f"_{few}" for few in _SHOTS if k < few < settings["train_per_class"]] if split == "train" else []
        for suffix in ("", *shots):
            rows.setdefault(f"{subset}/{split}{suffix}", []).append((f"{split}/{name}", label))
    for name, of_list in rows.items():
        _write_rows(out / f"{name}.csv", ("path", "label"), of_list)


def planned_videos(out: Path, settings: dict[str, int]) -> Iterator[tuple[Path, str, int, int]]:
    """Path, class name, label and seed of every video that `make_shapes` writes under `out` for these of its arguments."""
    for place, (subset, split) in enumerate(_LISTS):
        for label, name in enumerate(class_names(subset)):
            for k in range(settings[f"{split}_per_class"]):
                # A number of its own for each video, so that more videos a class leave the first ones as they were.
                sequence = np.random.SeedSequence([settings["seed"], place, label, k])
                video_seed = int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
                yield out / subset / split / f"{label:02d}_{k:03d}.mp4", name, label, video_seed


def thing_and_motion(name: str) -> tuple[str, str]:
    """Splits "a red star moving up" into "red star" and "moving up"."""
    _, colour, shape, motion = name.split(" ", 3)
    return f"{colour} {shape}", motion


def trajectory(thing: str, pair: str, frames: int, generator: torch.Generator) -> Objects:
    """The scene's objects in each frame of a pair's forward motion: distractors in slots 0 and 1, the thing in slot 2."""
    draw = lambda low, high: uniform(generator, low, high, 1).item()  # noqa: E731
    colour, shape = thing.split()
    time = torch.linspace(0.0, 1.0, frames)
    # The motion starts a little late or ends a little early, so that speed and start vary.
    begin, end = draw(0.0, 0.12), draw(0.88, 1.0)
    progress = ((time - begin) / (end - begin)).clamp(0.0, 1.0)

    radius = torch.full((frames,), draw(0.12, 0.19))
    x, y = (draw(0.3, 0.7) + draw(-0.08, 0.08) * (time - 0.5) for _ in range(2))
    angle = torch.full((frames,), draw(-0.35, 0.35))
    opacity = torch.ones(frames)
    if pair == "across":
        x = draw(0.12, 0.28) + draw(0.5, 0.6) * progress
        y = y + draw(-0.1, 0.1)
    elif pair == "vertical":
        y = draw(0.72, 0.88) - draw(0.5, 0.6) * progress
        x = x + draw(-0.1, 0.1)
    elif pair == "size":
        small, big = draw(0.07, 0.11), draw(0.22, 0.3)
        radius = small + (big - small) * progress
    elif pair == "spin":
        # At most 0.8 turns: 8 samples are at most 0.115 turns apart, far from the half turn that would alias.
        radius = radius + 0.02
        angle = draw(-math.pi, math.pi) + 2 * math.pi * draw(0.45, 0.8) * progress
    elif pair == "circle":
        orbit, phase = draw(0.18, 0.25), draw(-math.pi, math.pi) + 2 * math.pi * draw(0.65, 1.1) * progress
        middle_x, middle_y = draw(0.42, 0.58), draw(0.42, 0.58)
        x, y = middle_x + orbit * phase.cos(), middle_y + orbit * phase.sin()
    elif pair == "fade":
        opacity = draw(0.05, 0.15) + 0.85 * progress
    else:  # bounce: the height of the arcs grows; two to three arcs, so that 8 samples see each of them
        low, high = draw(0.06, 0.12), draw(0.5, 0.62)
        arcs = (math.pi * (draw(0.0, 0.3) + draw(2.1, 2.8) * progress)).sin().abs()
        y = draw(0.8, 0.86) - (low + (high - low) * progress) * arcs

    shapes = torch.tensor([len(SHAPES), len(SHAPES), shape_id(shape)])
    shapes[:2] += torch.randint(0, len(DISTRACTORS), (2,), generator=generator)
    colours = torch.randint(0, len(COLOURS), (3,), generator=generator)
    colours[2] = list(COLOURS).index(colour)
    rgb = jittered_colours(colours, generator)
    still = (torch.rand(2, 1, 1, generator=generator) < 0.5).float()
    drift = (1 - still) * uniform(generator, -0.4, 0.4, 2, 1, 2) * (time[:, None] - 0.5)
    others = uniform(generator, 0.08, 0.92, 2, 1, 2) + drift
    centre = torch.cat([others, torch.stack([x, y], dim=-1)[None]]).transpose(0, 1)
    sizes = torch.cat([uniform(generator, 0.03, 0.065, 2, 1).expand(2, frames), radius[None]]).T
    turns = torch.cat([uniform(generator, -math.pi, math.pi, 2, 1).expand(2, frames), angle[None]]).T
    shown = (torch.rand(2, 1, generator=generator) < 0.6).float().expand(2, frames)
    return Objects(
        shapes.expand(frames, 3),
        rgb.expand(frames, 3, 3),
        centre,
        sizes,
        turns,
        torch.cat([shown, opacity[None]]).T,
    )


def _write_rows(path: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
