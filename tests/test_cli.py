"""The command line: results on stdout, one sentence on stderr for bad input, exit codes 0, 1, 2 and 130."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import m2clip
from m2clip import Recognizer, load
from m2clip.cli import main
from m2clip.cli.options import split_labels
from m2clip.config import BackboneConfig
from tests.small_inputs import TINY, class_folders, moving_square, tiny_model, write_sound, write_video

NAMES = ("bouncing", "moving", "spinning")


class Ran(NamedTuple):
    """What a run of the program left."""

    code: int
    out: str
    err: str


@pytest.fixture
def m2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs the program in this process."""

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["m2clip", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        return Ran(int(ended.value.code or 0), output.out, output.err)

    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a checkpoint, and broken files of every kind."""
    root = tmp_path_factory.mktemp("cli")
    class_folders(root / "data", NAMES)
    good = write_video(root / "good.mp4", moving_square(frames=24))
    write_sound(root / "sound.mp4")
    (root / "empty.mp4").touch()
    (root / "cut.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 3])
    (root / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(9000))
    (root / "text.mp4").write_text("not a video")
    write_video(root / "no_frames.avi", moving_square(frames=0).reshape(0, 48, 48, 3))
    model = tiny_model(NAMES)
    model.info = model.info.model_copy(update={"training": {"epochs": 1, "seed": 3}})
    model.save(root / "model.safetensors")
    save_file({"a": torch.zeros(2)}, root / "other.safetensors")
    return root


def one_sentence(ran: Ran) -> str:
    """The only line of stderr, without the name of the program; nothing may look like a traceback."""
    assert "Traceback" not in ran.err
    lines = [line for line in ran.err.splitlines() if "builtin model knows" not in line]
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("m2clip: ")
    return lines[0]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['m2clip', '--help']\nfrom m2clip.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print(*[name for name in ('torch', 'lightning', 'matplotlib', 'numpy', 'av', 'pydantic') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == ""
    for command in ("demo", "train", "evaluate", "classify", "embed", "timeline", "data", "convert", "info"):
        assert f"  {command} " in run.stdout


def test_version(m2: Callable[..., Ran]) -> None:
    assert m2("--version") == Ran(0, m2clip.__version__ + "\n", "")


def test_python_minus_m() -> None:
    run = subprocess.run([sys.executable, "-m", "m2clip", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == m2clip.__version__ + "\n"


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "classify", "embed", "timeline", "convert", "info", "data list"]
)
def test_every_computing_command_has_json(m2: Callable[..., Ran], command: str) -> None:
    ran = m2(*command.split(), "--help")
    assert ran.code == 0
    assert "--json" in ran.out


def test_classify_prints_labels_with_scores(m2: Callable[..., Ran], place: Path) -> None:
    ran = m2("classify", place / "good.mp4", "--checkpoint", place / "model.safetensors", "--top", 2)
    lines = ran.out.splitlines()
    assert (ran.code, ran.err) == (0, "")
    assert lines[0] == str(place / "good.mp4")
    expected = Recognizer(place / "model.safetensors").classify(place / "good.mp4", top=2)
    assert lines[1:] == [f"  {one.score:.4f}  {one.label}" for one in expected]


def test_classify_as_json_is_one_document(m2: Callable[..., Ran], place: Path) -> None:
    ran = m2(
        "classify", place / "good.mp4", "--labels", 'walking, "run, or jog"', "--checkpoint", place / "model.safetensors",
        "--views", "2x1", "--frames", 4, "--json",
    )  # fmt: skip
    document = json.loads(ran.out)
    assert ran.code == 0
    assert document["texts"] == {"walking": ["A video of walking"], "run, or jog": ["A video of run, or jog"]}
    assert document["reading"] == "similarity"
    assert (document["frames"], document["trained_frames"]) == (4, 8)
    assert "4 frames a clip are used, the model was trained with 8" in ran.err
    (video,) = document["videos"]
    assert sum(found["score"] for found in video["predictions"]) == pytest.approx(1)
    assert np.shape(video["frame_indices"]) == np.shape(video["frame_seconds"]) == (2, 4)
    for found in video["predictions"]:
        assert np.mean(found["views"]) == pytest.approx(found["score"])


def test_one_bad_video_does_not_stop_the_others(m2: Callable[..., Ran], place: Path) -> None:
    videos = [place / "good.mp4", place / "empty.mp4", place / "data" / "moving" / "0.mp4"]
    ran = m2("classify", *videos, "--checkpoint", place / "model.safetensors", "--json")
    assert ran.code == 1
    assert "empty.mp4" in one_sentence(ran)
    found = json.loads(ran.out)["videos"]
    assert [video["video"] for video in found] == list(map(str, videos))
    assert ["error" in video for video in found] == [False, True, False]
    ran = m2("classify", *videos, "--checkpoint", place / "model.safetensors")
    assert ran.code == 1
    assert [line for line in ran.out.splitlines() if not line.startswith(" ")] == [str(videos[0]), str(videos[2])]


@pytest.mark.parametrize(
    "name", ["missing.mp4", "empty.mp4", "cut.mp4", "noise.mp4", "text.mp4", "sound.mp4", "no_frames.avi", "data"]
)
@pytest.mark.parametrize(
    "command", [("classify", "--labels", "a,b"), ("embed", "--json"), ("timeline", "--labels", "a,b")]
)
def test_a_bad_video_ends_in_one_sentence(
    m2: Callable[..., Ran], place: Path, name: str, command: tuple[str, ...]
) -> None:
    ran = m2(command[0], place / name, *command[1:], "--checkpoint", place / "model.safetensors")
    assert ran.code == 1
    assert name in one_sentence(ran)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b", ["a", "b"]),
        (' a ,"b, c" ', ["a", "b, c"]),
        ("one", ["one"]),
        ('"say ""hi""",b', ['say "hi"', "b"]),
        (None, None),
    ],
)
def test_labels_are_split_like_a_line_of_csv(text: str | None, names: list[str] | None) -> None:
    assert split_labels(text) == names


