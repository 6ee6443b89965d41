"""Templates and descriptions from files: what is read, what is refused and in which words, how classes are found."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2clip.data.text import descriptions
from m2clip.data.text.descriptions import (
    TextSource,
    read_descriptions,
    read_templates,
    read_text_source,
)
from m2clip.errors import ConfigError, ManifestError


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- files of descriptions


def test_a_class_has_a_text_or_a_list_of_texts(tmp_path: Path) -> None:
    content = '{"jump": "someone leaves the ground", "läuft {0}": ["ein {} läuft", "日本 🙂"]}'
    path = written(tmp_path / "texts.json", content)
    texts, file = read_descriptions(path)
    assert texts == {"jump": ("someone leaves the ground",), "läuft {0}": ("ein {} läuft", "日本 🙂")}
    assert file.path == str(path)
    assert file.sha256 == hashlib.sha256(content.encode()).hexdigest()


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    assert read_descriptions(written(tmp_path / "texts.json", b'\xef\xbb\xbf{"a": "b"}'))[0] == {"a": ("b",)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{\n"jump": "up",\n"run" "fast"}',
            r"texts.json:3: not valid JSON \(Expecting ':' delimiter\); mend that line",
        ),
        ("", r"texts.json:1: not valid JSON"),
        ('{"jump": "up", "run": "fast", "jump": "down"}', "the class 'jump' stands there twice"),
        ('{"jump": []}', "'jump' has an empty text or none"),
        ('{"jump": ["up", "  "]}', "'jump' has an empty text or none"),
        ('{"jump": ""}', "'jump' has an empty text or none"),
        ('{"jump": 3}', "'jump' has something else than texts"),
        ('{"jump": null}', "'jump' has something else than texts"),
        ('{"jump": ["up", 3]}', "'jump' has something else than texts"),
        ('{"jump": {"text": "up"}}', "'jump' has something else than texts"),
        ('{"jump": {}}', "'jump' has something else than texts"),
        ('["jump", "up"]', "names no class"),
        ("{}", "names no class"),
        ('"jump"', "names no class"),
        ("NaN", "names no class"),
        (b'{"jump": "\xff"}', "not UTF-8"),
        ("[" * 200_000, "is no list of texts"),
        ("1" * 10_000, "is no list of texts"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_descriptions(written(tmp_path / "texts.json", content))
    assert "texts.json" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_not_there_or_a_folder_or_huge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "gone.json", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_descriptions(path)
    path = written(tmp_path / "texts.json", '{"jump": "someone leaves the ground"}')
    monkeypatch.setattr(descriptions, "LARGEST", path.stat().st_size)
    assert read_descriptions(path)[0]
    monkeypatch.setattr(descriptions, "LARGEST", path.stat().st_size - 1)
    with pytest.raises(ConfigError, match="has more than"):
        read_descriptions(path)


@given(st.dictionaries(st.text(min_size=1), st.lists(st.text().filter(str.strip), min_size=1), min_size=1))
def test_any_names_and_texts_come_back_as_they_are(tmp_path_factory: pytest.TempPathFactory, texts: dict) -> None:
    path = tmp_path_factory.mktemp("texts") / "texts.json"
    path.write_text(json.dumps(texts), encoding="utf-8")
    read, _ = read_descriptions(path)
    assert read == {name: tuple(own) for name, own in texts.items()}
    assert TextSource(descriptions=read).describe(list(texts)) == tuple(read.values())


# --- files of templates


def test_templates_stand_one_a_line(tmp_path: Path) -> None:
    path = written(tmp_path / "templates.txt", "A video of {}\n\n  a {}, filmed  \n")
    templates, file = read_templates(path)
    assert templates == ("A video of {}", "a {}, filmed")
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("A video of {}\nA video\n", r"templates.txt:2: the template 'A video' must hold exactly one"),
        ("{} and {}\n", r"templates.txt:1: .*exactly one"),
        ("\na {name}\n", r"templates.txt:2: .*exactly one"),
        ("a {}\nb {}\na {}\n", r"templates.txt:3: the template 'a {}' stands already in line 1"),
    ],
)
def test_bad_templates_are_refused_with_their_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_templates(written(tmp_path / "templates.txt", content))


def test_no_template_at_all(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="holds no template"):
        read_templates(written(tmp_path / "templates.txt", "\n \n"))
    with pytest.raises(ManifestError, match="does not exist"):
        read_templates(tmp_path / "gone.txt")


# --- which class a description belongs to


def test_classes_are_found_like_labels_whatever_the_order_of_the_file() -> None:
    texts = {"Jump_High": ("a",), "run": ("b", "c"), "RUN": ("d",), "more": ("e",)}
    for entries in (texts, dict(reversed(texts.items()))):
        assert TextSource(descriptions=entries).describe(["run", "jump high", "RUN"]) == (("b", "c"), ("a",), ("d",))


def test_two_entries_that_could_be_meant_are_refused() -> None:
    with pytest.raises(ConfigError, match="'RUN' and 'run_' could both be the class 'run'"):
        TextSource(descriptions={"RUN": ("a",), "run_": ("b",)}).describe(["run"])


def test_missing_classes_are_counted_and_the_first_is_named() -> None:
    source = TextSource(descriptions={"jumping jack": ("a",), "run": ("b",)})
    with pytest.raises(
        ConfigError, match=r"2 of 3 classes have no text, the first is 'jumping jacks' \('jumping jack' is"
    ):
        source.describe(["run", "jumping jacks", "swim"])
    with pytest.raises(ConfigError, match="one class has no text, the first is 'swim'; write"):
        source.describe(["run", "swim"])


# --- what the texts are made of


def test_descriptions_alone_are_used_as_they_are() -> None:
    source = TextSource(descriptions={"jump": ("a {} b", "c"), "run": ("d",)})
    assert source.texts(["run", "jump"], further=[["x"], ["y"]]) == (("d",), ("a {} b", "c"))


def test_templates_then_texts_of_the_table_then_descriptions() -> None:
    source = TextSource(("a {}", "b {}"), {"jump": ("c",), "run": ("d", "e")})
    assert source.texts(["run", "jump"], further=[["x"], []]) == (
        ("a run", "b run", "x", "d", "e"),
        ("a jump", "b jump", "c"),
    )
    assert TextSource(("a {}",)).texts(["run"]) == (("a run",),)
    assert TextSource(("a {}",)).texts(["run"], further=[["x"]]) == (("a run", "x"),)


def test_five_hundred_texts_a_class() -> None:
    many = tuple(f"text {k}" for k in range(500))
    assert TextSource(descriptions={"run": many}).texts(["run"]) == (many,)


def test_a_source_knows_its_files(tmp_path: Path) -> None:
    templates = written(tmp_path / "templates.txt", "a {}\nb {}\n")
    texts = written(tmp_path / "texts.json", '{"run": "x"}')
    assert read_text_source() is None
    both = read_text_source(templates=templates, descriptions=texts)
    assert both is not None
    assert both.document() == {
        "template": "a {}",
        "more_templates": ["b {}"],
        "templates_file": {"path": str(templates), "sha256": hashlib.sha256(templates.read_bytes()).hexdigest()},
        "texts_file": {"path": str(texts), "sha256": hashlib.sha256(texts.read_bytes()).hexdigest()},
    }
    alone = read_text_source(descriptions=texts)
    assert alone is not None
    assert (alone.document()["template"], alone.document()["templates_file"]) == (None, None)


def test_a_source_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="no templates and no descriptions"):
        TextSource()
