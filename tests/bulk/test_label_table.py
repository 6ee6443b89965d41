"""classify --out: what each video of a list shows, as a table."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from m2clip import ConfigError, Recognizer
from m2clip.bulk.batches import Reading, batches_of
from m2clip.bulk.label_table import LABELS_KEY, LabelSource
from m2clip.bulk.run import Done, LocalEngine, bring_up_to_date
from m2clip.bulk.source_model import SourceModel
from m2clip.bulk.wanted_videos import wanted_videos
from m2clip.bulk.work import EmbeddingWork, LabelWork
from m2clip.errors import M2CLIPError
from tests.bulk.conftest import ODD
from tests.small_inputs import tiny_model

LABELS = ["waving", "a, b", "running", "été"]


def work_of(recognizer: Recognizer, labels: Any = LABELS, *, top: int = 3) -> LabelWork:
    classes = recognizer.prepare(labels)
    return LabelWork(recognizer, classes, LabelSource.of(recognizer, classes, SourceModel.of(recognizer, "x"), top=top))


def run(work: LabelWork | EmbeddingWork, out: Path, *sources: Path, batch_size: int = 2, workers: int = 0) -> Done:
    engine = LocalEngine(Reading(batch_size, workers, file_seconds=300.0, most_lost=0.5))
    return bring_up_to_date(work, wanted_videos([str(one) for one in sources]), out, engine)


def test_every_video_has_the_labels_that_classify_gives(videos: Path, checkpoint: Path, tmp_path: Path) -> None:
    recognizer = Recognizer(checkpoint, device="cpu", views_temporal=2)
    out, work = tmp_path / "labels.parquet", work_of(recognizer)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"noise")
    done = run(work, out, videos, bad)
    assert (done.rows, done.videos, len(done.bad)) == (5, 5, 1)
    found = pq.read_table(out)
    assert [Path(path).name for path in found["path"].to_pylist()] == ["d.mp4", ODD, "b.mp4", "c.avi", "a.mp4"]
    for row in found.to_pylist():
        best = recognizer.classify(row["path"], LABELS, top=3)
        assert row["labels"] == [one.label for one in best]
        assert row["scores"] == pytest.approx([one.score for one in best], abs=1e-5)
        assert row["none_of_these"] is False
        assert (row["start_seconds"], row["end_seconds"], row["lost_frames"]) == (None, None, 0)
    assert LabelSource.model_validate_json(found.schema.metadata[LABELS_KEY]) == work.source
    assert (tmp_path / "labels.bad_files.csv").exists()


def test_it_is_brought_up_to_date_and_never_mixed(
    recognizer: Recognizer, source: SourceModel, table: Path, videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels.parquet"
    assert run(work_of(recognizer), out, videos / "deep").videos == 3
    done = run(work_of(recognizer), out, videos)
    assert (done.videos, done.done_before, done.rows) == (2, 3, 5)
    content = out.read_bytes()
    for work, reason in (
        (work_of(recognizer, top=2), "has the best 3 labels of each video, not 2"),
        (work_of(recognizer, [*LABELS, "more"]), "was made with other labels, texts"),
        (work_of(Recognizer(tiny_model(seed=1), device="cpu")), r"is by another model \(x, strength 1, fp32\)"),
    ):
        with pytest.raises(ConfigError, match=rf"labels.parquet {reason}.*: give another file, or delete it and"):
            run(work, out, videos)
    with pytest.raises(
        ConfigError, match=r"labels.parquet does not say which model made it: make it with m2clip embed"
    ):
        run(EmbeddingWork(recognizer, source), out, videos)
    with pytest.raises(ConfigError, match=r"vectors.parquet does not say which labels it was made with"):
        run(work_of(recognizer), table, videos)
    assert out.read_bytes() == content
    # A record from elsewhere is read as data, and refused where it is none.
    broken = pq.read_table(out).replace_schema_metadata({LABELS_KEY: b'{"model": 1}'})
    pq.write_table(broken, out)
    with pytest.raises(ConfigError, match="its record of model and labels is broken"):
        run(work_of(recognizer), out, videos)


def test_weights_that_give_no_numbers_are_told(videos: Path, tmp_path: Path) -> None:
    model = tiny_model()
    work = work_of(Recognizer(model, device="cpu"))
    with torch.no_grad():
        model.clip.visual.ln_post.weight.fill_(float("nan"))
    with pytest.raises(M2CLIPError, match="its embedding is not finite"):
        run(work, tmp_path / "v.parquet", videos)


def test_who_is_encoded_together_does_not_depend_on_what_is_done() -> None:
    assert batches_of(np.array([0, 1, 4, 6, 7]), 2) == [range(2), range(2, 3), range(3, 5)]
    assert batches_of(np.arange(5), 2) == [range(2), range(2, 4), range(4, 5)]
    assert batches_of(np.array([], np.int64), 2) == []


@pytest.mark.parametrize("every", [None, 0.5])
def test_bytes_do_not_depend_on_workers_or_on_where_a_run_began(
    recognizer: Recognizer, source: SourceModel, videos: Path, tmp_path: Path, every: float | None
) -> None:
    work = EmbeddingWork(recognizer, source.model_copy(update={"every_seconds": every}))
    listed = sorted(videos.rglob("*.*"))
    run(work, tmp_path / "whole.parquet", *listed)
    run(work, tmp_path / "workers.parquet", *listed, workers=1)
    whole = (tmp_path / "whole.parquet").read_bytes()
    assert (tmp_path / "workers.parquet").read_bytes() == whole
    run(work, tmp_path / "resumed.parquet", *listed[:4])
    run(work, tmp_path / "resumed.parquet", *listed)
    assert (tmp_path / "resumed.parquet").read_bytes() == whole
