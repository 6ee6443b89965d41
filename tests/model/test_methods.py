"""What holds for every method: a fresh one is CLIP, the gradient reaches what is trained and nothing else, a checkpoint brings it back."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from m2clip import create, load, losses
from m2clip.config import METHOD_TERMS, Method
from m2clip.errors import CheckpointError, ConfigError
from m2clip.model.methods import METHODS
from m2clip.model.video_clip import VideoCLIP
from tests.model.rivals.plain_clip import NAMES, TOKENS, clips, model_of

ALL = sorted(METHODS)
TRAINED = [method for method in ALL if method != "frozen"]
VIDEO_IS_ADAPTED = ("m2clip", "full", "st-adapter", "aim")
PARTS = {
    "m2clip": {"vision_adapters", "text_adapters", "visual_head", "masked_words"},
    "frozen": set(),
    "linear-probe": {"visual_head"},
    "full": {"tuned"},
    "st-adapter": {"vision_adapters", "visual_head"},
    "aim": {"vision_adapters", "visual_head"},
    "text-prompts": {"prompt"},
}


def frozen_clip(model: VideoCLIP) -> VideoCLIP:
    return VideoCLIP(model.clip, info=model.info).eval()


def embeddings(model: VideoCLIP, *, frames: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        return model.encode_video(clips(frames=frames)).embedding, model.encode_text(TOKENS).embedding


def total_loss(model: VideoCLIP) -> torch.Tensor:
    """Every term that the method has, equally weighted."""
    labels = torch.tensor([0, 1])
    masked = TOKENS if "mlm" in METHOD_TERMS[model.info.method] else None
    out = model(clips(), model.prepare_texts(TOKENS), masked)
    total = losses.contrastive(out.video.embedding, out.class_embeddings, labels, logit_scale=model.logit_scale)
    total = total + losses.cross_modal(out.video.embedding, out.class_embeddings, labels)
    if out.video.visual_logits is not None:
        total = total + losses.visual(out.video.visual_logits, labels)
    if out.mlm_logits is not None:
        total = total + out.mlm_logits.float().square().mean()
    return total


def test_each_method_has_a_class_and_terms() -> None:
    assert set(METHODS) == set(get_args(Method)) == set(METHOD_TERMS) == set(PARTS)
    assert len(set(METHODS.values())) == len(METHODS)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("frames", [1, 3, 4, 9])
def test_a_fresh_model_is_clip_to_the_last_bit_for_any_number_of_frames(method: str, frames: int) -> None:
    model = model_of(method, learned=False)
    video, text = embeddings(model, frames=frames)
    plain_video, plain_text = embeddings(frozen_clip(model), frames=frames)
    assert torch.equal(video, plain_video)
    assert torch.equal(text, plain_text) == (method != "text-prompts")


@pytest.mark.parametrize("method", VIDEO_IS_ADAPTED)
@pytest.mark.parametrize("frames", [1, 4, 5])
def test_strength_0_is_clip_and_1_the_model_to_the_last_bit(method: str, frames: int) -> None:
    model = model_of(method)
    learned, plain = embeddings(model, frames=frames), embeddings(frozen_clip(model), frames=frames)
    assert not torch.allclose(learned[0], plain[0], atol=1e-2)
    model.set_strength(0.5)
    half = embeddings(model, frames=frames)
    assert not torch.allclose(half[0], plain[0], atol=1e-2)
    assert not torch.allclose(half[0], learned[0], atol=1e-2)
    for strength, expected in ((0, plain), (1, learned)):
        model.set_strength(strength)
        assert all(torch.equal(a, b) for a, b in zip(embeddings(model, frames=frames), expected, strict=True))


@pytest.mark.parametrize("method", VIDEO_IS_ADAPTED)
def test_between_0_and_1_embeddings_move_in_small_steps(method: str) -> None:
    model = model_of(method)
    seen = []
    for step in range(41):
        model.set_strength(step / 40)
        seen.append(embeddings(model)[0])
    curve = torch.stack(seen)
    steps = (curve[1:] - curve[:-1]).flatten(1).norm(dim=1)
    assert steps.min() > 0
    assert steps.max() < 0.2 * steps.sum()


@pytest.mark.parametrize("method", TRAINED)
def test_the_gradient_reaches_all_that_is_trained_and_nothing_else(method: str) -> None:
    model = model_of(method).train()
    assert set(model.trained_parts()) == PARTS[method]
    total_loss(model).backward()
    trained = model.trained_parameters()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (name in trained), name
        if name in trained:
            assert parameter.grad is not None, name
            # Behind the last attention nothing reads patches, so M2-CLIP's difference branch has a gradient of zero there.
            unread = method == "m2clip" and name.startswith("vision_adapters.pre_mlp.2.difference.")
            assert bool(parameter.grad.count_nonzero()) != unread, name
        else:
            assert parameter.grad is None, name
    groups = model.parameter_groups(lr=0.1, text_lr_scale=0.5, weight_decay=0.01)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(map(id, trained.values()))
    assert {group["lr"] for group in groups} == ({0.1, 0.05} if method == "m2clip" else {0.1})


@pytest.mark.parametrize("method", TRAINED)
def test_a_few_steps_lower_the_loss_in_bfloat16(method: str) -> None:
    model = model_of(method, learned=False).eval()  # without dropout, the loss of the same batch must fall
    optimizer = torch.optim.AdamW(model.trained_parameters().values(), lr=0.001)
    frozen = {name: value.clone() for name, value in model.clip.state_dict().items()}
    seen = []
    for _ in range(8):
        with torch.autocast("cpu", torch.bfloat16):
            loss = total_loss(model)
        assert loss.dtype == torch.float32
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.trained_parameters().values())
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < seen[0]
    assert all(torch.equal(value, frozen[name]) for name, value in model.clip.state_dict().items())


@pytest.mark.parametrize("method", VIDEO_IS_ADAPTED)
def test_bfloat16_is_close_to_float32(method: str) -> None:
    model = model_of(method)
    exact = embeddings(model)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = embeddings(model)
    for a, b in zip(rounded, exact, strict=True):
        assert torch.cosine_similarity(a.float(), b, dim=-1).min() > 0.999


@pytest.mark.parametrize("method", ALL)
def test_a_checkpoint_brings_the_model_back(method: str, tmp_path: Path) -> None:
    model = model_of(method)
    again = load(model.save(tmp_path / "model.safetensors"))
    assert type(again) is METHODS[method]  # type: ignore[index]
    assert again.info == model.info
    assert not again.training
    saved, read = model.state_dict(), again.state_dict()
    assert saved.keys() == read.keys()
    assert all(torch.equal(read[name], value) for name, value in saved.items())
    with torch.inference_mode():
        before, after = model.encode_video(clips()), again.encode_video(clips())
    assert torch.equal(before.embedding, after.embedding)
    if before.visual_logits is not None:
        assert torch.equal(before.visual_logits, after.visual_logits)


@pytest.mark.parametrize("method", TRAINED)
def test_a_checkpoint_without_the_backbone_holds_what_is_trained(method: str, tmp_path: Path) -> None:
    builtin = create("builtin", class_names=NAMES, method=method, frames=4)
    path = builtin.save(tmp_path / "model.safetensors")
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(builtin.trained_parameters())
        assert json.loads(file.metadata()["info"])["method"] == method
    again = load(path)
    video = torch.randn(1, 3, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again.encode_video(video).embedding, builtin.encode_video(video).embedding)


@pytest.mark.parametrize("method", ["st-adapter", "aim", "text-prompts"])
@pytest.mark.parametrize("lie", [0, 7])
def test_a_header_that_lies_about_sizes_is_refused(method: str, lie: int, tmp_path: Path) -> None:
    model = model_of(method)
    path = model.save(tmp_path / "model.safetensors")
    with safe_open(path, "pt") as file:
        header = file.metadata()
    info = json.loads(header["info"])
    size = "prompt_tokens" if method == "text-prompts" else "width"
    assert info["rival"][size] != lie
    info["rival"][size] = lie
    save_file(load_file(path), path, {**header, "info": json.dumps(info)})
    with pytest.raises(CheckpointError, match=f"{size} is 0" if lie == 0 else "does not fit the layout"):
        load(path)


def test_the_tensors_of_one_method_are_not_taken_for_another(tmp_path: Path) -> None:
    path = model_of("st-adapter").save(tmp_path / "model.safetensors")
    with safe_open(path, "pt") as file:
        header = file.metadata()
    header["info"] = header["info"].replace('"method":"st-adapter"', '"method":"aim"')
    save_file(load_file(path), path, header)
    with pytest.raises(CheckpointError, match="does not fit the layout"):
        load(path)


@pytest.mark.parametrize("method", ["linear-probe", "frozen", "text-prompts"])
def test_a_method_without_residuals_has_no_strength(method: str) -> None:
    with pytest.raises(ConfigError, match=f"the method {method} has no adapters to weaken"):
        model_of(method).set_strength(0.5)


@pytest.mark.parametrize("method", VIDEO_IS_ADAPTED)
@pytest.mark.filterwarnings("ignore:the model takes 32x32 pixels")
def test_another_size_of_pictures_works(method: str) -> None:
    model, wide = model_of(method), clips(height=24, width=40)
    with torch.inference_mode():
        video, plain = model.encode_video(wide), frozen_clip(model).encode_video(wide)
        assert video.frames.shape == (2, 4, 48)
        assert not torch.allclose(video.embedding, plain.embedding, atol=1e-2)
        model.set_strength(0)
        assert torch.equal(model.encode_video(wide).embedding, plain.embedding)


@pytest.mark.parametrize("method", VIDEO_IS_ADAPTED)
def test_videos_of_a_batch_do_not_mix(method: str) -> None:
    model, videos = model_of(method), clips(batch=3)
    with torch.inference_mode():
        together = model.encode_video(videos).embedding
        alone = torch.cat([model.encode_video(video[None]).embedding for video in videos])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def counts_on_the_page() -> dict[str, int]:
    """The counts of trained parameters that docs/rivals.md states, by method."""
    page = (Path(__file__).parents[2] / "docs" / "rivals.md").read_text(encoding="utf-8")
    return {
        method: int(count.replace(",", ""))
        for method, count in re.findall(r"^\| `([a-z0-9-]+)` \| [^|]+ \| ([0-9,]+) \|", page, re.MULTILINE)
    }


@pytest.mark.parametrize("method", ALL)
def test_trained_parameters_on_vit_b_16_are_those_of_the_papers_and_of_the_page(method: str) -> None:
    with torch.device("meta"):
        model = create("ViT-B-16", class_names=[f"class {k}" for k in range(400)], method=method)
    counted = {part: sum(p.numel() for p in module.parameters()) for part, module in model.trained_parts().items()}
    head = 768 * 400 + 400
    expected = {
        "frozen": 0,
        "linear-probe": head,
        "full": sum(p.numel() for p in model.clip.parameters()),
        "st-adapter": 12 * (768 * 384 + 384 + 3 * 384 + 384 + 384 * 768 + 768) + head,
        "aim": 36 * (768 * 192 + 192 + 192 * 768 + 768) + 8 * 768 + 2 * 768 + head,
        "text-prompts": 16 * 512,
    }
    total = sum(counted.values())
    assert total == expected.get(method, total)
    assert counts_on_the_page()[method] == total
    assert sum(p.numel() for p in model.trained_parameters().values()) == total


def test_the_page_counts_every_method_and_names_its_terms() -> None:
    assert set(counts_on_the_page()) == set(ALL)
    assert counts_on_the_page()["st-adapter"] == 7_417_744  # 7.4 M in the paper
    assert round(counts_on_the_page()["aim"] / 1e6) == 11
    assert round(counts_on_the_page()["m2clip"] / 1e6) == 16
    page = (Path(__file__).parents[2] / "docs" / "rivals.md").read_text(encoding="utf-8")
    for method, terms in METHOD_TERMS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{method}` |"))
        assert row.split(" | ")[3] == (", ".join(terms) or "none")


@pytest.mark.parametrize("method", [*ALL, "adapters in all text blocks", "no text adapter"])
def test_prepared_texts_are_finished_to_the_embeddings_of_the_whole_tower(method: str) -> None:
    layers = {"adapters in all text blocks": 2, "no text adapter": 0}.get(method)
    model = model_of("m2clip", text_adapter_layers=layers) if layers is not None else model_of(method)
    tokens = torch.cat([TOKENS, TOKENS.flip(0)]).repeat(50, 1)  # more than go through the tower at once
    trained = list(model.trained_parameters().values())
    prepared = model.prepare_texts(tokens)
    assert prepared.hidden is None or not prepared.hidden.requires_grad
    ours, plain = model.finish_texts(prepared), model.encode_text(tokens).embedding
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    if not plain.requires_grad:
        assert not ours.requires_grad
        return
    weight = torch.randn_like(plain)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), trained, allow_unused=True),
        torch.autograd.grad((plain * weight).sum(), trained, allow_unused=True),
        strict=True,
    ):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


def test_only_end_tokens_go_on_behind_the_last_attention() -> None:
    assert model_of("m2clip").prepare_texts(TOKENS).hidden.shape[1] == 1
    assert model_of("m2clip", text_adapter_layers=2).prepare_texts(TOKENS).hidden.shape[1] == TOKENS.shape[1]
    assert model_of("aim").prepare_texts(TOKENS).hidden.ndim == 2
    assert model_of("full").prepare_texts(TOKENS).hidden is None


def test_a_method_with_a_text_side_of_its_own_is_asked_anew_without_saying_so() -> None:
    class Doubled(VideoCLIP):
        def encode_words(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            embeddings, hidden = super().encode_words(tokens)
            return 2 * embeddings, hidden

    plain = model_of("frozen")
    model = Doubled(plain.clip, info=plain.info)
    assert torch.equal(model.finish_texts(model.prepare_texts(TOKENS)), 2 * plain.encode_text(TOKENS).embedding)


@pytest.mark.parametrize("method", TRAINED)
def test_recomputed_blocks_give_the_same_gradients_and_keep_less(method: str) -> None:
    kept: dict[bool, int] = {}
    gradients: dict[bool, list[torch.Tensor | None]] = {}
    for recompute in (False, True):
        model = model_of(method)
        model.recompute_blocks = recompute
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            loss = total_loss(model)
        loss.backward()
        kept[recompute], gradients[recompute] = sum(sizes), [p.grad for p in model.trained_parameters().values()]
    for without, with_ in zip(gradients[False], gradients[True], strict=True):
        assert without is None if with_ is None else torch.equal(without, with_)
    assert kept[True] < kept[False] if method in VIDEO_IS_ADAPTED else kept[True] == kept[False]
