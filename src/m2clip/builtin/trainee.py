"""What the tiny CLIP is while it learns: its towers with a small token table, and the heads that only training needs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2clip.builtin.captions import TEMPLATES, object_names
from m2clip.builtin.scenes import SHAPES
from m2clip.builtin.shapes import MOTIONS
from m2clip.builtin.weights import initial_table
from m2clip.config import BACKBONES
from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.model.clip import CLIP

SIZES = BACKBONES["builtin"].towers()
"""The keyword arguments of the tiny CLIP: OpenAI's architecture, small."""

LAST_WORDS = 5
"""How many words at the end of a text its end token is made to remember; as many filler words at most follow a caption."""

_FILLERS = 600
_OTHER_WORDS = "small big at on the top bottom left right of above below and one two three four"


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread and no denormal numbers, which would slow it down; as it was before at the end (both are states of the process)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


class Vocabulary:
    """Tokens of the captions and of the filler words, numbered from 0: their table is small, and only captions' rows learn."""

    def __init__(self) -> None:
        tokenizer = get_tokenizer()
        spoken = [*object_names(), *(f"{shape}s" for shape in SHAPES), "crosses", *TEMPLATES, _OTHER_WORDS]
        words = {word for text in spoken for word in text.split() if word != "{}"}
        self._ids = {word: tokenizer.encode(word) for word in sorted(words)}
        trained = {tokenizer.start_id, tokenizer.end_id} | {i for ids in self._ids.values() for i in ids}
        moving = {i for motion in MOTIONS for i in tokenizer.encode(motion)}
        order = torch.randperm(40000, generator=torch.Generator().manual_seed(0)) + 512
        fillers = [i for i in order.tolist() if i not in trained | moving][:_FILLERS]
        self.trained = torch.tensor(sorted(trained))
        self.fillers = torch.tensor(fillers)
        self.rows = {token: row for row, token in enumerate([*self.trained.tolist(), *fillers])}
        self.start, self.end = self.rows[tokenizer.start_id], self.rows[tokenizer.end_id]

    def __call__(
        self, texts: tuple[str, ...], *, length: int, generator: torch.Generator, endings: float = 0.35
    ) -> tuple[Tensor, Tensor]:
        """Row numbers int64 [K, length] of the texts and their ends int64 [K]; a share `endings` goes on with filler words."""
        tokens = torch.zeros(len(texts), length, dtype=torch.int64)
        ends = []
        extra = torch.randint(1, LAST_WORDS + 1, (len(texts),), generator=generator)
        extra[torch.rand(len(texts), generator=generator) > endings] = 0
        noise = torch.randint(len(self.trained), len(self.rows), (len(texts), LAST_WORDS), generator=generator)
        for k, (text, more) in enumerate(zip(texts, extra.tolist(), strict=True)):
            row = [self.rows[i] for word in text.split() for i in self._ids[word]] + noise[k, :more].tolist()
            row = [self.start, *row[: length - 2], self.end]
            tokens[k, : len(row)] = torch.tensor(row)
            ends.append(len(row) - 1)
        return tokens, torch.tensor(ends)


class Trainee(nn.Module):
    """A CLIP with what only its training needs: the small token table and the heads for patches and last words."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        table = initial_table(SIZES["vocab_size"], SIZES["text_width"])
        # The full table stays outside: an optimiser step over 49,408 rows would cost more than the text tower.
        self.clip = CLIP(**{**SIZES, "vocab_size": 1})
        self.trained_ids = vocabulary.trained
        self.rows = nn.Parameter(table[vocabulary.trained])
        self.fillers = nn.Parameter(table[vocabulary.fillers], requires_grad=False)
        self.patch_head = nn.Linear(SIZES["vision_width"], len(SHAPES) + 1 + 3)
        self.word_heads = nn.Linear(SIZES["text_width"], LAST_WORDS * SIZES["text_width"])

    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] -> unit embeddings [B, D] and what the patch head says [B, h * w, shapes + 1 + 3]."""
        tower = self.clip.visual
        x, _ = tower.embed(images)
        for block in tower.blocks:
            x = block(x)
        x = tower.ln_post(x)
        return F.normalize((x[:, 0] @ tower.projection).float(), dim=-1), self.patch_head(x[:, 1:]).float()

    def read(self, tokens: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Row numbers [K, L] -> unit embeddings [K, D] and logits of the last words [K, words, rows]."""
        tower = self.clip.text
        table = torch.cat([self.rows, self.fillers])
        x = F.embedding(tokens, table) + tower.positional_embedding[: tokens.shape[1]]
        for block in tower.blocks:
            x = block(x)
        x = tower.ln_final(x[torch.arange(len(x)), ends])
        words = self.word_heads(x).unflatten(-1, (LAST_WORDS, -1)) @ (6.0 * F.normalize(table.detach(), dim=-1)).T
        return F.normalize((x @ tower.projection).float(), dim=-1), words.float()

    def state(self) -> dict[str, Tensor]:
        """The state dict of the CLIP with its full token table."""
        state = dict(self.clip.state_dict())
        table = initial_table(SIZES["vocab_size"], SIZES["text_width"])
        table[self.trained_ids] = self.rows.detach()
        state["text.token_embedding.weight"] = table
        return state
