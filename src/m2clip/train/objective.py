"""The loss of a batch. With several processes it is the loss of the global batch, and so is the gradient.

Distributed data parallel averages the gradients of W processes. A term that is a mean over the global batch is therefore
given by each process as W * (its own sum) / (global count): the average of these is the global mean, also where files could
not be read and the shares differ in size. The contrastive term is computed whole by every process from gathered embeddings.
"""

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from m2clip import losses
from m2clip.config import RunConfig
from m2clip.data.dataset import Batch
from m2clip.data.text.prompts import NOT_A_TARGET, MaskedTexts, Masker
from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.model.towers import PreparedTexts
from m2clip.model.video_clip import VideoCLIP
from m2clip.scoring import mean_of_texts
from m2clip.train.sharding import whole

if TYPE_CHECKING:
    from lightning.fabric import Fabric

NOBODY = -1  # the label of an empty place in a gathered batch
_DROPOUT = 1  # the stream of random numbers beside that of the masks


class Step(nn.Module):
    """The forward pass of a training step, as the one call that distributed wrappers want.

    It returns a plain tuple, since these wrappers look for tensors in tuples but refuse frozen dataclasses.
    """

    def __init__(self, model: VideoCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, clips: Tensor, class_texts: PreparedTexts | None, masked_tokens: Tensor | None, kept: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Video embeddings [B, D], visual logits [B, K], class text embeddings [K, D], masked-word logits [B, L, W]."""
        out = self.model(clips, class_texts, masked_tokens, kept)
        return out.video.embedding, out.video.visual_logits, out.class_embeddings, out.mlm_logits


class Objective:
    """The weighted loss terms of a batch.

    Of the class texts only what a trained parameter can change is computed at each step; the texts of the batch are rows of
    these. `largest` is the most videos that one process can have in a batch.
    """

    def __init__(self, model: VideoCLIP, *, config: RunConfig, largest: int, device: torch.device) -> None:
        self._texts = [texts[0] for texts in model.info.texts]
        self._model = model
        self._config, self._seed, self._largest, self._device = config.loss, config.train.seed, largest, device
        self._weights = config.loss_weights
        tokenizer = get_tokenizer()
        self._class_tokens: Tensor | None = None
        self._class_texts: PreparedTexts | None = None  # made of the tokens in the first step
        self._texts_a_class: list[int] | None = None  # None: one
        if self._weights["contrastive"] > 0 or self._weights["cross_modal"] > 0:
            read, names = self._texts, list(model.info.class_names)
            if config.train.class_text == "mean":
                read = [text for texts in model.info.texts for text in texts]
                self._texts_a_class = [len(texts) for texts in model.info.texts]
                names = [name for name, texts in zip(names, model.info.texts, strict=True) for _ in texts]
            length = model.text_length
            tokens = tokenizer(read, context_length=length, pad_to_longest=True, names=names)
            self._class_tokens = tokens.to(device)
        self._masker: Masker | None = None
        if self._weights["mlm"] > 0:
            self._masker = Masker(
                model.info.words,
                policy=config.loss.mlm_policy,
                rate=config.loss.mlm_rate,
                tokenizer=tokenizer,
                template=model.info.template,
                context_length=model.info.sizes.context_length,
            )

    def __call__(self, fabric: "Fabric", module: nn.Module, batch: Batch, *, epoch: int) -> losses.Losses:
        """The terms of this process's share of a batch."""
        count = len(batch.labels)
        clips = batch.view(0, device=self._device)  # [B, T, 3, H, W]: a training clip is one view
        # A process without a readable video still takes part, with a black clip that has no weight.
        clips = clips if count else clips.new_zeros(1, *clips.shape[1:])
        masked = self._mask(batch, epoch) if self._masker else None
        if self._class_tokens is not None and self._class_texts is None:
            with whole(self._model) as model, fabric.autocast():
                self._class_texts = model.prepare_texts(self._class_tokens)
        masked_tokens = None if masked is None else masked.tokens.to(self._device, non_blocking=True)
        embedding, visual_logits, text, word_logits = module(
            clips, self._class_texts, masked_tokens, self._kept(batch, epoch)
        )
        if text is not None and self._texts_a_class is not None:
            text = mean_of_texts(text, self._texts_a_class)
        labels = batch.labels.to(self._device, non_blocking=True)
        videos, owners, total = self._everyone(fabric, embedding[:count], labels)
        share = fabric.world_size * count / max(total, 1)

        terms: dict[str, Tensor | None] = {}
        if self._weights["contrastive"] > 0 and text is not None:
            scale = self._model.logit_scale
            terms["contrastive"] = (
                losses.contrastive(videos, text[owners], owners, logit_scale=scale)
                if total
                else _nothing(embedding, text)
            )
        if self._weights["cross_modal"] > 0 and text is not None:
            double = self._config.double_softmax
            terms["cross_modal"] = (
                share * losses.cross_modal(embedding, text, labels, double_softmax=double)
                if count
                else _nothing(embedding, text)
            )
        if self._weights["visual"] > 0 and visual_logits is not None:
            terms["visual"] = share * losses.visual(visual_logits, labels) if count else _nothing(visual_logits)
        if masked is not None and word_logits is not None:
            targets = masked.targets.to(self._device, non_blocking=True)
            hidden_words = (targets != NOT_A_TARGET).sum() if count else labels.new_zeros(())
            everywhere = gathered(fabric, hidden_words).sum().clamp(min=1)
            words = losses.mlm(word_logits, targets) if count else _nothing(word_logits)
            terms["mlm"] = words * (fabric.world_size * hidden_words / everywhere)
        return losses.combine(terms, self._weights)

    def _everyone(self, fabric: "Fabric", embedding: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, int]:
        """The embeddings and labels of the global batch, and how many there are. One process asks its device nothing for this."""
        if fabric.world_size == 1:
            return embedding, labels, len(labels)
        empty = self._largest - len(labels)
        owners = gathered(fabric, F.pad(labels, (0, empty), value=NOBODY)).flatten()  # [W * largest]
        there = owners != NOBODY
        videos = embedding
        if self._weights["contrastive"] > 0:
            videos = gathered(fabric, F.pad(embedding, (0, 0, 0, empty))).flatten(0, 1)[there]
        return videos, owners[there], int(there.sum())

    def _kept(self, batch: Batch, epoch: int) -> Tensor | None:
        """What dropout leaves of the visual head's input, bool [B, C]: by sample and epoch, as the masks of words are."""
        head = self._model.visual_head
        if head is None or not head.training or head.dropout.p == 0:
            return None
        rows = [
            np.random.default_rng((self._seed, epoch, index, _DROPOUT)).random(head.linear.in_features)
            for index in batch.indices.tolist() or [0]
        ]
        return torch.from_numpy(np.stack(rows) >= head.dropout.p).to(self._device, non_blocking=True)

    def _mask(self, batch: Batch, epoch: int) -> MaskedTexts:
        """Masks that depend on the sample and the epoch, not on who else is in the batch."""
        assert self._masker is not None
        rows = [
            self._masker([self._texts[label]], np.random.default_rng((self._seed, epoch, index)))
            for label, index in zip(batch.labels.tolist() or [0], batch.indices.tolist() or [0], strict=True)
        ]
        longest = max(row.tokens.shape[1] for row in rows)

        def stacked(tensors: list[Tensor], value: int) -> Tensor:
            return torch.cat([F.pad(tensor, (0, longest - tensor.shape[1]), value=value) for tensor in tensors])

        return MaskedTexts(
            stacked([row.tokens for row in rows], 0), stacked([row.targets for row in rows], NOT_A_TARGET)
        )


def _nothing(*outputs: Tensor) -> Tensor:
    """A term without a sample. It keeps its graph: where shares of gradients are exchanged, each process has to have the same ones."""
    return torch.stack([0.0 * output.sum() for output in outputs]).sum()


def gathered(fabric: "Fabric", tensor: Tensor) -> Tensor:
    """A tensor of each process, stacked: [...] -> [W, ...]; gradients flow back to their process."""
    return tensor[None] if fabric.world_size == 1 else cast(Tensor, _Gathered.apply(tensor))


class _Gathered(torch.autograd.Function):
    """What torch.distributed.nn.functional.all_gather did, which PyTorch deprecates for a module that is not public."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        rows = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, own.contiguous())
        return torch.stack(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The loss of each process depends on the rows of all, so a row's gradient is the sum over the processes."""
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[dist.get_rank()]
