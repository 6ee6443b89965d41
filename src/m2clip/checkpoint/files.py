"""Weight files -> tensors: from a path or from the Hugging Face hub, never executing anything that a file holds."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from m2clip.checkpoint.pytorch_files import read_plain
from m2clip.checkpoint.safetensors_files import is_safetensors, read_safetensors
from m2clip.checkpoint.torchscript import is_torchscript, read_torchscript
from m2clip.errors import CheckpointError

CHECKPOINT_NAME = "m2clip.safetensors"
"""The file that holds our checkpoint in a hub repository."""

CLIP_NAMES = ("model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin")
"""The names under which hub repositories keep a CLIP's weights."""

_HUB_SECONDS = 10
# Keys under which training programs keep the state dict.
_WRAPPERS = ("state_dict", "model", "model_state_dict")


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file and what lay around them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    """The header of a safetensors file; empty otherwise."""
    sha256: str
    is_torchscript: bool = False


def read_tensors(path: str | Path) -> TensorFile:
    """Read .safetensors, a TorchScript archive, or a PyTorch file of tensors. CheckpointError for anything else."""
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path} {what}; a weight file is needed (.safetensors, .pt, .pth or .bin)")
    if path.suffix == ".safetensors" or is_safetensors(path):
        tensors, metadata = read_safetensors(path)
        return TensorFile(tensors, metadata, sha256(path))
    archive = is_torchscript(path)
    tensors = unwrapped(read_torchscript(path) if archive else read_plain(path), path)
    return TensorFile(tensors, {}, sha256(path), is_torchscript=archive)


def from_hub(identity: str, names: tuple[str, ...]) -> Path:
    """Download the first of `names` that a hub repository has; the local path in the hub's cache.

    `identity`: "owner/name", or "owner/name@revision" for a branch, a tag or a commit; "hf-hub:" may stand before it. What was
    fetched must have the SHA-256 that the hub states (it does for large files). Without a network the cache alone is searched.
    Raises CheckpointError, one sentence, where the file cannot be had.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    identity, _, revision = identity.removeprefix("hf-hub:").partition("@")
    version = revision or None
    reason = ""
    for name in names:
        try:
            # Asked first because this question is not repeated: a download without a network tries for half a minute.
            known = get_hf_file_metadata(hf_hub_url(identity, name, revision=version), timeout=_HUB_SECONDS)
            was_there = isinstance(try_to_load_from_cache(identity, name, revision=known.commit_hash), str)
            path = Path(hf_hub_download(identity, name, revision=version))
        except HFValidationError:
            raise CheckpointError(
                f"{identity!r} is neither a file nor a hub id; a hub id is owner/name or owner/name@revision"
            ) from None
        except RepositoryNotFoundError:
            raise CheckpointError(
                f"the hub has no repository {identity!r}, or it is private (then log in with `hf auth login`)"
            ) from None
        except RevisionNotFoundError:
            raise CheckpointError(
                f"the hub repository {identity!r} has no revision {revision!r}; name a branch, a tag or a whole commit"
            ) from None
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):  # it is there, and the download broke off
                reason = type(error).__name__
            continue
        except Exception as error:  # network and proxy faults have many types across versions of the hub's client
            status = getattr(getattr(error, "response", None), "status_code", None)
            reason = type(error).__name__ if status is None else f"it answers {status}"
            try:
                return Path(hf_hub_download(identity, name, revision=version, local_files_only=True))
            except LocalEntryNotFoundError:
                continue
        if not was_there:
            _same_bytes(path, known.etag, where=f"{identity}/{name}")
        return path
    if reason:
        raise CheckpointError(
            f"{identity!r} could not be fetched from the Hugging Face hub ({reason}) and is not in its cache: "
            "connect to the network, or download the file elsewhere and pass its path instead"
        )
    raise CheckpointError(f"the hub repository {identity!r} has none of {', '.join(names)}")


def _same_bytes(path: Path, stated: str | None, *, where: str) -> None:
    """CheckpointError, and the file is gone from the cache, where the hub states another SHA-256 than it has."""
    if stated is None or not re.fullmatch("[0-9a-f]{64}", stated) or sha256(path) == stated:
        return
    path.resolve().unlink()
    path.unlink(missing_ok=True)
    raise CheckpointError(f"{where} arrived with other bytes than the hub states (SHA-256 {stated[:12]}...); try again")


def checkpoint_file(name: str | Path) -> Path:
    """A checkpoint of ours on this disk: the path itself, or what "hf-hub:owner/name" (or "...@revision") holds."""
    return from_hub(str(name), (CHECKPOINT_NAME,)) if str(name).startswith("hf-hub:") else Path(name)


def unwrapped(loaded: Any, where: str | Path) -> dict[str, Tensor]:
    """The state dict in what a training program saved: itself, or under one of the usual keys; without "module." prefixes.

    Raises CheckpointError, naming `where`, for anything that is no mapping from names to tensors.
    """
    for name in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
            break
    if (
        not isinstance(loaded, Mapping)
        or not loaded
        or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in loaded.items())
    ):
        raise CheckpointError(f"{where} holds no state dict: a mapping from names to tensors is needed")
    if all(key.startswith("module.") for key in loaded):  # saved from inside DistributedDataParallel
        return {key.removeprefix("module."): value for key, value in loaded.items()}
    return dict(loaded)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
