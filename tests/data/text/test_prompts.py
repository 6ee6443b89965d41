"""Texts of classes, their words, and masking."""

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m2clip.data.text.prompts import NOT_A_TARGET, MaskedTexts, Masker, class_texts, mlm_words, name_doubt, verbs
from m2clip.data.text.tokenizer import TruncatedText, get_tokenizer
from m2clip.errors import ConfigError

TEMPLATE = "A video of {}"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def masker(names, *, policy="verbs", rate=0.2, template=TEMPLATE, words=None, **options) -> Masker:
    words = mlm_words(names, template) if words is None else words
    return Masker(words, policy=policy, rate=rate, tokenizer=get_tokenizer(), template=template, **options)


def texts_of(names) -> list[str]:
    return [text for (text,) in class_texts(names, template=TEMPLATE)]


def masked_words(words, masked: MaskedTexts) -> list[list[str]]:
    return [[words[target] for target in row.tolist() if target != NOT_A_TARGET] for row in masked.targets]


# --- texts


def test_the_name_in_the_template_comes_first_then_further_texts_as_they_are():
    texts = class_texts(["jump", "run"], template=TEMPLATE, further=[["someone in {} air"], []])
    assert texts == (("A video of jump", "someone in {} air"), ("A video of run",))
    assert class_texts([], template=TEMPLATE) == ()


@pytest.mark.case("E6")
def test_names_made_for_folders_are_doubted():
    assert name_doubt(["walking", "Tai chi", "X", "ice-skating", "Yoga", "NBA dunk", "3D printing"]) is None
    told = name_doubt(["walking", "apply_eye_makeup", "ApplyLipstick", "TaiChi", "UCF"])
    assert told.startswith("3 of 5 class names look like names of folders (first: 'apply_eye_makeup')")


@pytest.mark.parametrize(
    "name", ["{}", "{x}", "a, b", "None", "007", "100% {0!r}", "Pushing [something] (slowly)", "🙂"]
)
def test_names_may_hold_anything(name):
    assert class_texts([name], template="a {} b") == ((f"a {name} b",),)


@pytest.mark.parametrize("template", ["A video", "{} and {}", "a {name}", "a {0}", "{{}}", "{} }", "", "a { } b"])
def test_a_template_needs_exactly_one_hole(template):
    with pytest.raises(ConfigError, match=r"exactly one \{\}"):
        class_texts(["jump"], template=template)


def test_empty_names_and_wrong_counts_are_refused():
    with pytest.raises(ConfigError, match="class 1 is empty"):
        class_texts(["jump", " "], template=TEMPLATE)
    with pytest.raises(ConfigError, match="2 classes of 1"):
        class_texts(["jump"], template=TEMPLATE, further=[[], []])


# --- words


@pytest.mark.case("L11")
def test_words_are_lower_case_sorted_and_unique():
    assert mlm_words(["Jump", "red JUMP"], TEMPLATE) == ("a", "jump", "of", "red", "video")


def test_punctuation_belongs_to_no_word_and_endings_to_theirs():
    names = [
        "Pushing [something], quickly",
        "massaging person's head",
        "so it doesn't fall",
        "t-shirt/pull_ups (360) 3D",
        "don’t",
    ]
    assert mlm_words(names, "{}") == (
        *("360", "3d", "doesn't", "don't", "fall", "head", "it", "massaging", "person's", "pull", "pushing", "quickly"),
        *("shirt", "so", "something", "t", "ups"),
    )  # fmt: skip


def test_names_without_letters_have_no_words():
    assert mlm_words(["---", "🙂"], "{}") == ()


@pytest.mark.shared
def test_words_of_the_field_are_those_that_others_use(shared: Path):
    """The word list of the reference's masked-word head, but for punctuation and its four prompt words."""
    with (shared / "data/labels/k400_400_m2clip_spelling.csv").open(encoding="utf-8", newline="") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    listed = (shared / "data/labels/k400_mlm_words_m2clip.txt").read_text(encoding="utf-8").splitlines()
    assert set(mlm_words(names, TEMPLATE)) | {"name"} == {line.rsplit(" ", 1)[0] for line in listed}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a video of a red star moving left to right", {"moving"}),
        ("a green square bounces and grows", {"bounces", "grows"}),
        ("a ball stopped", {"stopped"}),
        ("someone carries something", {"carries"}),
        ("water skiing", {"skiing"}),
        ("something being deflected from something", {"deflected"}),
        ("shoot bow", {"shoot", "bow"}),
        ("nothing in the morning during spring", set()),
        ("yoga", set()),
    ],
)
def test_verbs(text, found):
    assert verbs(text.split()) == found


