"""Bulk work on Ray as far as none need run: messages, who is given up, how much a task does, and a cluster that is not there."""

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import MagicMock

import pyarrow as pa
import pytest

from m2clip.bulk.batches import Asked, AskedVideos, BatchResult, Reading
from m2clip.bulk.ray_actor import BatchActor, Coordinator
from m2clip.bulk.ray_engine import batches_a_block, need, started
from m2clip.bulk.ray_messages import asked_rows, asked_table, packed, unpacked
from m2clip.data.dataset import BadFile, DamagedFile
from m2clip.data.places import Place, ShardMember, WebAddress
from m2clip.data.samples import Sample
from m2clip.errors import ConfigError


def test_a_list_comes_out_of_its_columns_as_it_went_in() -> None:
    places: list[Place] = [
        Path("/v/é \n.mp4"),
        WebAddress("https://user:secret@host/v.mp4"),
        ShardMember("/s/0.tar", "a/b.mp4", 512, 99, "ab"),
        Path("/gone.mp4"),
    ]
    samples = [
        Sample(place, 0, None if n else 0.5, None if n else 2.0, f"list.csv:{n}") for n, place in enumerate(places)
    ]
    videos = AskedVideos(samples)
    for position, state in ((0, (7, 2**62)), (1, (None, None)), (2, (99, 5)), (3, None)):
        videos.add(position, state)
    asked = list(videos)
    assert [one.state for one in asked] == [(7, 2**62), (None, None), (99, 5), None]
    assert [one.path for one in asked] == ["/v/é \n.mp4", "https://host/v.mp4", "/s/0.tar/a/b.mp4", "/gone.mp4"]
    assert asked_rows(asked_table(videos)) == asked
    assert asked_rows(asked_table(videos).slice(2, 1)) == asked[2:3]


def test_a_result_comes_out_of_its_bytes_with_the_numbers_of_the_whole_list() -> None:
    asked = [Asked(Sample(Path(f"/v/{n}"), 0, where=f"l:{n}"), f"/v/{n}", (n, n)) for n in range(9)]
    schema = pa.schema([pa.field("x", pa.float32(), nullable=False)], metadata={b"m2clip": b"record"})
    rows = pa.table({"x": [1.5, float("nan")]}, schema=schema)
    local = [Path(f"/v/{n}") for n in (5, 6)]
    result = BatchResult(
        (0, 1, 2),
        rows,
        (BadFile(local[0], "l:5", "/v/5 is bad", 0, crashed=True),),
        (DamagedFile(local[1], "l:6", 0.25, 1),),
    )
    found = unpacked(packed(result, first=5), asked, schema)
    assert found.numbers == (5, 6, 7)
    assert found.rows.schema.equals(schema, check_metadata=True)
    assert str(found.rows["x"].to_pylist()) == "[1.5, nan]"
    assert found.bad == (BadFile(local[0], "l:5", "/v/5 is bad", 5, crashed=True),)
    assert found.damaged == (DamagedFile(local[1], "l:6", 0.25, 6),)


def test_a_video_at_which_two_actors_died_is_given_up() -> None:
    coordinator = Coordinator([], actors=1)
    assert coordinator.begin(3) == (1, {}, False)  # and dies, nobody knows where
    assert coordinator.begin(3) == (2, {}, False)
    coordinator.at(3, 40)
    coordinator.at(3, 41)  # and dies here
    assert coordinator.begin(3) == (3, {}, False)
    coordinator.at(3, 40)  # and is killed here by somebody else
    assert coordinator.begin(3) == (4, {}, False)
    coordinator.at(3, 41)
    count, given_up, _ = coordinator.begin(3)
    assert (count, given_up) == (
        5,
        {41: "the process that read {path} was killed twice, as happens where memory runs out"},
    )
    coordinator.end(3)
    assert coordinator.begin(3) == (1, {}, False)


def test_a_block_whose_encoding_ends_two_actors_and_a_video_that_hangs_are_given_up() -> None:
    coordinator = Coordinator([], actors=1)
    coordinator.begin(0)
    for _ in range(2):
        assert coordinator.begin(0)[2] is False
        coordinator.at(0, 1)
        coordinator.at(0, -1)
    assert coordinator.begin(0)[2] is True
    coordinator.begin(1)
    coordinator.give_up(1, 9, "{path} took longer than 2 s to read")
    assert coordinator.begin(1) == (2, {9: "{path} took longer than 2 s to read"}, False)


def test_a_model_that_ends_all_that_load_it_is_given_up_and_one_that_was_loaded_never_is() -> None:
    coordinator = Coordinator([], actors=2)
    for _ in range(100):
        assert [coordinator.begin_loading() for _ in range(8)] == [True] * 8
        coordinator.end_loading()
    assert [coordinator.begin_loading() for _ in range(10)] == [True] * 8 + [False] * 2


@pytest.mark.parametrize(
    ("videos", "batch", "workers", "in_stretches", "expected"),
    [
        (1_000_000, 8, 8, False, 8),
        (1_000_000, 8, 8, True, 1),
        (96, 2, 2, False, 6),
        (3, 8, 2, False, 1),
        (999, 100, 1, False, 1),
    ],
)
def test_a_task_does_no_more_than_may_be_lost(
    videos: int, batch: int, workers: int, in_stretches: bool, expected: int
) -> None:
    reading = Reading(batch, workers, 300.0, 0.5)
    assert batches_a_block(-(-videos // batch), reading, in_stretches=in_stretches) == expected


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://localhost:1", "[::1]:1", "127.0.0.1:99999"])
def test_a_cluster_that_is_not_there_is_told_at_once(address: str) -> None:
    pytest.importorskip("ray")
    with (
        pytest.raises(
            ConfigError, match=rf"no Ray answers at {re.escape(address)} \(.*\): start one with ray start --head"
        ),
        started(address, actors=1, bytes_held=0),
    ):
        pass


@dataclass
class Resources:
    """Stands for a Ray that has just these."""

    of_cluster: dict[str, float]

    def cluster_resources(self) -> dict[str, float]:
        return self.of_cluster


@pytest.mark.parametrize(
    ("address", "kind", "told"),
    [
        (None, "GPU", "this machine has 0 GPUs, and 2 actors need one each: leave out --device cuda"),
        ("host:1", "CPU", "the Ray at host:1 has 1 CPUs, and 2 actors need one each: ask for fewer workers"),
    ],
)
def test_actors_for_which_there_is_no_room_are_not_waited_for(address: str | None, kind: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        need(Resources({"CPU": 1.0, "memory": 7.0}), address, kind, actors=2)
    need(Resources({"CPU": 2.0, "GPU": 2.0}), address, kind, actors=2)


def test_a_video_that_hangs_ends_its_process_where_nobody_hears_why(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *how: ended.append(how))

    def nobody(*_: object, **__: object) -> None:
        raise TimeoutError

    actor = BatchActor.__new__(BatchActor)
    actor._get, actor._coordinator, actor._reading = nobody, MagicMock(), Reading(1, 0, 2.0, 0.5)
    with pytest.raises(TimeoutError):
        actor._too_slow(0, 9)
    assert ended == [(os.getpid(), signal.SIGKILL)]
