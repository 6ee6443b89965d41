"""Findings, classes and the verdict, worked out by hand from facts that no file needs to exist for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m2clip.check.judging import Finding, Limits, Verdict, judge
from m2clip.check.listing import Listing
from m2clip.check.reading import FileFacts
from m2clip.data.manifest import Sample, Samples

LIMITS = Limits(frames=8, most_lost=0.1, most_bad=0.0)
BAD = FileFacts(bad=("unreadable", "no video file"))


def good(name: str, **changes: object) -> FileFacts:
    facts = FileFacts(10, f"bytes of {name}", f"pictures of {name}", 50, 0, 96, 64, 25.0, 2.0, "h264")
    return replace(facts, **changes)  # type: ignore[arg-type]


def listing(name: str, *samples: Sample, classes: tuple[str, ...] = ("run", "walk")) -> Listing:
    return Listing(name, f"{name}.csv", "", Samples.of(samples), classes)


def sample(name: str, label: int, start: float | None = None, end: float | None = None) -> Sample:
    return Sample(Path(name), label, start, end, where=f"list:{name}")


def judged(listings: list[Listing], facts: dict[str, FileFacts], limits: Limits = LIMITS) -> Verdict:
    numbers = {name: number for number, name in enumerate(facts)}
    columns = [np.array([numbers[str(one.path)] for one in listing.samples], dtype=np.int64) for listing in listings]
    return judge(listings, columns, list(facts.values()), limits)


def test_a_good_data_set_has_nothing_to_be_said() -> None:
    verdict = judged(
        [listing("data", sample("a", 0), sample("b", 1)), listing("test", sample("c", 1))],
        {name: good(name) for name in "abc"},
    )
    assert (verdict.findings, verdict.reasons, verdict.readable) == ([], [], {"data": 2, "test": 1})
    assert [(one.name, one.listed, one.readable, one.seconds) for one in verdict.classes] == [
        ("run", {"data": 1, "test": 0}, {"data": 1, "test": 0}, 2.0),
        ("walk", {"data": 1, "test": 1}, {"data": 1, "test": 1}, 4.0),
    ]


def test_bad_files_are_allowed_up_to_a_share_of_each_list() -> None:
    listings = [listing("data", *(sample(name, 0) for name in "abcd"), classes=("run",))]
    facts = {"a": good("a"), "b": good("b"), "c": good("c"), "d": BAD}
    verdict = judged(listings, facts)
    assert verdict.findings == [Finding("unreadable", "data", "d", "list:d", "no video file", 3, 1)]
    assert verdict.reasons == [
        "1 of 4 videos of data.csv is bad; mend them, take them off the list, or allow a share of them with --most-bad"
    ]
    assert judged(listings, facts, replace(LIMITS, most_bad=0.25)).reasons == []
    [reason] = judged(listings, facts, replace(LIMITS, most_bad=0.24)).reasons
    assert reason.startswith("1 of 4")
    names = [f"v{i}" for i in range(100)]
    listings = [listing("data", *(sample(name, 0) for name in names), classes=("run",))]
    facts = {name: BAD if i < 29 else good(name) for i, name in enumerate(names)}
    assert judged(listings, facts, replace(LIMITS, most_bad=0.29)).reasons == []  # 0.29 * 100 is 28.999999999999996


def test_damage_is_odd_up_to_a_share_and_bad_beyond() -> None:
    facts = {"a": good("a", frames=90, lost_frames=10), "b": good("b", frames=89, lost_frames=11)}
    verdict = judged([listing("data", sample("a", 0), sample("b", 1))], facts)
    assert [(one.code, one.path, one.detail) for one in verdict.findings] == [
        ("too-damaged", "b", "11 of 100 frames are lost (11 %)"),
        ("damaged", "a", "10 of 100 frames are lost (10 %)"),
    ]
    assert verdict.readable == {"data": 1}


def test_a_class_to_train_on_needs_a_video_that_can_be_read() -> None:
    three = ("run", "walk", "swim")
    listings = [
        listing("data", sample("a", 0), sample("b", 1), classes=three),
        listing("val", sample("c", 1), sample("d", 2), classes=three),
    ]
    verdict = judged(listings, {"a": good("a"), "b": BAD, "c": good("c"), "d": good("d")}, replace(LIMITS, most_bad=1))
    assert verdict.reasons == ["2 of 3 classes have no video that can be trained on: 'walk', 'swim'"]
    verdict = judged([listing("data", sample("a", 0), classes=())], {"a": BAD}, replace(LIMITS, most_bad=1))
    assert verdict.reasons == ["no video of data.csv can be used"]


def test_overlap_of_training_and_test_by_path_and_by_content() -> None:
    facts = {"a": good("a"), "b": good("b"), "copy": good("a", sha256="other bytes")}
    listings = [listing("data", sample("a", 0), sample("b", 1)), listing("test", sample("b", 1), sample("copy", 0))]
    verdict = judged(listings, facts)
    assert [(one.code, one.path, one.samples, one.detail) for one in verdict.findings] == [
        ("train-test", "a", 2, "a (data, list:a); copy (test, list:copy)"),
        ("train-test", "b", 2, "b (data, list:b); b (test, list:b)"),
    ]
    assert verdict.reasons == ["2 videos are both in data.csv and in a list to test on; take them off one"]


def test_one_video_under_two_labels() -> None:
    listings = [listing("data", sample("a", 0), sample("b", 1), sample("copy", 1))]
    verdict = judged(listings, {"a": good("a"), "b": good("b"), "copy": good("a")})
    [finding] = verdict.findings
    assert (finding.code, finding.detail) == (
        "two-labels",
        "a as 'run' (data, list:a); copy as 'walk' (data, list:copy)",
    )
    assert verdict.reasons == ["1 video is listed under two labels; keep one"]


def test_copies_and_short_and_odd_videos_keep_a_data_set_usable() -> None:
    facts = {
        "a": good("a"),
        "copy": good("a"),
        "other": good("a", sha256="other bytes"),
        "b": good("b", frames=7, odd=(("rotated", "by 90"), ("tiny", "8x8"))),
        "c": good("c", frames=1),
    }
    listings = [listing("data", sample("a", 0), sample("copy", 0), sample("b", 1), sample("b", 1), sample("c", 1))]
    verdict = judged(listings, facts)
    assert [(one.code, one.path, one.samples, one.detail) for one in verdict.findings] == [
        ("single-frame", "c", 1, "1 frame, and a clip takes 8"),
        ("few-frames", "b", 2, "7 frames, and a clip takes 8"),
        ("listed-twice", "b", 2, "b (data, list:b); b (data, list:b)"),
        ("same-bytes", "a", 2, "a (data, list:a); copy (data, list:copy)"),
        ("rotated", "b", 2, "by 90"),
        ("tiny", "b", 2, "8x8"),
    ]
    assert verdict.reasons == []


def test_parts_are_judged_each() -> None:
    facts = {"a": good("a", parts=((None, 0.2, 5), (1.0, None, 25), (9.0, 10.0, 0)))}
    listings = [listing("data", sample("a", 0, None, 0.2), sample("a", 1, 1.0, None), sample("a", 1, 9.0, 10.0))]
    verdict = judged(listings, facts)
    assert [(one.code, one.detail) for one in verdict.findings] == [
        ("part-outside", "the part from 9 s to 10 s is not in the video, which ends at 2.00 s"),
        ("few-frames", "5 frames from 0 s to 0.2 s, and a clip takes 8"),
    ]
    assert verdict.readable == {"data": 2}
    assert [one.seconds for one in verdict.classes] == [pytest.approx(0.2), pytest.approx(1.0)]


def test_a_long_group_is_cut_and_still_shows_every_label() -> None:
    names = [f"v{i:02d}" for i in range(30)]
    listings = [listing("data", *(sample(name, int(name == "v29")) for name in names))]
    verdict = judged(listings, {name: good("black") for name in names})
    found = next(one for one in verdict.findings if one.code == "two-labels")
    assert found.samples == 30
    assert found.detail.startswith("v00 as 'run' (data, list:v00); v29 as 'walk' (data, list:v29); v01 as 'run'")
    assert found.detail.endswith(" and 25 more")