@pytest.mark.shared
def test_nearly_every_class_of_the_field_has_a_verb(shared: Path):
    for name, most in (("ssv2_174", 0), ("hmdb51_51", 3), ("k400_400", 8)):
        with (shared / f"data/labels/{name}.csv").open(encoding="utf-8", newline="") as file:
            without = [row["name"] for row in csv.DictReader(file) if not verbs(mlm_words([row["name"]], "{}"))]
        assert len(without) <= most, without


# --- masking


def test_a_masked_text_is_the_text_with_mask_in_the_words_place():
    names = ["moving left", "spinning"]
    words = mlm_words(names, TEMPLATE)
    masked = masker(names, rate=0.0)(texts_of(names), rng())
    assert masked_words(words, masked) == [["moving"], ["spinning"]]
    expected = get_tokenizer()(["A video of mask left", "A video of mask"], pad_to_longest=True)
    assert torch.equal(masked.tokens, expected)
    assert masked.targets.dtype == torch.int64


def test_clean_tokens_stay_where_nothing_is_masked():
    names = ["pushing [something] from left to right", "massaging person's head"]
    clean = get_tokenizer()(texts_of(names), pad_to_longest=True)
    assert torch.equal(masker(names, policy="off")(texts_of(names), rng()).tokens, clean)
    assert (masker(names, policy="off")(texts_of(names), rng()).targets == NOT_A_TARGET).all()
    masked = masker(names, rate=0.5)(texts_of(names), rng())
    (mask_id,) = get_tokenizer().encode("mask")
    changed = masked.tokens != clean
    assert changed.any(1).all()
    assert (masked.tokens[changed] == mask_id).all()
    assert (masked.targets[~changed] == NOT_A_TARGET).all()


def test_a_word_of_many_tokens_is_masked_whole_and_has_one_target():
    names = ["abseiling zzyzxian"]
    ids = get_tokenizer().encode("zzyzxian")
    assert len(ids) > 2
    words = mlm_words(names, TEMPLATE)
    masked = masker(names, rate=0.0, words=("zzyzxian",))(texts_of(names), rng())
    (mask_id,) = get_tokenizer().encode("mask")
    start = masked.tokens[0].tolist().index(mask_id)
    assert masked.tokens[0, start : start + len(ids)].tolist() == [mask_id] * len(ids)
    assert masked.tokens[0, start + len(ids)] == get_tokenizer().end_id
    assert masked.targets[0].tolist().count(NOT_A_TARGET) == masked.targets.shape[1] - 1
    assert masked.targets[0, start] == 0
    assert "zzyzxian" in words


def test_a_repeated_word_is_masked_at_all_its_places():
    names = ["something colliding with something"]
    masked = masker(names, rate=0.0, words=("something",))(texts_of(names), rng())
    assert masked_words(("something",), masked) == [["something", "something"]]


def test_verbs_come_first_and_template_words_last():
    names = ["a red star moving of something"]
    words = mlm_words(names, TEMPLATE)
    mask = masker(names, rate=0.6)
    seen: set[str] = set()
    for seed in range(60):
        (chosen,) = masked_words(words, mask(texts_of(names), rng(seed)))
        assert "moving" in chosen
        if set(chosen) & {"a", "video", "of"}:
            assert {"red", "star", "something"} <= set(chosen)
        seen |= set(chosen)
    assert {"red", "star", "something"} <= seen


def test_a_verb_of_the_template_does_not_hide_that_of_the_name():
    template = "someone doing {}"
    mask = masker(["jump high"], template=template, rate=0.0)
    for seed in range(10):
        masked = mask(["someone doing jump high"], rng(seed))
        assert masked_words(mlm_words(["jump high"], template), masked) == [["jump"]]


