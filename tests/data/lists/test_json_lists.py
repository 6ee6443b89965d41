"""Lists in JSON."""

import json
from pathlib import Path

import pytest

from m2clip.data.lists.class_files import read_classes
from m2clip.data.manifest import read_manifest
from tests.data.lists.small_lists import CLASSES, refused, touch, write


def test_the_files_of_something_something(tmp_path: Path) -> None:
    """The layout of something-something-v2-train.json, -labels.json and of the videos (by id, as webm)."""
    names = {"Holding something next to something": "1", "Closing something": "0"}
    labels = write(tmp_path, json.dumps(names), "labels.json")
    train = [
        {
            "id": "78687",
            "label": "holding potato next to vicks vaporub bottle",
            "template": "Holding [something] next to [something]",
            "placeholders": ["potato", "vicks vaporub bottle"],
        },
        {"id": "42326", "label": "closing a box", "template": "Closing [something]", "placeholders": ["a box"]},
    ]
    source = write(tmp_path, json.dumps(train), "train.json")
    touch(tmp_path, "videos/78687.webm", "frames/42326/00001.jpg")
    table = read_classes(labels)
    manifest = read_manifest(source, classes=table, root=tmp_path / "videos")
    assert manifest.samples.labels.tolist() == [1, 0]
    assert manifest.class_names == ("Closing something", "Holding something next to something")
    assert manifest.samples[0].path == tmp_path / "videos/78687.webm"
    assert [(s.path.name, s.where) for s in manifest.missing()] == [("42326.webm", f"{source}:2")]
    assert read_manifest(source, classes=table, root=tmp_path / "frames").samples[1].path == tmp_path / "frames/42326"
    assert "test.json:1: the label is empty" in refused(write(tmp_path, '[{"id": "3"}]', "test.json"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"path": "a.mp4"}', ["is no array of samples"]),
        ('["a.mp4"]', ["list.json:1", "is no sample"]),
        ('[{"path": "a.mp4", "label": 0}, {"label": 1}]', ["list.json:2", "the path is empty"]),
        ('[{"path": "a.mp4", "label": 1.0}]', ["list.json:1", "label is '1.0'", "double quotes"]),
        ('[{"path": "a.mp4", "label": true}]', ["list.json:1", "label is 'True'"]),
        ('[{"path": "a.mp4", "label": 3}]', ["list.json:1", "label 3 is out of range 0..2"]),
        ('[{"path": "a.mp4", "label": 0, "start_seconds": "1"}]', ["list.json:1", "start_seconds is '1'"]),
        ('[{"path": "a.mp4", "label": 0, "end_seconds": NaN}]', ["list.json:1", "end_seconds is 'nan'"]),
        ('[{"path": "a.mp4", "label": 0, "end_seconds": 0}]', ["list.json:1", "end later"]),
        ('[{"path": "a\\nb.mp4", "label": 0}]', ["list.json:1", "goes over lines"]),
        ('[{"path": "a.mp4",\n"label" 0}]', ["list.json:2", "not valid JSON"]),
        ('[{"path": "a.mp4", "path": "b.mp4", "label": 0}]', ["'path' stands twice"]),
        ("[" * 100_000, ["is no list"]),
        ("[]", ["lists no video"]),
    ],
)
def test_bad_json_names_the_sample_and_the_remedy(tmp_path: Path, text: str, words: list[str]) -> None:
    message = refused(write(tmp_path, text, "list.json"))
    for word in words:
        assert word in message


def test_json_with_the_columns_of_a_csv(tmp_path: Path) -> None:
    text = '[{"path": "a b.mp4", "label": "None", "end_seconds": 2}, {"path": "c.mp4", "label": "a, b", "start_seconds": 1.5}]'
    samples = read_manifest(write(tmp_path, text, "list.json"), classes=CLASSES).samples
    assert [(s.path.name, s.label, s.start_seconds, s.end_seconds) for s in samples] == [
        ("a b.mp4", 2, None, 2.0),
        ("c.mp4", 1, 1.5, None),
    ]
