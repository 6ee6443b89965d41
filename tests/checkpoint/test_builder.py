"""Checkpoints from strangers: what a header claims is checked before it costs memory or time."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from m2clip import create, load
from m2clip.checkpoint import convert
from m2clip.errors import CheckpointError, ConfigError
from tests.small_inputs import tiny_model


def rewritten(path: Path, place: tuple[str, ...], value: Any, *, version: str = "1") -> Path:
    """A whole checkpoint whose header claims `value` at `place`."""
    model = tiny_model(("a", "b"))
    info = json.loads(model.info.model_dump_json())
    inner = info
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    header = {"format": "m2clip", "format_version": version, "info": json.dumps(info)}
    save_file({key: tensor.clone() for key, tensor in model.state_dict().items()}, path, metadata=header)
    return path


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("layout", "ted_width"), 10**9),
        (("layout", "ted_width"), 2**16),  # allowed as such, but the tensors are others
        (("layout", "ted_width"), -5),
        (("layout", "ted_width"), 0),
        (("layout", "pre_mlp"), [0, 99]),
        (("layout", "pre_mlp"), list(range(10**5))),
        (("layout", "text_width"), 10**9),
        (("sizes", "image_size"), 16 * 10**8),
        (("sizes", "vision_layers"), 10**7),
        (("sizes", "vision_width"), 10**9),
        (("sizes", "vocab_size"), 10**9),
        (("image_size",), 16 * 10**6),
        (("image_size",), 17),
        (("frames",), 10**9),
        (("stride_frames",), 10**30),
        (("fps",), 0.0),
        (("fps",), 1e300),
        (("clip_seconds",), -1.0),
        (("class_names",), ["a", "a"]),
        (("class_names",), [str(k) for k in range(10**5)]),
        (("texts",), []),
        (("words",), ["w"] * 10**5),
    ],
    ids=str,
)
def test_an_absurd_header_is_refused(tmp_path: Path, place: tuple[str, ...], value: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        load(rewritten(tmp_path / "x.safetensors", place, value))
    assert "x.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["\u00b2", "9" * 5000, ""])
def test_an_odd_format_version_is_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(CheckpointError, match="has format version"):
        load(rewritten(tmp_path / "x.safetensors", ("frames",), 8, version=version))


def test_other_kinds_of_numbers(tmp_path: Path) -> None:
    model = tiny_model(("a", "b"))
    header = {"format": "m2clip", "format_version": "1", "info": model.info.model_dump_json()}
    state = model.state_dict()
    save_file({k: v.double() for k, v in state.items()}, tmp_path / "double.safetensors", metadata=header)
    loaded = load(tmp_path / "double.safetensors").state_dict()
    assert all(torch.equal(loaded[key], value) and loaded[key].dtype == torch.float32 for key, value in state.items())
    save_file({k: v.int() for k, v in state.items()}, tmp_path / "int.safetensors", metadata=header)
    with pytest.raises(CheckpointError, match="whole numbers where weights belong"):
        load(tmp_path / "int.safetensors")


@pytest.mark.parametrize("description", [b"\x80\x02NQ.", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N)NNtR."])
def test_a_description_that_is_none_is_one_sentence(tmp_path: Path, description: bytes) -> None:
    path = tmp_path / "odd.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/code/a.py", "")
        archive.writestr("x/data.pkl", description)
    with pytest.raises(CheckpointError, match="damaged TorchScript archive"):
        convert(path, tmp_path / "out.safetensors")


def test_a_zip_that_unpacks_to_far_more_than_it_takes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("x/code/a.py", "")
        for name in "0123456789":
            archive.writestr(f"x/data/{name}", bytes(8 << 20))
    with pytest.raises(CheckpointError, match="would unpack to 80 MiB"):
        convert(path, tmp_path / "out.safetensors")


def test_state_dicts_that_are_no_clip(tmp_path: Path) -> None:
    torch.save({1: torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        convert(tmp_path / "a.pt", tmp_path / "out.safetensors")
    torch.save({"visual.conv1.weight": torch.zeros(1)}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="shapes are no CLIP's"):
        convert(tmp_path / "b.pt", tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_names": ("run", "run")}, "create: class names are empty or repeat"),
        ({"class_names": ("run", " ")}, "the name of class 1 is empty: name the class"),
        ({"class_names": "run"}, "class_names is 'run', but must be a list of texts"),
        ({"class_names": (0, 1)}, "class_names is (0, 1), but must be a list of texts"),
        ({"frames": 0}, "create: frames: Input should be greater than or equal to 1"),
        ({"frames": 10**9}, "create: frames: "),
        ({"stride_frames": -1}, "create: stride_frames: "),
    ],
)
def test_arguments_that_make_no_model(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create("builtin", **settings)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    """One number in a checkpoint's adapter, and one in the CLIP that a new model is built on: no score would have a meaning."""
    model = tiny_model(("run", "walk"))
    model.trained_parameters()["visual_head.linear.bias"].data[1] = value
    model.save(tmp_path / "run.safetensors")
    with pytest.raises(
        CheckpointError, match=r"run.safetensors holds weights that are not finite: visual_head.linear.bias; "
    ):
        load(tmp_path / "run.safetensors")
    state = create("builtin").clip.state_dict()
    key = next(name for name in state if name.endswith("bias"))
    state[key] = torch.full_like(state[key], value)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "clip.safetensors")
    with pytest.raises(CheckpointError, match=f"clip.safetensors holds weights that are not finite: {key}; "):
        create("builtin", weights=tmp_path / "clip.safetensors", quick_gelu=True)
