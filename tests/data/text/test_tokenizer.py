"""Our ids against open_clip's, string by string."""

import csv
import json
import pickle
import random
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m2clip.data.text.tokenizer import Tokenizer, TruncatedText, get_tokenizer
from m2clip.errors import M2CLIPError

TRICKY = [
    "",
    " ",
    "\n\t",
    "a",
    "A video of playing guitar",
    "  spaced\u00a0out\u2003text ",
    "line\r\nbreak\u2028and\u0085more\x1c\x1f",
    "don't, won't; I'VE we'Re it's they'll I'd I'm 'tis rock'n'roll 'S",
    "“curly” ‘quotes’ it’s",
    "'ſ <ſtart_of_text>",
    "007 1234567890 3.14 ½ ² Ⅷ ٣ 一二",
    "a,b;c:(d)[e]{f}<g>/h\\i|j_k-l",
    "!!!??? ... --- ***",
    "a" * 300,
    "!" * 300,
    "fish &amp; chips &lt;b&gt; &amp;amp; &#39; &#x27; &eacute; &nbsp; &notanentity; &amp;lt;",
    "&",
    "AT&T",
    "100% c++ #tag @name",
    "<start_of_text>",
    "<END_of_text> x",
    "!<start_of_text>",
    "a<end_of_text><start_of_text>b",
    "</w> a</w> <|endoftext|>",
    "café cafe\u0301 ÀÉÎÕÜ ß ẞ İstanbul ıI ŉ ǅ",
    "Ελληνικά ς Σ ᾳ α\u0345 \u0345a",
    "ЁЖИК Привет, мир",
    "שלום עולם",
    "مرحبا ١٢٣ ـ",
    "हिन्दी क्षत्रिय",
    "ไทยภาษา",
    "日本語テキスト ﾊﾝｶｸ",
    "中文字符，标点。",
    "한국어 \u1112\u1161\u11ab",
    "ＦＵＬＬ　ｗｉｄｔｈ",
    "ﬁne ﬂow ﬆ",
    "🙂",
    "👩‍👩‍👧‍👦 family",
    "🏳️‍🌈🇩🇪👍🏽 1️⃣",
    "a🙂b 🙂🙂 c",
    "♂ ♀ ☃ ™ © ®",
    "zero\u200bwidth \u200d \ufeff bom \u00ad soft",
    "\x00\x01\x7f control",
    "\x1b[31mred\x1b[0m",
    "schÃ¶n â€œquotedâ€\x9d Ã©tÃ© sÃ³",
    "ð\x9f\x99\x82 emoji",
    "half a pair \ud83d",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙 𐍈 𠀀 \U00031350",
    "e\u0301\u0323 o\u0308\u0304",
    "z̴̢͝a̷̕l̵g̶o̸",
    "\ue000 private \U0010ffff \ufffe",
    "²³ x² CO₂ 5µm Å Å Ω",
    "́leading mark",
    "a\u2019s b\u2019t",
    "‿ ⁀ ﹏ __init__",
    "Pushing [something] from left to right",
    "backflip (human)",
    "massaging person's head",
    "ApplyEyeMakeup",
    "hand_shaking",
    "t-shirt / pull-ups",
    "None",
    "nan",
    "a, b",
    "{} {x}",
    "%s",
]


@pytest.fixture(scope="module")
def reference() -> Callable[[list[str]], torch.Tensor]:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def ours(texts: list[str]) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncatedText)
        return get_tokenizer()(texts)


def assert_same(reference: Callable, texts: list[str]) -> None:
    expected, got = reference(texts), ours(texts)
    assert got.dtype == torch.int64
    wrong = [text for text, one, other in zip(texts, expected, got, strict=True) if not torch.equal(one, other)]
    assert wrong == []


def test_tricky_strings(reference):
    assert_same(reference, TRICKY)


def test_characters_of_all_planes_between_a_letter_a_digit_and_a_sign(reference):
    # All 1.1 million code points take a minute: a walk that is fine where living scripts are keeps it within seconds.
    points = [
        *range(0x20, 0x3400, 3),
        *range(0xA000, 0xAC00, 3),
        *range(0xF900, 0x10000),
        *range(0x10000, 0x110000, 499),
    ]
    assert_same(reference, [f"a{chr(point)}1{chr(point)}!{chr(point)}" for point in points])


def test_generated_texts(reference):
    """Over 2,000 texts of mixed alphabets, emoji, entities, lengths."""
    rng = random.Random(7)
    parts = [word for text in TRICKY for word in text.split(" ")]
    names = ["moving left to right", "spinning clockwise", "red star", "growing", "someone is", "a video of", "🙂"]
    texts = [" ".join(rng.choices(parts + names, k=rng.choice([1, 2, 3, 5, 8, 40]))) for _ in range(1500)]
    texts += ["".join(rng.choices(" aZ1!é🙂中'&;", k=rng.randint(1, 120))) for _ in range(800)]
    assert_same(reference, texts)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=4))