def test_random_policy_draws_every_word_at_the_rate():
    names = ["red star moving left to right slowly now"]
    words = mlm_words(names, TEMPLATE)
    mask = masker(names, policy="random", rate=0.4)
    counts = dict.fromkeys(words, 0)
    for seed in range(400):
        for word in set(masked_words(words, mask(texts_of(names), rng(seed)))[0]):
            counts[word] += 1
    assert all(120 < count < 200 for count in counts.values()), counts


@pytest.mark.parametrize("policy", ["verbs", "random"])
def test_the_same_seed_gives_the_same_masks(policy):
    names = ["moving left to right", "spinning clockwise", "growing slowly on a table"]
    first, again, other = (masker(names, policy=policy, rate=0.5)(texts_of(names) * 4, rng(s)) for s in (3, 3, 4))
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.targets, other.targets)


def test_words_outside_the_vocabulary_are_never_targets():
    masked = masker([], words=("jump",), rate=1.0)(["A video of run", "A video of jump", "", "🙂"], rng())
    assert (masked.targets[[0, 2, 3]] == NOT_A_TARGET).all()
    assert torch.equal(
        masked.tokens, get_tokenizer()(["A video of run", "A video of mask", "", "🙂"], pad_to_longest=True)
    )


def test_a_word_that_the_cut_took_is_no_target():
    text = "jump " * 75 + "run fall"
    words = ("fall", "jump", "run")
    with pytest.warns(TruncatedText):
        masked = masker([], words=words, rate=1.0)([text], rng())
    assert set(masked_words(words, masked)[0]) == {"jump"}
    assert masked.tokens[0, -1] == get_tokenizer().end_id
    with pytest.warns(TruncatedText):
        assert masker([], words=words, rate=1.0, context_length=9)([text], rng()).tokens.shape == (1, 9)


def test_rate_one_masks_all_words():
    names = ["red star moving"]
    masked = masker(names, rate=1.0)(texts_of(names), rng())
    assert len(masked_words(mlm_words(names, TEMPLATE), masked)[0]) == 6


def test_words_can_be_chosen_instead_of_drawn():
    names = ["a red video moving over a red star", "yoga"]
    mask = masker(names)
    first, second = texts_of(names)
    assert mask.own_words(first) == ("moving", "over", "red", "star")  # a, video and of are the template's
    masked = mask.mask([first, second, first], [("red",), (), ("moving", "star")])
    assert masked_words(mlm_words(names, TEMPLATE), masked) == [["red", "red"], [], ["moving", "star"]]
    expected = get_tokenizer()(["A video of a mask video moving over a mask star"], pad_to_longest=True)
    assert torch.equal(masked.tokens[:1], expected)


def test_no_texts():
    masked = masker(["jump"])([], rng())
    assert masked.tokens.shape == masked.targets.shape == (0, 0)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="policy 'nouns' is unknown"):
        masker(["jump"], policy="nouns")
    with pytest.raises(ConfigError, match=r"rate 1.5 is outside 0..1"):
        masker(["jump"], rate=1.5)
    with pytest.raises(ValueError, match="disagree"):
        MaskedTexts(torch.zeros(1, 2), torch.zeros(2, 1))


def test_a_masker_can_go_to_another_process():
    names = ["moving left"]
    again = pickle.loads(pickle.dumps(masker(names)))
    assert torch.equal(again(texts_of(names), rng()).tokens, masker(names)(texts_of(names), rng()).tokens)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text(max_size=30).filter(lambda name: name.strip()), min_size=1, max_size=4),
    st.sampled_from(["verbs", "random"]),
    st.floats(0, 1),
)
def test_any_names(names, policy, rate):
    texts = texts_of(names)
    masked = masker(names, policy=policy, rate=rate)(texts, rng())
    clean = get_tokenizer()(texts, pad_to_longest=True)
    words = mlm_words(names, TEMPLATE)
    assert masked.tokens.shape == clean.shape
    assert ((masked.targets != NOT_A_TARGET).any(1)).all()  # the template alone has words
    assert (
        (masked.targets == NOT_A_TARGET) | (masked.tokens != clean) | (clean == get_tokenizer().encode("mask")[0])
    ).all()
    assert masked.targets.max() < len(words)
    assert torch.equal(masked.tokens.argmax(1), clean.argmax(1))  # the end token stays where it was
