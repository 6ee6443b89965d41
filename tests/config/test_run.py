"""Settings: defaults, overrides, and every mistake as one sentence that names file, line, key, value and remedy."""

import subprocess
import sys
from pathlib import Path

import pytest

from m2clip.config import BACKBONES, BackboneConfig, ModelConfig, RunConfig, TrainConfig, checked, load_config
from m2clip.errors import ConfigError, M2CLIPError

GOOD = """\
# a run
out: runs/first
data:
  train: videos/train
  frames: 4
model:
  ted: off
loss:
  mlm_policy: off
train:
  epochs: 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(GOOD)
    return path


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_values_come_from_the_file_and_then_the_overrides(file: Path) -> None:
    config = load_config(file, ["train.lr=1e-3", "model.ted_layers=[0, 2]", "data.root=2024", "train.epochs=5"])
    assert (config.out, config.data.frames, config.train.epochs) == ("runs/first", 4, 5)
    assert config.train.lr == 1e-3  # YAML 1.1 reads 1e-3 as text
    assert config.model.ted_layers == (0, 2)
    assert config.data.root == "2024"
    assert config.train.warmup_epochs == 2


def test_a_bare_off_is_the_word_not_false(file: Path) -> None:
    config = load_config(file)
    assert config.model.ted == "off"
    assert config.loss.mlm_policy == "off"
    assert config.loss.mlm_weight == 0


def test_an_empty_section_is_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("out: x\ndata:\ntrain:\n")
    assert load_config(path, ["train.epochs=4"]) == RunConfig(out="x", train=TrainConfig(epochs=4))


def test_a_byte_order_mark_is_no_part_of_the_first_key(file: Path) -> None:
    plain = load_config(file)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert load_config(file) == plain


def test_a_file_may_hold_neither_aliases_nor_zero_bytes(file: Path) -> None:
    file.write_text("out: x\ndata: &d\n  train: *d\n")
    assert refusal(file) == f"{file}:3: not valid YAML (the alias *d: write the value itself); mend that line"
    file.write_text('out: x\ndata: {train: "a\\0b.csv"}\n')
    assert "train holds a zero byte" in refusal(file)


def test_a_long_override_is_told_in_short(file: Path) -> None:
    message = refusal(file, "train.epochs=" + "9" * 5000)
    assert "a number of 5000 digits" in message
    assert len(message) < 400


def test_settings_survive_json(file: Path) -> None:
    config = load_config(file, ["model.ted_positions=[pre_attention, pre_mlp]"])
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epoch=3", ["no setting train.epoch;", "did you mean train.epochs?"]),
        ("epochs=3", ["no setting epochs;", "did you mean train.epochs?"]),
        ("zzz=3", ["no setting zzz;", "has out, data, model"]),
        ("train={1: 2}", ["'1' where the name of a setting belongs"]),
        ("out=*a", ["alias *a"]),
        ("data.frames=1000000000", ["data.frames is 1000000000", "at most 1024"]),
        ("data.fps=0", ["data.fps is 0", "frames that a clip takes of each second"]),
        ("data.fps=.nan", ["data.fps is", "finite"]),
        ("data.clip_seconds=-3", ["data.clip_seconds is -3"]),
        ("data.workers=100000", ["at most 256"]),
        ("train.batch_size=1000000000000", ["at most 1048576"]),
        ("eval.views_spatial=100000000", ["at most 99"]),
        ("model.image_size=1000000000", ["at most 2048"]),
        ("model.ted_width=1000000000", ["at most 65536"]),
        ("train.epochs=0", ["train.epochs is 0", "greater than 0", "passes over the training videos"]),
        ("train.epochs=yes", ["train.epochs is 'true'", "whole number"]),
        ("train.batch_size=10.5", ["train.batch_size is 10.5", "whole number"]),
        ("train.lr=nan", ["train.lr is 'nan'", "finite"]),
        ("train.precision=fp16", ["'fp16'", "'auto', 'bf16' or 'fp32'"]),
        ("data.flip=maybe", ["'maybe'", "true or false"]),
        ("model.backbone=ViT-B16", ["'ViT-B16'", "ViT-L-14-336", "did you mean ViT-B-16?"]),
        ("model.backbone={image_size: 32}", ["model.backbone.patch_size is missing", "add it"]),
        ("model.ted_positions=[pre_mlp, middle]", ["ted_positions[1] is 'middle'", "'pre_attention'"]),
        ("model.template=no gap", ["'no gap'", "{} exactly once"]),
        ("model.ted.width=3", ["model.ted is False", "no keys of its own"]),
        ("train.epochs", ["write it as key=value"]),
        ("model.template={} x", ["put quotes around"]),
        ("train=3", ["train is 3", "mapping of keys"]),
        # settings that do not fit together
        ("train.warmup_epochs=3", ["warmup_epochs (3) must be smaller than epochs (3)"]),
        ("train.accumulate=5", ["batch_size 32 must be a multiple of accumulate 5"]),
        ("model.image_size=60", ["image_size 60 must be a multiple", "patch size 8"]),
        ("model.text_adapter_layers=9", ["text_adapter_layers is 9", "4 blocks"]),
    ],
)
def test_a_bad_override_is_one_sentence(file: Path, override: str, words: list[str]) -> None:
    message = refusal(file, override)
    assert message.startswith(f"override {override!r}")
    for word in words:
        assert word in message


def test_settings_that_need_each_other(file: Path) -> None:
    assert "block 4" in refusal(file, "model.ted=both", "model.ted_layers=[4]")
    assert "ted_positions is empty" in refusal(file, "model.ted=both", "model.ted_positions=[]")
    assert "nothing would be learned" in refusal(
        file, "loss.contrastive=0", "loss.cross_modal=0", "loss.visual=0", "loss.mlm=1"
    )
    assert "no visual head" in refusal(file, "loss.visual=0", "train.best_by=ensemble")
    ways = ("data.stride_frames=4", "data.fps=2.5", "data.clip_seconds=3")
    for one, other in ((0, 1), (0, 2), (1, 2)):
        names = " and ".join(ways[n].replace("data.", "").replace("=", " is ") for n in (one, other))
        said = refusal(file, ways[one], ways[other])
        assert f"{names}, but only one of stride_frames, fps and clip_seconds may be set; leave out the rest" in said
    assert load_config(file, ["data.stride_frames=0", "data.fps=2.5"]).data.sampling["fps"] == 2.5
    for setting in ("cache_gib=3", "shrink_cache_to=256"):
        assert f"{setting.split('=')[0]} is set, but there is no cache" in refusal(file, f"data.{setting}")
    assert "train is no set of shards at a web address" in refusal(file, "data.mixed_shards=2")
    load_config(file, ["data.mixed_shards=2", "data.train=https://host.example/shards.parquet"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("out: x\ntrain:\n  epochz: 1\n", [":3: ", "train.epochz", "train.epochs"]),
        ("out: x\ntrain:\n  epochs: -1\n  seed: -1\n", [":3: ", "train.epochs is -1", "(1 more like this)"]),
        ("out: x\nout: y\n", [":2: ", "out is set twice (first in line 1)"]),
        ("out: [\n", [":2: ", "not valid YAML"]),
        ("- 1\n", ["mapping of keys"]),
        ("", ["out is missing", "out=VALUE"]),
    ],
)
def test_a_bad_file_names_its_line(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    message = refusal(path)
    for word in [str(path), *words]:
        assert word in message


def test_an_absent_or_binary_file_is_one_sentence(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in refusal(tmp_path / "x.yaml")


def test_checked_serves_keyword_builders() -> None:
    assert checked(ModelConfig, {"ted": "difference"}, where="create").ted == "difference"
    with pytest.raises(M2CLIPError, match=r"^create: there is no setting ted_widht; did you mean ted_width\?$"):
        checked(ModelConfig, {"ted_widht": 3}, where="create")


def test_named_backbones_have_openai_sizes() -> None:
    large = BACKBONES["ViT-L-14-336"]
    assert (large.image_size, large.vision_heads, large.embed_dim, large.text_heads) == (336, 16, 768, 12)
    assert BACKBONES["ViT-B-32"].patch_size == 32
    assert BACKBONES["builtin"].embed_dim == BACKBONES["builtin"].text_width
    assert ModelConfig(backbone="ViT-B-16", image_size=336).sizes.image_size == 336
    sizes = BACKBONES["builtin"].model_dump()
    assert ModelConfig(backbone=BackboneConfig(**sizes)).sizes == BACKBONES["builtin"]


def test_peak_learning_rate_follows_the_global_batch() -> None:
    assert TrainConfig(batch_size=64).peak_lr == 1e-3 / 4
    assert TrainConfig(batch_size=64, lr=0.5).peak_lr == 0.5


def test_reading_settings_costs_no_torch() -> None:
    code = "import sys, m2clip.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_setting_says_what_it_is() -> None:
    for section in RunConfig.model_fields.values():
        kind = section.annotation
        for name, field in getattr(kind, "model_fields", {}).items():
            assert field.description, f"{kind}.{name}"


CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_load_and_start_with_command_hardware_result(path: Path) -> None:
    load_config(path)
    head = path.read_text().split("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in head[:3])
    comment = "\n".join(line for line in head if line.startswith("#"))
    assert f"m2clip train configs/{path.name}" in comment
    for word in ("Hardware:", "Result:"):
        assert word in comment


@pytest.mark.parametrize(
    ("method", "setting"),
    [
        ("linear-probe", "loss.double_softmax=true"),
        ("aim", "loss.mlm_policy=random"),
        ("full", "loss.mlm_rate=0.5"),
        ("text-prompts", "train.text_lr_scale=1.0"),
        ("linear-probe", "train.class_text=mean"),
        ("st-adapter", "loss.mlm=0.3"),
        ("linear-probe", "loss.contrastive=0.3"),
        ("full", "loss.visual=1.0"),
    ],
)
def test_a_setting_that_the_method_would_ignore_is_refused(file: Path, method: str, setting: str) -> None:
    file.write_text("out: runs/first\ndata:\n  train: videos/train\n")
    key = setting.split("=")[0]
    assert f"{key} " in refusal(file, f"model.method={method}", setting)
    assert load_config(file, [f"model.method={method}"]).model.method == method
    load_config(file, [f"model.method={method}", "loss.mlm_policy=off"])  # nothing is masked: true of every rival


def test_the_mean_of_texts_needs_a_term_that_reads_texts(file: Path) -> None:
    without = ["train.class_text=mean", "loss.contrastive=0", "loss.cross_modal=0"]
    assert "no loss term reads class texts" in refusal(file, *without)
    for weights in (["loss.contrastive=0"], ["loss.cross_modal=0"], []):
        assert load_config(file, ["train.class_text=mean", *weights]).train.class_text == "mean"


def test_a_file_that_never_ends_and_one_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="/dev/zero: a configuration has at most 256 KiB; keep lists in files"):
        load_config("/dev/zero")
    (tmp_path / "long.yaml").write_text("out: x\n" + "# y\n" * 70_000)
    with pytest.raises(ConfigError, match=r"long\.yaml: a configuration has at most 256 KiB"):
        load_config(tmp_path / "long.yaml")


def test_text_that_no_file_can_be_named_by(tmp_path: Path) -> None:
    (tmp_path / "half.yaml").write_text('out: "\\ud800"\n')
    with pytest.raises(ConfigError, match="out holds half of a character, which is no text; mend its escapes"):
        load_config(tmp_path / "half.yaml")
