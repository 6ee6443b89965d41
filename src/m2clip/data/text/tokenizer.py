"""Text -> CLIP token ids.

CLIP reads byte-level BPE tokens of cleaned, lower-cased text. The merges ship in `vocabulary/`; `tokenizers` applies
them. The rules around them (how text is cleaned, where words end) decide the ids as much as the merges do: they are
kept exactly as CLIP was trained with, for every code point, since a changed id is a changed prompt.
"""

import gzip
import html
import warnings
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import ftfy
import regex
import torch
from tokenizers import models, pre_tokenizers

from m2clip.errors import M2CLIPError

CONTEXT_LENGTH = 77  # tokens that CLIP's text tower takes, start and end token included
START, END = "<start_of_text>", "<end_of_text>"

# A piece never spans white space; BPE runs inside a piece. IGNORECASE stays although the text is lower-cased: it also
# folds the long s and a few Greek signs, and CLIP's ids depend on that. `regex`, not `re` or the engine inside
# `tokenizers`: only it knows \p{L} for the same code points as CLIP's own tokenizer.
_PIECE = regex.compile(
    rf"{START}|{END}|'s|'t|'re|'ve|'m|'ll|'d|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+", flags=regex.IGNORECASE
)


class TruncatedText(UserWarning):
    """A text has more tokens than the text tower takes; its end was cut."""


class Piece(NamedTuple):
    """A run of letters, a digit, a run of punctuation, or an ending such as 's."""

    text: str
    ids: tuple[int, ...]
    follows_space: bool
    """Whether white space or nothing stands before it."""


def clean(text: str) -> str:
    """Return `text` as CLIP read it: encoding mended, html entities resolved, single white space, lower case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


class Tokenizer:
    """CLIP's tokenizer. Use the shared one from `get_tokenizer`: building takes a few hundredths of a second."""

    def __init__(self) -> None:
        packed = resources.files("m2clip.data.text").joinpath("vocabulary/clip_merges.txt.gz").read_bytes()
        merges = [(left, right) for left, _, right in (line.partition(" ") for line in _lines(packed))]
        # The ids follow from the merges: 256 byte signs in code point order, the same at the end of a word, one token a
        # merge, and the two special tokens.
        signs = sorted(pre_tokenizers.ByteLevel.alphabet())
        entries = [*signs, *(sign + "</w>" for sign in signs), *(left + right for left, right in merges), START, END]
        ids = {entry: index for index, entry in enumerate(entries)}
        self.vocab_size = len(ids)
        self.start_id, self.end_id = ids[START], ids[END]
        self._special = {START: (self.start_id,), END: (self.end_id,)}
        self._sign_of_byte = _byte_signs(signs)
        self._bpe = models.BPE(vocab=ids, merges=merges, end_of_word_suffix="</w>")
        self._cached_ids = lru_cache(maxsize=1 << 16)(self._piece_ids)

    def __reduce__(self) -> tuple:
        """Pickle as a name: another process takes its own shared tokenizer."""
        return get_tokenizer, ()

    def pieces(self, text: str) -> list[Piece]:
        """Return the pieces of the cleaned `text` in order.

        The ids of a text are those of its pieces one after the other: a caller may replace a piece and keep the rest.
        """
        pieces, end = [], -1
        for match in _PIECE.finditer(clean(text)):
            pieces.append(Piece(match[0], self._cached_ids(match[0]), match.start() != end))
            end = match.end()
        return pieces

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` without start and end token, uncut."""
        return [index for piece in self.pieces(text) for index in piece.ids]

    def __call__(
        self,
        texts: str | Sequence[str],
        *,
        context_length: int = CONTEXT_LENGTH,
        pad_to_longest: bool = False,
        names: Sequence[str] = (),
    ) -> torch.Tensor:
        """Return int64 [K, L]: start token, ids, end token, zeros.

        L is `context_length`, or with `pad_to_longest` the length of the longest text (CLIP's text attention is causal,
        so what follows the end token changes nothing). A text that does not fit is cut and keeps its end token;
        one TruncatedText warning names the first such text, with its class if `names` gives the class of each text, and counts the
        others. One string counts as one text.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if context_length < 2:
            raise M2CLIPError(f"context_length is {context_length}, but start and end token alone need 2: raise it")
        rows = [[self.start_id, *self.encode(text), self.end_id] for text in texts]
        cut = [index for index, row in enumerate(rows) if len(row) > context_length]
        if cut:
            text, length = texts[cut[0]], len(rows[cut[0]])
            owner = f" of the class {_shortened(names[cut[0]])!r}" if names else ""
            others = f", like {len(cut) - 1} more" if len(cut) > 1 else ""
            warnings.warn(
                f"the text {_shortened(text)!r}{owner} has {length} tokens (start and end token included) "
                f"and was cut to {context_length}{others}: "
                "shorten the text, or spread it over several texts of its class",
                TruncatedText,
                stacklevel=2,
            )
        for row in rows:
            if len(row) > context_length:
                row[context_length - 1 :] = [self.end_id]
        longest = max(map(len, rows), default=0)
        tokens = torch.zeros(len(rows), longest if pad_to_longest else context_length, dtype=torch.int64)
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = torch.tensor(row)
        return tokens

    def _piece_ids(self, piece: str) -> tuple[int, ...]:
        if piece in self._special:
            return self._special[piece]
        signs = "".join(self._sign_of_byte[byte] for byte in piece.encode("utf-8"))
        return tuple(token.id for token in self._bpe.tokenize(signs))


@lru_cache(maxsize=1)
def get_tokenizer() -> Tokenizer:
    """Return the tokenizer that all of a process shares."""
    return Tokenizer()


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "..."


def _lines(packed: bytes) -> list[str]:
    return gzip.decompress(packed).decode("utf-8").splitlines()


def _byte_signs(signs: list[str]) -> list[str]:
    """Return the visible sign of each byte: printable Latin-1 is its own, the other bytes take the rest in order."""
    own = {ord(sign) for sign in signs if ord(sign) < 256}
    rest = iter(sign for sign in signs if ord(sign) >= 256)
    return [chr(byte) if byte in own else next(rest) for byte in range(256)]
