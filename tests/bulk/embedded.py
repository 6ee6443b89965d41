"""Embeddings of videos into a table, by this machine, as most tests want it."""

from pathlib import Path
from typing import Any

from m2clip import Recognizer
from m2clip.bulk.batches import Reading
from m2clip.bulk.run import Done, LocalEngine, bring_up_to_date
from m2clip.bulk.source_model import SourceModel
from m2clip.bulk.wanted_videos import WantedVideos
from m2clip.bulk.work import EmbeddingWork


def embed_videos(
    recognizer: Recognizer,
    wanted: WantedVideos,
    out: Path,
    source: SourceModel,
    *,
    workers: int = 0,
    batch_size: int = 8,
    **options: Any,
) -> Done:
    reading = Reading(batch_size, workers, file_seconds=300.0, most_lost=0.5)
    return bring_up_to_date(EmbeddingWork(recognizer, source), wanted, out, LocalEngine(reading), **options)
