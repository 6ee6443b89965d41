"""What stands beside a CLIP's weights: the activation and the pixel statistics that they want."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from m2clip.checkpoint import convert, create, load
from m2clip.checkpoint.publisher import Stated, stated_beside, stated_in
from m2clip.config import BackboneConfig
from m2clip.config.model import CLIP_MEAN, CLIP_STD
from m2clip.data.manifest import ClassTable, read_manifest
from m2clip.errors import CheckpointError
from m2clip.evaluate import evaluate
from m2clip.model.clip import CLIP
from m2clip.model.video_clip import VideoCLIP, VideoFeatures
from m2clip.recognizer import Recognizer
from tests.small_inputs import TINY, tiny_model, write_video

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def says(folder: Path, values: object, name: str = "config.json") -> Stated:
    path = folder / name
    path.write_text(json.dumps(values))
    return stated_in(path)


@pytest.mark.case("E5")
def test_a_config_says_its_activation(tmp_path: Path) -> None:
    assert says(tmp_path, {"vision_config": {"hidden_act": "gelu"}}) == Stated(False)
    assert says(tmp_path, {"vision_config": {}}) == Stated(True)
    assert says(tmp_path, {"model_cfg": {"quick_gelu": True}}) == Stated(True)
    assert says(tmp_path, {"model_cfg": {}}) == Stated(False)
    assert says(tmp_path, []) == says(tmp_path, {}) == stated_in(tmp_path / "absent.json") == Stated()


@pytest.mark.case("E4")
def test_a_config_says_its_pixel_statistics(tmp_path: Path) -> None:
    siglip = {"model_cfg": {}, "preprocess_cfg": {"mean": list(HALF), "std": list(HALF), "interpolation": "bicubic"}}
    assert says(tmp_path, siglip) == Stated(False, HALF, HALF)
    imagenet = {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD), "do_normalize": True}
    assert says(tmp_path, imagenet) == Stated(None, IMAGENET_MEAN, IMAGENET_STD)
    assert says(tmp_path, {**imagenet, "do_normalize": False}) == Stated(None, (0, 0, 0), (1, 1, 1))
    assert says(tmp_path, {"model_cfg": {}, "preprocess_cfg": {"mean": 0.5, "std": None}}) == Stated(False, HALF, None)


@pytest.mark.parametrize("std", [[0.5, 0.5], "0.5", [0.5, 0.5, "a"], [0, 1, 1], {"a": 1}, [float("nan")] * 3])
def test_statistics_that_cannot_be(tmp_path: Path, std: Any) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: image_std is .* instead of three numbers above 0"):
        says(tmp_path, {"image_mean": [0, 0, 0], "image_std": std})


def test_only_the_files_of_a_hub_folder_are_asked(tmp_path: Path) -> None:
    says(tmp_path, {"vision_config": {"hidden_act": "gelu"}})
    says(tmp_path, {"image_mean": list(HALF), "image_std": list(HALF)}, "preprocessor_config.json")
    assert stated_beside(tmp_path / "model.safetensors") == Stated(False, HALF, HALF)
    assert stated_beside(tmp_path / "my own.pt") == Stated()


def clip_folder(folder: Path, config: dict[str, Any] | None) -> Path:
    """The weight file of a copied hub repository, with the config of open_clip if there is one."""
    folder.mkdir()
    if config is not None:
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(tiny_model().clip.state_dict(), folder / "open_clip_model.safetensors")
    return folder / "open_clip_model.safetensors"


@pytest.mark.case("E4")
@pytest.mark.parametrize(
    ("config", "mean", "std"),
    [
        ({"model_cfg": {"quick_gelu": True}, "preprocess_cfg": {"mean": HALF, "std": HALF}}, HALF, HALF),
        ({"model_cfg": {}, "preprocess_cfg": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}}, IMAGENET_MEAN, IMAGENET_STD),
        ({"model_cfg": {}}, CLIP_MEAN, CLIP_STD),
        pytest.param(None, CLIP_MEAN, CLIP_STD, marks=pytest.mark.filterwarnings("ignore:.*which activation")),
    ],
)  # fmt: skip
def test_a_grey_video_is_seen_by_the_statistics_of_the_weights(
    tmp_path: Path,
    config: dict[str, Any] | None,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Grey 51 of 255 is 0.2: (0.2 - mean) / std reaches the model, by every door, and from a saved checkpoint, too."""
    weights = clip_folder(tmp_path / "clip", config)
    model = create(TINY, weights=weights, class_names=("a", "b"))
    assert (model.info.sizes.mean, model.info.sizes.std) == (mean, std)
    model.info = model.info.model_copy(update={"training": {"epochs": 1}})
    saved = load(model.save(tmp_path / "model.safetensors"))
    converted = convert(weights, tmp_path / "whole.safetensors")
    seen: list[torch.Tensor] = []
    plain = VideoCLIP.encode_video

    def spy(self: VideoCLIP, clips: torch.Tensor) -> VideoFeatures:
        seen.append(clips)
        return plain(self, clips)

    monkeypatch.setattr(VideoCLIP, "encode_video", spy)
    grey = np.full((8, 40, 40, 3), 51, np.uint8)
    for one in (model, saved, converted, create(TINY, weights=tmp_path / "whole.safetensors")):
        Recognizer(one).embed(grey)
    write_video(tmp_path / "data" / "a" / "grey.avi", grey)
    evaluate(saved, read_manifest(tmp_path / "data", classes=ClassTable(("a", "b"))))
    assert len(seen) == 5
    expected = ((0.2 - torch.tensor(mean)) / torch.tensor(std)).view(3, 1, 1)
    for clips in seen[:4]:
        torch.testing.assert_close(clips, expected.expand_as(clips), rtol=0, atol=1e-6)
    # The codec may have rounded the grey of the file by a step or two.
    torch.testing.assert_close(seen[4], expected.expand_as(seen[4]), rtol=0, atol=2.1 / 255 / min(std))


