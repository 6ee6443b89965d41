"""The image tower compiled ahead of time: the plain numbers, kept across starts, and never used for what it was not made for."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch

from m2clip import ConfigError, create
from m2clip.config import BackboneConfig
from m2clip.model import compiled
from m2clip.model.precision import lower
from m2clip.model.video_clip import VideoCLIP

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="needs a C++ compiler"),
]
SIZES = BackboneConfig(
    image_size=16, patch_size=8, vision_width=64, vision_layers=2, vision_heads=1,
    embed_dim=16, text_width=16, text_layers=1, text_heads=1,
)  # fmt: skip


def model_of(*, bf16: bool = False) -> VideoCLIP:
    torch.manual_seed(0)
    model = create(SIZES, class_names=("run", "jump"), frames=3)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if bf16:
        lower(model)
    return model


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("M2CLIP_CACHE", str(tmp_path))
    return tmp_path / "compiled"


@pytest.mark.parametrize("bf16", [False, True])
def test_the_same_numbers_and_a_second_start_from_the_disk(cache: Path, bf16: bool) -> None:
    model, clips = model_of(bf16=bf16), torch.randn(3, 3, 3, 16, 16)
    compilations: list[str] = []
    with torch.inference_mode():
        plain = model.encode_video(clips)
        compiled.compile_images(model, frames=3, tell=compilations.append)
        fast = model.encode_video(clips)
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if bf16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(fast.frames, plain.frames, **tolerance)
    torch.testing.assert_close(fast.visual_logits, plain.visual_logits, **tolerance)
    assert len(compilations) == 1
    assert "3 frames of 16 pixels" in compilations[0]
    (package,) = cache.iterdir()

    again = model_of(bf16=bf16)
    compiled.compile_images(again, frames=3, tell=compilations.append)
    with torch.inference_mode():
        assert torch.equal(again.encode_video(clips).frames, fast.frames)
        other = again.encode_video(clips[:, :2]).frames  # another number of frames: the plain way
        again.compiled = None
        assert torch.equal(again.encode_video(clips[:, :2]).frames, other)
    assert len(compilations) == 1
    assert list(cache.iterdir()) == [package]

    package.write_bytes(package.read_bytes()[:1000])
    assert compiled._loaded(package) is None


def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that take no time: a file, and code that gives ones."""
    monkeypatch.setattr(compiled, "_compile", lambda model, shape, package: package.write_text("code"))
    ones = lambda clips: (torch.ones(1, clips.shape[1], 16), torch.ones(1, clips.shape[1], 64))  # noqa: E731
    monkeypatch.setattr(
        compiled, "_loaded", lambda package: ones if package.exists() and package.read_text() == "code" else None
    )


def test_the_code_is_used_without_gradients_and_at_its_own_strength_only(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(monkeypatch)
    model, clips = model_of(), torch.randn(2, 3, 3, 16, 16)
    compiled.compile_images(model, frames=3)
    with torch.no_grad():
        assert torch.equal(model.encode_video(clips).embedding, torch.ones(2, 16))
        assert model.encode_video(clips[:0]).embedding.shape == (0, 16)
    assert model.encode_video(clips).embedding.requires_grad
    model.set_strength(0.5)
    with torch.no_grad():
        assert not torch.equal(model.encode_video(clips).embedding, torch.ones(2, 16))


def test_everything_that_the_code_follows_from_is_in_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(model: VideoCLIP, frames: int = 3) -> str:
        return compiled._key(model, (frames, 3, 16, 16))

    first = key(model_of())
    assert key(model_of()) == first
    others = [key(model_of(), 4), key(model_of(bf16=True))]
    for name in ("clip.visual.projection", "vision_adapters.pre_mlp.0.enhancement.up.weight"):
        model = model_of()
        with torch.no_grad():
            model.get_parameter(name).flatten()[0] += 1
        others.append(key(model))
    model = model_of()
    model.set_strength(0.5)
    others.append(key(model))
    monkeypatch.setattr(compiled, "_processor", lambda: ["another"])
    others.append(key(model_of()))
    assert len({first, *others}) == 1 + len(others)


def test_a_broken_package_is_made_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch)
    told: list[str] = []
    compiled.compile_images(model_of(), frames=1, tell=told.append)
    (package,) = cache.iterdir()
    package.write_text("cod")
    compiled.compile_images(model_of(), frames=1, tell=told.append)
    assert len(told) == 2
    assert package.read_text() == "code"


def test_old_packages_go(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch)
    monkeypatch.setattr(compiled, "KEPT_PACKAGES", 2)
    for frames in (1, 2, 3, 3):
        compiled.compile_images(model_of(), frames=frames)
    assert len(list(cache.iterdir())) == 2


def test_what_a_killed_process_left_goes_and_a_full_disk_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def made(exported: object, *, package_path: str, inductor_configs: object) -> None:
        Path(package_path).write_text("code")

    with monkeypatch.context() as patch:
        patch.setattr(torch.export, "export", lambda *args: None)
        patch.setattr(torch._inductor, "aoti_compile_and_package", made)
        patch.setattr(shutil, "copyfileobj", full)
        with pytest.raises(ConfigError, match=r"compiled/.*\.pt2 cannot be written \(No space left on device\)"):
            compiled.compile_images(model_of(), frames=2)
    assert list(cache.iterdir()) == []
    (cache / "killed.draft").write_text("half of")
    stub(monkeypatch)
    compiled.compile_images(model_of(), frames=1)
    assert [path.suffix for path in cache.iterdir()] == [".pt2"]


def test_a_folder_that_cannot_be_written_costs_the_cache_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("M2CLIP_CACHE", str(tmp_path / "file"))
    model = model_of()
    compiled.compile_images(model, frames=1)
    assert model.compiled is not None


def test_without_a_compiler_there_is_a_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import cpp_builder, exc

    def none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.raises(ConfigError, match="needs a C\\+\\+ compiler"):
        compiled.compile_images(model_of(), frames=1)
