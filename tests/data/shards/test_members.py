"""Members of shards: where they lie, and their bytes and nothing else."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from m2clip.data.places import ShardMember, is_absent
from m2clip.data.samples import Samples
from m2clip.data.shards import members as shards
from m2clip.data.shards.members import Shard, ShardPlaces, expand_braces, member_bytes
from m2clip.errors import ConfigError, VideoError


def test_a_member_is_its_bytes_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(range(256)))
    assert member_bytes(ShardMember(str(path), "x.mp4", 10, 5)) == bytes(range(10, 15))
    assert member_bytes(ShardMember(str(path), "x.mp4", 251, 5)) == bytes(range(251, 256))
    assert member_bytes(ShardMember(str(path), "x.mp4", 256, 0)) == b""


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        (("a.tar", "x.mp4", 252, 5), r"cannot read .*a\.tar/x\.mp4: its shard was cut; fetch or pack the shard again"),
        (("a.tar", "x.mp4", 0, 2**40), r"x\.mp4 has 1024\.0 GiB, too many to be read out of a shard"),
        (
            ("absent.tar", "x.mp4", 0, 5),
            r"cannot read .*absent\.tar/x\.mp4: No such file or directory; check the shard",
        ),
        (("", "x.mp4", 0, 5), r"cannot read .*x\.mp4: Is a directory; check the shard"),
    ],
)
def test_a_member_that_cannot_be_read(tmp_path: Path, member: tuple[str, str, int, int], sentence: str) -> None:
    (tmp_path / "a.tar").write_bytes(bytes(256))
    shard, *rest = member
    with pytest.raises(VideoError, match=sentence) as caught:
        member_bytes(ShardMember(str(tmp_path / shard), *rest))
    assert "\n" not in str(caught.value)


def test_secrets_of_an_address_stay_out_of_messages() -> None:
    member = ShardMember("https://me:word@host.example/a.tar?sig=key", "x.mp4", 0, 2**40)
    with pytest.raises(VideoError, match=r"^https://host\.example/a\.tar\?\.\.\./x\.mp4 has"):
        member_bytes(member)


def test_a_member_is_absent_where_its_shard_is(tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    shards = [
        Shard(str(tmp_path / "a.tar")),
        Shard(str(tmp_path / "b.tar")),
        Shard("https://me:word@host.example/c.tar"),
    ]
    names, nothing = pa.chunked_array([["x.mp4"] * 3]), np.zeros(3, np.int64)
    samples = Samples(ShardPlaces(shards, numbers=np.arange(3), names=names, offsets=nothing, sizes=nothing), nothing)
    assert [str(sample.path) for sample in samples.missing()] == [f"{tmp_path}/b.tar/x.mp4"]
    assert [is_absent(place) for place in samples.places] == [False, True, False]
    assert str(samples.places[2]) == "https://host.example/c.tar/x.mp4"


def test_places_are_columns_and_can_be_sent_to_a_worker() -> None:
    places = ShardPlaces(
        [Shard("a.tar", 100, "1" * 64), Shard("b.tar")],
        numbers=np.array([0, 1, 1], np.int32),
        names=pa.chunked_array([["x.mp4"], ["y.mp4", "z.mp4"]]),
        offsets=np.array([512, 512, 2048]),
        sizes=np.array([7, 8, 9]),
    )
    last = ShardMember("b.tar", "z.mp4", 2048, 9)
    for copy in (places, pickle.loads(pickle.dumps(places))):
        assert len(copy) == 3
        assert copy[0] == ShardMember("a.tar", "x.mp4", 512, 7, "1" * 64)
        assert copy[1:] == [ShardMember("b.tar", "y.mp4", 512, 8), last]
        assert copy[np.int64(2)] == last  # type: ignore[call-overload]
    assert not places.are_fetched
    assert places.absent().tolist() == [True, True, True]
    with pytest.raises(IndexError):
        places[3]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("s-{08..11}.tar", ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]),
        ("s-{8..10}.tar", ["s-8.tar", "s-9.tar", "s-10.tar"]),
        ("s-{000..2}.tar", ["s-000.tar", "s-001.tar", "s-002.tar"]),
        ("s-{2..0}.tar", ["s-2.tar", "s-1.tar", "s-0.tar"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        ("{x}/{0..1}.tar", ["{x}/0.tar", "{x}/1.tar"]),
        ("plain.tar", ["plain.tar"]),
        ("{}{0..0}", ["{}0"]),
        ("open{0..1.tar", ["open{0..1.tar"]),
    ],
)
def test_braces(pattern: str, expected: list[str]) -> None:
    assert expand_braces(pattern) == expected


@pytest.mark.parametrize("pattern", ["{0..999999999}", "{0..9999}{0..9999}"])
def test_too_many_shards_are_refused_at_once(pattern: str) -> None:
    assert shards.MOST_SHARDS == 10**6
    with pytest.raises(ConfigError, match="names more than 1000000 shards"):
        expand_braces(pattern)
