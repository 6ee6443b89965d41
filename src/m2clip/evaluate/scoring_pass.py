"""One pass over a data set: what was scored, what was bad, and the probabilities of each video, over all processes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from m2clip.data.dataset import BadFile, Batch, DamagedFile, VideoDataset
from m2clip.data.loading import make_loader
from m2clip.errors import M2CLIPError, VideoError
from m2clip.evaluate.masked_words import MaskedWordTest
from m2clip.model.info import Calibration
from m2clip.model.video_clip import VideoCLIP
from m2clip.report.bad_files import FileReport
from m2clip.scoring import Reading, calibrated, fuse_views, scores

_File = TypeVar("_File", BadFile, DamagedFile)


def read_batches(
    dataset: VideoDataset,
    *,
    batch_size: int,
    workers: int,
    file_seconds: float,
    known_bad: Sequence[BadFile] = (),
    on_bad_file: Literal["skip", "stop"],
    tell: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> Iterator[Batch]:
    """The batches of this process's share. `tell` gets what a FileReport says; VideoError where a bad file is to stop the work."""
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if in_group() else (0, 1)
    report = FileReport(policy=on_bad_file, tell=tell)
    done, total = 0, len(range(rank, len(dataset), world_size))
    with make_loader(
        dataset,
        batch_size=batch_size,
        workers=workers,
        rank=rank,
        world_size=world_size,
        file_seconds=file_seconds,
        known_bad=known_bad,
    ) as loader:
        for batch in loader:
            report.note(batch.bad, batch.damaged)
            yield batch
            done += len(batch.labels) + len(batch.bad)
            progress(done, total)


