"""CLIP weights in every layout users meet, from files of the same format made from random weights; nothing in them is run."""

import pickle
import zipfile
from pathlib import Path

import open_clip
import pytest
import torch
import transformers
from safetensors.torch import save_file

from m2clip.checkpoint import convert, create, load
from m2clip.checkpoint.files import read_tensors
from m2clip.checkpoint.layouts import clip_state
from m2clip.config import BackboneConfig
from m2clip.errors import CheckpointError

SIZES = {
    "image_size": 32, "patch_size": 8, "vision_width": 64, "vision_layers": 2, "vision_heads": 1,
    "embed_dim": 64, "text_width": 64, "text_layers": 2, "text_heads": 1, "vocab_size": 300,
}  # fmt: skip
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
TOKENS = torch.tensor([[298, 5, 6, 299] + [0] * 73])


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 300, "width": 64, "heads": 1, "layers": 2}
    return open_clip.CLIP(embed_dim=64, vision_cfg=vision, text_cfg=text, quick_gelu=True).eval()


class _Archive(torch.nn.Module):
    """A module tree with OpenAI's names, so that scripting it makes a file of the same format as OpenAI publishes."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, tensor in state.items():
            owner: torch.nn.Module = self
            *path, last = name.split(".")
            for part in path:
                if not hasattr(owner, part):
                    owner.add_module(part, torch.nn.Module())
                owner = getattr(owner, part)
            owner.register_parameter(last, torch.nn.Parameter(tensor.half(), requires_grad=False))
        for name, number in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 300)):
            self.register_buffer(name, torch.tensor(number))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def written(theirs: torch.nn.Module, layout: str, folder: Path) -> Path:
    state = {k: v for k, v in theirs.state_dict().items() if "attn_mask" not in k}
    if layout == "torchscript":
        path = folder / "clip.pt"
        torch.jit.script(_Archive(state)).save(str(path))
    elif layout == "training":
        path = folder / "epoch_1.pt"
        torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    elif layout == "pth":
        path = folder / "clip.pth"
        torch.save(state, path)
    else:
        path = folder / "open_clip_model.safetensors"
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    return path


@pytest.mark.filterwarnings(
    "ignore:.*does not say which activation", "ignore::DeprecationWarning", "ignore::FutureWarning"
)
@pytest.mark.parametrize("layout", ["torchscript", "training", "pth", "safetensors"])
def test_openai_and_open_clip_files(theirs: torch.nn.Module, layout: str, tmp_path: Path) -> None:
    path = written(theirs, layout, tmp_path)
    model = create(SIZES, weights=path)
    # TorchScript archives of OpenAI's hold half-precision numbers.
    tolerance = 2e-2 if layout == "torchscript" else 1e-5
    with torch.inference_mode():
        torch.testing.assert_close(model.clip.encode_image(IMAGES), theirs.encode_image(IMAGES), atol=tolerance, rtol=0)
        torch.testing.assert_close(model.clip.encode_text(TOKENS), theirs.encode_text(TOKENS), atol=tolerance, rtol=0)
    assert model.info.weights.source == str(path)
    assert len(model.info.weights.sha256 or "") == 64


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_torchscript_archive_is_read_exactly(theirs: torch.nn.Module, tmp_path: Path) -> None:
    file = read_tensors(written(theirs, "torchscript", tmp_path))
    assert file.is_torchscript
    state = {k: v for k, v in theirs.state_dict().items() if "attn_mask" not in k}
    assert set(file.tensors) == set(state) | {"input_resolution", "context_length", "vocab_size"}
    assert all(torch.equal(file.tensors[name], tensor.half()) for name, tensor in state.items())


@pytest.mark.case("E5")
def test_hugging_face_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    common = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1}
    config = transformers.CLIPConfig(
        projection_dim=64,
        vision_config={**common, "image_size": 32, "patch_size": 8, "hidden_act": "gelu"},
        text_config={**common, "vocab_size": 300, "hidden_act": "gelu", "eos_token_id": 299},
    )
    other = transformers.CLIPModel(config).eval()
    other.save_pretrained(tmp_path)
    model = create(SIZES, weights=tmp_path / "model.safetensors")
    assert not model.info.sizes.quick_gelu
    with torch.inference_mode():
        image = other.visual_projection(other.vision_model(IMAGES).pooler_output)
        text = other.text_projection(other.text_model(TOKENS).pooler_output)
        torch.testing.assert_close(model.clip.encode_image(IMAGES), image, atol=1e-5, rtol=0)
        torch.testing.assert_close(model.clip.encode_text(TOKENS), text, atol=1e-5, rtol=0)


@pytest.mark.case("E5")
def test_an_unknown_activation_is_noticed(theirs: torch.nn.Module, tmp_path: Path) -> None:
    path = written(theirs, "safetensors", tmp_path)
    with pytest.warns(UserWarning, match="does not say which activation it was trained with; QuickGELU is used"):
        create(SIZES, weights=path)


@pytest.mark.case("T15")
def test_every_key_is_accounted_for(theirs: torch.nn.Module) -> None:
    state = dict(theirs.state_dict())
    _, account = clip_state(state | {"input_resolution": torch.tensor(32)}, where="x")
    assert set(account.loaded) | set(account.ignored) == set(state) | {"input_resolution"}
    with pytest.raises(CheckpointError, match=r"x has 1 keys that CLIP has not: visual\.extra"):
        clip_state({**state, "visual.extra": torch.zeros(1)}, where="x")


@pytest.mark.filterwarnings("ignore:.*does not say which activation")
@pytest.mark.case("T15")
def test_an_incomplete_file_is_refused(theirs: torch.nn.Module, tmp_path: Path) -> None:
    state = {k: v.contiguous() for k, v in theirs.state_dict().items() if k != "visual.ln_post.bias"}
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match=r"do not fit: missing visual\.ln_post\.bias; unexpected nothing"):
        create(SIZES, weights=tmp_path / "part.safetensors")


@pytest.mark.filterwarnings("ignore:.*does not say which activation")
def test_weights_of_another_size_name_the_difference(theirs: torch.nn.Module, tmp_path: Path) -> None:
    path = written(theirs, "safetensors", tmp_path)
    with pytest.raises(CheckpointError, match="is another CLIP than ViT-B-32: image_size 32 instead of 224"):
        create("ViT-B-32", weights=path)


def test_without_a_network_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    # A proxy that nobody listens at: every connection is refused at once, on a machine with a network, too.
    for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for call in (
        lambda: create("ViT-B-32", weights="openai"),
        lambda: create("ViT-B-32", weights="someone/some-clip"),
        lambda: load("hf-hub:someone/some-m2clip"),
    ):
        with pytest.raises(
            CheckpointError, match=r"could not be fetched .* connect to the network, or download the file"
        ) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_openai_has_no_weights_for_custom_sizes() -> None:
    with pytest.raises(CheckpointError, match="OpenAI has no weights for the backbone 'custom'"):
        create(SIZES, weights="openai")


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("open('ran', 'w').write('x')",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"visual.conv1.weight": _Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="is no file of plain tensors and is not opened otherwise"):
        read_tensors(tmp_path / "evil.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(CheckpointError) as caught:
        read_tensors(tmp_path / "module.pt")
    assert str(caught.value).endswith("or holds whole objects; copy it again, or save its state dict alone")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("a/code/__torch__.py", "")
        archive.writestr("a/data.pkl", pickle.dumps(_Evil(), protocol=2))
    with pytest.raises(CheckpointError, match=r"asks for __builtin__.eval; nothing from a weight file is run"):
        read_tensors(tmp_path / "script.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.safetensors", b"", "no readable safetensors"),
        ("random.safetensors", bytes(range(256)) * 4, "no readable safetensors"),
        ("text.pt", b"hello", "no file of plain tensors"),
        ("empty.pt", b"", "no file of plain tensors"),
    ],
)
def test_damaged_files(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_tensors(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        read_tensors(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_tensors(tmp_path)


@pytest.mark.filterwarnings(
    "ignore:.*does not say which activation", "ignore::DeprecationWarning", "ignore::FutureWarning"
)
def test_convert_a_clip(theirs: torch.nn.Module, tmp_path: Path) -> None:
    """The converted file needs no other: its source may be gone."""
    path = written(theirs, "pth", tmp_path)
    convert(path, tmp_path / "ours.safetensors", class_names=("a", "b"))
    path.unlink()
    model = load(tmp_path / "ours.safetensors")
    assert model.info.class_names == ("a", "b")
    torch.testing.assert_close(model.clip.encode_image(IMAGES), theirs.encode_image(IMAGES), atol=1e-5, rtol=0)


@pytest.mark.case("T14")
def test_convert_the_reference(tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "parity_small" / "official_state_dict.safetensors"
    names = ("one", "two", "three", "four", "five")
    model = convert(source, tmp_path / "ours.safetensors", class_names=names, frames=3)
    again = load(tmp_path / "ours.safetensors")
    assert (again.info.class_names, again.info.frames) == (names, 3)
    assert model.loaded_tensors == again.loaded_tensors == len(model.state_dict())
    clips = torch.randn(1, 3, 3, 32, 32)
    assert torch.equal(model.encode_video(clips).visual_logits, again.encode_video(clips).visual_logits)


def small() -> BackboneConfig:
    return BackboneConfig(**SIZES)


@pytest.mark.case("T15")
def test_a_checkpoint_of_another_layout_lists_keys(tmp_path: Path) -> None:
    """Wrong keys are an error with names, never a silently random model."""
    model = create(small(), class_names=("a", "b"))
    header = {"format": "m2clip", "format_version": "1", "info": model.info.model_dump_json()}
    tensors = {k: v.clone() for k, v in model.state_dict().items() if k != "visual_head.linear.bias"}
    save_file({**tensors, "other": torch.zeros(1)}, tmp_path / "x.safetensors", metadata=header)
    with pytest.raises(CheckpointError, match=r"missing visual_head\.linear\.bias; unexpected other"):
        load(tmp_path / "x.safetensors")
    tensors["visual_head.linear.bias"] = torch.zeros(7)
    save_file(tensors, tmp_path / "y.safetensors", metadata=header)
    with pytest.raises(CheckpointError, match=r"of another shape visual_head\.linear\.bias"):
        load(tmp_path / "y.safetensors")


@pytest.mark.case("T15")
@pytest.mark.filterwarnings("ignore:.*does not say which activation")
def test_the_count_of_loaded_tensors_is_known(theirs: torch.nn.Module, tmp_path: Path) -> None:
    """Two blocks of 12 tensors and what lies around them; then what was trained, too."""
    path = written(theirs, "pth", tmp_path)
    model = create(SIZES, weights=path, class_names=("a", "b"))
    assert model.loaded_tensors == 24 + 8 + 24 + 5 + 1 == len(theirs.state_dict())
    assert create(SIZES, class_names=("a", "b")).loaded_tensors == 0
    again = load(model.save(tmp_path / "m.safetensors"))
    assert again.loaded_tensors == 62 + len(model.trained_parameters())


def test_foreign_and_newer_files_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="is no m2clip checkpoint; use `m2clip convert`"):
        load(tmp_path / "foreign.safetensors")
    header = {"format": "m2clip", "format_version": "99", "info": "{}"}
    save_file({"a": torch.zeros(1)}, tmp_path / "newer.safetensors", metadata=header)
    with pytest.raises(CheckpointError, match="install a newer m2clip"):
        load(tmp_path / "newer.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "broken.safetensors", metadata={**header, "format_version": "1"})
    with pytest.raises(CheckpointError, match=r"the header of .* cannot be read"):
        load(tmp_path / "broken.safetensors")


@pytest.mark.filterwarnings(
    "ignore:.*does not say which activation", "ignore::DeprecationWarning", "ignore::FutureWarning"
)
def test_the_clip_of_a_checkpoint_is_found_again_and_checked(theirs: torch.nn.Module, tmp_path: Path) -> None:
    path = written(theirs, "pth", tmp_path)
    model = create(SIZES, weights=path)
    saved = model.save(tmp_path / "m.safetensors")
    moved = path.rename(tmp_path / "moved.pth")
    with pytest.raises(CheckpointError, match="does not exist"):
        load(saved)
    assert torch.equal(load(saved, weights=moved).clip.encode_image(IMAGES), model.clip.encode_image(IMAGES))
    changed = {k: v + 1 for k, v in theirs.state_dict().items()}
    torch.save(changed, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="was trained on CLIP weights with SHA-256"):
        load(saved, weights=tmp_path / "other.pth")
