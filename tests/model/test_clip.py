"""Our CLIP against open_clip's and transformers' with the same random weights, and what positions do at other sizes."""

import open_clip
import pytest
import torch
import transformers

from m2clip.checkpoint.layouts import clip_state
from m2clip.config import BACKBONES
from m2clip.model.clip import CLIP, Attention, QuickGELU

TOLERANCE = 1e-4


def ours(state: dict[str, torch.Tensor], backbone: str, *, quick_gelu: bool) -> CLIP:
    sizes = BACKBONES[backbone].model_copy(update={"quick_gelu": quick_gelu})
    clip = CLIP(**sizes.towers())
    clip.load_state_dict(clip_state(state, where="test")[0])
    return clip.eval()


def texts(seed: int = 0) -> torch.Tensor:
    """Five texts of different lengths, CLIP's start and end tokens, padded with zeros."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(5, 77, dtype=torch.int64)
    for row, length in zip(tokens, (1, 4, 9, 30, 75), strict=True):
        row[0], row[length + 1] = 49406, 49407
        row[1 : length + 1] = torch.randint(1, 49000, (length,), generator=generator)
    return tokens


@pytest.mark.case("E5")
@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize("backbone", ["ViT-B-32", "ViT-B-16"])
def test_features_equal_open_clip_and_transformers(backbone: str, quick_gelu: bool) -> None:
    torch.manual_seed(0)
    images, tokens = torch.randn(2, 3, 224, 224), texts()
    theirs = open_clip.create_model(backbone + ("-quickgelu" if quick_gelu else ""), pretrained=None).eval()
    with torch.inference_mode():
        clip = ours(theirs.state_dict(), backbone, quick_gelu=quick_gelu)
        torch.testing.assert_close(clip.encode_image(images), theirs.encode_image(images), atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(clip.encode_text(tokens), theirs.encode_text(tokens), atol=TOLERANCE, rtol=0)
    del theirs

    activation = "quick_gelu" if quick_gelu else "gelu"
    config = transformers.CLIPConfig(
        vision_config={"patch_size": int(backbone[-2:]), "hidden_act": activation},
        text_config={"hidden_act": activation, "eos_token_id": 49407},
    )
    other = transformers.CLIPModel(config).eval()
    with torch.inference_mode():
        clip = ours(other.state_dict(), backbone, quick_gelu=quick_gelu)
        image = other.visual_projection(other.vision_model(images).pooler_output)
        text = other.text_projection(other.text_model(tokens).pooler_output)
        torch.testing.assert_close(clip.encode_image(images), image, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(clip.encode_text(tokens), text, atol=TOLERANCE, rtol=0)


def small(**changes: int) -> CLIP:
    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 8, "vision_width": 64, "vision_layers": 2, "vision_heads": 2}
    sizes |= {"embed_dim": 48, "text_width": 32, "text_layers": 2, "text_heads": 2, **changes}
    return CLIP(**sizes).eval()


@pytest.mark.case("E5")
def test_the_wrong_activation_shows() -> None:
    """Case E5: the same weights under GELU instead of QuickGELU must give other features."""
    quick = small()
    exact = CLIP(
        image_size=32, patch_size=8, vision_width=64, vision_layers=2, vision_heads=2, embed_dim=48,
        text_width=32, text_layers=2, text_heads=2, quick_gelu=False,
    )  # fmt: skip
    exact.load_state_dict(quick.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert (quick.encode_image(images) - exact.encode_image(images)).abs().max() > 1e-4


def test_padding_behind_the_end_token_changes_nothing() -> None:
    clip, tokens = small(), texts()
    full = clip.encode_text(tokens[:4])
    cut = clip.encode_text(tokens[:4, :32])
    torch.testing.assert_close(cut, full, atol=1e-6, rtol=0)


@pytest.mark.case("T9")
def test_positions_are_interpolated_only_where_the_grid_differs() -> None:
    visual = small().visual
    assert visual.positions(4, 4) is visual.positional_embedding
    with torch.no_grad():
        grid = visual.positional_embedding[1:].reshape(4, 4, -1)
        grid[:] = torch.arange(4.0)[:, None, None]  # a ramp from top to bottom
    wide = visual.positions(4, 8)
    assert wide.shape == (33, 64)
    torch.testing.assert_close(wide[0], visual.positional_embedding[0])
    # Twice as many columns leave a ramp along the rows as it was.
    torch.testing.assert_close(wide[1:].reshape(4, 8, 64)[:, :, 0], torch.arange(4.0)[:, None].expand(4, 8))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 3, 4, 32)])
def test_images_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[B, 3, H, W\]"):
        small().encode_image(torch.zeros(shape))


def test_too_long_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="L <= 77"):
        small().encode_text(torch.zeros(1, 78, dtype=torch.int64))


def test_quick_gelu_and_its_gradient() -> None:
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    plain, ours = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = plain * torch.sigmoid(1.702 * plain)
    out = QuickGELU()(ours)
    assert torch.equal(out, expected)
    assert torch.equal(QuickGELU()(x), expected)
    weights = torch.randn(101, dtype=torch.float64)
    (expected * weights).sum().backward()
    (out * weights).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_with_gradients_equals_the_fused_kernel(causal: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(32, heads=2, causal=causal)
    x, weights = torch.randn(3, 7, 32), torch.randn(3, 7, 32)
    with torch.no_grad():
        fused = attention(x)
    written_out = attention(x.requires_grad_())
    torch.testing.assert_close(written_out, fused, atol=1e-6, rtol=0)
    (gradient,) = torch.autograd.grad((written_out * weights).sum(), x)
    query, key, value = attention._split(attention.qkv(x), 3)
    mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
    plain = attention.out(mixed.transpose(1, 2).flatten(2))
    (expected,) = torch.autograd.grad((plain * weights).sum(), x)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=0)
