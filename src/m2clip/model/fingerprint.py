"""By what results of a model are found again on disk: a hash of all that they follow from."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from m2clip import __version__
from m2clip.model.video_clip import VideoCLIP


def tensors_of(model: VideoCLIP, parts: Iterable[nn.Module]) -> dict[str, Tensor]:
    """The tensors of some parts of a model, by their names in the model's state dict."""
    wanted = {id(tensor) for part in parts for tensor in part.state_dict(keep_vars=True).values()}
    return {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in wanted}


def fingerprint(model: VideoCLIP, tensors: Mapping[str, Tensor], **others: Any) -> str:
    """SHA-256, in hex, of these tensors of a model on the CPU, its settings and strength, the versions, the kernels that this
    process runs, and of what else the result follows from (`others`, as JSON)."""
    settings = {
        "m2clip": __version__,
        "torch": torch.__version__,
        # These choose the kernels, and with them the last bits.
        "machine": [torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()],
        **_facts(model),
        **others,
    }
    return _digest(settings, tensors)


def model_id(model: VideoCLIP, **others: Any) -> str:
    """SHA-256, in hex, of a model's tensors, settings and strength, and of `others`, as JSON.

    Unlike a `fingerprint` it is the same on every machine, and under every version whose records have the same fields: it
    tells whose embeddings may be compared.
    """
    return _digest({**_facts(model), **others}, model.state_dict())


def _facts(model: VideoCLIP) -> dict[str, Any]:
    info = model.info
    return {
        "model": [info.method, info.sizes.model_dump(), info.layout.model_dump(), info.rival.model_dump()],
        "strength": model.strength,
    }


def _digest(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
