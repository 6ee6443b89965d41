"""One video -> labels, embedding, timeline; a fresh model is CLIP, a trained one uses its head for its own classes only."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import m2clip.recognizer
from m2clip import Prediction, Recognizer, load
from m2clip.config import Precision
from m2clip.data.parts import Part
from m2clip.data.sampling import ClipSampling
from m2clip.data.text.descriptions import TextSource
from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.data.transforms import PixelStatistics
from m2clip.data.transforms import test_pixels as pixels_of_frames
from m2clip.data.video import Video
from m2clip.data.web import WebLimits
from m2clip.errors import CheckpointError, ConfigError, VideoError
from m2clip.kept_texts import kept_class_embeddings
from m2clip.recognizer import Window, find_model
from m2clip.scoring import class_embeddings
from tests.small_inputs import moving_square, tiny_model, write_video
from tests.web_server import body, serving

LABELS = ["walking", "running", "jumping rope"]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "square.mp4", moving_square(frames=40, shift=1))


def trained_model(class_names: list[str], **options: Any) -> Any:
    model = tiny_model(class_names, **options)
    model.info = model.info.model_copy(update={"training": {"epochs": 1, "seed": 3}})
    return model


def by_label(predictions: list[Prediction]) -> dict[str, float]:
    return {one.label: one.score for one in predictions}


def test_a_fresh_model_scores_like_its_frozen_clip() -> None:
    model = tiny_model(LABELS)
    still = np.repeat(moving_square(frames=1), 5, axis=0)
    found = by_label(Recognizer(model).classify(still, LABELS))
    with torch.no_grad():
        sizes = model.info.sizes
        pixels = pixels_of_frames(still[:1], size=sizes.image_size)
        image = PixelStatistics(sizes.mean, sizes.std).normalize(pixels)[:, 0]
        seen = F.normalize(model.clip.visual(image), dim=-1)
        read = F.normalize(model.clip.text(get_tokenizer()([f"A video of {name}" for name in LABELS])), dim=-1)
    expected = (100 * seen @ read.T).softmax(-1)[0].tolist()
    assert found == pytest.approx(dict(zip(LABELS, expected, strict=True)), abs=1e-5)
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.case("D16")
def test_a_video_is_the_same_however_it_is_given(video: Path) -> None:
    recognizer = Recognizer(tiny_model())
    expected = recognizer.classify(video, LABELS)
    with Video(video) as opened:
        pixels = opened.frames(range(opened.info.frame_count))
    images = [Image.fromarray(picture) for picture in pixels]
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    for source in (
        str(video),
        video.read_bytes(),
        io.BytesIO(video.read_bytes()),
        pixels,
        tensor,
        images,
        list(pixels),
    ):
        assert recognizer.classify(source, LABELS) == expected
    for source in (pixels[0], pixels / 255, None):
        with pytest.raises(VideoError):
            recognizer.classify(source, LABELS)


def test_a_video_that_is_open_stays_open(video: Path) -> None:
    recognizer = Recognizer(tiny_model())
    with Video(video) as opened:
        assert recognizer.classify(opened, LABELS) == recognizer.classify(video, LABELS)
        np.testing.assert_array_equal(recognizer.embed(opened), recognizer.embed(video))
        assert recognizer.timeline(opened, LABELS) == recognizer.timeline(video, LABELS)
        assert opened.frames([39]).shape == (1, 48, 48, 3)


def test_web_addresses_can_be_switched_off_or_limited(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    model = tiny_model()
    with serving() as server:
        server.answers["/a.mp4"] = body(video.read_bytes())
        url = server.url + "/a.mp4"
        expected = Recognizer(model).classify(video, LABELS)
        assert Recognizer(model).classify(url, LABELS) == expected
        with pytest.raises(VideoError, match="it is larger than 99 bytes"):
            Recognizer(model, web=WebLimits(most_bytes=99)).embed(url)
        asked = len(server.seen)
        with pytest.raises(VideoError, match="web addresses are switched off here"):
            Recognizer(model, web=None).timeline(url, LABELS)
        assert len(server.seen) == asked


@pytest.mark.case("T4")
@pytest.mark.parametrize("value", [0, 255])
def test_a_clip_of_one_colour_gives_finite_scores(value: int) -> None:
    """Black clips stand in for broken files in many data sets; a norm of zero must not become NaN."""
    blank = np.full((16, 40, 56, 3), value, np.uint8)
    for model in (tiny_model(LABELS), trained_model(LABELS)):
        for precision in ("fp32", "bf16"):
            recognizer = Recognizer(model, precision=precision)
            scores = [one.score for one in recognizer.classify(blank)]
            assert np.isfinite(scores).all()
            assert sum(scores) == pytest.approx(1, abs=1e-5)
            embedding = recognizer.embed(blank)
            assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
            assert all(np.isfinite(one.score) for window in recognizer.timeline(blank) for one in window.predictions)


def test_the_best_come_first_and_top_limits_them(video: Path) -> None:
    recognizer = Recognizer(tiny_model())
    found = recognizer.classify(video, LABELS)
    assert len(found) == 3
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert recognizer.classify(video, LABELS, 1) == found[:1]


def test_labels_come_from_the_model(video: Path) -> None:
    recognizer = Recognizer(tiny_model(LABELS))
    assert recognizer.classify(video) == recognizer.classify(video, LABELS)
    with pytest.raises(ConfigError, match="no classes of its own"):
        Recognizer(tiny_model()).classify(video)


def test_a_mapping_gives_texts_that_are_used_as_they_are(video: Path) -> None:
    recognizer = Recognizer(tiny_model(LABELS))
    templated = {name: f"A video of {name}" for name in LABELS}
    assert recognizer.classify(video, templated) == recognizer.classify(video, LABELS)
    assert recognizer.prepare({"a": ["x y", "z"], "b": "w"}).texts == (("x y", "z"), ("w",))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("walking,running", "pass a list"),
        ([], "no labels"),
        (["a", " "], "not a name"),
        (["a", 3], "not a name"),
        (["a", "b", "a"], "'a' is given twice"),
        (7, "labels is 7: pass a list"),
        (b"ab", "not a name"),
        ({"a": None}, "at least one text"),
        ({"a": 5}, "at least one text"),
        ({"a": []}, "at least one text"),
        ({"a": [""]}, "at least one text"),
    ],
)
def test_labels_that_cannot_be_used(labels: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recognizer(tiny_model()).prepare(labels)


def test_a_trained_head_is_read_for_the_models_own_classes_only(video: Path) -> None:
    model = trained_model(LABELS)
    recognizer, fresh = Recognizer(model), Recognizer(tiny_model(LABELS))
    assert recognizer.prepare().reading == "ensemble"
    assert recognizer.prepare(LABELS).reading == "ensemble"
    assert recognizer.prepare([*LABELS, "sleeping"]).reading == "similarity"
    assert recognizer.prepare(LABELS[:2]).reading == "similarity"
    assert recognizer.prepare({name: name for name in LABELS}).reading == "similarity"
    assert fresh.prepare().reading == "similarity"
    assert Recognizer(trained_model(LABELS, visual_head=False)).prepare().reading == "similarity"
    similarity = by_label(fresh.classify(video))
    ensemble = by_label(recognizer.classify(video))
    with Video(video) as opened, torch.no_grad():
        pixels = recognizer.reader.read(opened).pixels[0]
        visual = recognizer.encode(pixels).visual_logits[0].softmax(-1).tolist()
    expected = {name: (similarity[name] + p) / 2 for name, p in zip(LABELS, visual, strict=True)}
    assert ensemble == pytest.approx(expected, abs=1e-6)


def test_the_order_of_labels_does_not_change_their_scores(video: Path) -> None:
    recognizer = Recognizer(trained_model(LABELS))
    assert by_label(recognizer.classify(video, LABELS[::-1])) == pytest.approx(by_label(recognizer.classify(video)))


def test_several_templates_are_averaged_for_any_names(video: Path) -> None:
    one, several = Recognizer(tiny_model()), Recognizer(tiny_model(more_templates=("a clip, {}",)))
    assert several.prepare(LABELS).texts[0] == ("A video of walking", "a clip, walking")
    assert by_label(several.classify(video, LABELS)) != pytest.approx(by_label(one.classify(video, LABELS)), abs=1e-4)
    by_hand = {name: [f"a clip, {name}", f"A video of {name}"] for name in LABELS}
    assert by_label(one.classify(video, by_hand)) == pytest.approx(by_label(several.classify(video, LABELS)))


def test_a_source_of_texts_takes_the_place_of_the_models(video: Path) -> None:
    model = trained_model(LABELS, further_texts=(("legs",), (), ()))
    source = TextSource(("see {}",), {name: (f"someone is {name}",) for name in [*LABELS, "sleeping"]})
    recognizer = Recognizer(model, texts=source)
    own = recognizer.prepare(LABELS[::-1])
    assert own.texts[2] == ("see walking", "legs", "someone is walking")
    assert own.texts[1] == ("see running", "someone is running")
    assert own.reading == "ensemble"  # they are still the classes that the head was trained on
    assert recognizer.prepare().texts == own.texts[::-1]
    assert recognizer.prepare(["sleeping"]).texts == (("see sleeping", "someone is sleeping"),)
    assert recognizer.prepare({"sleeping": "as it is"}).texts == (("as it is",),)
    with pytest.raises(ConfigError, match="one class has no text, the first is 'eating'"):
        recognizer.prepare(["eating"])


def test_texts_are_encoded_once_for_many_videos(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counting(*arguments: Any, **named: Any) -> torch.Tensor:
        calls.append(arguments)
        return kept_class_embeddings(*arguments, **named)

    monkeypatch.setattr(m2clip.recognizer, "kept_class_embeddings", counting)
    recognizer = Recognizer(tiny_model())
    for _ in range(3):
        recognizer.classify(video, LABELS)
    recognizer.timeline(video, tuple(LABELS))
    assert len(calls) == 1
    for _ in range(2):  # several sets, in turn
        recognizer.classify(video, LABELS[:2])
        recognizer.classify(video, LABELS)
    assert len(calls) == 2
    first = recognizer.prepare(LABELS)
    for number in range(m2clip.recognizer.MOST_LABEL_SETS - 1):
        recognizer.prepare([f"action {number}"])
    assert recognizer.prepare(LABELS) is first  # used last of all: it stays for longest
    for number in range(m2clip.recognizer.MOST_LABEL_SETS):
        recognizer.prepare([f"event {number}"])
    assert recognizer.prepare(LABELS) is not first
    assert len(recognizer._prepared) == m2clip.recognizer.MOST_LABEL_SETS


def test_the_same_names_and_texts_may_be_read_in_two_ways() -> None:
    recognizer = Recognizer(trained_model(LABELS))
    assert recognizer.prepare().reading == "ensemble"
    assert recognizer.prepare({name: f"A video of {name}" for name in LABELS}).reading == "similarity"


@pytest.mark.case("E3")
def test_embeddings_have_unit_norm_with_one_view_and_with_many(video: Path) -> None:
    model = tiny_model()
    for views in ((1, 1), (3, 2)):
        embedding = Recognizer(model, views_temporal=views[0], views_spatial=views[1]).embed(video)
        assert embedding.shape == (24,)
        assert embedding.dtype == np.float32
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)


def test_views_are_scored_one_by_one_and_averaged_as_probabilities(tmp_path: Path) -> None:
    wide = np.zeros((30, 32, 64, 3), np.uint8)
    for t in range(30):
        wide[t, :, 2 * t : 2 * t + 8] = (255, 8 * t, 0)
    path = write_video(tmp_path / "wide.mp4", wide)
    read = Recognizer(tiny_model(), views_temporal=2, views_spatial=3).score(path, LABELS)
    assert read.views.shape == (6, 3)
    assert torch.allclose(read.views.sum(-1), torch.ones(6))
    assert not torch.allclose(read.views[0], read.views[2])
    assert torch.allclose(read.probabilities, read.views.mean(0))


def test_views_and_windows_are_those_of_clips_cut_one_by_one(video: Path) -> None:
    """Decoding and resizing are shared; here each clip is made on its own, by the plain form."""
    model = tiny_model()
    recognizer = Recognizer(model, frames=4, views_temporal=2, views_spatial=3)
    parts = [Part(first, np.arange(first, stop) / 12, stop / 12) for first, stop in ((0, 20), (10, 33), (39, 40))]
    with Video(video) as opened, torch.inference_mode():
        read = recognizer.reader.read(opened, parts)
        found = recognizer.encode(read.pixels.flatten(0, 1))
        sizes = model.info.sizes
        plain = [
            pixels_of_frames(opened.frames(view), size=sizes.image_size, crops=3)
            for one in read.frame_indices
            for view in one
        ]
        clips = PixelStatistics(sizes.mean, sizes.std).normalize(torch.cat(plain))
        assert torch.equal(found.embedding, model.encode_video(clips).embedding)
    assert found.embedding.shape[0] == 3 * 2 * 3


def test_any_number_of_frames_works(video: Path) -> None:
    model = tiny_model()
    assert Recognizer(model).sampling.frames == 8
    for frames in (1, 4, 16):
        scores = by_label(Recognizer(model, frames=frames).classify(video, LABELS))
        assert sum(scores.values()) == pytest.approx(1)


def test_a_checkpoint_brings_all_it_needs(video: Path, tmp_path: Path) -> None:
    model = tiny_model(LABELS, frames=5, stride_frames=2, template="a clip of {}")
    path = model.save(tmp_path / "model.safetensors")
    from_path = Recognizer(path)
    assert from_path.sampling == ClipSampling(5, stride_frames=2)
    assert from_path.prepare().texts[0] == ("a clip of walking",)
    assert from_path.classify(video) == Recognizer(model).classify(video)
    assert Recognizer(str(path)).classify(video) == Recognizer(load(path)).classify(video)


def test_stride_is_the_models_and_the_frames_looked_at_are_told(video: Path) -> None:
    read = [Recognizer(tiny_model(stride_frames=stride)).score(video, LABELS) for stride in (0, 1, 4)]
    gaps = [np.diff(one.frame_indices[0]) for one in read]
    assert gaps[0].sum() > 30
    assert gaps[1].tolist() == [1] * 7
    assert gaps[2].tolist() == [4] * 7
    assert read[2].frame_seconds == pytest.approx(read[2].frame_indices / 12)  # 12 frames a second


def test_the_builtin_model_needs_no_file_and_no_network(video: Path) -> None:
    recognizer = Recognizer("builtin", device="cpu")
    assert recognizer.model.info.backbone == "builtin"
    assert not recognizer.model.info.trained
    assert recognizer.prepare(LABELS).reading == "similarity"
    assert len(recognizer.classify(video, LABELS)) == 3


def test_what_is_no_model() -> None:
    with pytest.raises(CheckpointError, match=r"nothing.safetensors is no file.*ViT-B-16"):
        Recognizer("nothing.safetensors")
    with pytest.raises(ConfigError, match="cannot be used here"):
        Recognizer(tiny_model(), device="abacus")


def test_a_timeline_scores_each_window() -> None:
    pixels = moving_square(frames=120)
    pixels[60:, ..., 2] = 200
    recognizer = Recognizer(tiny_model())
    # Arrays run at 25 frames a second. A window that shares no frame with others is classified as if it were a video.
    apart = recognizer.timeline(pixels, LABELS, window_seconds=1.0, step_seconds=1.0)
    assert [window.start_seconds for window in apart] == [0, 1, 2, 3, 4]
    assert apart[-1].end_seconds == pytest.approx(4.8)
    assert apart[3] == Window(3.0, 4.0, apart[3].predictions)
    alone = recognizer.classify(pixels[75:100], LABELS)
    assert by_label(list(apart[3].predictions)) == pytest.approx(by_label(alone), abs=1e-5)
    # One that does is the mean of its frames (for a fresh model: as images); test_timeline.py has the whole truth.
    shared = recognizer.timeline(pixels, LABELS, window_seconds=1.0, step_seconds=0.5)
    assert [window.start_seconds for window in shared] == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]
    moments = [math.floor(25 * (3 + (k + 0.5) / 8)) for k in range(8)]
    embeddings = recognizer.encode(pixels_of_frames(pixels[moments], size=32)[0][:, None]).embedding
    scores = (100 * F.normalize(embeddings.mean(0), dim=0) @ recognizer.prepare(LABELS).embeddings.T).softmax(-1)
    assert by_label(list(shared[6].predictions)) == pytest.approx(
        dict(zip(LABELS, scores.tolist(), strict=True)), abs=1e-5
    )
    for bad in (0, -1, float("nan"), float("inf"), "2", None):
        with pytest.raises(ConfigError, match="above 0"):
            recognizer.timeline(pixels, LABELS, window_seconds=bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="step_seconds is 1e-09: in 5 s that makes more than 1,000,000 windows"):
        recognizer.timeline(pixels, LABELS, step_seconds=1e-9)


@pytest.mark.parametrize("name", ["views_temporal", "views_spatial"])
@pytest.mark.parametrize("value", [0, -3, 2.5, "3", None])
def test_views_are_counted(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name} is {value!r}: it must be a whole number, 1 or more"):
        Recognizer(tiny_model(), **{name: value})


@pytest.mark.parametrize("top", [0, -1, 1.5, None])
def test_the_number_of_labels_is_counted(top: Any) -> None:
    with pytest.raises(ConfigError, match=f"top is {top}: it must be a whole number, 1 or more"):
        Recognizer(tiny_model()).classify(moving_square(), LABELS, top=top)


def test_a_bad_video_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    recognizer = Recognizer(tiny_model())
    for path in (tmp_path / "empty.mp4", tmp_path / "missing.mp4"):
        for call in (recognizer.embed, lambda video: recognizer.classify(video, LABELS)):
            with pytest.raises(VideoError, match=path.name):
                call(path)


def test_the_strength_goes_from_the_frozen_clip_to_the_model(video: Path) -> None:
    model = trained_model(LABELS)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter += 0.05
    frozen = tiny_model(LABELS, method="frozen")
    full = by_label(Recognizer(model).classify(video, ["walking", "running"]))
    recognizer = Recognizer(model, strength=0)
    assert np.array_equal(recognizer.embed(video), Recognizer(frozen).embed(video))
    clip = by_label(Recognizer(frozen).classify(video, ["walking", "running"]))
    assert by_label(recognizer.classify(video, ["walking", "running"])) == clip != full
    model.set_strength(1)  # the texts that were kept belong to another strength
    assert by_label(recognizer.classify(video, ["walking", "running"])) == full
    with pytest.raises(ConfigError, match="must be between 0"):
        Recognizer(model, strength=2)


def test_bfloat16_works_on_a_copy_of_a_given_model_and_on_a_loaded_one_itself(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(LABELS)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exact = Recognizer(model)
    rounded = Recognizer(model, precision="bf16", strength=0.5)
    assert rounded.model is not model
    assert (model.rounded, rounded.model.rounded, model.strength) == ("nothing", "all", 1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert exact.model is model
    rounded.model.set_strength(1.0)
    scores = by_label(rounded.classify(video))
    assert scores != by_label(exact.classify(video))
    assert float(np.dot(rounded.embed(video), exact.embed(video))) > 0.999

    path = model.save(tmp_path / "model.safetensors")
    monkeypatch.setattr("copy.deepcopy", None)  # no second model in memory
    assert by_label(Recognizer(path, precision="bf16").classify(video)) == scores
    assert Recognizer(rounded.model, precision="bf16").model is rounded.model
    monkeypatch.setattr("m2clip.model.precision.native_bf16", lambda device: False)
    assert Recognizer(path, precision="auto").model.rounded == "nothing"
    monkeypatch.setattr("m2clip.model.precision.native_bf16", lambda device: True)
    assert Recognizer(path, precision="auto").model.rounded == "all"
    with pytest.raises(ConfigError, match="'fp16' does not exist: choose auto, bf16, fp32"):
        Recognizer(path, precision="fp16")  # type: ignore[arg-type]


@pytest.mark.case("T4")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_black_video_has_finite_scores(precision: Precision) -> None:
    recognizer = Recognizer(trained_model(LABELS), precision=precision)
    black = np.zeros((8, 32, 32, 3), np.uint8)
    scores = recognizer.score(black).probabilities
    assert scores.isfinite().all()
    assert scores.sum() == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(recognizer.embed(black)) == pytest.approx(1, abs=1e-5)


def test_a_backbone_by_name_is_the_same_model_each_time() -> None:
    """Fresh adapters are random; what is kept on disk is found by the model's tensors."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = find_model("builtin")
    assert torch.equal(torch.get_rng_state(), before)  # the caller's random numbers are left alone
    torch.manual_seed(2)
    second = find_model("builtin")
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


def test_a_text_is_embedded_as_it_is_written() -> None:
    model = tiny_model(template="a clip of {}")
    embedding = Recognizer(model).embed_text("a person's wave")
    assert (embedding.shape, embedding.dtype) == ((24,), np.float32)
    np.testing.assert_array_equal(embedding, class_embeddings(model, [["a person's wave"]])[0].numpy())
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)
    for nothing in ("", " ", None):
        with pytest.raises(ConfigError, match="holds no word: write what the video shows"):
            Recognizer(model).embed_text(nothing)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no characters in this encoding: give it as UTF-8"):
        Recognizer(model).embed_text("a caf\udce9")
