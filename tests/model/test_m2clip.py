"""The whole model: a fresh one is CLIP, any number of frames, what is trained, what is saved."""

import pytest
import torch
from safetensors import safe_open

from m2clip.checkpoint import create, load
from m2clip.config import BackboneConfig
from m2clip.errors import CheckpointError
from m2clip.model.m2clip import M2CLIP

SIZES = BackboneConfig(
    image_size=32, patch_size=8, vision_width=64, vision_layers=3, vision_heads=2,
    embed_dim=48, text_width=32, text_layers=3, text_heads=2,
)  # fmt: skip
NAMES = ("waving a hand", "jumping", "running")
TOKENS = torch.tensor([[49406, 320, 1455, 539, 49407], [49406, 12, 49407, 0, 0]])


def fresh(**changes: object) -> M2CLIP:
    torch.manual_seed(0)
    return create(SIZES, **{"class_names": NAMES, **changes})


def shaken(model: M2CLIP) -> M2CLIP:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def test_a_fresh_model_on_copies_of_one_image_gives_the_images_scores() -> None:
    model = fresh(ted_positions=("pre_mlp", "pre_attention"), text_adapter_layers=3)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        video = model.encode_video(images[:, None].expand(-1, 8, -1, -1, -1))
        image = model.clip.encode_image(images)
        assert torch.equal(model.encode_text(TOKENS).embedding, model.clip.encode_text(TOKENS))
        # Each frame alone is the image to the last bit; matrix products of another batch size may round differently.
        torch.testing.assert_close(video.frames, image[:, None].expand(-1, 8, -1), atol=1e-6, rtol=0)
        torch.testing.assert_close(video.embedding, image, atol=1e-6, rtol=0)


def test_a_fresh_model_is_the_frozen_clip_frame_by_frame() -> None:
    """Step 0: on a real clip of different frames, the embedding is the mean of CLIP's image embeddings, bit for bit."""
    model, clips = fresh(), torch.randn(2, 5, 3, 32, 32)
    with torch.inference_mode():
        frames = model.clip.encode_image(clips.flatten(0, 1)).unflatten(0, (2, 5))
        assert torch.equal(model.encode_video(clips).frames, frames)


@pytest.mark.parametrize("frames", [1, 2, 4, 16])
def test_any_number_of_frames(frames: int) -> None:
    video = shaken(fresh(frames=8)).encode_video(torch.randn(2, frames, 3, 32, 32))
    assert video.frames.shape == (2, frames, 48)
    assert video.visual_logits is not None
    assert video.visual_logits.shape == (2, 3)


def test_twice_the_frames_are_one_clip_and_not_two_mixed_ones() -> None:
    """The reference folds 16 frames into two clips of 8. Here the middle of a long clip depends on its neighbours across 8."""
    model, clip = shaken(fresh()), torch.randn(1, 16, 3, 32, 32)
    changed = clip.clone()
    changed[:, 8] += 1.0
    before, after = (model.encode_video(c).frames for c in (clip, changed))
    assert (before[:, 7] - after[:, 7]).abs().max() > 1e-5


def test_order_of_frames_matters_only_with_adapters() -> None:
    clip = torch.randn(1, 6, 3, 32, 32)
    plain, adapted = fresh(), shaken(fresh())
    torch.testing.assert_close(plain.encode_video(clip).embedding, plain.encode_video(clip.flip(1)).embedding)
    difference = adapted.encode_video(clip).embedding - adapted.encode_video(clip.flip(1)).embedding
    assert difference.abs().max() > 1e-4


def test_clips_do_not_touch_each_other() -> None:
    model, clips = shaken(fresh()), torch.randn(3, 4, 3, 32, 32)
    together = model.encode_video(clips).embedding
    alone = torch.cat([model.encode_video(clip[None]).embedding for clip in clips])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.case("T9")
def test_other_resolutions() -> None:
    with pytest.warns(
        UserWarning, match="trained at 32 pixels and is used at 48: its position embeddings are interpolated"
    ):
        model = fresh(image_size=48)
    assert model.encode_video(torch.randn(1, 2, 3, 48, 48)).embedding.shape == (1, 48)
    with pytest.warns(UserWarning, match="takes 48x48 pixels and gets 48x64"):
        assert model.encode_video(torch.randn(1, 2, 3, 48, 64)).embedding.shape == (1, 48)


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 0, 3, 32, 32), (1, 2, 4, 32, 32)])
def test_clips_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[B, T, 3, H, W\]"):
        fresh().encode_video(torch.zeros(shape))


def test_only_adapters_and_heads_are_trained() -> None:
    model = fresh()
    trained = set(model.trained_parameters())
    assert {name for name, p in model.named_parameters() if p.requires_grad} == trained
    assert not any(name.startswith(("clip.", "masked_block.")) for name in trained)
    model.train()
    out = model(torch.randn(2, 3, 3, 32, 32), model.prepare_texts(TOKENS), TOKENS)
    loss = out.video.embedding.sum() + out.video.visual_logits.sum() + out.class_embeddings.sum() + out.mlm_logits.sum()
    loss.backward()
    assert all(p.grad is None for name, p in model.named_parameters() if name not in trained)
    assert all(p.grad is not None for name, p in model.named_parameters() if name in trained)


