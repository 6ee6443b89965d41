"""Protocols of evaluation: supervised (the trained classes, up to three readings) and zero-shot (any classes, text only).

Every video of a manifest is scored once or named as bad, and what was done stands in the report's protocol
(SPEC.md, "Evaluation").
"""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from m2clip import __version__
from m2clip.data.dataset import BadFile, Batch, VideoDataset, make_loader
from m2clip.data.descriptions import TextSource
from m2clip.data.manifest import Manifest, Sample
from m2clip.errors import M2CLIPError, VideoError
from m2clip.evaluated_classes import Protocol, evaluated_classes
from m2clip.losses import SIMILARITY_SCALE
from m2clip.masked_words import MaskedWordTest
from m2clip.model.info import ModelInfo
from m2clip.model.video_clip import VideoCLIP
from m2clip.report import Metrics, accuracy_table, masked_word_lines, measure, write_evaluation
from m2clip.scoring import Reading, class_embeddings, fuse_views, scores

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Evaluation:
    """The result for N scored videos and K classes, in the order of the manifest."""

    document: dict[str, Any]
    """What report.json holds: protocol, metrics, seconds, and on request the scores of each view."""
    metrics: dict[str, Metrics]
    """One for each reading."""
    class_names: tuple[str, ...]
    samples: tuple[Sample, ...]
    probabilities: dict[str, NDArray[np.float32]]
    """[N, K] for each reading: the mean over the views."""

    def summary(self) -> str:
        """The protocol in short and the accuracies, as lines of text."""
        used = self.document["protocol"]
        views, data = used["views"], used["data"]
        table = accuracy_table(self.metrics)
        rows = [list(map(str, row)) for row in (table.header, *table.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        trained = (
            "" if used["trained_frames"] in (None, used["frames"]) else f" (trained with {used['trained_frames']})"
        )
        weakened = "" if used["strength"] == 1 else f", adapter strength {used['strength']:g}"
        return "\n".join(
            [
                f"{used['name']}, {used['classes']} classes, {used['frames']} frames{trained}{weakened}, "
                f"{views['temporal']}x{views['spatial']} views: {data['scored']} of {data['listed']} videos scored, "
                f"{data['missing']} missing, {data['bad']} bad",
                *(
                    "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                    for row in rows
                ),
                *masked_word_lines(self.document.get("masked_words", {})),
            ]
        )

    def write(self, out: str | Path) -> list[str]:
        """Write report.json, scores.csv, figures and report.html into the folder `out`; returns the file names."""
        rows = (
            [
                str(sample.path),
                sample.start_seconds,
                sample.end_seconds,
                self.class_names[sample.label],
                reading,
                self.class_names[int(table[n].argmax())],
                *table[n].tolist(),
            ]
            for reading, table in self.probabilities.items()
            for n, sample in enumerate(self.samples)
        )
        return write_evaluation(Path(out), self.document, self.metrics, class_names=self.class_names, score_rows=rows)


def evaluate(
    model: VideoCLIP,
    manifest: Manifest,
    *,
    protocol: Protocol = "supervised",
    texts: TextSource | Sequence[Sequence[str]] | None = None,
    views_temporal: int = 1,
    views_spatial: int = 1,
    frames: int | None = None,
    stride_frames: int | None = None,
    batch_size: int = 8,
    workers: int = 0,
    on_bad_file: Literal["skip", "stop"] = "skip",
    per_view: bool = False,
    masked_words: bool = True,
    checkpoint: str | None = None,
    tell: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Score every video of the manifest once, and measure.

    `supervised` needs the checkpoint's classes, in any order, and uses its texts; the visual head is read where it was
    trained. `zero-shot` takes the manifest's own classes and reads the text head only. `texts`, a source of them, or one or
    more for each class of the manifest, take the place of the checkpoint's texts, or of the class names in its templates.
    `frames` and `stride_frames` None: as trained. `batch_size`: videos at a time in each process. `per_view` adds the
    probabilities of each view to the document. `masked_words`: in the supervised protocol, a trained masked-word head is
    measured, too (`MaskedWordTest`). `checkpoint` is only written down. `tell` gets a sentence for each bad file, `progress`
    (videos done, all videos of this process). In a torch.distributed group each process scores its share and every process
    returns the whole result.

    Raises ConfigError where protocol, classes and texts do not fit; VideoError for a bad file with `on_bad_file="stop"`, or where
    no video at all can be read.
    """
    started = time.perf_counter()
    info = model.info
    classes = evaluated_classes(info, manifest, protocol, visual_head=model.visual_head is not None, texts=texts)
    dataset = VideoDataset(
        manifest,
        frames=info.frames if frames is None else frames,
        stride_frames=info.stride_frames if stride_frames is None else stride_frames,
        size=info.image_size,
        mean=info.sizes.mean,
        std=info.sizes.std,
        train=False,
        views_temporal=views_temporal,
        views_spatial=views_spatial,
    )
    words = _word_test(model, manifest) if masked_words and protocol == "supervised" else None
    run = _Run(
        dataset,
        class_embeddings(model, classes.texts),
        head_columns=classes.head_columns,
        per_view=per_view,
        words=words,
    )
    run.score(model, batch_size=batch_size, workers=workers, on_bad_file=on_bad_file, tell=tell, progress=progress)
    scored = run.merge()
    if not scored:
        raise VideoError(
            f"{manifest.source}: none of its {len(dataset)} videos could be read; the first: {run.bad[0].reason}"
        )
    samples = tuple(manifest.samples[n] for n in scored)
    labels = np.array([sample.label for sample in samples])
    probabilities: dict[str, NDArray[np.float32]] = {
        reading: table[scored].mean(1).cpu().numpy() for reading, table in run.tables.items()
    }
    metrics: dict[str, Metrics] = {
        reading: measure(table, labels, manifest.class_names) for reading, table in probabilities.items()
    }
    protocol_document = {
        "name": protocol,
        "data": _data_document(manifest, run.bad),
        "views": {"temporal": views_temporal, "spatial": views_spatial, "fusion": "mean of probabilities"},
        "frames": dataset.frames,
        "trained_frames": info.frames if info.trained else None,
        "stride_frames": dataset.stride_frames,
        "image_size": info.image_size,
        "mean": list(info.sizes.mean),
        "std": list(info.sizes.std),
        "similarity_scale": SIMILARITY_SCALE,
        "strength": model.strength,
        **classes.texts_from,
        "classes": len(manifest.class_names),
        "classes_seen_in_training": len(set(manifest.class_names) & set(info.class_names)) if info.trained else 0,
        "class_names": list(manifest.class_names),
        "texts": [list(of_class) for of_class in classes.texts],
        "bad_files": [{"path": str(bad.path), "where": bad.where, "reason": bad.reason} for bad in run.bad],
        "model": _model_document(info, checkpoint),
        "seed": info.training.get("seed"),
        "device": str(run.device),
        "versions": _versions(),
    }
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "protocol": protocol_document,
        "metrics": {reading: measured.document() for reading, measured in metrics.items()},
        "seconds": time.perf_counter() - started,
    }
    if words is not None:
        document["masked_words"] = words.document(labels=[sample.label for sample in manifest.samples], scored=scored)
    if per_view:
        document["videos"] = [
            _video_document(sample, manifest.class_names, {name: table[n] for name, table in run.tables.items()})
            for n, sample in zip(scored, samples, strict=True)
        ]
    return Evaluation(document, metrics, manifest.class_names, samples, probabilities)


class _Run:
    """One pass over a data set: what was scored, what was bad, and the probabilities, filled in by position in the manifest."""

    def __init__(
        self,
        dataset: VideoDataset,
        classes: Tensor,
        *,
        head_columns: list[int] | None,
        per_view: bool,
        words: MaskedWordTest | None,
    ) -> None:
        self.dataset = dataset
        self.words = words
        self.classes = classes  # [K, D]
        self.head_columns = head_columns
        self.per_view = per_view
        self.device = classes.device
        self.grouped = dist.is_available() and dist.is_initialized()
        readings: tuple[Reading, ...] = (
            ("similarity",) if head_columns is None else ("similarity", "visual", "ensemble")
        )
        views = dataset.views_temporal * dataset.views_spatial if per_view else 1
        shape = (
            len(dataset),
            views,
            len(classes),
        )  # [N, V, K]; one fused "view" where the single ones are not asked for
        self.tables = {reading: torch.zeros(shape, device=self.device) for reading in readings}
        self.times_scored = torch.zeros(len(dataset), dtype=torch.int64, device=self.device)
        self.bad: list[BadFile] = []

    @torch.inference_mode()
    def score(
        self,
        model: VideoCLIP,
        *,
        batch_size: int,
        workers: int,
        on_bad_file: str,
        tell: Callable[[str], None],
        progress: Callable[[int, int], None],
    ) -> None:
        """Score this process's share."""
        rank, world_size = (dist.get_rank(), dist.get_world_size()) if self.grouped else (0, 1)
        loader = make_loader(self.dataset, batch_size=batch_size, workers=workers, rank=rank, world_size=world_size)
        done, total = 0, len(range(rank, len(self.dataset), world_size))
        was_training = model.training
        model.eval()
        try:
            for batch in loader:
                for file in batch.bad:
                    where = f"{file.reason} (listed at {file.where})"
                    if on_bad_file == "stop":
                        raise VideoError(f"{where}; to go on without such files choose to skip them")
                    tell(f"skipped: {where}")
                    self.bad.append(file)
                if len(batch.labels):
                    self._fill(model, batch)
                done += len(batch.labels) + len(batch.bad)
                progress(done, total)
        finally:
            model.train(was_training)

    def _fill(self, model: VideoCLIP, batch: Batch) -> None:
        rows = batch.indices.to(self.device)
        views: dict[Reading, list[Tensor]] = {reading: [] for reading in self.tables}
        frames: list[Tensor] = []  # [B, T, D] a view
        for clips in batch.clips.unbind(1):  # one view at a time: a batch of many views would not fit into memory
            features = model.encode_video(clips.to(self.device))
            logits = None
            if self.head_columns is not None and features.visual_logits is not None:
                logits = features.visual_logits[:, self.head_columns]
            for reading, probabilities in scores(features.embedding, self.classes, logits).readings().items():
                views[reading].append(probabilities)
            frames.append(features.frames)
        for reading, parts in views.items():
            table = torch.stack(parts, dim=1)  # [B, V, K]
            self._need_finite(table, reading, batch)
            self.tables[reading][rows] = table if self.per_view else fuse_views(table).unsqueeze(1)
        if self.words is not None:
            self._need_finite(self.words.ask(model, frames, labels=batch.labels, rows=rows), "masked-word", batch)
        self.times_scored[rows] += 1

    def _need_finite(self, table: Tensor, what: str, batch: Batch) -> None:
        if not table.isfinite().all():
            n = int(batch.indices[~table.isfinite().flatten(1).all(1).cpu()][0])
            raise M2CLIPError(
                f"{self.dataset.manifest.samples[n].path}: its {what} scores are not finite; the checkpoint's weights "
                "are broken, so use an earlier checkpoint or train again"
            )

    def merge(self) -> list[int]:
        """Put the shares of all processes together; returns the positions that were scored, each of them exactly once."""
        if self.grouped:
            words = () if self.words is None else (self.words.said,)
            for tensor in (*self.tables.values(), self.times_scored, *words):
                dist.all_reduce(tensor)  # a sum: outside its own share a process holds zeros
        self.bad = everywhere(self.bad)
        self.bad.sort(key=lambda file: file.index)
        times_met = self.times_scored.tolist()
        for file in self.bad:
            times_met[file.index] += 1
        if times_met != [1] * len(self.dataset):
            raise RuntimeError("a video was met twice or never: the processes' shares of the data overlap or have gaps")
        return self.times_scored.nonzero().flatten().tolist()


def everywhere(bad: Sequence[BadFile]) -> list[BadFile]:
    """The bad files of all processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return list(bad)
    shares: list[list[BadFile]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(shares, list(bad))
    return [file for share in shares for file in share]


def _word_test(model: VideoCLIP, manifest: Manifest) -> MaskedWordTest | None:
    """None for a model whose head is not there, or was never trained."""
    info = model.info
    if not (info.trained and info.words):
        return None
    columns = [info.class_names.index(name) for name in manifest.class_names]
    return MaskedWordTest(model, columns=columns, videos=len(manifest.samples))


def _data_document(manifest: Manifest, bad: Sequence[BadFile]) -> dict[str, Any]:
    missing = sum(not file.path.exists() for file in bad)
    return {
        "source": str(manifest.source),
        "sha256": manifest.sha256,
        "listed": len(manifest.samples),
        "found": len(manifest.samples) - missing,
        "missing": missing,
        "bad": len(bad) - missing,
        "scored": len(manifest.samples) - len(bad),
    }


def _model_document(info: ModelInfo, checkpoint: str | None) -> dict[str, Any]:
    return {
        "checkpoint": checkpoint,
        "trained": info.trained,
        "backbone": info.backbone,
        "weights": info.weights.model_dump(),
        "adapters": info.layout.model_dump(),
    }


def _video_document(sample: Sample, class_names: Sequence[str], tables: dict[Reading, Tensor]) -> dict[str, Any]:
    segment = {"start_seconds": sample.start_seconds, "end_seconds": sample.end_seconds}
    return {
        "path": str(sample.path),
        **{key: value for key, value in segment.items() if value is not None},
        "label": class_names[sample.label],
        "scores": {
            reading: {"mean": table.mean(0).tolist(), "views": table.tolist()} for reading, table in tables.items()
        },
    }


def _versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    others = {name: version(name) for name in ("torch", "torchvision", "numpy", "av")}
    return {"m2clip": __version__, "python": platform.python_version(), **others}