@pytest.mark.case("E4", "E5")
def test_what_the_caller_says_stands_above_the_publisher(tmp_path: Path) -> None:
    config = {"model_cfg": {"quick_gelu": True}, "preprocess_cfg": {"mean": HALF, "std": HALF}}
    weights = clip_folder(tmp_path / "clip", config)
    sizes = create({**TINY.model_dump(), "mean": IMAGENET_MEAN}, weights=weights, quick_gelu=False).info.sizes
    assert (sizes.quick_gelu, sizes.mean, sizes.std) == (False, IMAGENET_MEAN, HALF)


@pytest.mark.case("E5")
def test_weights_that_do_not_say_their_activation_are_doubted_whatever_their_layout(tmp_path: Path) -> None:
    weights = clip_folder(tmp_path / "clip", None)
    assert create(TINY, weights=weights, quick_gelu=False).info.sizes.quick_gelu is False
    with pytest.warns(UserWarning, match="does not say which activation it was trained with; QuickGELU is used"):
        create(TINY, weights=weights)
    says(weights.parent, {"vision_config": {"hidden_act": "gelu"}})
    assert create(TINY, weights=weights).info.sizes.quick_gelu is False


def test_the_clip_of_a_whole_checkpoint_can_be_trained_on_and_what_was_trained_is_left_out(tmp_path: Path) -> None:
    model = tiny_model(("a", "b"), seed=1)
    path = model.save(tmp_path / "whole.safetensors", with_backbone=True)
    fresh = create(TINY, weights=path, class_names=("c",))
    for key, value in model.clip.state_dict().items():
        assert torch.equal(fresh.clip.state_dict()[key], value), key
    model.info = model.info.model_copy(update={"training": {"epochs": 1}})
    model.save(path, with_backbone=True)
    with pytest.warns(UserWarning, match="the frozen CLIP of .* is used; what was trained on it is left out"):
        create(TINY, weights=path)


@pytest.mark.case("E5")
@pytest.mark.filterwarnings("ignore:.*which activation")
def test_heads_of_another_width_are_those_of_the_config(tmp_path: Path) -> None:
    """Four heads of 80 channels, as in the larger CLIPs of LAION, where 64 would make five."""
    vision = {"image_size": 32, "layers": 2, "width": 320, "patch_size": 16, "head_width": 80}
    text = {"context_length": 77, "vocab_size": 300, "width": 64, "heads": 4, "layers": 2}
    torch.manual_seed(0)
    theirs = open_clip.CLIP(embed_dim=24, vision_cfg=vision, text_cfg=text, quick_gelu=False).eval()
    folder = tmp_path / "clip"
    folder.mkdir()
    weights = folder / "open_clip_pytorch_model.bin"
    torch.save(theirs.state_dict(), weights)
    says(folder, {"model_cfg": {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}}, "open_clip_config.json")
    model = convert(weights, tmp_path / "ours.safetensors")
    assert (model.info.sizes.vision_heads, model.info.sizes.text_heads, model.info.sizes.quick_gelu) == (4, 4, False)
    images, tokens = torch.randn(2, 3, 32, 32), torch.tensor([[298, 5, 6, 299] + [0] * 73])
    with torch.inference_mode():
        torch.testing.assert_close(model.clip.encode_image(images), theirs.encode_image(images), atol=1e-5, rtol=0)
        torch.testing.assert_close(model.clip.encode_text(tokens), theirs.encode_text(tokens), atol=1e-5, rtol=0)
    with pytest.raises(CheckpointError, match="has 4 vision_heads by its config file, the backbone custom has 5"):
        create(model.info.sizes.model_copy(update={"vision_heads": 5}), weights=weights)


def test_heads_that_nobody_states_are_guessed_in_openais_sizes_only(tmp_path: Path) -> None:
    assert says(tmp_path, {"vision_config": {"num_attention_heads": 16}}) == Stated(True, vision_heads=16)
    sizes = BackboneConfig.model_validate(
        {**TINY.model_dump(), "vision_width": 1280, "vision_heads": 16, "vision_layers": 1}
    )
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in CLIP(**sizes.towers()).state_dict().items()}
    save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, tmp_path / "huge.safetensors")
    with pytest.raises(CheckpointError, match="does not say how many heads its image tower of 1280 channels has"):
        convert(tmp_path / "huge.safetensors", tmp_path / "ours.safetensors")


def test_a_checkpoint_without_its_clip_is_no_clip(tmp_path: Path) -> None:
    path = tiny_model(("a", "b")).save(tmp_path / "trained.safetensors", with_backbone=False)
    with pytest.raises(CheckpointError, match="is a checkpoint of trained tensors without the CLIP"):
        create(TINY, weights=path)
