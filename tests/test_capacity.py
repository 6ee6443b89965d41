"""The prediction for many GPUs is the arithmetic that it says, and the page has its figures."""

import json
from dataclasses import replace
from pathlib import Path

import capacity
import gpu
import pytest

from tests.small_inputs import TINY

ROOT = Path(__file__).resolve().parents[1]

CLUSTER = capacity.Cluster(
    gpus_a_machine=2, cores_a_gpu=4, inside_bytes_a_second=100e6, between_bytes_a_second=10e6, latency_seconds=0.001
)
WORK = capacity.Work(
    videos=1200, batch_a_gpu=10, videos_a_second=10, gradient_bytes=20_000_000, embed_dim=25, read_core_seconds=0.2,
    loss_operations_a_second=1e6,
)  # fmt: skip


def test_a_sum_over_all_goes_round_inside_the_machines_and_between_them() -> None:
    assert CLUSTER.all_reduce_seconds(20e6, 1) == 0
    # Two messages of 10 MB at 100 MB/s, a millisecond each.
    assert CLUSTER.all_reduce_seconds(20e6, 2) == pytest.approx(0.202)
    # Three machines: four messages of 20/3 MB at 10 MB/s more.
    assert CLUSTER.all_reduce_seconds(20e6, 6) == pytest.approx(0.202 + 4 * (2 / 3 + 0.001))


def test_a_step_is_work_exchange_and_loss() -> None:
    one = capacity.predict(WORK, CLUSTER, 1)
    # 10 videos at 10 a second; 3 * 2 * 10² * 25 operations at a million a second.
    assert (one["step_seconds"], one["exchange_seconds"]) == (pytest.approx(1.015), 0)
    assert one["epoch_minutes"] == pytest.approx(1200 / 10 * 1.015 / 60)
    two = capacity.predict(WORK, CLUSTER, 2)
    # The embeddings of 20 videos are 2000 bytes: one and a half sums of two messages of 1000 bytes.
    exchange = 0.202 + 1.5 * 2 * (1000 / 100e6 + 0.001)
    assert two["exchange_seconds"] == pytest.approx(exchange)
    assert two["loss_seconds"] == pytest.approx(0.06)
    assert two["step_seconds"] == pytest.approx(1 + exchange + 0.06)
    assert two["efficiency"] == pytest.approx(1.015 / (1.06 + exchange))
    assert two["videos_a_second"] == pytest.approx(20 / (1.06 + exchange))
    assert (one["reading_decides"], two["reading_decides"]) == (0, 0)


def test_readers_that_are_too_slow_decide() -> None:
    slow = capacity.predict(replace(WORK, read_core_seconds=4.0), CLUSTER, 2)  # ten clips of 4 s on 4 cores: 10 s
    assert (slow["reading_decides"], slow["step_seconds"], slow["efficiency"]) == (1, 10, 1)


def test_only_adapters_are_exchanged() -> None:
    size = capacity.gradient_bytes()
    assert 64e6 < size["trained"] < 65e6
    assert size["trained"] < size["all"] / 10


@pytest.mark.slow
def test_reading_is_measured() -> None:
    assert 0 < capacity.read_core_seconds(clips=1) < 60


def test_the_page_has_the_figures_of_the_prediction() -> None:
    document = json.loads(capacity.RESULT.read_text("utf-8"))
    page = capacity.PAGE.read_text("utf-8")
    assert capacity.with_tables(page, document) == page
    work, cluster = document["work"], document["cluster"]
    for one in document["predictions"]:
        known = capacity.Work(
            **work, videos_a_second=one["speed"], gradient_bytes=document["gradient"]["trained"],
            embed_dim=document["gradient"]["embed_dim"], read_core_seconds=document["read_core_seconds"],
        )  # fmt: skip
        link = replace(capacity.Cluster(**cluster), between_bytes_a_second=capacity.LINKS[one["link"]])
        assert one | capacity.predict(known, link, one["gpus"]) == one


def test_the_speed_of_a_gpu_is_the_measured_one() -> None:
    measured = json.loads(capacity.MEASURED_GPU.read_text("utf-8"))
    document = json.loads(capacity.RESULT.read_text("utf-8"))
    assert document["gpu"] == {
        "card": measured["card"],
        "videos_a_second": round(measured["training"]["plain"]["videos_a_second"]),
    }
    for case in measured["training"].values():
        # The median step of 32 videos; what waiting adds comes on top of it.
        seconds = sorted(case["step_seconds"])[len(case["step_seconds"]) // 2]
        assert case["videos_a_second"] == pytest.approx(measured["batch"] / seconds, rel=1e-3)


@pytest.mark.slow
def test_a_step_is_measured(tmp_path: Path) -> None:
    """On whatever device there is, the tiny CLIP in the place of ViT-B/16."""
    found = gpu.throughput(
        tmp_path, batch=4, steps=7, backbone=TINY.model_dump(mode="json"), workers=0, only=["accumulate=4"]
    )
    assert len(found["accumulate=4"]["step_seconds"]) == 2
    assert found["accumulate=4"]["videos_a_second"] >= found["accumulate=4"]["with_reading"] > 0