def test_labels_from_a_file_with_further_texts(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("id,name,text_1\n1,walking,\n0,running,someone runs\n")
    ran = m2(
        "classify", place / "good.mp4", "--labels-file", tmp_path / "classes.csv", "--json",
        "--checkpoint", place / "model.safetensors",
    )  # fmt: skip
    assert json.loads(ran.out)["texts"] == {
        "running": ["A video of running", "someone runs"],
        "walking": ["A video of walking"],
    }


WRONG_USAGE: list[tuple[str, ...]] = [
    ("classify",),
    ("classify", "a.mp4", "--labels", "a,,b"),
    ("classify", "a.mp4", "--labels", ""),
    ("classify", "a.mp4", "--labels", '"a'),
    ("classify", "a.mp4", "--views", "4"),
    ("classify", "a.mp4", "--views", "0x3"),
    ("classify", "a.mp4", "--top", "0"),
    ("classify", "a.mp4", "--no-such-option"),
    ("embed", "a.mp4"),
    ("evaluate", "model.safetensors"),
    ("evaluate", "model.safetensors", "--data", "x", "--protocol", "few-shot"),
    ("evaluate", "model.safetensors", "--data", "x", "--on-bad-file", "replace"),
    ("no-such-command",),
    ("data", "no-such-command"),
]


@pytest.mark.parametrize("arguments", WRONG_USAGE, ids=" ".join)
def test_wrong_usage_is_exit_code_2(m2: Callable[..., Ran], arguments: tuple[str, ...]) -> None:
    ran = m2(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert "Traceback" not in ran.err


def test_labels_come_from_one_place(m2: Callable[..., Ran], place: Path) -> None:
    model = place / "model.safetensors"
    assert m2("classify", "a.mp4", "--labels", "a", "--labels-file", "x", "--checkpoint", model).code == 2
    ran = m2("classify", "a.mp4", "--labels", "a,a", "--checkpoint", model)
    assert ran.code == 1
    assert "'a' is given twice" in one_sentence(ran)


def test_bad_checkpoints_and_devices(m2: Callable[..., Ran], place: Path) -> None:
    cases = {
        ("classify", "a.mp4", "--checkpoint", place / "other.safetensors"): "no m2clip checkpoint",
        ("classify", "a.mp4", "--checkpoint", "gone.safetensors"): "gone.safetensors is no file",
        ("classify", "a.mp4", "--checkpoint", place / "empty.mp4"): "empty.mp4",
        ("info", place / "other.safetensors"): "no m2clip checkpoint",
        ("info", place / "noise.mp4"): "noise.mp4",
        ("info", place / "gone.safetensors"): "gone.safetensors",
        ("classify", "a.mp4", "--checkpoint", place / "model.safetensors", "--device", "abacus"): "abacus",
    }
    for arguments, expected in cases.items():
        ran = m2(*arguments)
        assert ran.code == 1
        assert expected in one_sentence(ran)


def test_a_checkpoint_with_other_tensors_than_its_header_says(
    m2: Callable[..., Ran], place: Path, tmp_path: Path
) -> None:
    from safetensors import safe_open

    with safe_open(place / "model.safetensors", framework="pt") as file:
        header = file.metadata()
    tensors = load_file(place / "model.safetensors")
    renamed = {("x" + key if key == "visual_head.linear.bias" else key): value for key, value in tensors.items()}
    save_file(renamed, tmp_path / "renamed.safetensors", metadata=header)
    ran = m2("classify", place / "good.mp4", "--checkpoint", tmp_path / "renamed.safetensors")
    assert ran.code == 1
    assert "xvisual_head.linear.bias" in one_sentence(ran)


def test_evaluate_writes_a_report(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", place / "model.safetensors", "--data", place / "data", "--out", tmp_path / "out")
    ran = m2(*arguments)
    assert ran.code == 0
    assert "supervised, 3 classes, 8 frames, 1x1 views: 6 of 6 videos scored, 0 missing, 0 bad" in ran.out
    assert {"similarity", "visual", "ensemble"} <= set(ran.out.split())
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    again = m2(*arguments, "--json")
    printed = json.loads(again.out)
    assert printed["metrics"] == written["metrics"]
    assert printed["protocol"] == written["protocol"]


def test_evaluate_zero_shot_with_any_classes(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    model = place / "model.safetensors"
    class_folders(tmp_path / "data", ["walking", "running"], each=1)
    refused = m2("evaluate", model, "--data", tmp_path / "data")
    assert refused.code == 1
    assert "zero-shot" in one_sentence(refused)
    (tmp_path / "classes.txt").write_text("walking\nrunning\n")
    refused = m2("evaluate", model, "--data", tmp_path / "data", "--classes", tmp_path / "classes.txt")
    assert refused.code == 1
    assert "needs the checkpoint's 3 classes" in one_sentence(refused)
    ran = m2("evaluate", model, "--data", tmp_path / "data", "--protocol", "zero-shot", "--json")
    assert ran.code == 0
    assert list(json.loads(ran.out)["metrics"]) == ["similarity"]


def test_evaluate_orders_class_tables_by_id(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("".join(f"{name}/0.mp4 {k}\n" for k, name in enumerate(NAMES)))
    shuffled = "id,name\n2,spinning\n0,bouncing\n1,moving\n"
    (tmp_path / "shuffled.csv").write_text(shuffled)
    (tmp_path / "sorted.csv").write_text("id,name\n0,bouncing\n1,moving\n2,spinning\n")
    reports = [
        m2(
            "evaluate", place / "model.safetensors", "--data", tmp_path / "list.txt", "--root", place / "data",
            "--classes", tmp_path / name, "--json",
        )
        for name in ("shuffled.csv", "sorted.csv")
    ]  # fmt: skip
    first, second = (json.loads(ran.out)["metrics"] for ran in reports)
    assert first == second


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "data/moving/0.mp4 moving\ndata/moving/1.mp4 movin\n",
            "list.txt:2: unknown class 'movin': did you mean 'moving'?",
        ),
        ("data/moving/0.mp4 0\ndata/moving/1.mp4 7\n", "list.txt:2: label 7 is out of range 0..2"),
        ("data/moving/0.mp4 1\ndata/moving/1.mp4 3\n", "do labels start at 1?"),
    ],
)
def test_bad_labels_are_refused_with_file_and_line(
    m2: Callable[..., Ran], place: Path, tmp_path: Path, lines: str, expected: str
) -> None:
    (tmp_path / "list.txt").write_text(lines)
    ran = m2("evaluate", place / "model.safetensors", "--data", tmp_path / "list.txt", "--root", place)
    assert ran.code == 1
    assert expected in one_sentence(ran)


def test_duplicate_ids_are_refused(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("id,name\n0,bouncing\n0,moving\n")
    ran = m2("data", "list", place / "data", "--classes", tmp_path / "classes.csv")
    assert ran.code == 1
    assert "classes.csv:3: id 0 stands already in line 2" in one_sentence(ran)


def test_evaluate_with_bad_files(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("good.mp4 0\nempty.mp4 1\ngone.mp4 2\n")
    arguments = ("evaluate", place / "model.safetensors", "--data", tmp_path / "list.txt", "--root", place)
    ran = m2(*arguments)
    assert ran.code == 0
    assert len(ran.err.splitlines()) == 2
    assert "1 of 3 videos scored, 1 missing, 1 bad" in ran.out
    ran = m2(*arguments, "--on-bad-file", "stop", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "empty.mp4" in one_sentence(ran)
    assert not any((tmp_path / "out").iterdir())


def test_missing_data_and_unwritable_results(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    ran = m2("evaluate", place / "model.safetensors", "--data", tmp_path / "gone")
    assert ran.code == 1
    assert "gone" in one_sentence(ran)
    (tmp_path / "file").touch()
    ran = m2(
        "embed", place / "good.mp4", "--checkpoint", place / "model.safetensors", "--out", tmp_path / "file" / "x.npz"
    )
    assert ran.code == 1
    assert "give a folder that can be made or written to" in one_sentence(ran)
    # Refused before the first video is looked at: finished work is never lost to a wrong folder.
    data = ("--data", place / "data", "--out", tmp_path / "file")
    ran = m2("evaluate", place / "model.safetensors", *data)
    assert ran.code == 1
    assert "the results cannot be written to" in one_sentence(ran)


def test_embed_writes_unit_vectors(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    videos = [place / "good.mp4", place / "empty.mp4", place / "data" / "moving" / "0.mp4"]
    ran = m2("embed", *videos, "--checkpoint", place / "model.safetensors", "--out", tmp_path / "e.npz", "--json")
    assert ran.code == 1
    with np.load(tmp_path / "e.npz", allow_pickle=False) as saved:
        assert saved["videos"].tolist() == [str(videos[0]), str(videos[2])]
        embeddings = saved["embeddings"]
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    printed = [video["embedding"] for video in json.loads(ran.out)["videos"] if "embedding" in video]
    assert np.allclose(printed, embeddings)


def test_timeline(m2: Callable[..., Ran], place: Path) -> None:
    arguments = (
        "timeline",
        place / "good.mp4",
        "--checkpoint",
        place / "model.safetensors",
        "--window",
        1,
        "--step",
        0.5,
    )
    ran = m2(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["0.00", "0.50", "1.00"]
    windows = json.loads(m2(*arguments, "--json").out)["windows"]
    assert [window["end_seconds"] for window in windows] == pytest.approx([1, 1.5, 2])
    assert {found["label"] for window in windows for found in window["predictions"]} <= set(NAMES)
    assert m2(*arguments[:-1], "0").code == 1


def test_info_tells_what_the_checkpoint_knows(m2: Callable[..., Ran], place: Path) -> None:
    record = json.loads(m2("info", place / "model.safetensors", "--json").out)
    assert record["class_names"] == list(NAMES)
    assert record["frames"] == 8
    assert record["format_version"] == "1"
    text = m2("info", place / "model.safetensors").out
    assert 'class_names: ["bouncing", "moving", "spinning"]' in text


def test_data_list_counts_and_names_missing_files(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    ran = m2("data", "list", place / "data")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "      2  bouncing",
        "      2  moving",
        "      2  spinning",
        "6 videos, 3 classes, 0 missing",
    ]
    (tmp_path / "list.csv").write_text("path,label\ngood.mp4,a\ngone.mp4,b\n")
    ran = m2("data", "list", tmp_path / "list.csv", "--root", place, "--json")
    document = json.loads(ran.out)
    assert (document["listed"], document["found"]) == (2, 1)
    assert document["missing"] == [{"path": str(place / "gone.mp4"), "where": f"{tmp_path / 'list.csv'}:3"}]
    assert "gone.mp4" in one_sentence(ran)


def test_make_shapes_gives_data_that_can_be_listed(m2: Callable[..., Ran], tmp_path: Path) -> None:
    ran = m2(
        "data", "make-shapes", tmp_path, "--train", 1, "--val", 0, "--test", 0, "--frames", 8, "--size", 32, "--json"
    )
    assert ran.code == 0, ran.err
    lists = json.loads(ran.out)["lists"]
    assert str(tmp_path / "base" / "train.csv") in lists
    listed = m2(
        "data", "list", tmp_path / "base" / "train.csv", "--classes", tmp_path / "base" / "classes.csv", "--json"
    )
    assert json.loads(listed.out)["missing"] == []
    assert {entry["videos"] for entry in json.loads(listed.out)["classes"]} == {1}
    ran = m2("data", "make-shapes", tmp_path, "--seed", 1)
    assert ran.code == 1
    assert "already holds" in one_sentence(ran)


def test_convert_a_clip_and_the_reference(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    sizes = BackboneConfig.model_validate(
        {**TINY.model_dump(), "vision_width": 64, "text_width": 64, "vision_heads": 1, "text_heads": 1}
    )
    clip = m2clip.create(sizes).clip
    save_file({key: value.contiguous() for key, value in clip.state_dict().items()}, tmp_path / "clip.safetensors")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    ran = m2(
        "convert",
        tmp_path / "clip.safetensors",
        tmp_path / "ours.safetensors",
        "--classes",
        tmp_path / "classes.txt",
        "--quick-gelu",
    )
    assert ran.code == 0, ran.err
    model = load(tmp_path / "ours.safetensors")
    assert model.info.class_names == ("a", "b")
    for key, value in clip.state_dict().items():
        assert torch.equal(model.clip.state_dict()[key], value)
    reference = Path(__file__).parent / "parity_small" / "official_state_dict.safetensors"
    ran = m2("convert", reference, tmp_path / "reference.safetensors", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["info"]["training"] == {"source": "reference implementation"}
    assert load(tmp_path / "reference.safetensors").info.trained
    ran = m2("convert", place / "other.safetensors", tmp_path / "never.safetensors")
    assert ran.code == 1
    one_sentence(ran)
    assert not (tmp_path / "never.safetensors").exists()


def test_words_with_indices_are_put_in_order(m2: Callable[..., Ran], tmp_path: Path) -> None:
    reference = Path(__file__).parent / "parity_small" / "official_state_dict.safetensors"
    count = len(load_file(reference)["mlm_adapter.bias"])
    lines = [f"word{k} {k}\n" for k in range(count)]
    (tmp_path / "words.txt").write_text("".join(lines[::-1]))
    ran = m2("convert", reference, tmp_path / "out.safetensors", "--words", tmp_path / "words.txt", "--json")
    assert json.loads(ran.out)["info"]["words"][:2] == ["word0", "word1"]
    for bad in ("a 0\nb 0\n", "a 0\nb\n", "a 0\nb x\n"):
        (tmp_path / "words.txt").write_text(bad)
        ran = m2("convert", reference, tmp_path / "out.safetensors", "--words", tmp_path / "words.txt")
        assert ran.code == 1
        assert "words.txt" in one_sentence(ran)


def test_a_configuration_with_an_unknown_key(m2: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("out: run\ntrain:\n  epoch: 3\n")
    ran = m2("train", tmp_path / "run.yaml")
    assert ran.code == 1
    sentence = one_sentence(ran)
    assert "run.yaml:3" in sentence
    assert "epochs" in sentence
    ran = m2("train", tmp_path / "gone.yaml")
    assert ran.code == 1
    assert "gone.yaml" in one_sentence(ran)


@pytest.mark.slow
def test_train_then_evaluate_then_classify(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    settings = {
        "out": str(tmp_path / "run"),
        "data": {"train": str(place / "data"), "val": str(place / "data"), "frames": 4, "workers": 0, "flip": False},
        "model": {
            "backbone": {
                key: value for key, value in TINY.model_dump(mode="json").items() if key not in ("mean", "std")
            }
        },
        "train": {"epochs": 2, "warmup_epochs": 1, "batch_size": 4, "precision": "fp32"},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(settings))  # JSON is YAML, too
    ran = m2("train", tmp_path / "run.yaml", "train.epochs=1", "train.warmup_epochs=0", "--json")
    assert ran.code == 0, ran.err
    best = json.loads(ran.out)["best"]
    again = m2("train", tmp_path / "run.yaml", "train.epochs=1", "train.warmup_epochs=0")
    assert again.code == 1
    assert "already holds a run" in one_sentence(again)
    report = json.loads(m2("evaluate", best, "--data", place / "data", "--json").out)
    assert list(report["metrics"]) == ["similarity", "visual", "ensemble"]
    assert report["protocol"]["seed"] == 0
    document = json.loads(m2("classify", place / "good.mp4", "--checkpoint", best, "--json").out)
    assert (document["reading"], document["frames"], sorted(document["texts"])) == ("ensemble", 4, sorted(NAMES))


def test_an_interrupt_is_exit_code_130(m2: Callable[..., Ran], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("m2clip.data.manifest.read_manifest", interrupted)
    assert m2("data", "list", place / "data").code == 130


def test_a_package_that_is_not_installed(m2: Callable[..., Ran], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("No module named 'lightning'", name="lightning")

    monkeypatch.setattr("m2clip.data.manifest.read_manifest", absent)
    ran = m2("data", "list", place / "data")
    assert ran.code == 1
    assert "pip install 'm2clip[train]'" in one_sentence(ran)


@pytest.mark.skipif(sys.platform != "linux", reason="file names elsewhere are Unicode")
def test_a_file_name_that_is_not_unicode(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/odd\xff.mp4"
    with open(odd, "wb") as file:
        file.write((place / "good.mp4").read_bytes())
    ran = m2("classify", os.fsdecode(odd), "--checkpoint", place / "model.safetensors", "--json")
    assert ran.code == 0, ran.err
    assert os.fsencode(json.loads(ran.out)["videos"][0]["video"]) == odd


@pytest.mark.parametrize("option", [("--views", "99x99"), ("--views", "9999x1"), ("--frames", "1000000000")])
def test_what_would_take_all_memory_is_wrong_usage(
    m2: Callable[..., Ran], place: Path, option: tuple[str, str]
) -> None:
    ran = m2("classify", place / "good.mp4", "--labels", "a,b", *option)
    assert ran.code == 2
    assert "Traceback" not in ran.err
