"""Each switch of an ablation changes what it says it changes, and nothing else."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from m2clip.config import METHOD_TERMS, RunConfig
from m2clip.data.dataset import Batch
from m2clip.data.manifest import ClassTable, read_manifest
from m2clip.model.towers import PreparedTexts
from m2clip.model.video_clip import VideoCLIP
from m2clip.train import train
from m2clip.train.log import read_log
from m2clip.train.objective import Objective
from m2clip.train.preparation import build_model, start_fabric
from tests.small_inputs import TINY, class_folders, tiny_model

NAMES = ("red star growing", "blue square bouncing")
BACKBONE = TINY.model_copy(update={"vision_layers": 3, "text_layers": 3})
TERMS = METHOD_TERMS["m2clip"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("videos"), NAMES, each=2)


def settings(out: Path, videos: Path, **changes: Any) -> RunConfig:
    """One epoch of two steps; `changes` by dotted name."""
    values: dict[str, dict[str, Any]] = {
        "data": {"train": str(videos), "frames": 4, "workers": 0, "flip": False},
        "model": {"backbone": BACKBONE},
        "loss": {},
        "train": {"epochs": 1, "warmup_epochs": 0, "batch_size": 2, "lr": 0.01, "precision": "fp32"},
    }
    for key, value in changes.items():
        section, name = key.split(".")
        values[section][name] = value
    return RunConfig.model_validate({"out": str(out), **values})


def trained_shapes(videos: Path, **changes: Any) -> dict[str, torch.Size]:
    """The trained tensors of the model that a run with these settings begins with."""
    config = settings(Path("unused"), videos, **changes)
    model = build_model(config, read_manifest(videos, classes=ClassTable(NAMES)))
    return {name: parameter.shape for name, parameter in model.trained_parameters().items()}


@pytest.mark.parametrize(
    ("changes", "gone", "resized"),
    [
        ({"model.ted": "off"}, r"^vision_adapters\.", ""),
        ({"model.ted": "off", "model.output_temporal": True}, r"^vision_adapters\.pre_", ""),
        ({"model.ted": "enhancement"}, r"\.difference\.", ""),
        ({"model.ted": "difference"}, r"^vision_adapters\.pre_mlp.*\.enhancement\.", ""),
        ({"model.ted_layers": (2,)}, r"^vision_adapters\.pre_mlp\.[01]\.", ""),
        ({"model.ted_layers": (0, 1)}, r"^vision_adapters\.pre_mlp\.2\.", ""),
        ({"model.ted_width": 5}, "", r"^vision_adapters\.pre_mlp.*(down|convolution|up\.weight)"),
        ({"model.output_temporal": False}, r"^vision_adapters\.output_temporal\.", ""),
        ({"model.text_adapter_layers": 0}, r"^text_adapters\.", ""),
        ({"model.text_adapter_width": 5}, "", r"^(text_adapters|masked_words\.adapter).*(down|up\.weight)"),
        ({"loss.visual": 0}, r"^visual_head\.", ""),
        ({"loss.mlm": 0}, r"^masked_words\.", ""),
        ({"loss.mlm_policy": "off"}, r"^masked_words\.", ""),
        ({"loss.contrastive": 0}, "", ""),
        ({"loss.cross_modal": 0}, "", ""),
        ({"loss.mlm_rate": 0.9}, "", ""),
        ({"loss.double_softmax": True}, "", ""),
        ({"data.frames": 2}, "", ""),
    ],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_what_a_switch_takes_away(videos: Path, changes: dict[str, Any], gone: str, resized: str) -> None:
    default, ablated = trained_shapes(videos), trained_shapes(videos, **changes)
    expected = {name for name in default if not (gone and re.search(gone, name))}
    assert set(ablated) == expected
    assert not gone or len(expected) < len(default)
    other_shapes = {name for name in expected if ablated[name] != default[name]}
    assert other_shapes == {name for name in expected if resized and re.search(resized, name)}
    assert bool(other_shapes) == bool(resized)


@pytest.mark.parametrize(("layers", "blocks"), [(0, set()), (1, {"2"}), (2, {"1", "2"}), (3, {"0", "1", "2"})])
def test_text_adapters_sit_in_the_last_blocks(videos: Path, layers: int, blocks: set[str]) -> None:
    names = trained_shapes(videos, **{"model.text_adapter_layers": layers})
    assert {name.split(".")[2] for name in names if name.startswith("text_adapters.")} == blocks


@pytest.mark.parametrize("positions", [("pre_mlp",), ("pre_attention",), ("pre_mlp", "pre_attention")])
def test_ted_adapters_sit_where_they_are_asked_for(videos: Path, positions: tuple[str, ...]) -> None:
    names = trained_shapes(videos, **{"model.ted_positions": positions})
    sites = {tuple(name.split(".")[1:3]) for name in names if name.startswith("vision_adapters.pre_")}
    assert sites == {(position, str(block)) for position in positions for block in range(3)}


def seen_frames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The frame counts of the clips that models will be given from now on."""
    seen: list[int] = []
    encode = VideoCLIP.encode_video

    def watched(self: VideoCLIP, clips: Tensor, **options: Any) -> Any:
        seen.append(clips.shape[1])
        return encode(self, clips, **options)

    monkeypatch.setattr(VideoCLIP, "encode_video", watched)
    return seen


