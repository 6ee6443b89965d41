"""Files that are small, and that would fill the memory, run for ever, run code or lead out of their folder where a reader trusted them."""

import gzip
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image


class Code:
    """Unpickled the usual way it would make a file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("open('ran-by-a-pickle', 'w').close()",)


def make_bombs(folder: Path, good: Mapping[str, Path]) -> list[tuple[str, str, Path]]:
    """Write them below the folder -> (what it is, kind of good file that it pretends to be, file)."""
    made = []
    for what, (kind, write) in _BOMBS.items():
        place = folder / what.replace(" ", "-")
        place.mkdir(parents=True)
        path = place / good[kind].name
        write(path)
        made.append((what, kind, place if path.with_suffix(".png").exists() else path))
    return made


def _zip(path: Path, pickled: bytes, *, data: bytes = b"", entries: int = 0) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3")
        archive.writestr("a/data/0", data)
        for n in range(entries):
            archive.writestr(f"a/data/{n + 1}", b"", zipfile.ZIP_STORED)


def _link(path: Path, kind: bytes) -> None:
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("0.mp4")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
        label = tarfile.TarInfo("0.cls")
        label.size = 1
        tar.addfile(label, io.BytesIO(b"a"))


def _tree(path: Path) -> None:
    """TorchScript: sixty modules, each of which holds the one before it twice."""
    empty, module = b"c__torch__\nM\n)\x81", b"\x80\x02c__torch__\nM\n)\x81q\x00"
    for n in range(60):
        before = b"h" + bytes([n])
        module += empty + b"}X\x01\x00\x00\x00x" + before + b"sX\x01\x00\x00\x00y" + before + b"sbq" + bytes([n + 1])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/code/x.py", "")
        archive.writestr("a/data.pkl", module + b".")


def _long_cell(path: Path) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 100_000]))
    pq.write_table(pa.table({"path": texts, "label": texts}), path, compression="zstd")


def _aliases(path: Path) -> None:
    lines = ["a0: &a0 {x: 1}"] + [
        f"a{n}: &a{n} {{{', '.join(f'k{k}: *a{n - 1}' for k in range(10))}}}" for n in range(1, 12)
    ]
    path.write_text("\n".join(lines))


def _save(content: Any, **options: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path, **options)


def _packed(line: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(gzip.compress(line * ((100 << 20) // len(line)), 6))


_OLD: dict[str, Any] = {"_use_new_zipfile_serialization": False}
_FOUR_BYTES = torch.zeros(1).expand(10**6, 10**6)
_BOMBS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "code in a pickle": ("weights of PyTorch", _save({"state_dict": {"a": [{"b": (Code(),)}]}})),
    "code in a pickle before 1.6": ("weights before 1.6", _save({"a": Code()}, **_OLD)),
    "code in a bare pickle": ("weights of PyTorch", lambda path: path.write_bytes(pickle.dumps(Code()))),
    "code in a training state": (
        "training state",
        _save({"format": "m2clip-state", "format_version": 3, "settings": Code()}),
    ),
    "four bytes for four terabytes": ("weights of PyTorch", _save({"a": _FOUR_BYTES})),
    "the same before 1.6": ("weights before 1.6", _save({"a": _FOUR_BYTES}, **_OLD)),
    "zip of 200 MB of zeros": ("weights of PyTorch", lambda path: _zip(path, b"\x80\x02}.", data=bytes(200 << 20))),
    "zip of 140,000 entries": ("weights of PyTorch", lambda path: _zip(path, b"\x80\x02}.", entries=140_000)),
    "modules without end": ("TorchScript archive", _tree),
    "header of 2^62 bytes": ("checkpoint", lambda path: path.write_bytes((2**62).to_bytes(8, "little") + b"{}")),
    "header of 40 MB": (
        "checkpoint",
        lambda path: path.write_bytes((40 << 20).to_bytes(8, "little") + b"{" + b" " * (40 << 20)),
    ),
    "100 MB of lines in 100 kB": ("list as .csv.gz", _packed(b"a.mp4,jump\n")),
    "100 MB of space in 100 kB": ("list as .csv.gz", _packed(b"path,label" + b" " * 1000 + b"\n")),
    "10 GB of text in a Parquet cell": ("list as Parquet", _long_cell),
    "brackets without end": ("list as JSON", lambda path: path.write_text("[" * 500_000)),
    "10^11 values by aliases": ("settings", _aliases),
    "an object in settings": (
        "settings",
        lambda path: path.write_text("out: !!python/object/apply:os.system ['touch ran-by-yaml']"),
    ),
    "symbolic link in a shard": ("shard", lambda path: _link(path, tarfile.SYMTYPE)),
    "hard link in a shard": ("shard", lambda path: _link(path, tarfile.LNKTYPE)),
    "device in a shard": ("shard", lambda path: _link(path, tarfile.CHRTYPE)),
    "400 million pixels in a PNG": (
        "video as gif",
        lambda path: Image.new("L", (20_000, 20_000)).save(path.with_suffix(".png")),
    ),
}
