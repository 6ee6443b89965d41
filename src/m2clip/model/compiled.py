"""The image tower compiled ahead of time for one shape of clip, and kept on disk: the second start takes a second or two.

On a CPU `torch.export` and AOTInductor make native code with the weights packed for the processor's matrix kernels and with
what stands between two products fused into them. A GPU compiles within the process (`torch.compile` with CUDA graphs).
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from m2clip.cache_folder import cache_folder
from m2clip.drafts import DRAFT, draft, sweep
from m2clip.errors import ConfigError
from m2clip.model.fingerprint import fingerprint, tensors_of
from m2clip.model.video_clip import CompiledImages, VideoCLIP

KEPT_PACKAGES = 8
"""How many compiled towers stay on disk; one is about as large as the tower's weights."""
_FORMAT_VERSION = 1


def compile_images(model: VideoCLIP, *, frames: int, tell: Callable[[str], None] = lambda sentence: None) -> None:
    """Make `encode_video` run compiled code for clips of so many frames and of the model's own size, without gradients.

    Other clips go the plain way, and `set_strength` takes the compiled code away. Do it last: after the model has its device,
    precision and strength. `tell` gets a sentence before a compilation, which takes about a minute for ViT-B/16; its result is kept
    in the cache folder. It is native code: whoever can write into that folder can run programs as you. Raises ConfigError where
    the machine cannot compile.
    """
    size = model.info.image_size
    shape = (frames, 3, size, size)
    device = next(model.parameters()).device
    if device.type != "cpu":
        model.compiled = CompiledImages(shape, torch.compile(model.encode_frames, mode="reduce-overhead"))
        return
    with _package(_key(model, shape)) as package:
        run = _loaded(package)
        if run is None:
            tell(
                f"compiling the image tower for {frames} frames of {size} pixels; the result is kept for the next start"
            )
            _compile(model, shape, package)
            run = _loaded(package)
        if run is None:
            raise ConfigError(
                f"the compiled image tower {package} cannot be loaded; delete it, or do without compiling"
            )
    model.compiled = CompiledImages(shape, run)


class _Frames(nn.Module):
    """What is compiled: one clip [1, T, 3, H, W] -> frame embeddings and class tokens."""

    def __init__(self, model: VideoCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.encode_frames(clips)


def _compile(model: VideoCLIP, shape: tuple[int, ...], package: Path) -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise ConfigError(
            "compiling needs a C++ compiler, and there is none: install g++ or clang++, or do without compiling"
        ) from None
    with torch.no_grad():
        exported = torch.export.export(_Frames(model), (torch.zeros(1, *shape),))
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "tower.pt2"
            torch._inductor.aoti_compile_and_package(
                exported, package_path=str(made), inductor_configs={"freezing": True}
            )
            try:
                with draft(package) as file, made.open("rb") as code:
                    shutil.copyfileobj(code, file)
            except OSError as error:
                raise ConfigError(
                    f"{package} cannot be written ({error.strerror or error}); make room, or do without compiling"
                ) from None


def _loaded(package: Path) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
    """The code of a package; None where it is not there or not whole."""
    if not package.is_file():
        return None
    try:
        run = torch._inductor.aoti_load_package(str(package))
    except RuntimeError:
        return None
    with contextlib.suppress(OSError):
        os.utime(package)  # used now
    return lambda clips: tuple(run(clips))


@contextlib.contextmanager
def _package(key: str) -> Iterator[Path]:
    """Where the package of this key lies: in the cache folder, or nowhere for long where that cannot be written."""
    with contextlib.ExitStack() as stack:
        try:
            folder = cache_folder() / "compiled"
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for left in folder.glob(f"*{DRAFT}"):
                sweep(str(left))
            older = sorted(folder.glob("*.pt2"), key=lambda path: path.stat().st_mtime_ns)
            for path in older[: -KEPT_PACKAGES + 1] if folder / f"{key}.pt2" not in older else []:
                path.unlink(missing_ok=True)
            usable = os.access(folder, os.W_OK)
        except OSError:
            usable = False
        yield (folder if usable else Path(stack.enter_context(tempfile.TemporaryDirectory()))) / f"{key}.pt2"


def _key(model: VideoCLIP, shape: tuple[int, ...]) -> str:
    """Of all that the code follows from: weights, settings, our own source, PyTorch, the processor."""
    source = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py"))))
    return fingerprint(
        model,
        tensors_of(model, [*model.image_towers(), *model.trained_parts().values()]),
        format=_FORMAT_VERSION,
        shape=shape,
        source=source.hexdigest(),
        processor=_processor(),
    )


def _processor() -> list[str]:
    """What the processor can do, where the system says so; code for one may not run on another."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return sorted(line.partition(":")[2].split())
    return []
