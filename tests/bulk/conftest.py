"""A few videos, the tiny model that embeds them, and their table."""

from pathlib import Path

import pytest

from m2clip import Recognizer
from m2clip.bulk.source_model import SourceModel
from m2clip.bulk.wanted_videos import wanted_videos
from tests.bulk.embedded import embed_videos
from tests.small_inputs import moving_square, tiny_model, write_video

ODD = 'it\'s "odd" % #é.mp4'


@pytest.fixture(scope="session")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """A tiny model that was loaded from a file."""
    return Recognizer(tiny_model().save(tmp_path_factory.mktemp("model") / "tiny.safetensors"), device="cpu")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a file."""
    return Path(tiny_model().save(tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"))


@pytest.fixture(scope="session")
def source(recognizer: Recognizer, checkpoint: Path) -> SourceModel:
    """What its embeddings say of it."""
    return SourceModel.of(recognizer, str(checkpoint))


def fill(folder: Path) -> Path:
    """Five videos in a tree: one with an odd name, two that differ from all others, one beside a folder."""
    for number, name in enumerate((ODD, "deep/er/a.mp4", "deep/b.mp4", "deep/c.avi", "d.mp4")):
        write_video(folder / name, moving_square(frames=16 + number, shift=2 * number + 1))
    return folder


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five good videos; not to be changed."""
    return fill(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="session")
def table(recognizer: Recognizer, source: SourceModel, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their embeddings; not to be changed."""
    out = tmp_path_factory.mktemp("table") / "vectors.parquet"
    embed_videos(recognizer, wanted_videos([str(videos)]), out, source)
    return out
