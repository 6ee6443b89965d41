"""The page's figures of maps are those of the last measurement, and what measures them is right on maps made by hand."""

import json
from pathlib import Path

import explanations
import pytest
import torch
import torch.nn.functional as F
from explaining import measures, methods, page

from tests.small_inputs import tiny_model

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_has_the_figures_of_the_measurement() -> None:
    document = json.loads(explanations.RESULT.read_text("utf-8"))
    assert document["methods"] == methods.NAMES
    assert f"{page.BEGIN}\n{page.tables(document)}\n{page.END}" in page.PAGE.read_text("utf-8")


def test_the_map_that_is_shipped_lies_on_the_moving_object_far_more_than_chance() -> None:
    document = json.loads(explanations.RESULT.read_text("utf-8"))
    for part, videos in (("base", 280), ("novel", 120)):
        assert document[part]["videos"] == videos
        assert document[part]["maps"][methods.SHIPPED]["ratio"] > 5
        assert document[part]["maps"]["random"]["ratio"] == pytest.approx(1, abs=0.1)


def test_mass_and_pointing_of_a_map_made_by_hand() -> None:
    """Two frames of 2 x 2 patches of 8 pixels; the object fills the first patch of each frame."""
    objects = torch.zeros(1, 2, 16, 16)
    objects[:, :, :8, :8] = 1
    on, half = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
    on[:, 0, 0, 0] = on[:, 1, 1, 1] = 1
    assert measures.localisation(half, objects)["mass"] == 0.25
    assert measures.localisation(half, objects)["ratio"] == 1
    found = measures.localisation(on, objects)
    assert found["pointing"] == 0.5
    assert found["chance"] == 0.25
    drawn = methods.enlarged(on, 16)
    assert found["mass"] == pytest.approx(float((drawn * objects).sum() / drawn.sum()), abs=1e-3)


def test_rank_correlation() -> None:
    one = torch.tensor([[1.0, 2.0, 3.0, 9.0], [1.0, 2.0, 3.0, 9.0]])
    other = torch.tensor([[10.0, 20.0, 30.0, 31.0], [4.0, 3.0, 2.0, 1.0]])
    assert measures.rank_correlation(one, other).tolist() == pytest.approx([1, -1])


class Brightness:
    """Stands for a model: tells the mean of a clip's first patch."""

    def encode_video(self, clips: torch.Tensor) -> torch.Tensor:
        return clips[:, 0, :, :8, :8].mean((1, 2, 3))


def test_deletion_and_insertion_reward_the_map_that_knows() -> None:
    """The clip's first patch is 1, all else is 0, so its mean is 1/8: what is left of it with all gone."""
    clip = torch.zeros(2, 3, 16, 16)
    clip[0, :, :8, :8] = 1
    knows = torch.zeros(2, 2, 2)
    knows[0, 0, 0] = 1
    areas = {
        name: measures.deletion_and_insertion(Brightness(), clip, heat, lambda read: read)  # type: ignore[arg-type]
        for name, heat in (("knows", knows), ("opposite", -knows))
    }
    # 8 patches: the fractions take 0, 0, 0, 1, 2, 2, 4, 6, 8 of them. Found first: 1 until 0.05, then falling to 1/8 at 0.1.
    assert areas["knows"][0] == pytest.approx(0.05 + 0.05 * (1 + 1 / 8) / 2 + 0.9 / 8)
    assert areas["knows"][1] == pytest.approx(0.05 / 8 + 0.05 * (1 + 1 / 8) / 2 + 0.9)
    # Found last: 1 until 0.75, then falling to 1/8 at 1.
    assert areas["opposite"][0] == pytest.approx(0.75 + 0.25 * (1 + 1 / 8) / 2)


def test_methods_give_maps_of_one_shape_and_leave_the_model_alone() -> None:
    model = tiny_model(("a", "b")).eval()
    clips = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    target = lambda features: F.normalize(features.embedding, dim=-1)[:, 0]  # noqa: E731
    found = methods.fast_maps(model, clips, target)
    assert set(found) == {*methods.NAMES, "difference"} - {"occlusion"}
    assert all(values.shape == (2, 3, 2, 2) and values.min() >= 0 for values in found.values())
    slow = methods.occlusion(model, clips[0], target)
    hidden = clips[:1].clone()
    hidden[0, 2, :, 16:, :16] = clips[0].mean((0, 2, 3))[:, None, None]
    fall = methods.scored(model, clips[:1], target) - methods.scored(model, hidden, target)
    assert slow[2, 1, 0].item() == pytest.approx(max(0.0, fall.item()), abs=1e-5)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_shuffled_blocks_keep_their_numbers_and_lose_their_order() -> None:
    model = tiny_model(("a", "b"))
    other = measures.shuffled(model, [1])
    for name, tensor in model.state_dict().items():
        same = torch.equal(tensor, other.state_dict()[name])
        constant = tensor.numel() == 0 or bool((tensor == tensor.flatten()[0]).all())
        touched = name.startswith(("clip.visual.blocks.1.", "vision_adapters.pre_mlp.1."))
        assert same == (constant or not touched), name
        assert torch.equal(tensor.flatten().sort().values, other.state_dict()[name].flatten().sort().values)