class ScoringPass:
    """The scores of a data set, batch by batch, filled in by position in the manifest.

    `classes` [K, D] are the class embeddings; `head_columns` the column of each class in the visual head (None: it is not
    read). `batch_size` is the loader's. `calibration`: what was set for these classes, if anything was. `per_view` keeps the scores of
    each view; `words` is asked of each video, too.

    A video's scores do not depend, to the last bit, on which others are in its batch, and so on how many processes share the work: see
    `_together`.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        classes: Tensor,
        *,
        head_columns: list[int] | None,
        batch_size: int,
        calibration: Calibration | None = None,
        per_view: bool = False,
        words: MaskedWordTest | None = None,
    ) -> None:
        self.dataset = dataset
        self.words = words
        self.classes = classes
        self.head_columns = head_columns
        self.batch_size = batch_size
        self.temperatures = {} if calibration is None else calibration.temperatures
        self.per_view = per_view
        self.device = classes.device
        readings: tuple[Reading, ...] = (
            ("similarity",) if head_columns is None else ("similarity", "visual", "ensemble")
        )
        views = dataset.views_temporal * dataset.views_spatial if per_view else 1
        # [N, V, K]; one fused "view" where the single ones are not asked for
        shape = (len(dataset), views, len(classes))
        self.tables = {reading: torch.zeros(shape, device=self.device) for reading in readings}
        self.best_evidence = torch.zeros(len(dataset), device=self.device)
        """[N]: what speaks for the class that most speaks for (`Scores.evidence`, the mean over the views)."""
        self.times_scored = torch.zeros(len(dataset), dtype=torch.int64, device=self.device)
        self.bad: list[BadFile] = []
        self.damaged: list[DamagedFile] = []

    def score(self, model: VideoCLIP, batch: Batch) -> None:
        """Read the model's scores of a batch, in evaluation mode, and note its bad and damaged files."""
        self.bad += batch.bad
        self.damaged += batch.damaged
        if len(batch.labels) == 0:
            return
        was_training = model.training
        model.eval()
        try:
            with torch.inference_mode():
                for part in self._together(batch):
                    self._fill(model, part)
        finally:
            model.train(was_training)
        self.times_scored[batch.indices.to(self.device)] += 1

    def _together(self, batch: Batch) -> Iterator[Batch]:
        """The parts of a batch that are computed at once. A kernel, and with it the last bits, is chosen by the shape of its input.

        On a CPU each video by itself, which costs nothing there: one clip of the smallest CLIP fills a core. On a GPU always as many
        as a full batch has, the last video standing for those that are not there: equal rows of inputs of one shape come out equal
        there, wherever they stand.
        """
        count = len(batch.labels)
        if self.device.type == "cpu":
            yield from map(batch.take, torch.arange(count).split(1))
        elif count == self.batch_size:
            yield batch
        else:
            yield batch.take(torch.arange(self.batch_size).clamp(max=count - 1))

    def _fill(self, model: VideoCLIP, batch: Batch) -> None:
        rows = batch.indices.to(self.device)
        views: dict[Reading, list[Tensor]] = {reading: [] for reading in self.tables}
        evidence: list[Tensor] = []  # [B, K] a view
        frames: list[Tensor] = []  # [B, T, D] a view
        for view in range(batch.pixels.shape[1]):  # one at a time: a batch of many views would not fit into memory
            features = model.encode_video(batch.view(view, device=self.device))
            logits = None
            if self.head_columns is not None and features.visual_logits is not None:
                logits = features.visual_logits[:, self.head_columns]
            read = scores(features.embedding, self.classes, logits)
            for reading, probabilities in read.readings().items():
                views[reading].append(probabilities)
            evidence.append(read.evidence)
            frames.append(features.frames)
        for reading, parts in views.items():
            table = torch.stack(parts, dim=1)  # [B, V, K]
            self._need_finite(table, reading, batch)
            self.tables[reading][rows] = table if self.per_view else fuse_views(table).unsqueeze(1)
        self.best_evidence[rows] = fuse_views(torch.stack(evidence, dim=1)).amax(-1)
        if self.words is not None:
            self._need_finite(self.words.ask(model, frames, labels=batch.labels, rows=rows), "masked-word", batch)

    def _need_finite(self, table: Tensor, what: str, batch: Batch) -> None:
        if not table.isfinite().all():
            n = int(batch.indices[~table.isfinite().flatten(1).all(1).cpu()][0])
            raise M2CLIPError(
                f"{self.dataset.manifest.samples[n].path}: its {what} scores are not finite; the checkpoint's weights "
                "are broken, so use an earlier checkpoint or train again"
            )

    def merge(self) -> list[int]:
        """Put the shares of all processes together; returns the positions that were scored, each of them exactly once.

        Raises VideoError where not one video could be read.
        """
        if in_group():
            words = () if self.words is None else (self.words.said,)
            for tensor in (*self.tables.values(), self.best_evidence, self.times_scored, *words):
                _add_up(tensor)  # outside its own share a process holds zeros
        self.bad = sorted(everywhere(self.bad), key=lambda file: file.index)
        self.damaged = sorted(everywhere(self.damaged), key=lambda file: file.index)
        times_met = self.times_scored.tolist()
        for file in self.bad:
            times_met[file.index] += 1
        if times_met != [1] * len(self.dataset):
            raise RuntimeError("a video was met twice or never: the processes' shares of the data overlap or have gaps")
        scored = self.times_scored.nonzero().flatten().tolist()
        if not scored:
            source, first = self.dataset.manifest.source, self.bad[0].reason
            raise VideoError(f"{source}: none of its {len(self.dataset)} videos could be read; the first: {first}")
        return scored

    def probabilities(self, scored: Sequence[int]) -> dict[Reading, NDArray[np.float32]]:
        """[N, K] of these N positions for each reading: the mean over the views, calibrated."""
        return {
            reading: self._calibrated(table[scored].mean(1), reading).cpu().numpy()
            for reading, table in self.tables.items()
        }

    def views(self, position: int) -> dict[Reading, Tensor]:
        """[V, K] of this position for each reading: each view calibrated by itself."""
        return {reading: self._calibrated(table[position], reading) for reading, table in self.tables.items()}

    def _calibrated(self, table: Tensor, reading: Reading) -> Tensor:
        return calibrated(table, self.temperatures.get(reading, 1.0))


def in_group() -> bool:
    """Whether several processes share the work."""
    return dist.is_available() and dist.is_initialized()


def _add_up(tensor: Tensor) -> None:
    """Put the sum over all processes in the tensor's place; gloo adds in the computer's own memory."""
    moved = tensor.cpu() if dist.get_backend() == "gloo" else tensor
    dist.all_reduce(moved)
    tensor.copy_(moved)


def everywhere(files: Sequence[_File]) -> list[_File]:
    """The bad, or the damaged, files of all processes."""
    if not in_group():
        return list(files)
    shares: list[list[_File]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(shares, list(files))
    return [file for share in shares for file in share]
