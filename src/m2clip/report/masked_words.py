"""How well masked words were predicted, and how well they could be without the video."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m2clip.report.page import Section, Table

READINGS = {"verbs": "masked verbs", "each_word": "each word masked alone"}
"""The readings of a masked-word test, and what they are called in a report."""


@dataclass(frozen=True)
class Answer:
    """One masked word of one video's text, and what the model said."""

    video: int
    word: str
    said: str
    context: Hashable
    """All that the model could know without the video; equal contexts cannot be told apart by the text."""


@dataclass(frozen=True)
class WordAccuracy:
    """How one word fared: how often it was masked, how often it was found, and what was said most often in its place."""

    word: str
    count: int
    correct: int
    most_said: str


@dataclass(frozen=True)
class WordMetrics:
    """Accuracies of masked words, as fractions of `words`."""

    videos: int
    """Videos with at least one masked word."""
    words: int
    """Masked places in all."""
    correct: int
    most_frequent: str
    """The word that was masked most often (of equals, the first in the alphabet)."""
    most_frequent_correct: int
    """What saying always `most_frequent` gets right: the best that one constant answer can do on these very videos."""
    text_correct: int
    """What the best fixed answer to each context gets right: the most that can be had without looking at the videos."""
    by_word: tuple[WordAccuracy, ...]
    """The most frequent first."""

    def document(self) -> dict[str, Any]:
        """The same as plain types that JSON knows, with the fractions."""
        return {
            "videos": self.videos,
            "words": self.words,
            "correct": self.correct,
            "top1": self.correct / self.words,
            "most_frequent": self.most_frequent,
            "baseline_top1": self.most_frequent_correct / self.words,
            "text_baseline_top1": self.text_correct / self.words,
            "by_word": [vars(row).copy() for row in self.by_word],
        }


def measure_words(answers: Sequence[Answer]) -> WordMetrics:
    """Answers, at least one -> metrics."""
    masked = Counter(answer.word for answer in answers)
    found = Counter(answer.word for answer in answers if answer.said == answer.word)
    said: dict[str, Counter[str]] = defaultdict(Counter)
    by_context: dict[Hashable, Counter[str]] = defaultdict(Counter)
    for answer in answers:
        said[answer.word][answer.said] += 1
        by_context[answer.context][answer.word] += 1
    ordered = sorted(masked, key=lambda word: (-masked[word], word))
    return WordMetrics(
        videos=len({answer.video for answer in answers}),
        words=len(answers),
        correct=sum(found.values()),
        most_frequent=ordered[0],
        most_frequent_correct=masked[ordered[0]],
        text_correct=sum(max(words.values()) for words in by_context.values()),
        by_word=tuple(WordAccuracy(word, masked[word], found[word], _first(said[word])) for word in ordered),
    )


def masked_word_lines(measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line a reading of the document's section `masked_words`."""
    return [
        f"{READINGS[reading]}: {100 * one['top1']:.1f} % of {one['words']} found "
        f"(always {one['most_frequent']!r}: {100 * one['baseline_top1']:.1f} %, "
        f"from the text alone at most {100 * one['text_baseline_top1']:.1f} %)"
        for reading, one in measured.items()
    ]


def masked_word_section(measured: Mapping[str, Mapping[str, Any]]) -> Section:
    """The same for a page, with a table of words."""
    lines: Iterable[str] = masked_word_lines(measured)
    tables = [
        Table(
            ["word", "masked", "found", "said most often"],
            [[row["word"], row["count"], row["correct"], row["most_said"]] for row in one["by_word"]],
            caption=READINGS[reading],
        )
        for reading, one in measured.items()
    ]
    return Section("Masked words, predicted from the videos", [*lines, *tables])


def _first(counts: Counter[str]) -> str:
    return min(counts, key=lambda word: (-counts[word], word))
