"""How well the masked-word head reads videos: the words of each video's class text, masked and predicted (SPEC.md, head 3).

Nothing is drawn at random. `verbs`: all verbs of the text are masked at once, as in training by the policy of that name.
`each_word`: every word of the class name is masked alone, the template's words never. The text is the one that was trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from m2clip.data.text.prompts import NOT_A_TARGET, Masker, verbs
from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.model.video_clip import VideoCLIP
from m2clip.report.masked_words import READINGS, Answer, measure_words

TEXTS_PER_BATCH = 128


@dataclass(frozen=True)
class _Blank:
    """A masked place in one of the masked texts of a class."""

    readings: tuple[str, ...]
    text: int
    """Row of the masked texts."""
    place: int
    """Its token, counted from the start token."""
    word: int
    """The index of what stood there."""
    context: tuple[int, ...]
    """The tokens up to it. The text tower is causal: no later word reaches the head."""


class MaskedWordTest:
    """The masked words of a list of videos, of K classes, and what the model says in their place.

    `columns`: for each class of the list its position among the model's classes. The texts are encoded here, once: a video
    costs one more block for each view.
    """

    def __init__(self, model: VideoCLIP, *, columns: Sequence[int], videos: int) -> None:
        info = model.info
        self._words = info.words
        masker = Masker(info.words, tokenizer=get_tokenizer(), template=info.template, context_length=model.text_length)
        texts: list[str] = []
        masks: list[tuple[str, ...]] = []
        readings: list[tuple[str, ...]] = []
        owners: list[int] = []
        for k, column in enumerate(columns):
            text = info.texts[column][0]
            for chosen, read in _masks(masker.own_words(text)).items():
                texts.append(text)
                masks.append(chosen)
                readings.append(read)
                owners.append(k)
        masked = masker.mask(texts, masks)
        self._blanks: list[list[_Blank]] = [[] for _ in columns]
        for row, place in (masked.targets != NOT_A_TARGET).nonzero().tolist():
            context = tuple(masked.tokens[row, : place + 1].tolist())
            word = int(masked.targets[row, place])
            self._blanks[owners[row]].append(_Blank(readings[row], row, place, word, context))
        self._hidden = self._encode(model, masked.tokens)
        self.said = torch.zeros(videos, self._hidden.shape[1], dtype=torch.int64, device=self._hidden.device)
        """[N, S]: the word said in each blank of a video's class; 0 for videos that were not asked."""

    @torch.inference_mode()
    def _encode(self, model: VideoCLIP, tokens: Tensor) -> Tensor:
        """Masked texts [M, L] -> the hidden states of each class's blanks [K, S, C], S the most of a class."""
        parameter = next(model.parameters())
        most = max(map(len, self._blanks))
        hidden = parameter.new_zeros(len(self._blanks), most, model.info.sizes.text_width)
        if most:
            training = model.training
            model.eval()
            try:
                parts = tokens.to(parameter.device).split(TEXTS_PER_BATCH)
                states = [model.encode_text(part).hidden for part in parts]
            finally:
                model.train(training)
            for k, blanks in enumerate(self._blanks):
                for s, blank in enumerate(blanks):
                    hidden[k, s] = states[blank.text // TEXTS_PER_BATCH][blank.text % TEXTS_PER_BATCH, blank.place]
        return hidden

    def ask(self, model: VideoCLIP, views: Sequence[Tensor], *, labels: Tensor, rows: Tensor) -> Tensor:
        """Fill in the blanks of B videos from their frame embeddings, [B, T, D] for each view.

        `labels` [B] are classes of the list and `rows` [B] positions in it. Returns the probabilities of the words
        [B, S, W], the mean over the views.
        """
        # The head looks from each place at the frames and at no other place, so the blanks of a class's masked texts need
        # not stand in their texts: they go in side by side.
        hidden = self._hidden[labels.to(self._hidden.device)]  # [B, S, C]
        read = [F.softmax(model.mlm_logits(hidden, frames).float(), dim=-1) for frames in views]
        probabilities = torch.stack(read).mean(0)
        self.said[rows.to(self.said.device)] = probabilities.argmax(-1)
        return probabilities

    def document(self, *, labels: Sequence[int], scored: Sequence[int]) -> dict[str, Any]:
        """The metrics of each reading that has a masked word, for the N `labels` of the list, of which `scored` were asked."""
        said = self.said.tolist()
        found: dict[str, Any] = {}
        for reading in READINGS:
            answers = [
                Answer(n, self._words[blank.word], self._words[said[n][s]], blank.context)
                for n in scored
                for s, blank in enumerate(self._blanks[labels[n]])
                if reading in blank.readings
            ]
            if answers:
                found[reading] = measure_words(answers).document()
        return found


def _masks(words: Sequence[str]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The sets of words that are masked together in one text, and the readings that each serves."""
    masks: dict[tuple[str, ...], tuple[str, ...]] = {(word,): ("each_word",) for word in words}
    together = tuple(sorted(verbs(words)))
    if together:
        masks[together] = ("verbs", *masks.get(together, ()))
    return masks
