"""One video -> labels, an embedding, a timeline: what the command line and programs call."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from m2clip.checkpoint import create, load
from m2clip.config import BACKBONES, Precision
from m2clip.data.clip_reader import ClipReader, ReadClips
from m2clip.data.text.descriptions import TextSource
from m2clip.data.text.prompts import class_texts
from m2clip.data.timeline_reader import TimelineReader, WindowClips, WindowedFrames
from m2clip.data.transforms import PixelStatistics
from m2clip.data.video import Video
from m2clip.data.web import DEFAULT_LIMITS, WebLimits
from m2clip.errors import CheckpointError, ConfigError
from m2clip.kept_texts import kept_class_embeddings
from m2clip.labels import Labels, named_labels, need_characters
from m2clip.model.compiled import compile_images
from m2clip.model.precision import for_inference
from m2clip.model.video_clip import VideoCLIP, VideoFeatures
from m2clip.scoring import Prediction, Reading, calibrated, fuse_views, scores, top_predictions
from m2clip.timeline import EncodedWindows, Window, encoded_windows
from m2clip.video_scores import Classes, VideoScores

MOST_LABEL_SETS = 16


class Recognizer:
    """Recognises actions with a model that stays loaded; the texts of a set of labels are encoded once (`kept_texts`).

    `model`: a model, the path or hub id ("hf-hub:owner/name") of a checkpoint, or the name of a backbone: "builtin" (it
    knows coloured shapes, not the world), or "ViT-B-16" and the like with OpenAI's weights and fresh adapters. `weights`:
    the CLIP's file, where it is not found by itself. A path or name runs on the GPU if there is one and `device` is None; a
    given model stays where it is. Size, mean, std and template are the model's, and so are the frames that a clip takes, but
    for those of `frames`, `stride_frames`, `fps` and `clip_seconds` that are given (`data.sampling.ClipSampling`).
    `strength` in [0, 1] weakens the adapters (of a given model, too): 0 is the frozen CLIP; None: as the model has it.
    `precision`: fp32 gives the same scores everywhere; bf16 is faster where the hardware has it, and rounds (a given model is
    copied for it); auto: bf16 where it is native.
    `texts` makes the texts of named labels (`data.descriptions`); None: the model's own texts and templates do.
    `web`: what fetching a video behind http:// or https:// may take; None: addresses are refused, as for strangers' texts.
    """

    def __init__(
        self,
        model: VideoCLIP | str | Path,
        *,
        weights: str | Path | None = None,
        frames: int | None = None,
        stride_frames: int | None = None,
        fps: float | None = None,
        clip_seconds: float | None = None,
        views_temporal: int = 1,
        views_spatial: int = 1,
        device: str | torch.device | None = None,
        strength: float | None = None,
        precision: Precision = "fp32",
        texts: TextSource | None = None,
        web: WebLimits | None = DEFAULT_LIMITS,
    ) -> None:
        for name, views in (("views_temporal", views_temporal), ("views_spatial", views_spatial)):
            if not isinstance(views, Integral) or views < 1:
                raise ConfigError(f"{name} is {views!r}: it must be a whole number, 1 or more")
        given = isinstance(model, VideoCLIP)
        if not isinstance(model, VideoCLIP):
            model = find_model(model, weights=weights)
        if not given or device is not None:
            model = model.to(find_device(device))
        model = for_inference(model, precision, in_place=not given)
        if strength is not None:
            model.set_strength(strength)
        self.model = model.eval()
        self.sampling = model.info.sampling.changed(
            frames=frames, stride_frames=stride_frames, fps=fps, clip_seconds=clip_seconds
        )
        self.views_temporal, self.views_spatial = views_temporal, views_spatial
        self._texts, self._web = texts, web
        self._prepared: dict[object, Classes] = {}  # the set used last stands last

    @property
    def reader(self) -> ClipReader:
        """What reads a video as the model takes it; it can be sent to another process."""
        return ClipReader(self.sampling, self.model.info.image_size, self.views_temporal, self.views_spatial)

    def compile(self, *, tell: Callable[[str], None] = lambda sentence: None) -> None:
        """Run compiled code from now on: `model.compiled.compile_images` for the frames that are used here."""
        compile_images(self.model, frames=self.sampling.frames, tell=tell)

    def classify(self, video: Any, labels: Labels | None = None, top: int = 5) -> list[Prediction]:
        """The `top` most probable labels of a video, best first.

        `video`: whatever `data.video.Video` takes, or a Video that is open (it stays open). `labels`: names (put into the
        model's template), a mapping from names to one or more texts (used as they are), or None for the classes that the model
        was trained on. Scores are probabilities over the labels: of the reading `ensemble` for a trained model with a visual
        head and exactly its own classes, else of `similarity`; so a model with fresh adapters gives CLIP's own scores.

        Raises ConfigError for labels that cannot be used and VideoError for a video that cannot be read.
        """
        return self.score(video, labels).top(top)

    def score(self, video: Any, labels: Labels | None = None) -> VideoScores:
        """Like `classify`, but the probabilities of all labels, and of each view."""
        classes = self.prepare(labels)
        with self._opened(video) as opened:
            clips = self.reader.read(opened)
        return self.score_clips(clips, classes)[0]

    def embed(self, video: Any) -> NDArray[np.float32]:
        """The embedding of a video, float32 [D], of unit norm; of several views the mean of their unit embeddings."""
        with self._opened(video) as opened:
            clips = self.reader.read(opened)
        return mean_embedding(self.encode(clips.pixels[0]).embedding)

    def embed_text(self, text: str) -> NDArray[np.float32]:
        """The embedding of a text as it is written (no template), float32 [D], of unit norm: a query for videos' embeddings."""
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"the text {text!r} holds no word: write what the video shows")
        need_characters(text, f"the text {text!r}")
        return kept_class_embeddings(self.model, [[text]])[0].cpu().numpy()

    def timeline(
        self,
        video: Any,
        labels: Labels | None = None,
        window_seconds: float = 2.0,
        step_seconds: float = 1.0,
        top: int = 5,
        *,
        alone: bool = False,
    ) -> list[Window]:
        """What happens when: windows of `window_seconds`, one every `step_seconds`, in order. See `iter_timeline`."""
        return list(self.iter_timeline(video, labels, window_seconds, step_seconds, top, alone=alone))

    def iter_timeline(
        self,
        video: Any,
        labels: Labels | None = None,
        window_seconds: float = 2.0,
        step_seconds: float = 1.0,
        top: int = 5,
        *,
        alone: bool = False,
    ) -> Iterator[Window]:
        """The windows of `timeline`, each as soon as its frames have been read; the memory does not grow with the video.

        The last window ends with the video; a video shorter than a window is one window. A window's frames are those that
        a player shows in it. Labels and scores as in `classify`. Windows that overlap share their frames, which are encoded in
        one pass over the video (`m2clip.timeline`), unless the method or several views do not allow it. `alone`: each window is a
        clip of its own, classified as if it were the whole video, which costs more the more they overlap. Where a video breaks
        off, the windows before come first, then VideoError.
        """
        classes, reader = self.prepare(labels), self.timeline_reader(window_seconds, step_seconds, alone=alone)
        with self._opened(video) as opened:
            yield from self.windows(reader.read(opened), classes, top)

    def timeline_reader(
        self, window_seconds: float = 2.0, step_seconds: float = 1.0, *, alone: bool = False
    ) -> TimelineReader:
        """What reads a video for `windows`; it can be sent to another process. ConfigError for lengths that are none."""
        one_view = self.views_temporal == self.views_spatial == 1
        alone = alone or self.model.frame_adapters() is None or not one_view
        return TimelineReader(self.reader, window_seconds, step_seconds, alone=alone)

    def windows(
        self, chunks: Iterable[WindowedFrames | WindowClips], classes: Classes, top: int = 5
    ) -> Iterator[Window]:
        """What a `timeline_reader` read -> the windows, each as soon as it is complete."""
        for encoded in encoded_windows(chunks, self.model, encode=self.encode):
            yield from self.score_windows(encoded, classes, top)

    def score_windows(self, encoded: EncodedWindows, classes: Classes, top: int = 5) -> list[Window]:
        """Windows that are encoded -> what they show."""
        judged = self.judged(encoded.features, classes, parts=len(encoded.spans))
        return [
            Window(start, end, tuple(top_predictions(probabilities, classes.names, top=top)), none_of_these)
            for (start, end), (probabilities, _, none_of_these) in zip(encoded.spans, judged, strict=True)
        ]

    @contextmanager
    def _opened(self, video: Any) -> Iterator[Video]:
        """The video, closed afterwards unless it was open before."""
        if isinstance(video, Video):
            yield video
        else:
            with Video(video, web=self._web) as opened:
                yield opened

    def prepare(self, labels: Labels | None = None) -> Classes:
        """Check labels and encode their texts; the last few sets are kept, so that many videos cost each of them once."""
        if labels is None and not self.model.info.class_names:
            raise ConfigError("the model has no classes of its own: pass labels to choose from")
        names, own_texts = named_labels(self.model.info.class_names if labels is None else labels)
        info = self.model.info
        columns: tuple[int, ...] | None = None
        if own_texts is not None:
            texts = own_texts
        elif sorted(names) == sorted(info.class_names):
            order = tuple(info.class_names.index(name) for name in names)
            texts = tuple(info.texts[k] for k in order)
            if self._texts is not None:
                texts = self._texts.texts(names, further=[info.further_texts[k] for k in order])
            columns = order if info.trained and self.model.visual_head is not None else None
        elif self._texts is not None:
            texts = self._texts.texts(names)
        else:
            texts = class_texts(names, template=info.template, more_templates=info.more_templates)
        key = (names, texts, columns, self.model.strength)
        classes = self._prepared.pop(key, None)
        if classes is None:
            reading: Reading = "similarity" if columns is None else "ensemble"
            embeddings = kept_class_embeddings(self.model, texts, names=names)
            classes = Classes(names, texts, reading, embeddings, columns, info.calibration_for(texts))
        self._prepared[key] = classes
        if len(self._prepared) > MOST_LABEL_SETS:
            del self._prepared[next(iter(self._prepared))]
        return classes

    def encode(self, pixels: Tensor) -> VideoFeatures:
        """Clips uint8 [B, T, 3, H, W] as `reader` gives them (their parts and views in one row) -> their features."""
        statistics = PixelStatistics(self.model.info.sizes.mean, self.model.info.sizes.std)
        with torch.inference_mode():
            return self.model.encode_video(statistics.normalize(pixels.to(next(self.model.parameters()).device)))

    def score_clips(self, clips: ReadClips, classes: Classes) -> list[VideoScores]:
        """One result for each part of a video that was read."""
        features = self.encode(clips.pixels.flatten(0, 1))
        return self.score_features(features, clips, classes)

    def score_features(self, features: VideoFeatures, clips: ReadClips, classes: Classes) -> list[VideoScores]:
        """What `score_clips` gives, from the features of the clips: R * V of them, the views of a part together."""
        judged = self.judged(features, classes, parts=len(clips.pixels))
        return [
            VideoScores(classes, probabilities, views, clips.frame_indices[r], clips.frame_seconds[r], none_of_these)
            for r, (probabilities, views, none_of_these) in enumerate(judged)
        ]

    def judged(self, features: VideoFeatures, classes: Classes, *, parts: int) -> Iterator[tuple[Tensor, Tensor, bool]]:
        """Features of the views of some parts -> for each part its probabilities [K], those of its views [V, K], and whether it
        shows none of the classes."""
        logits = None
        if classes.head_columns is not None and features.visual_logits is not None:
            logits = features.visual_logits[:, list(classes.head_columns)]
        read = scores(features.embedding, classes.embeddings, logits)
        table = read.readings()[classes.reading].cpu().unflatten(0, (parts, -1))  # [R, V, K]
        best_evidence = fuse_views(read.evidence.cpu().unflatten(0, (parts, -1))).amax(-1)  # [R]
        threshold = classes.threshold(strength=self.model.strength)
        for views, evidence in zip(table, best_evidence, strict=True):
            yield (
                calibrated(fuse_views(views), classes.temperature),
                calibrated(views, classes.temperature),
                threshold is not None and bool(evidence < threshold),
            )


def mean_embedding(views: Tensor) -> NDArray[np.float32]:
    """The embeddings [V, D] of the views of one video -> the mean of their unit embeddings, float32 [D], of unit norm."""
    return F.normalize(F.normalize(views.float(), dim=-1).mean(0), dim=0).cpu().numpy()


def find_model(name: str | Path, *, weights: str | Path | None = None) -> VideoCLIP:
    """A checkpoint's path or hub id, or a backbone's name -> the model."""
    if isinstance(name, str) and name in BACKBONES and not Path(name).is_file():
        # Fresh adapters change no score, but they are random; the same ones each time let what is kept on disk be found again.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return create(name, weights=weights or (None if name == "builtin" else "openai"))
    if str(name).startswith("hf-hub:") or Path(name).exists():
        return load(name, weights=weights)
    raise CheckpointError(
        f"{name} is no file: pass a checkpoint's path, a hub id (hf-hub:owner/name) or a backbone ({', '.join(BACKBONES)})"
    )


def find_device(name: str | torch.device | None = None) -> torch.device:
    """The device of this name; None: the GPU if there is one. ConfigError for one that cannot be used here."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"the device {name!r} cannot be used here ({str(error).splitlines()[0]}); try cpu") from None
    return device
