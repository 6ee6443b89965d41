"""The masked-word test: which words are asked for, and that the answers are those of the model's plain forward pass."""

from pathlib import Path
from typing import Any

import pytest
import torch

from m2clip.data.dataset import VideoDataset
from m2clip.data.manifest import Manifest, read_manifest
from m2clip.data.text.prompts import NOT_A_TARGET, Masker
from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.errors import M2CLIPError
from m2clip.evaluate import evaluate
from m2clip.evaluate.masked_words import MaskedWordTest
from m2clip.report.masked_words import Answer, measure_words
from tests.small_inputs import class_folders, tiny_model

NAMES = ("a red star moving up", "a red star spinning", "yoga")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("data"), NAMES)


def trained_model(names: tuple[str, ...] = NAMES, **options: Any) -> Any:
    """A model that says of itself to be trained, with a word head whose answers are not all the same."""
    model = tiny_model(names, **options)
    with torch.no_grad():
        for parameter in () if model.masked_words is None else model.masked_words.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    model.info = model.info.model_copy(update={"training": {"epochs": 1, "seed": 3}})
    return model


def plain_answers(model: Any, manifest: Manifest, masks: dict[str, list[tuple[str, ...]]], **views: int) -> list[str]:
    """Each video with each masked text of its class through `model(...)`, one at a time: "truth>answer" of each place."""
    info = model.info
    dataset = VideoDataset(
        manifest,
        frames=info.frames,
        size=info.image_size,
        mean=info.sizes.mean,
        std=info.sizes.std,
        train=False,
        **views,
    )
    masker = Masker(info.words, tokenizer=get_tokenizer(), template=info.template)
    found = []
    for n, sample in enumerate(manifest.samples):
        name = manifest.class_names[sample.label]
        for chosen in masks[name]:
            masked = masker.mask([f"A video of {name}"], [chosen])
            with torch.inference_mode():
                logits = torch.stack([model(clip[None], None, masked.tokens).mlm_logits[0] for clip in dataset[n].clip])
            said = logits.softmax(-1).mean(0).argmax(-1)  # [L]
            for place in (masked.targets[0] != NOT_A_TARGET).nonzero().flatten().tolist():
                found.append(f"{info.words[int(masked.targets[0, place])]}>{info.words[int(said[place])]}")
    return found


ALONE = {
    "a red star moving up": [("moving",), ("red",), ("star",), ("up",)],
    "a red star spinning": [("red",), ("spinning",), ("star",)],
    "yoga": [("yoga",)],
}
VERBS: dict[str, list[tuple[str, ...]]] = {
    "a red star moving up": [("moving",)],
    "a red star spinning": [("spinning",)],
    "yoga": [],
}


@pytest.mark.parametrize("views", [{}, {"views_temporal": 2, "views_spatial": 2}])
def test_answers_are_those_of_the_plain_forward_pass(folder: Path, views: dict[str, int]) -> None:
    model, manifest = trained_model(), read_manifest(folder)
    section = evaluate(model, manifest, batch_size=4, frames=model.info.frames, **views).document["masked_words"]
    for reading, masks in (("each_word", ALONE), ("verbs", VERBS)):
        expected = plain_answers(model, manifest, masks, **views)
        right = [pair for pair in expected if len(set(pair.split(">"))) == 1]
        one = section[reading]
        assert (one["words"], one["correct"]) == (len(expected), len(right))
        assert one["top1"] == pytest.approx(len(right) / len(expected))
        for row in one["by_word"]:
            said = [pair.split(">")[1] for pair in expected if pair.startswith(row["word"] + ">")]
            assert row["count"] == len(said)
            assert row["correct"] == said.count(row["word"])
            assert said.count(row["most_said"]) == max(map(said.count, said))
    assert len({row["most_said"] for row in section["each_word"]["by_word"]}) > 1  # else this test could not tell much


def test_words_are_those_of_the_class_names_without_the_template(folder: Path) -> None:
    section = evaluate(trained_model(), read_manifest(folder)).document["masked_words"]
    each, of_verbs = section["each_word"], section["verbs"]
    assert [(row["word"], row["count"]) for row in each["by_word"]] == [
        ("red", 4), ("star", 4), ("moving", 2), ("spinning", 2), ("up", 2), ("yoga", 2),
    ]  # fmt: skip
    assert (each["videos"], each["words"], each["most_frequent"], each["baseline_top1"]) == (6, 16, "red", 0.25)
    # Behind "A video of" stands yoga or the article a (the template's), behind "a red star" moving or spinning: of 16
    # words, only 2 of these 4 cannot be had from the text.
    assert each["text_baseline_top1"] == 14 / 16
    assert (of_verbs["videos"], of_verbs["words"], of_verbs["baseline_top1"], of_verbs["text_baseline_top1"]) == (
        4,
        4,
        0.5,
        0.5,
    )


