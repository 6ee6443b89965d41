"""Protocols of evaluation: supervised (the trained classes, up to three readings) and zero-shot (any classes, text only).

Every video of a manifest is scored once or named as bad, and what was done stands in the report's protocol
(SPEC.md, "Evaluation").
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from m2clip.config import Precision
from m2clip.data.dataset import MOST_LOST, BadFile, DamagedFile, VideoDataset
from m2clip.data.frame_cache import FrameCache
from m2clip.data.manifest import Manifest, Samples
from m2clip.data.readers import FILE_SECONDS
from m2clip.data.sampling import SETTINGS, ClipSampling
from m2clip.data.text.descriptions import TextSource
from m2clip.data.text.prompts import name_doubt
from m2clip.evaluate.classes import evaluated_classes
from m2clip.evaluate.documents import (
    calibration_document,
    data_document,
    model_document,
    rejection_lines,
    texts_and_weights,
    versions,
    video_document,
)
from m2clip.evaluate.masked_words import MaskedWordTest
from m2clip.evaluate.scoring_pass import ScoringPass, read_batches
from m2clip.kept_texts import kept_class_embeddings
from m2clip.losses import SIMILARITY_SCALE
from m2clip.model.info import ModelInfo
from m2clip.model.precision import for_inference, precision_of
from m2clip.model.video_clip import VideoCLIP
from m2clip.protocol.file import Kind
from m2clip.report import Metrics, accuracy_table, masked_word_lines, measure, write_evaluation
from m2clip.report.bad_files import write_file_tables
from m2clip.scoring import Reading
from m2clip.terminal import aligned

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Evaluation:
    """The result for N scored videos and K classes, in the order of the manifest."""

    document: dict[str, Any]
    """What report.json holds: protocol, metrics, seconds, and on request the scores of each view."""
    metrics: dict[str, Metrics]
    """One for each reading."""
    class_names: tuple[str, ...]
    samples: Samples
    probabilities: dict[Reading, NDArray[np.float32]]
    """[N, K] for each reading: the mean over the views, calibrated where the model is."""
    best_evidence: NDArray[np.float32]
    """[N]: the largest logit of the visual head where it is read, else the largest cosine; by it videos of other classes are told."""
    bad: tuple[BadFile, ...] = ()
    damaged: tuple[DamagedFile, ...] = ()
    """Of the scored videos, those that have lost frames."""

    def summary(self) -> str:
        """The protocol in short and the accuracies, as lines of text."""
        used = self.document["protocol"]
        views, data = used["views"], used["data"]
        table = accuracy_table(self.metrics)
        sampling = ClipSampling(**{name: used[name] for name in SETTINGS})
        told = used["trained_sampling"] and sampling.departures(ClipSampling(**used["trained_sampling"]))
        weakened = "" if used["strength"] == 1 else f", adapter strength {used['strength']:g}"
        rounded = "" if used["precision"] == "fp32" else f", {used['precision']}"
        return "\n".join(
            [
                f"{used['name']}, {used['classes']} classes, {sampling.frames} frames {sampling.way}{weakened}{rounded}, "
                f"{views['temporal']}x{views['spatial']} views: {data['scored']} of {data['listed']} videos scored, "
                f"{data['missing']} missing, {data['bad']} bad"
                + (f", {data['damaged']} damaged" if data["damaged"] else ""),
                *(told or ()),
                texts_and_weights(used),
                *aligned([table.header, *table.rows]),
                *rejection_lines(self.document.get("none_of_these")),
                *masked_word_lines(self.document.get("masked_words", {})),
            ]
        )

    def write(self, out: str | Path) -> list[str]:
        """Write report.json, scores.csv, figures, report.html and tables of bad and damaged files into the folder `out`.

        Returns the names of the files.
        """
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
        names = write_evaluation(Path(out), self.document, self.metrics, class_names=self.class_names, score_rows=rows)
        return names + write_file_tables(Path(out), self.bad, self.damaged)


def evaluate(
    model: VideoCLIP,
    manifest: Manifest,
    *,
    protocol: Kind = "supervised",
    texts: TextSource | Sequence[Sequence[str]] | None = None,
    views_temporal: int = 1,
    views_spatial: int = 1,
    frames: int | None = None,
    stride_frames: int | None = None,
    fps: float | None = None,
    clip_seconds: float | None = None,
    precision: Precision = "fp32",
    batch_size: int = 8,
    workers: int = 0,
    on_bad_file: Literal["skip", "stop"] = "skip",
    most_lost: float = MOST_LOST,
    file_seconds: float = FILE_SECONDS,
    known_bad: Sequence[BadFile] = (),
    cache: FrameCache | None = None,
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
    `frames`, `stride_frames`, `fps` and `clip_seconds` change which frames a clip takes (`ClipSampling.changed`); without them
    they are as in training. `precision`: bf16 works on a rounded copy of the model; auto does where the hardware has it.
    `batch_size`: videos at a time in each process. `per_view` adds the probabilities of each view to the document.
    `masked_words`: in the supervised protocol, a trained masked-word head is measured, too (`MaskedWordTest`).
    A video that has lost more than the share `most_lost` of its frames to damage is bad, and one that keeps a worker busy for
    more than `file_seconds`. `known_bad`: the `bad` of an earlier evaluation of the same manifest; what crashed there is not read
    again. With a `cache`, frames are decoded once and taken from there afterwards. `checkpoint` is only written down. `tell` gets a
    sentence for bad and damaged files, `progress` (videos done, all videos of this process). In a torch.distributed group each
    process scores its share and every process returns the whole result.

    Raises ConfigError where protocol, classes and texts do not fit; VideoError for a bad file with `on_bad_file="stop"`, or where
    no video at all can be read.
    """
    started = time.perf_counter()
    model = for_inference(model, precision)
    info = model.info
    classes = evaluated_classes(info, manifest, protocol, visual_head=model.visual_head is not None, texts=texts)
    if protocol == "zero-shot" and texts is None and (doubt := name_doubt(manifest.class_names)):
        tell(doubt)
    dataset = evaluation_dataset(
        info,
        manifest,
        views_temporal=views_temporal,
        views_spatial=views_spatial,
        sampling=info.sampling.changed(frames=frames, stride_frames=stride_frames, fps=fps, clip_seconds=clip_seconds),
        most_lost=most_lost,
        cache=cache,
    )
    calibration = info.calibration_for(classes.texts)
    words = _word_test(model, manifest) if masked_words and protocol == "supervised" else None
    run = ScoringPass(
        dataset,
        kept_class_embeddings(model, classes.texts, names=manifest.class_names),
        head_columns=classes.head_columns,
        batch_size=batch_size,
        calibration=calibration,
        per_view=per_view,
        words=words,
    )
    for batch in read_batches(
        dataset,
        batch_size=batch_size,
        workers=workers,
        file_seconds=file_seconds,
        known_bad=known_bad,
        on_bad_file=on_bad_file,
        tell=tell,
        progress=progress,
    ):
        run.score(model, batch)
    scored = run.merge()
    samples = manifest.samples.take(np.asarray(scored, np.int64))
    labels = samples.labels
    probabilities = run.probabilities(scored)
    metrics: dict[str, Metrics] = {
        reading: measure(table, labels, manifest.class_names) for reading, table in probabilities.items()
    }
    best_evidence = run.best_evidence[scored].cpu().numpy()
    threshold = None
    if calibration is not None:
        head_read = classes.head_columns is not None
        threshold = calibration.threshold_for(visual_head=head_read, strength=model.strength)
    protocol_document = {
        "name": protocol,
        "data": data_document(manifest, run.bad, run.damaged),
        "views": {"temporal": views_temporal, "spatial": views_spatial, "fusion": "mean of probabilities"},
        **dataset.sampling.document(),
        "trained_frames": info.frames if info.trained else None,
        "trained_sampling": info.sampling.document() if info.trained else None,
        "image_size": info.image_size,
        "mean": list(info.sizes.mean),
        "std": list(info.sizes.std),
        "similarity_scale": SIMILARITY_SCALE,
        "strength": model.strength,
        "calibration": calibration_document(calibration, threshold=threshold),
        **classes.texts_from,
        "classes": len(manifest.class_names),
        "classes_seen_in_training": len(set(manifest.class_names) & set(info.class_names)) if info.trained else 0,
        "class_names": list(manifest.class_names),
        "texts": [list(of_class) for of_class in classes.texts],
        "bad_files": [{"path": str(bad.path), "where": bad.where, "reason": bad.reason} for bad in run.bad],
        "damaged_files": [
            {"path": str(file.path), "where": file.where, "lost_share": file.lost_share} for file in run.damaged
        ],
        "most_lost": most_lost,
        "model": model_document(model, checkpoint),
        "seed": info.training.get("seed"),
        "device": str(run.device),
        "precision": precision_of(model),
        "versions": versions(),
    }
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "protocol": protocol_document,
        "metrics": {reading: measured.document() for reading, measured in metrics.items()},
        "seconds": time.perf_counter() - started,
    }
    if threshold is not None:
        rejected = int((best_evidence < threshold).sum())
        document["none_of_these"] = {"rejected": rejected, "videos": len(scored), "share": rejected / len(scored)}
    if words is not None:
        document["masked_words"] = words.document(labels=manifest.samples.labels.tolist(), scored=scored)
    if per_view:
        document["videos"] = [
            video_document(
                sample,
                manifest.class_names,
                {name: table[row].tolist() for name, table in probabilities.items()},
                run.views(n),
            )
            for row, (n, sample) in enumerate(zip(scored, samples, strict=True))
        ]
    return Evaluation(
        document,
        metrics,
        manifest.class_names,
        samples,
        probabilities,
        best_evidence,
        tuple(run.bad),
        tuple(run.damaged),
    )


def evaluation_dataset(
    info: ModelInfo,
    manifest: Manifest,
    *,
    views_temporal: int,
    views_spatial: int,
    sampling: ClipSampling,
    most_lost: float,
    cache: FrameCache | None = None,
) -> VideoDataset:
    """The videos as a model with this record sees them in a test."""
    return VideoDataset(
        manifest,
        **sampling.document(),
        size=info.image_size,
        mean=info.sizes.mean,
        std=info.sizes.std,
        train=False,
        views_temporal=views_temporal,
        views_spatial=views_spatial,
        most_lost=most_lost,
        cache=cache,
    )


def _word_test(model: VideoCLIP, manifest: Manifest) -> MaskedWordTest | None:
    """None for a model whose head is not there, or was never trained."""
    info = model.info
    if not (info.trained and info.words):
        return None
    columns = [info.class_names.index(name) for name in manifest.class_names]
    return MaskedWordTest(model, columns=columns, videos=len(manifest.samples))
