"""Measure where maps of a score lie: `m2clip demo --out demo`, then `python benchmarks/explanations.py demo` (about 10 minutes).

The demo's model and its test videos, whose objects are known to the pixel. Writes docs/results/explanations.json and the tables of
docs/explanations.md; `--tables` makes the tables again from the JSON.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from explaining.measures import deletion_and_insertion, localisation, rank_correlation, shuffled
from explaining.methods import NAMES, SHIPPED, fast_maps, occlusion, scored
from explaining.page import write_page

from m2clip.builtin.shape_masks import masked_videos, object_cover
from m2clip.builtin.shapes import NOVEL, PAIRS, class_names, render_motion
from m2clip.data.clip_reader import ReadClips
from m2clip.data.transforms import PixelStatistics
from m2clip.data.video import Video
from m2clip.explanations import explain, log_odds
from m2clip.losses import SIMILARITY_SCALE
from m2clip.model.attention_relevance import relevance
from m2clip.model.video_clip import VideoFeatures
from m2clip.recognizer import Recognizer
from m2clip.study.measure import machine
from m2clip.video_scores import Classes

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs/results/explanations.json"
BATCH = 20
Kind = Callable[[VideoFeatures, Classes, int], Tensor]


@dataclass
class Batch:
    """Some test videos of a subset, of any classes."""

    classes: Classes
    labels: list[int]
    read: list[ReadClips]
    clips: Tensor
    """[B, T, 3, S, S], normalised."""
    objects: Tensor
    """0 or 1, [B, T, S, S]."""

    def target(self, kind: Kind = log_odds, labels: list[int] | None = None) -> Callable[[VideoFeatures], Tensor]:
        """Of each video, for its own label or another."""
        asked = self.labels if labels is None else labels
        return lambda features: torch.stack(
            [kind(one(features, k), self.classes, label)[0] for k, label in enumerate(asked)]
        )

    def of_label(self, k: int, kind: Kind = log_odds) -> Callable[[VideoFeatures], Tensor]:
        """Of any clips, for the label of video k."""
        return lambda features: kind(features, self.classes, self.labels[k])


def one(features: VideoFeatures, k: int) -> VideoFeatures:
    """The features of one clip of a batch."""
    logits = features.visual_logits
    return VideoFeatures(
        features.embedding[k : k + 1], features.frames[k : k + 1], None if logits is None else logits[k : k + 1]
    )


def probability(features: VideoFeatures, classes: Classes, label: int) -> Tensor:
    return log_odds(features, classes, label).sigmoid()


def logit(features: VideoFeatures, classes: Classes, label: int) -> Tensor:
    """100 * cosine, whatever speaks for other labels."""
    return SIMILARITY_SCALE * (F.normalize(features.embedding, dim=-1) @ classes.embeddings[label].clone())


def batches(recognizer: Recognizer, data: Path, subset: str, every: int = 1) -> Iterator[Batch]:
    """The test videos of a subset, every so many of them."""
    size = recognizer.model.info.image_size
    names = class_names(subset)
    classes = recognizer.prepare(list(names))
    statistics = PixelStatistics(recognizer.model.info.sizes.mean, recognizer.model.info.sizes.std)
    videos = list(masked_videos(data, subset, "test"))[::every]
    for start in range(0, len(videos), BATCH):
        some = videos[start : start + BATCH]
        read, objects = [], []
        for video in some:
            with Video(video.path) as opened:
                read.append(recognizer.reader.read(opened))
            cover = video.cover[torch.from_numpy(read[-1].frame_indices[0, 0])]
            shrunk = F.interpolate(cover[:, None], size=(size, size), mode="bilinear", antialias=True)[:, 0]
            objects.append((shrunk > 0.5).float())
        clips = statistics.normalize(torch.cat([one.pixels[0] for one in read]))
        yield Batch(classes, [classes.names.index(one.label) for one in some], read, clips, torch.stack(objects))


def where(recognizer: Recognizer, data: Path, subset: str) -> dict[str, Any]:
    """Mass on the object of every fast method, for all test videos; of the best map that patches allow; of the difference branch."""
    maps: dict[str, list[Tensor]] = defaultdict(list)
    objects = []
    for batch in batches(recognizer, data, subset):
        found = fast_maps(recognizer.model, batch.clips, batch.target())
        found["relevance, plain logit"] = relevance(recognizer.model, batch.clips, batch.target(logit)).patches
        size = recognizer.model.clip.visual.patch_size
        found["best possible"] = F.avg_pool2d(batch.objects, size)
        objects.append(batch.objects)
        for name, values in found.items():
            maps[name].append(values)
    told = torch.cat(objects)
    result: dict[str, Any] = {name: localisation(torch.cat(values), told) for name, values in maps.items()}
    # What changes is where the object is and where it was; frame 0 has nothing before it.
    moved = torch.maximum(told[:, 1:], told[:, :-1])
    result["difference"] = localisation(torch.cat(maps["difference"])[:, 1:], moved)
    return {"videos": len(told), "maps": result}


def removal(recognizer: Recognizer, data: Path, every: int) -> dict[str, Any]:
    """Deletion and insertion on some base and novel videos, where there is time for occlusion as well."""
    model = recognizer.model
    areas: dict[str, list[tuple[float, float]]] = defaultdict(list)
    masses: list[tuple[Tensor, Tensor]] = []
    frames: list[Tensor] = []
    for batch in (one for subset in ("base", "novel") for one in batches(recognizer, data, subset, every)):
        found = fast_maps(model, batch.clips, batch.target())
        del found["difference"]  # of no label
        found["relevance, plain logit"] = relevance(model, batch.clips, batch.target(logit)).patches
        slow = [occlusion(model, clip, batch.of_label(k)) for k, clip in enumerate(batch.clips)]
        found["occlusion"] = torch.stack(slow)
        masses.append((found["occlusion"], batch.objects))
        for k, clip in enumerate(batch.clips):
            shown = batch.of_label(k, probability)
            for name, values in found.items():
                areas[name].append(deletion_and_insertion(model, clip, values[k], shown))
            frames.append(frame_agreement(recognizer, batch, k, found[SHIPPED][k]))
    return {
        "videos": len(frames),
        "areas": {
            name: {"deletion": round(fmean(a for a, _ in pairs), 3), "insertion": round(fmean(b for _, b in pairs), 3)}
            for name, pairs in areas.items()
        },
        "occlusion": localisation(*(torch.cat(parts) for parts in zip(*masses, strict=True))),
        "frames_rank_correlation": round(float(torch.cat(frames).mean()), 2),
    }


def frame_agreement(recognizer: Recognizer, batch: Batch, k: int, heat: Tensor) -> Tensor:
    """Rank correlation of each frame's share of the heat with how far the log-odds fall where the frame is hidden, [1]."""
    clip = batch.clips[k]
    hidden = clip.repeat(len(clip), 1, 1, 1, 1)
    for t in range(len(clip)):
        hidden[t, t] = clip.mean((0, 2, 3))[:, None, None]
    left = scored(recognizer.model, hidden, batch.of_label(k))
    return rank_correlation(heat.sum((1, 2))[None], -left[None])


