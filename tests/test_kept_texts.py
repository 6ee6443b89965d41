"""Class embeddings from the disk are those computed anew, to the last bit, and never those of another model or set of texts."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from m2clip import kept_texts
from m2clip.kept_texts import kept_class_embeddings
from m2clip.scoring import class_embeddings
from tests.small_inputs import tiny_model

TEXTS = (("walking", "someone walks"), ("running",))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of kept texts; everything is worth keeping."""
    monkeypatch.setenv("M2CLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_texts, "_PRODUCTS_A_BYTE", 0)
    return tmp_path / "cache" / "texts"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts were encoded, a number a call."""
    numbers: list[int] = []
    encode = kept_texts.embed_classes

    def counting(model: Any, tokens: torch.Tensor, counts: Any) -> torch.Tensor:
        numbers.append(len(tokens))
        return encode(model, tokens, counts)

    monkeypatch.setattr(kept_texts, "embed_classes", counting)
    return numbers


def files(cache: Path) -> list[Path]:
    return sorted(cache.iterdir()) if cache.exists() else []


def test_they_are_encoded_once_and_equal_to_the_last_bit(cache: Path, encoded: list[int]) -> None:
    expected = class_embeddings(tiny_model(), TEXTS)
    for _ in range(2):
        found = kept_class_embeddings(tiny_model(), TEXTS)
        assert torch.equal(found, expected)
        assert (found.dtype, found.shape) == (torch.float32, (2, 24))
    assert encoded == [3]
    assert len(files(cache)) == 1


def weaken(model: Any) -> None:
    model.set_strength(0.5)


def nudge(name: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        with torch.no_grad():
            model.get_parameter(name).view(-1)[0] += 1e-3

    return change


@pytest.mark.parametrize(
    "change",
    [
        weaken,
        nudge("clip.text.token_embedding.weight"),
        nudge("clip.text.projection"),
        nudge("text_adapters.pre_mlp.1.up.bias"),
    ],
    ids=["strength", "tokens", "projection", "adapter"],
)
def test_another_text_side_is_encoded_anew(cache: Path, encoded: list[int], change: Callable[[Any], None]) -> None:
    kept_class_embeddings(tiny_model(), TEXTS)
    other = tiny_model()
    change(other)
    assert torch.equal(kept_class_embeddings(other, TEXTS), class_embeddings(other, TEXTS))
    assert encoded == [3, 3]


def test_other_texts_and_other_classes_of_the_same_texts_are_encoded_anew(cache: Path, encoded: list[int]) -> None:
    model = tiny_model()
    for texts in (TEXTS, (("walking",), ("someone walks", "running")), (("running",), ("walking", "someone walks"))):
        assert torch.equal(kept_class_embeddings(model, texts), class_embeddings(model, texts))
    assert len(files(cache)) == len(encoded) == 3


@pytest.mark.parametrize("method", ["text-prompts", "full", "st-adapter"])
def test_what_a_method_trains_of_the_text_side_counts_and_what_it_trains_of_the_image_side_does_not(
    cache: Path, encoded: list[int], method: str
) -> None:
    names = {
        "text-prompts": ("prompt.vectors", "clip.visual.projection"),
        "full": ("tuned.text.projection", "tuned.visual.projection"),
        "st-adapter": ("clip.text.projection", "visual_head.linear.weight"),
    }[method]
    for number, name in enumerate(names):
        model = tiny_model(("a", "b"), method=method)
        kept_class_embeddings(model, TEXTS)
        before = len(encoded)
        nudge(name)(model)
        assert torch.equal(kept_class_embeddings(model, TEXTS), class_embeddings(model, TEXTS))
        assert len(encoded) - before == 1 - number


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # a tensor's last bits: the file still has its form
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    """The content of another program, whole."""
    content = b"no tensors"
    path.write_bytes(hashlib.sha256(content).digest() + content)


def swapped(path: Path) -> None:
    """The file of a set with fewer classes under this name."""
    kept_class_embeddings(tiny_model(), (("jumping",),))
    other = next(file for file in path.parent.iterdir() if file != path)
    os.replace(other, path)


@pytest.mark.parametrize("break_it", [cut, flip, empty, foreign, swapped], ids=lambda fault: fault.__name__)
def test_a_broken_file_costs_time_and_nothing_else(
    cache: Path, encoded: list[int], break_it: Callable[[Path], None]
) -> None:
    expected = kept_class_embeddings(tiny_model(), TEXTS)
    break_it(files(cache)[0])
    encoded.clear()
    assert torch.equal(kept_class_embeddings(tiny_model(), TEXTS), expected)
    assert encoded == [3]
    assert torch.equal(kept_class_embeddings(tiny_model(), TEXTS), expected)
    assert encoded == [3]  # and is mended


def test_where_nothing_can_be_kept_nothing_is_told(
    tmp_path: Path, cache: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("M2CLIP_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        assert torch.equal(kept_class_embeddings(tiny_model(), TEXTS), class_embeddings(tiny_model(), TEXTS))
    for name in ("M2CLIP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # a user without a home
    kept_class_embeddings(tiny_model(), TEXTS)
    assert encoded == [3, 3, 3]


def test_training_autocast_and_few_texts_leave_no_file(
    cache: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_class_embeddings(tiny_model().train(), TEXTS)
    with torch.autocast("cpu", torch.bfloat16):
        kept_class_embeddings(tiny_model(), TEXTS)
    monkeypatch.undo()
    monkeypatch.setenv("M2CLIP_CACHE", str(cache.parent))
    kept_class_embeddings(tiny_model(), TEXTS)  # the token table takes longer to hash than three texts to encode
    assert files(cache) == []


SCRIPT = """
import torch
from m2clip import kept_texts
from tests.small_inputs import tiny_model
kept_texts._PRODUCTS_A_BYTE = 0
torch.set_num_threads(1)
for _ in range(20):
    kept_texts.kept_class_embeddings(tiny_model(), (("walking", "someone walks"), ("running",)))
"""


@pytest.mark.slow
def test_processes_may_write_at_once(cache: Path, encoded: list[int]) -> None:
    place = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    started = [subprocess.Popen([sys.executable, "-c", SCRIPT], env=place) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert torch.equal(kept_class_embeddings(tiny_model(), TEXTS), class_embeddings(tiny_model(), TEXTS))
    finally:
        torch.set_num_threads(threads)
    assert encoded == []
    assert len(files(cache)) == 1