@pytest.mark.parametrize("off", [(term,) for term in TERMS] + [("contrastive", "cross_modal"), ("visual", "mlm")])
def test_a_weight_of_0_takes_the_term_out_of_the_log_and_the_total(
    tmp_path: Path, videos: Path, off: tuple[str, ...]
) -> None:
    config = settings(tmp_path / "run", videos, **{f"loss.{term}": 0 for term in off})
    lines = [line for line in read_log(train(config, progress=False).parent) if line["kind"] == "step"]
    assert len(lines) == 2
    for line in lines:
        assert line.keys() & set(TERMS) == set(TERMS) - set(off)
        weighted = sum(config.loss_weights[term] * line[term] for term in TERMS if term in line)
        assert line["total"] == pytest.approx(weighted, rel=1e-5)


@pytest.mark.parametrize("frames", [1, 3])
def test_frames_of_a_clip(tmp_path: Path, videos: Path, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = seen_frames(monkeypatch)
    changes = {"data.frames": frames, "data.val": str(videos)}
    train(settings(tmp_path / "run", videos, **changes), progress=False)
    assert set(seen) == {frames}  # in training and in validation


class Asked(torch.nn.Module):
    """Stands for the model in a step: keeps what it is asked, and answers with features given beforehand."""

    def __init__(self, video: Tensor, text: Tensor, words: int) -> None:
        super().__init__()
        self.video, self.text, self.words = video, text, words
        self.masked: Tensor | None = None

    def forward(
        self, clips: Tensor, class_texts: PreparedTexts | None, masked_tokens: Tensor | None, kept: Tensor | None
    ) -> Any:
        self.masked = masked_tokens
        logits = None if masked_tokens is None else torch.zeros(*masked_tokens.shape, self.words)
        return self.video, None, self.text, logits


def ask(loss: dict[str, Any], *, seed: int = 0) -> tuple[Asked, dict[str, Tensor]]:
    """The loss terms of two videos, whose embeddings are those of their class texts."""
    model = tiny_model(NAMES)
    config = RunConfig.model_validate({"out": "unused", "loss": {"visual": 0, **loss}, "train": {"seed": seed}})
    asked = Asked(torch.eye(2), torch.eye(2), len(model.info.words))
    objective = Objective(model, config=config, largest=2, device=torch.device("cpu"))
    batch = Batch(torch.zeros(2, 1, 1, 3, 32, 32), torch.tensor([0, 1]), torch.tensor([0, 1]))
    return asked, objective(start_fabric("fp32"), asked, batch, epoch=0).terms()


def test_double_softmax_by_hand() -> None:
    """Cosines (1, 0): cross-entropy of (100, 0) is 0; after a softmax it is that of (1, 0): log(1 + 1/e)."""
    assert ask({})[1]["cross_modal"] == pytest.approx(0, abs=1e-6)
    assert ask({"double_softmax": True})[1]["cross_modal"] == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-5)


def masked_words(loss: dict[str, Any], *, seed: int) -> list[set[str]]:
    """Which words of the two class texts are hidden in a step."""
    asked, _ = ask(loss, seed=seed)
    assert asked.masked is not None
    plain = Objective(
        tiny_model(NAMES), config=RunConfig(out="unused"), largest=2, device=torch.device("cpu")
    )._class_tokens
    assert plain is not None
    words = [f"a video of {name}".split() for name in NAMES]  # a token each
    return [
        {word for word, before, now in zip(of_class, row[1:], masked[1:], strict=False) if before != now}
        for of_class, row, masked in zip(words, plain, asked.masked, strict=True)
    ]


def test_the_policy_chooses_the_words() -> None:
    verbs = [masked_words({"mlm_policy": "verbs", "mlm_rate": 0.01}, seed=seed) for seed in range(8)]
    assert all(found == [{"growing"}, {"bouncing"}] for found in verbs)
    drawn = [masked_words({"mlm_policy": "random", "mlm_rate": 0.01}, seed=seed) for seed in range(8)]
    assert all(len(words) == 1 for found in drawn for words in found)
    assert len({frozenset(found[0]) for found in drawn}) > 2  # any word, the template's too
    assert ask({"mlm_policy": "off"})[0].masked is None


def test_the_rate_is_the_share_of_words() -> None:
    every = masked_words({"mlm_policy": "random", "mlm_rate": 1.0}, seed=0)
    assert every == [{"a", "video", "of", *name.split()} for name in NAMES]
    counts = [
        len(words) for seed in range(20) for words in masked_words({"mlm_policy": "random", "mlm_rate": 0.5}, seed=seed)
    ]
    assert 2.2 < sum(counts) / len(counts) < 3.8  # half of six