def sanity(recognizer: Recognizer, data: Path, every: int) -> dict[str, Any]:
    """Rank correlation of maps with those of shuffled weights and of other labels."""
    model, layers = recognizer.model, len(recognizer.model.clip.visual.blocks)
    weights: dict[str, list[Tensor]] = defaultdict(list)
    labels: dict[str, list[Tensor]] = defaultdict(list)
    noisy = {count: shuffled(model, range(layers - count, layers)) for count in range(1, layers + 1)}
    for subset in ("base", "novel"):
        for batch in batches(recognizer, data, subset, every):
            own = relevance(model, batch.clips, batch.target()).patches
            for count, other in noisy.items():
                weights[str(count)].append(rank_correlation(own, relevance(other, batch.clips, batch.target()).patches))
            total = len(batch.classes.names)
            for name, asked in (
                ("same object, opposite motion", [label ^ 1 for label in batch.labels]),
                ("another object", [(label + total // 2) % total for label in batch.labels]),
            ):
                other = relevance(model, batch.clips, batch.target(labels=asked)).patches
                labels[name].append(rank_correlation(own, other))
    mean = lambda parts: round(float(torch.cat(parts).mean()), 2)  # noqa: E731
    return {
        "videos": sum(map(len, labels["another object"])),
        "shuffled_last_blocks": {count: mean(parts) for count, parts in weights.items()},
        "other_labels": {name: mean(parts) for name, parts in labels.items()},
    }


def two_objects(recognizer: Recognizer, count: int) -> dict[str, Any]:
    """Videos with two novel objects, of which one is asked for: the mass on the one and on the other, for both."""
    size, frames = recognizer.model.info.image_size, recognizer.sampling.frames
    classes = recognizer.prepare(list(class_names("novel")))
    statistics = PixelStatistics(recognizer.model.info.sizes.mean, recognizer.model.info.sizes.std)
    asked, other, areas = [], [], []
    things = list(NOVEL)
    for seed in range(count):
        drawn = []
        for thing, offset in (
            (things[seed % len(things)], 0),
            (things[(seed + 1 + seed // 6 % 5) % len(things)], 1000),
        ):
            motion = PAIRS[NOVEL[thing][seed % 2]][seed // 2 % 2]
            options = {"seed": seed + offset, "frames": frames, "size": size}
            drawn.append(
                (thing, motion, render_motion(thing, motion, **options), object_cover(thing, motion, **options))
            )
        below, above = (torch.from_numpy(video).permute(0, 3, 1, 2) for _, _, video, _ in drawn)
        top = drawn[1][3][:, None]
        pixels = (below * (1 - top) + above * top).to(torch.uint8)
        masks = [((drawn[0][3] > 0.5) & (drawn[1][3] <= 0.5)).float(), (drawn[1][3] > 0.5).float()]
        clip = statistics.normalize(pixels)[None]
        for k, (thing, motion, _, _) in enumerate(drawn):
            label = next(i for i, name in enumerate(classes.names) if f"{thing} {motion}" in name)
            found = relevance(recognizer.model, clip, lambda f, label=label: log_odds(f, classes, label)).patches
            asked.append(localisation(found, masks[k][None])["mass"])
            other.append(localisation(found, masks[1 - k][None])["mass"])
            areas.append(float(masks[k].mean()))
    return {
        "videos": count,
        "asked": round(fmean(asked), 3),
        "other": round(fmean(other), 3),
        "chance": round(fmean(areas), 3),
        "asked_more_often": round(fmean(a > b for a, b in zip(asked, other, strict=True)), 3),
    }


def seconds(recognizer: Recognizer, data: Path, rounds: int = 15) -> dict[str, float]:
    """An explanation beside a score of the same clip, in turn."""
    batch = next(batches(recognizer, data, "base", 20))
    took: dict[str, list[float]] = {"explain": [], "score": []}
    name = batch.classes.names[batch.labels[0]]
    for _ in range(rounds):
        for what, work in (
            ("score", lambda: recognizer.score_clips(batch.read[0], batch.classes)),
            ("explain", lambda: explain(recognizer, batch.read[0], name, batch.classes)),
        ):
            start = time.perf_counter()
            work()
            took[what].append(time.perf_counter() - start)
    ratios = [slow / quick for slow, quick in zip(took["explain"], took["score"], strict=True)]
    return {"explain_ms": round(1e3 * median(took["explain"]), 1), "ratio_to_score": round(median(ratios), 1)}


def measure(demo: Path, *, every: int, note: str) -> dict[str, Any]:
    """The whole document."""
    recognizer = Recognizer(demo / "run/best.safetensors", device="cpu")
    data = demo / "data"
    document: dict[str, Any] = {
        "command": f"python benchmarks/explanations.py demo --every {every}",
        "machine": machine(),
        "note": note,
        "methods": NAMES,
    }
    for name, work in (
        ("seconds", lambda: seconds(recognizer, data)),
        ("base", lambda: where(recognizer, data, "base")),
        ("novel", lambda: where(recognizer, data, "novel")),
        ("two_objects", lambda: two_objects(recognizer, 120)),
        ("sanity", lambda: sanity(recognizer, data, max(1, every // 4))),
        ("removal", lambda: removal(recognizer, data, every)),
    ):
        started = time.perf_counter()
        document[name] = work()
        print(f"{name}: {time.perf_counter() - started:.0f} s", document[name], file=sys.stderr, flush=True)
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, nargs="?", help="the folder that `m2clip demo --out` filled")
    parser.add_argument("--every", type=int, default=20, help="deletion and occlusion on one of so many test videos")
    parser.add_argument("--note", default="nothing else ran", help="what else the machine did")
    parser.add_argument("--tables", action="store_true", help="make the page's tables again, and measure nothing")
    options = parser.parse_args()
    if not options.tables:
        if options.demo is None:
            parser.error("give the demo's folder, or --tables")
        document = measure(options.demo, every=options.every, note=options.note)
        RESULT.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    write_page(json.loads(RESULT.read_text("utf-8")))


if __name__ == "__main__":
    main()