def test_any_text(reference, texts):
    assert_same(reference, texts)


@pytest.mark.shared
def test_all_names_of_all_label_lists(reference, shared: Path):
    names: set[str] = set()
    for path in sorted((shared / "data/labels").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            names |= {row["name"] for row in csv.DictReader(file)}
    for path in sorted((shared / "data/labels").glob("*.txt")):
        names |= {line.strip() for line in path.read_text(encoding="utf-8").splitlines()}
    texts = sorted(names | {f"A video of {name}" for name in names} | {name.upper() for name in names})
    assert len(texts) >= 2000
    assert_same(reference, texts)


def test_known_ids():
    """A small anchor that needs no reference: OpenAI's ids of this text are widely printed."""
    assert get_tokenizer()(["a photo of a cat"])[0, :7].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407]
    tokenizer = get_tokenizer()
    assert (tokenizer.vocab_size, tokenizer.start_id, tokenizer.end_id) == (49408, 49406, 49407)
    assert tokenizer.encode("a cat") == [320, 2368]


@pytest.mark.case("L8")
def test_long_text_is_cut_with_a_warning_that_names_it(reference):
    text = "someone " * 120
    with pytest.warns(TruncatedText, match=r"someone someone.*122 tokens.*cut to 77"):
        tokens = get_tokenizer()(["short", text])
    assert torch.equal(tokens, reference(["short", text]))
    assert tokens[1, -1] == get_tokenizer().end_id


def test_a_text_that_is_cut_is_told_with_its_class():
    with pytest.warns(TruncatedText, match=r"^the text 'run run run.*' of the class 'jogging' has 12 tokens"):
        get_tokenizer()(["jump", "run " * 10, "fall " * 30], context_length=9, names=["up", "jogging", "down"])


def test_many_long_texts_are_one_warning():
    with pytest.warns(TruncatedText) as warned:
        tokens = get_tokenizer()(["jump", "run " * 20, "fall " * 30, "fly " * 9], context_length=9)
    assert len(warned) == 1
    assert re.search(r"'run run.*22 tokens.*cut to 9, like 2 more: shorten", str(warned[0].message))
    assert (tokens[1:, -1] == get_tokenizer().end_id).all()


@pytest.mark.case("L8")
def test_text_of_exactly_77_tokens_is_whole_and_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokens = get_tokenizer()("someone " * 75)
    assert tokens.shape == (1, 77)
    assert tokens[0, -1] == get_tokenizer().end_id


def test_padding_to_the_longest_keeps_the_ids():
    tokenizer = get_tokenizer()
    texts = ["a", "a video of a red star moving left to right"]
    short, full = tokenizer(texts, pad_to_longest=True), tokenizer(texts)
    assert short.shape == (2, 12)
    assert torch.equal(short, full[:, :12])
    assert not full[:, 12:].any()
    with pytest.warns(TruncatedText):
        assert tokenizer(texts, context_length=5, pad_to_longest=True).shape == (2, 5)


def test_no_texts():
    assert get_tokenizer()([]).shape == (0, 77)
    assert get_tokenizer()([], pad_to_longest=True).shape == (0, 0)


def test_pieces_join_to_the_text_ids():
    tokenizer = get_tokenizer()
    pieces = tokenizer.pieces("Massaging person's  head (slowly)")
    assert [piece.text for piece in pieces] == ["massaging", "person", "'s", "head", "(", "slowly", ")"]
    assert [piece.follows_space for piece in pieces] == [True, True, False, True, True, False, False]
    assert [index for piece in pieces for index in piece.ids] == tokenizer.encode("massaging person's head (slowly)")


def test_too_small_a_context_is_refused():
    with pytest.raises(M2CLIPError, match="context_length is 1"):
        get_tokenizer()(["a"], context_length=1)


def test_shared_fast_and_picklable():
    start = time.perf_counter()
    Tokenizer()
    assert time.perf_counter() - start < 1.0  # about 0.07 s on an idle core
    assert get_tokenizer() is get_tokenizer()
    assert pickle.loads(pickle.dumps(get_tokenizer())) is get_tokenizer()


def test_same_ids_in_a_fresh_process_without_open_clip():
    code = (
        "import sys, json; from m2clip.data.text.tokenizer import get_tokenizer; "
        "print(json.dumps(get_tokenizer()('it’s a 🙂 café').tolist())); assert 'open_clip' not in sys.modules"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == get_tokenizer()("it’s a 🙂 café").tolist()