def test_parameter_groups_cover_each_parameter_once() -> None:
    model = fresh()
    groups = model.parameter_groups(lr=1.0, text_lr_scale=0.5, weight_decay=0.01)
    listed = [id(p) for group in groups for p in group["params"]]
    assert len(listed) == len(set(listed)) == len(model.trained_parameters())
    by_id = {id(p): name for name, p in model.trained_parameters().items()}
    for group in groups:
        for parameter in group["params"]:
            name = by_id[id(parameter)]
            assert (group["lr"] == 0.5) == name.startswith(("text_adapters.", "masked_words.adapter.")), name
            assert (group["weight_decay"] == 0) == (parameter.ndim <= 1), name


def test_vit_b_16_trains_about_sixteen_million_parameters() -> None:
    """The paper's figure for 12 TED-Adapters of width 384 and 400 classes; on the meta device, so it costs no memory."""
    with torch.device("meta"):
        model = create("ViT-B-16", class_names=[f"class {k}" for k in range(400)])
    count = sum(p.numel() for p in model.trained_parameters().values())
    assert 15.5e6 < count < 16.5e6


@pytest.mark.parametrize("ted", ["off", "enhancement", "difference"])
def test_ted_ablations(ted: str) -> None:
    model = shaken(fresh(ted=ted, output_temporal=False))
    kinds = {name.split(".")[3] for name in model.trained_parameters() if name.startswith("vision_adapters.pre_mlp")}
    assert kinds == (set() if ted == "off" else {ted})
    assert model.encode_video(torch.randn(1, 3, 3, 32, 32)).embedding.shape == (1, 48)


def test_ted_off_leaves_nothing_that_sees_time() -> None:
    """The output temporal adapter sees the order of the frames, too: it goes with the TED-Adapters unless it is asked for."""
    clip = torch.randn(1, 6, 3, 32, 32)
    model = shaken(fresh(ted="off"))
    assert model.vision_adapters.output_temporal is None
    torch.testing.assert_close(model.encode_video(clip).embedding, model.encode_video(clip.flip(1)).embedding)
    assert fresh(ted="off", output_temporal=True).vision_adapters.output_temporal is not None
    assert fresh(ted="both", output_temporal=False).vision_adapters.output_temporal is None


def test_subsets_of_layers() -> None:
    model = fresh(ted_layers=(0, 2), ted_positions=("pre_attention",), ted_width=5)
    assert set(model.vision_adapters.pre_attention) == {"0", "2"}
    assert len(model.vision_adapters.pre_mlp) == 0
    assert model.vision_adapters.pre_attention["2"].enhancement.down.out_features == 5


def test_no_classes_no_heads() -> None:
    model = fresh(class_names=())
    assert model.encode_video(torch.randn(1, 2, 3, 32, 32)).visual_logits is None
    with pytest.raises(ValueError, match="no masked-word head"):
        model.mlm_logits(torch.zeros(1, 4, 32), torch.zeros(1, 2, 48))


def test_frames_are_brought_to_the_text_width_for_the_masked_words() -> None:
    model = fresh()
    assert model.masked_words.frame_map is not None  # 48 -> 32
    logits = model.mlm_logits(torch.randn(2, 7, 32), torch.randn(2, 4, 48))
    assert logits.shape == (2, 7, len(model.info.words))


@pytest.mark.case("T7")
def test_checkpoints_hold_trained_tensors_and_the_record(tmp_path) -> None:
    model = shaken(create("builtin", class_names=NAMES, frames=6, stride_frames=2))
    path = model.save(tmp_path / "run" / "model.safetensors")
    with safe_open(str(path), framework="pt") as file:
        assert set(file.keys()) == set(model.trained_parameters())
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]
    again = load(path)
    assert again.info == model.info
    assert not again.training
    clips = torch.randn(1, 4, 3, 64, 64)
    with torch.inference_mode():
        first, second = model.encode_video(clips), again.encode_video(clips)
        assert torch.equal(first.embedding, second.embedding)
        assert torch.equal(first.visual_logits, second.visual_logits)
        hidden = model.encode_text(TOKENS).hidden
        assert torch.equal(
            model.mlm_logits(hidden, first.frames), again.mlm_logits(again.encode_text(TOKENS).hidden, second.frames)
        )


def test_random_weights_are_saved_whole(tmp_path) -> None:
    """No file holds them, so the checkpoint must."""
    model = shaken(fresh(masked_words=False, visual_head=False))
    again = load(model.save(tmp_path / "model.safetensors"))
    clips = torch.randn(1, 4, 3, 32, 32)
    assert torch.equal(model.encode_video(clips).embedding, again.encode_video(clips).embedding)
    assert again.visual_head is None
    assert again.info.class_names == NAMES


def test_a_checkpoint_may_have_any_name(tmp_path) -> None:
    model = fresh()
    assert load(model.save(tmp_path / "model.ckpt")).info == model.info


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch) -> None:
    model = fresh()
    path = model.save(tmp_path / "model.safetensors")
    before = path.read_bytes()

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(
        CheckpointError, match=r"cannot be written \(No space left on device\); the file of before is still there"
    ):
        shaken(model).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