def test_verbs_are_masked_together(folder: Path) -> None:
    names = ("running and jumping", "a red star spinning", "yoga")
    test = MaskedWordTest(trained_model(names), columns=(0, 1, 2), videos=3)
    asked = test.document(labels=(0, 1, 2), scored=(0,))
    assert asked["verbs"]["words"] == 2
    assert asked["each_word"]["words"] == 3  # and, jumping, running
    # jumping behind "mask and" and behind "running and" are different questions
    assert test.said.shape == (3, 5)


def test_the_order_of_classes_and_the_size_of_batches_do_not_matter(folder: Path) -> None:
    manifest = read_manifest(folder)
    forward = evaluate(trained_model(), manifest).document["masked_words"]
    model = trained_model()
    order = (2, 0, 1)
    model.info = model.info.model_copy(
        update={
            "class_names": tuple(model.info.class_names[k] for k in order),
            "texts": tuple(model.info.texts[k] for k in order),
        }
    )
    assert evaluate(model, manifest, batch_size=1).document["masked_words"] == forward


def test_it_is_asked_only_where_it_was_trained(folder: Path) -> None:
    manifest = read_manifest(folder)
    untrained = tiny_model(NAMES)
    assert "masked_words" not in evaluate(untrained, manifest).document
    assert "masked_words" not in evaluate(trained_model(masked_words=False), manifest).document
    assert "masked_words" not in evaluate(trained_model(), manifest, protocol="zero-shot").document
    assert "masked_words" not in evaluate(trained_model(), manifest, masked_words=False).document
    frozen = tiny_model(NAMES, method="frozen")
    frozen.info = frozen.info.model_copy(update={"training": {"epochs": 1}})
    assert "masked_words" not in evaluate(frozen, manifest).document


def test_names_that_the_template_holds_already_leave_nothing_to_ask(folder: Path) -> None:
    model = trained_model(("video", "a", "---"))
    test = MaskedWordTest(model, columns=(0, 1, 2), videos=2)
    frames = [torch.zeros(2, 8, 24)]
    assert test.ask(model, frames, labels=torch.tensor([0, 2]), rows=torch.tensor([0, 1])).shape[:2] == (2, 0)
    assert test.document(labels=(0, 2), scored=(0, 1)) == {}


def test_the_model_keeps_its_mode_and_dropout_stays_out(folder: Path) -> None:
    model, manifest = trained_model().train(), read_manifest(folder)
    first = evaluate(model, manifest).document["masked_words"]
    assert model.training
    assert first == evaluate(model.eval(), manifest).document["masked_words"]


def test_scores_that_are_not_finite_name_the_file(folder: Path) -> None:
    model = trained_model()
    with torch.no_grad():
        model.masked_words.head.decoder.bias.fill_(float("inf"))
    with pytest.raises(M2CLIPError, match=r"0.mp4: its masked-word scores are not finite"):
        evaluate(model, read_manifest(folder))


def test_it_stands_in_the_summary_and_on_the_page(folder: Path, tmp_path: Path) -> None:
    result = evaluate(trained_model(), read_manifest(folder))
    one = result.document["masked_words"]["verbs"]
    line = f"masked verbs: {100 * one['top1']:.1f} % of 4 found (always 'moving': 50.0 %, from the text alone at most 50.0 %)"
    assert line in result.summary().splitlines()
    result.write(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Masked words, predicted from the videos" in page
    assert "each word masked alone" in page


def test_measured_by_hand() -> None:
    """Six words: 3 x up, 2 x down, 1 x left; two contexts."""
    rows = [
        (0, "up", "up", "it moves"),
        (0, "up", "down", "it moves"),
        (1, "up", "down", "it flies"),
        (2, "down", "down", "it moves"),
        (3, "down", "up", "it flies"),
        (3, "left", "left", "it flies"),
    ]
    measured = measure_words([Answer(*row) for row in rows])
    assert (measured.videos, measured.words, measured.correct) == (4, 6, 3)
    assert (measured.most_frequent, measured.most_frequent_correct) == ("up", 3)
    assert measured.text_correct == 2 + 1  # "it moves" up, up, down; "it flies" three different ones
    assert [vars(row) for row in measured.by_word] == [
        {"word": "up", "count": 3, "correct": 1, "most_said": "down"},
        {"word": "down", "count": 2, "correct": 1, "most_said": "down"},
        {"word": "left", "count": 1, "correct": 1, "most_said": "left"},
    ]
    assert measured.document()["baseline_top1"] == 0.5
    assert measured.document()["text_baseline_top1"] == 0.5
