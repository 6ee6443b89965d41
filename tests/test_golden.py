"""Files that earlier versions wrote are read, and mean the same (tests/golden/README.md)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from m2clip.bulk.vector_table import VectorTable
from m2clip.checkpoint import load
from m2clip.checkpoint.record import read_info, read_record
from m2clip.data.manifest import read_manifest
from m2clip.data.video import Video
from m2clip.errors import CheckpointError
from m2clip.model.video_clip import FORMAT_VERSION
from m2clip.search.building import build_index
from m2clip.search.video_index import VideoIndex
from m2clip.train import train
from m2clip.train.state import TrainingState
from tests.golden.make import CLASSES, clip, outputs, settings

GOLDEN = Path(__file__).parent / "golden"
CHECKPOINTS = sorted(path.stem for path in GOLDEN.glob("checkpoint-*.json"))


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_of_an_earlier_version_scores_as_it_did(name: str) -> None:
    expected = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    found = outputs(GOLDEN / f"{name}.safetensors")
    assert found.keys() == expected.keys()
    for key in ("cosines", "embedding"):
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-4, atol=1e-5, err_msg=key)
    if expected["visual_logits"] is None:
        assert found["visual_logits"] is None
    else:
        np.testing.assert_allclose(found["visual_logits"], expected["visual_logits"], rtol=1e-4, atol=1e-5)


def test_there_is_a_checkpoint_of_every_format_version() -> None:
    assert {int(name.split("-")[1]) for name in CHECKPOINTS} == set(range(1, FORMAT_VERSION + 1))


def test_the_models_of_these_files_can_be_told_apart() -> None:
    # Were all adapters at their start, every file would give the frozen CLIP's embedding, and the tests above would hold nothing.
    said = [
        json.loads((GOLDEN / f"checkpoint-{name}.json").read_text("utf-8"))["embedding"] for name in ("1", "2-aim", "3")
    ]
    assert all(np.abs(np.subtract(a, b)).max() > 1e-2 for a, b in (said[:2], said[1:], said[::2]))


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_record_of_an_earlier_version_names_method_and_classes(name: str) -> None:
    info = read_record(GOLDEN / f"{name}.safetensors").info
    assert (info.method, info.class_names) == (name[13:] or "m2clip", CLASSES)
    assert info.texts == (("A video of bouncing",), ("A video of moving",))
    assert info.trained


def test_a_calibration_is_read_as_it_was_written() -> None:
    model = load(GOLDEN / "checkpoint-3.safetensors")
    reading = model.info.calibration_for([["A video of moving"], ["A video of bouncing"]])
    assert model.strength == 0.5
    assert reading is not None
    assert reading.temperatures == {"similarity": 2.0, "visual": 0.5, "ensemble": 1.25}
    assert reading.threshold_for(visual_head=False, strength=0.5) == 0.125
    # sha256sum of [["A video of bouncing"], ["A video of moving"]]
    assert reading.texts_sha256 == "5a108afab5799c81dfc45f129e25e493412b7def8b7dd26b8a633bbe85646303"


def test_an_old_checkpoint_is_written_anew_in_the_format_of_today(tmp_path: Path) -> None:
    old = load(GOLDEN / "checkpoint-1.safetensors")
    again = load(old.save(tmp_path / "new.safetensors"))
    assert again.info == old.info
    with torch.no_grad():
        assert torch.equal(again.encode_video(clip()).embedding, old.encode_video(clip()).embedding)


def test_a_checkpoint_of_a_later_version_is_refused() -> None:
    with pytest.raises(CheckpointError, match=rf"format version '{FORMAT_VERSION + 1}'.*install a newer m2clip"):
        read_info({"format": "m2clip", "format_version": str(FORMAT_VERSION + 1), "info": "{}"}, where="new")


def test_a_training_state_of_version_1_is_refused_in_a_sentence() -> None:
    with pytest.raises(
        CheckpointError, match=r"state-1\.pt has state version 1, .* go on with the version that wrote it"
    ):
        TrainingState.read(GOLDEN / "state-1.pt")


@pytest.mark.parametrize("version", [2, 3])
def test_a_run_of_an_earlier_version_is_resumed_to_the_same_end(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(GOLDEN / f"run-{version}", tmp_path / "run")
    shutil.copytree(GOLDEN / "shards", tmp_path / "shards")
    monkeypatch.chdir(tmp_path)
    train(settings("run", "linear-probe", "shards", epochs=2), progress=False, resume=True)
    end, whole = (load_file(tmp_path / "run" / f"{name}.safetensors") for name in ("last", "whole"))
    assert end.keys() == whole.keys()
    for key, tensor in whole.items():
        torch.testing.assert_close(end[key], tensor, rtol=1e-5, atol=1e-7)


def test_an_index_of_shards_names_videos_that_are_read() -> None:
    videos = read_manifest(GOLDEN / "shards")
    assert videos.class_names == CLASSES
    assert [sample.label for sample in videos.samples] == [0, 0, 1, 1]
    for sample in videos.samples:
        with Video(sample.path) as video:
            assert video.frames([0]).shape[0] == 1


def test_a_table_of_embeddings_is_searched(tmp_path: Path) -> None:
    (batch,) = VectorTable(GOLDEN / "vectors.parquet").batches(["vector"])
    first = np.array(batch["vector"][0].as_py(), np.float32)
    assert build_index([GOLDEN / "vectors.parquet"], tmp_path / "index").rows == 4
    found = VideoIndex.open(tmp_path / "index").search(first, top=1)
    assert [video.name for video in found] == ["bouncing/0.mp4"]
    assert found[0].score == pytest.approx(1.0, abs=1e-6)
