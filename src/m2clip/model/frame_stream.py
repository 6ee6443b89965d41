"""A video's frames through a model piece by piece, as if the whole video were one clip: each frame passes each block once.

Adapters that mix a frame with its neighbours (`adapters.TemporalAdapter`) keep the last frames they saw, so nothing else has to
be computed again and what is held does not grow. Numbers are those of one pass over the whole sequence up to rounding: products
of other sizes add up in another order.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from m2clip.errors import ConfigError
from m2clip.model.adapters import TEDAdapter, TemporalAdapter
from m2clip.model.towers import VisionAdapters, encode_frames
from m2clip.model.video_clip import VideoCLIP

PIECE_TENSOR_BYTES = 28 * 2**20
"""How large a tensor of a piece may become on a CPU: 16 frames of ViT-B/16. Each piece costs the adapters two frames more, so pieces of
16 take 7 % less time than pieces of 6; and up to 32 MiB the C library keeps memory for the next use."""


@dataclass(frozen=True)
class StreamedFrames:
    """m neighbouring frames of a stream that are finished."""

    embeddings: Tensor
    """float32 [m, D], after the output temporal adapter."""
    class_tokens: Tensor
    """float32 [m, C]: what `VideoCLIP.head_features` takes."""

    def __post_init__(self) -> None:
        if len(self.embeddings) != len(self.class_tokens):
            raise ValueError(f"{len(self.embeddings)} embeddings and {len(self.class_tokens)} class tokens")


class FrameStream:
    """Takes the frames of one sequence as they come and gives them back encoded, `delay_frames` later.

    Raises ConfigError for a method in which frames see more than their neighbours.
    """

    def __init__(self, model: VideoCLIP) -> None:
        adapters = model.frame_adapters()
        if adapters is None:
            raise ConfigError(
                f"in a model of the method {model.info.method} every frame sees the whole clip, so frames cannot be encoded "
                "one after another; take another method"
            )
        self._model = model
        streamed = _streamed(adapters)
        self._adapters = [module for module in streamed.modules() if isinstance(module, _Streamed)]
        self._encode: Callable[[Tensor], tuple[Tensor, Tensor]] = model.encode_frames
        if self._adapters:
            self._encode = lambda clips: encode_frames(model.clip.visual, streamed, clips)
        self._size = (model.info.image_size, model.info.image_size)
        self._early_tokens: Tensor | None = None  # class tokens that are done before their embeddings
        self.delay_frames = sum(adapter.reach.after for adapter in self._adapters)
        """How many frames must follow a frame until it is finished."""

    def push(self, frames: Tensor) -> StreamedFrames:
        """Frames [n, 3, H, W] (float32, normalised; any n) -> those that are finished now, in order: n of them but for the delay.

        On a CPU many frames go through in pieces of the size that is fast; a few do not wait for more.
        """
        if frames.ndim != 4 or frames.shape[1] != 3:
            raise ValueError(f"frames have shape {tuple(frames.shape)}; [n, 3, H, W] is needed")
        self._size = (frames.shape[2], frames.shape[3])
        with torch.inference_mode():
            frames = frames.to(next(self._model.parameters()).device)
            return _joined([self._through(piece) for piece in frames.split(self.at_once(frames))])

    def at_once(self, frames: Tensor) -> int:
        """How many frames [n, 3, H, W] go through together."""
        return self._model.clips_at_once(frames[:, None], largest_bytes=PIECE_TENSOR_BYTES)

    def finish(self) -> StreamedFrames:
        """The frames that were waiting for others: the sequence ends here. The stream then begins anew."""
        found = self.peek()
        self._restore([(None, 0)] * len(self._adapters), None)
        return found

    def peek(self) -> StreamedFrames:
        """What `finish` would give, while the stream goes on as if nobody had asked."""
        state, tokens = [adapter.state for adapter in self._adapters], self._early_tokens
        for adapter in self._adapters:
            adapter.ends = True
        try:
            with torch.inference_mode():
                return self._through(torch.empty(0, 3, *self._size, device=next(self._model.parameters()).device))
        finally:
            self._restore(state, tokens)

    def _restore(self, state: "list[tuple[Tensor | None, int]]", tokens: Tensor | None) -> None:
        for adapter, held in zip(self._adapters, state, strict=True):
            adapter.state, adapter.ends = held, False
        self._early_tokens = tokens

    def _through(self, frames: Tensor) -> StreamedFrames:
        (embeddings,), (tokens,) = self._encode(frames[None])
        if self._early_tokens is not None:
            tokens = torch.cat([self._early_tokens, tokens])
        done = len(embeddings)
        self._early_tokens = tokens[done:].clone() if done < len(tokens) else None
        return StreamedFrames(embeddings, tokens[:done])


def _joined(parts: list[StreamedFrames]) -> StreamedFrames:
    if len(parts) == 1:
        return parts[0]
    return StreamedFrames(
        torch.cat([part.embeddings for part in parts]), torch.cat([part.class_tokens for part in parts])
    )


class _Streamed(nn.Module):
    """A temporal adapter that sees a sequence [1, T, ...] piece by piece: it gives each frame when the frames it reaches are there.

    It works on the piece with the last frames before it; a frame at the inner border is only right once its neighbours
    have come, and is given then. So the adapter alone (not the block around it) sees before + after frames twice a piece.
    """

    def __init__(self, adapter: TemporalAdapter) -> None:
        super().__init__()
        self.adapter = adapter
        self.reach = adapter.reach
        self.state: tuple[Tensor | None, int] = None, 0
        """The last frames, and how many of them have been given: they stay as context."""
        self.ends = False
        """Whether the next piece is the last."""

    def forward(self, x: Tensor, *grid: tuple[int, int]) -> Tensor:
        """[1, n, ...] -> [1, m, ...]."""
        return self._through(x, lambda seen: self.adapter(seen, *grid))

    def class_tokens(self, x: Tensor) -> Tensor:
        """As of `TEDAdapter`."""
        assert isinstance(self.adapter, TEDAdapter)
        return self._through(x, self.adapter.class_tokens)

    def _through(self, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        held, given = self.state
        seen = x if held is None else torch.cat([held, x], dim=1)
        stop = seen.shape[1] if self.ends else max(seen.shape[1] - self.reach.after, given)
        first = max(stop - self.reach.before, 0)
        self.state = seen[:, first:].clone(), stop - first  # a view would keep the whole piece
        return run(seen)[:, given:stop] if stop > given else seen[:, :0]


def _streamed(adapters: VisionAdapters) -> VisionAdapters:
    def wrapped(table: nn.ModuleDict) -> dict[int, nn.Module]:
        return {int(layer): _wrapped(adapter) for layer, adapter in table.items()}

    last = adapters.output_temporal
    return VisionAdapters(
        pre_attention=wrapped(adapters.pre_attention),
        pre_mlp=wrapped(adapters.pre_mlp),
        output_temporal=None if last is None else _wrapped(last),
    )


def _wrapped(adapter: nn.Module) -> _Streamed:
    assert isinstance(adapter, TemporalAdapter)
    return _Streamed(adapter)
