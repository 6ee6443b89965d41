"""Class names -> the texts that CLIP reads, and the masked texts of the cross-modal language model (SPEC.md, head 3)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal, NamedTuple

import numpy as np
import regex
import torch

from m2clip.data.text.tokenizer import CONTEXT_LENGTH, Piece, Tokenizer, get_tokenizer
from m2clip.errors import ConfigError

Policy = Literal["verbs", "random", "off"]

NOT_A_TARGET = -100  # cross-entropy's own sign for "does not count"

# What may stand inside a word: letters, digits, marks; and, not at its start, an English ending.
_PART = regex.compile(r"[\p{L}\p{N}\p{M}]+")
_ENDING = regex.compile(r"'(s|t|re|ve|m|ll|d)")

# Words in -ing that name no action, or (being) only carry another verb.
_NO_ACTION = {
    "anything", "being", "ceiling", "clothing", "during", "earring", "evening", "everything", "morning", "nothing",
    "offspring", "sibling", "something", "spring", "string", "thing", "wedding",
}  # fmt: skip


def class_texts(
    names: Sequence[str],
    *,
    template: str,
    more_templates: Sequence[str] = (),
    further: Sequence[Sequence[str]] = (),
) -> tuple[tuple[str, ...], ...]:
    """Return the texts of each class: its name in the template, then in the other templates, then its further texts as they are.

    A template holds exactly one {} and no other brace; names may hold anything. `further` is empty or has one (possibly
    empty) sequence a class. Raises ConfigError.
    """
    ends = [_template_ends(one) for one in (template, *more_templates)]
    if further and len(further) != len(names):
        raise ConfigError(
            f"further texts are given for {len(further)} classes of {len(names)}: give one sequence a class"
        )
    for index, name in enumerate(names):
        if not name.strip():
            raise ConfigError(f"the name of class {index} is empty: name the class")
    rest = further or [()] * len(names)
    return tuple(
        (*(before + name + after for before, after in ends), *texts) for name, texts in zip(names, rest, strict=True)
    )


def name_doubt(names: Sequence[str]) -> str | None:
    """A sentence about names that are made for folders (apply_eye_makeup, ApplyEyeMakeup), where CLIP knows words; None without any."""
    odd = [name for name in names if "_" in name or regex.fullmatch(r"\p{Lu}\p{Ll}+(\p{Lu}\p{Ll}*)+", name)]
    if not odd:
        return None
    return (
        f"{len(odd)} of {len(names)} class names look like names of folders (first: {odd[0]!r}), and CLIP reads them as they are; "
        "its scores are better with words: give a class table with the columns id, name and dir"
    )


def check_template(template: str) -> None:
    """Raise ConfigError unless the template holds exactly one {} and no other brace."""
    _template_ends(template)


def mlm_words(names: Sequence[str], template: str) -> tuple[str, ...]:
    """Return all words of the class names and the template: lower case, sorted, unique.

    A word is a run of letters and digits with its English ending ("person's", "doesn't"); hyphens, underscores, brackets
    and other punctuation separate words and belong to none.
    """
    texts = [text for (text,) in class_texts(names, template=template)]
    return tuple(sorted({word.text for text in texts for word in _words(get_tokenizer().pieces(text))}))


def verbs(words: Iterable[str]) -> set[str]:
    """Return the words of one text that name its action: those in -ing, or where there are none, forms of known verbs.

    The two steps keep nouns that look like verbs ("water" in "water skiing", "drum" in "tapping a drum") out of the way.
    """
    words = set(words)
    ing = {word for word in words if len(word) > 4 and word.endswith("ing") and word not in _NO_ACTION}
    return ing or {word for word in words if not _known_verbs().isdisjoint(_base_forms(word))}


@dataclass(frozen=True)
class MaskedTexts:
    """Texts with words masked, and what was there."""

    tokens: torch.Tensor
    """int64 [B, L]: as the tokenizer's, L the longest text, with masked words replaced."""
    targets: torch.Tensor
    """int64 [B, L]: the word's index where a masked word starts, elsewhere -100."""

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or self.tokens.shape != self.targets.shape:
            raise ValueError(f"tokens {tuple(self.tokens.shape)} and targets {tuple(self.targets.shape)} disagree")


