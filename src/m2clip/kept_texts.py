"""Class embeddings that are kept on disk: the texts of a set of labels are encoded once a model, not once a process.

A file is found by a hash of everything that its numbers follow from, so it is never out of date, and whatever is wrong with one,
the numbers are computed. The folder may be deleted at any time.
"""

from collections.abc import Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as serialized
from torch import Tensor

from m2clip.kept_files import KeptFiles
from m2clip.model.fingerprint import fingerprint, tensors_of
from m2clip.model.video_clip import VideoCLIP
from m2clip.scoring import class_tokens, embed_classes

_FILES = KeptFiles("texts", most_bytes=64 << 20)  # 80 sets of 400 classes
_FORMAT_VERSION = 1
_PRODUCTS_A_BYTE = 50
"""How many products of the text tower must be saved for each byte that is hashed, by one thread. Measured: hashing the 254 MB of
ViT-B/16's text side takes 0.3 s; in that time one thread does about 15 products a byte, the texts of a dozen classes."""


def kept_class_embeddings(model: VideoCLIP, texts: Sequence[Sequence[str]], *, names: Sequence[str] = ()) -> Tensor:
    """What `scoring.class_embeddings` gives, to the last bit, from the disk where they were computed before.

    Only on a CPU and for so many texts that looking is much faster than encoding; never for a model in training mode or under
    autocast.
    """
    tokens, counts = class_tokens(model, texts, names=names), [len(of_class) for of_class in texts]
    if not _worth_keeping(model, tokens):
        return embed_classes(model, tokens, counts)
    key = _key(model, tokens, counts)
    content = _FILES.get(key)
    embeddings = None if content is None else _read(content, classes=len(counts))
    if embeddings is None:
        embeddings = embed_classes(model, tokens, counts)
        _FILES.put(key, serialized({"embeddings": embeddings}))
    return embeddings


def _worth_keeping(model: VideoCLIP, tokens: Tensor) -> bool:
    if model.training or torch.is_autocast_enabled("cpu") or next(model.parameters()).device.type != "cpu":
        return False
    products = tokens.numel() * sum(weight.numel() for weight in model.clip.text.blocks.parameters())
    hashed = sum(tensor.nbytes for tensor in _text_side(model).values())
    return products > _PRODUCTS_A_BYTE * torch.get_num_threads() * hashed


def _text_side(model: VideoCLIP) -> dict[str, Tensor]:
    """All tensors but those that only read pictures. A method's new text parameters are among them without being named."""
    parts = [*model.image_towers(), *model.block_adapters()]
    pictures = tensors_of(model, parts if model.visual_head is None else [*parts, model.visual_head])
    return {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if name not in pictures}


def _key(model: VideoCLIP, tokens: Tensor, counts: Sequence[int]) -> str:
    """Of all that the embeddings follow from, their rounding included."""
    return fingerprint(model, _text_side(model) | {"tokens": tokens}, format=_FORMAT_VERSION, counts=list(counts))


def _read(content: bytes, *, classes: int) -> Tensor | None:
    """The embeddings in a file; None where it holds something else."""
    try:
        embeddings = load(content).get("embeddings")
    except SafetensorError:
        return None
    if embeddings is None or embeddings.dtype != torch.float32 or embeddings.ndim != 2:
        return None
    return embeddings if len(embeddings) == classes else None