class Masker:
    """Masks words of texts for the language model to predict from the video.

    `words` is the vocabulary (`mlm_words`): a target is an index into it, and words outside it are never masked. `policy`:
    "verbs" masks verbs first, then other words, then the words of `template`; "random" draws from all; "off" masks none.
    `rate` in 0..1 is the expected share of a text's distinct words; at least one is masked wherever there is one.
    A drawn word is masked at every place where it stands, so that no copy gives it away. All its tokens become the token of
    "mask", so lengths and positions stay as they were; the target sits at its first token.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        policy: Policy = "verbs",
        rate: float = 0.2,
        tokenizer: Tokenizer,
        template: str = "{}",
        context_length: int = CONTEXT_LENGTH,
    ) -> None:
        if policy not in ("verbs", "random", "off"):
            raise ConfigError(f"masking policy {policy!r} is unknown: take verbs, random or off")
        if not 0.0 <= rate <= 1.0:
            raise ConfigError(f"masking rate {rate} is outside 0..1: give the share of words to mask")
        self._index_of = {word: index for index, word in enumerate(words)}
        self._policy, self._rate = policy, rate
        self._tokenizer, self._context_length = tokenizer, context_length
        (self._mask_id,) = tokenizer.encode("mask")
        self._template_words = {word.text for end in _template_ends(template) for word in _words(tokenizer.pieces(end))}
        self._places_of: dict[str, dict[str, list[tuple[int, int]]]] = {}  # texts repeat at every step

    def __call__(self, texts: Sequence[str], rng: np.random.Generator) -> MaskedTexts:
        """Return the masked texts. The same state of `rng` gives the same masks."""
        draws = [() if self._policy == "off" else self._draw(sorted(self._places(text)), rng) for text in texts]
        return self.mask(texts, draws)

    def mask(self, texts: Sequence[str], words: Sequence[Iterable[str]]) -> MaskedTexts:
        """Return the texts with exactly these words masked, for each text words that stand in it."""
        tokens = self._tokenizer(texts, context_length=self._context_length, pad_to_longest=True)
        targets = torch.full_like(tokens, NOT_A_TARGET)
        for row, (text, chosen) in enumerate(zip(texts, words, strict=True)):
            places = self._places(text)
            for word in chosen:
                for start, stop in places[word]:
                    tokens[row, start:stop] = self._mask_id
                    targets[row, start] = self._index_of[word]
        return MaskedTexts(tokens, targets)

    def own_words(self, text: str) -> tuple[str, ...]:
        """Return the words of `text` that can be masked and are not the template's, sorted."""
        return tuple(sorted(self._places(text).keys() - self._template_words))

    def _draw(self, words: list[str], rng: np.random.Generator) -> list[str]:
        if not words:
            return []
        order = [words[index] for index in rng.permutation(len(words))]
        if self._policy == "verbs":
            first = verbs(word for word in words if word not in self._template_words)
            order.sort(
                key=lambda word: (word not in first, word in self._template_words)
            )  # stable: random inside a rank
        return order[: max(1, int(rng.binomial(len(words), self._rate)))]

    def _places(self, text: str) -> dict[str, list[tuple[int, int]]]:
        """Return for each known word of `text` the token ranges where it stands whole in front of the end token."""
        if text not in self._places_of:
            self._places_of[text] = self._find_places(text)
        return self._places_of[text]

    def _find_places(self, text: str) -> dict[str, list[tuple[int, int]]]:
        places: dict[str, list[tuple[int, int]]] = {}
        for word in _words(self._tokenizer.pieces(text)):
            start, stop = word.start + 1, word.stop + 1  # the start token stands in front
            if word.text in self._index_of and stop < self._context_length:
                places.setdefault(word.text, []).append((start, stop))
        return places


class _Word(NamedTuple):
    text: str
    start: int
    """Its first token, counted without the start token."""
    stop: int
    """One past its last token."""


def _words(pieces: Iterable[Piece]) -> Iterator[_Word]:
    """Join pieces to words: "person" + "'s" is one word, and so is "3" + "d"."""
    word, position = None, 0
    for piece in pieces:
        end = position + len(piece.ids)
        if word and not piece.follows_space and (_PART.fullmatch(piece.text) or _ENDING.fullmatch(piece.text)):
            word = _Word(word.text + piece.text, word.start, end)
        else:
            if word:
                yield word
            word = _Word(piece.text, position, end) if _PART.fullmatch(piece.text) else None
        position = end
    if word:
        yield word


def _template_ends(template: str) -> tuple[str, str]:
    before, hole, after = template.partition("{}")
    if not hole or any(brace in before + after for brace in "{}"):
        raise ConfigError(
            f"the template {template!r} must hold exactly one {{}} for the class name and no other brace, "
            'as in "A video of {}"'
        )
    return before, after


@lru_cache(maxsize=1)
def _known_verbs() -> frozenset[str]:
    listed = resources.files("m2clip.data.text").joinpath("vocabulary/verbs.txt").read_text(encoding="utf-8")
    return frozenset(listed.split())


def _base_forms(word: str) -> set[str]:
    """Return what `word` may be a form of, by the regular endings: bounces, stopped, carries -> bounce, stop, carry."""
    forms = {word, word.removesuffix("s"), word.removesuffix("es"), word.removesuffix("d"), word.removesuffix("ed")}
    if word.endswith(("ies", "ied")):
        forms.add(word[:-3] + "y")
    if word.endswith("ed") and len(word) > 4 and word[-3] == word[-4]:
        forms.add(word[:-3])
    return forms
