"""The program as a whole: help, wrong usage, interrupts; exit codes 0, 1, 2 and 130, one sentence on stderr for bad input."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import m2clip
from tests.program import Ran, one_sentence
from tests.small_inputs import class_folders


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['m2clip', '--help']\nfrom m2clip.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print(*[name for name in ('torch', 'lightning', 'matplotlib', 'numpy', 'av', 'pydantic') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == ""
    commands = run.stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in commands if line.startswith("  ") and line[2] != " "] == [
        "demo", "train", "evaluate", "classify", "timeline", "embed", "index", "search", "serve", "explain", "tune-strength",
        "calibrate", "study", "rerun", "convert", "export", "push", "info", "data",
    ]  # fmt: skip


def test_classifying_loads_no_more_than_it_needs(place: Path) -> None:
    """PyTorch's compiler and torchvision each take longer to load than a video to classify."""
    arguments = ["m2clip", "classify", str(place / "good.mp4"), "--labels", "a,b"]
    code = (
        f"import sys\nsys.argv = {arguments!r}\nfrom m2clip.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "unwanted = 'torch._dynamo', 'sympy', 'torchvision', 'huggingface_hub', 'lightning', 'matplotlib', 'pandas'\n"
        "print('loaded:', *[name for name in ('torch', *unwanted) if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "loaded: torch"


def test_version(m2: Callable[..., Ran]) -> None:
    assert m2("--version") == Ran(0, m2clip.__version__ + "\n", "")


def test_the_program_keeps_freed_memory(m2: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr("m2clip.cli.keep_freed_memory", lambda: called.append(True))
    m2("--version")
    assert called == [True]


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


def test_an_interrupt_is_exit_code_130(m2: Callable[..., Ran], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("m2clip.data.manifest.read_manifest", interrupted)
    assert m2("data", "list", place / "data").code == 130


@pytest.mark.case("T11")
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ModuleNotFoundError("No module named 'lightning'", name="lightning.fabric"), "pip install 'm2clip[train]'"),
        (
            ModuleNotFoundError("No module named 'av'", name="av"),
            "needs the package av, which is not installed: pip install 'm2clip'",
        ),
        (
            ImportError("libavcodec.so.62: cannot open shared object file", name="av._core"),
            "the package av cannot be loaded (libavcodec.so.62: cannot open shared object file)",
        ),
    ],
)
def test_a_package_that_is_not_installed_or_broken(
    m2: Callable[..., Ran], place: Path, monkeypatch: pytest.MonkeyPatch, error: ImportError, told: str
) -> None:
    def absent(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("m2clip.data.manifest.read_manifest", absent)
    ran = m2("data", "list", place / "data")
    assert ran.code == 1
    assert told in one_sentence(ran)


@pytest.mark.case("T11", "T13")
def test_recognising_needs_no_package_beside_its_own(place: Path, tmp_path: Path) -> None:
    """In a fresh interpreter that has neither the packages for training nor another decoder; on a CPU, in float32."""
    absent = (
        *(
            "lightning",
            "lightning_utilities",
            "pytorch_lightning",
            "torchmetrics",
            "tensorboard",
            "matplotlib",
            "pandas",
            "scipy",
        ),
        *(
            "transformers",
            "open_clip",
            "timm",
            "apex",
            "decord",
            "cv2",
            "torchcodec",
            "imageio",
            "moviepy",
            "webdataset",
        ),
    )
    model, video = str(place / "model.safetensors"), str(place / "good.mp4")
    commands = [
        ["classify", video, "--checkpoint", model, "--device", "cpu", "--json"],
        ["embed", video, "--checkpoint", model, "--device", "cpu", "--json"],
        ["timeline", video, "--checkpoint", model, "--device", "cpu", "--json"],
        ["evaluate", model, "--data", str(place / "data"), "--device", "cpu", "--out", str(tmp_path / "out"), "--json"],
    ]
    code = f"""
import sys
from importlib.machinery import PathFinder
found = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name.partition(".")[0] in {absent!r} else found(name, *more)
from m2clip.cli import main
for command in {commands!r}:
    sys.argv = ["m2clip", *command]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (command, end.code)
    print("----")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    documents = [json.loads(part) for part in run.stdout.split("----\n")[:-1]]
    assert [document.get("protocol", document)["precision"] for document in documents] == ["fp32"] * 4
    assert documents[3]["protocol"]["device"] == "cpu"
    assert "matplotlib is not installed" in (tmp_path / "out" / "report.html").read_text()


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


@pytest.mark.case("T5")
@pytest.mark.parametrize("option", ["--local-rank", "--local_rank"])
def test_the_rank_among_the_arguments_must_be_that_of_the_environment(
    m2: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert m2(f"{option}=0", "data", "list", class_folders(tmp_path, ("a",), each=1)).code == 0
    ran = m2(f"{option}=1", "data", "list", tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert "ranks are read from the environment" in " ".join(ran.err.replace("│", "").split())
    for command in (("train", "run.yaml"), ("evaluate", "builtin")):  # as some scripts write it: behind all else
        assert (m2(*command, f"{option}=1").code, m2(*command, f"{option}=0").code) == (
            2,
            1 if command[0] == "train" else 2,
        )
        assert "local" not in m2(command[0], "--help").out
    assert "local" not in m2("--help").out


def test_a_process_that_lost_the_others_says_so_in_one_sentence(
    m2: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose() -> None:
        raise RuntimeError(
            "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:5"
        )

    monkeypatch.setattr("m2clip.cli.app", lose)
    with pytest.raises(RuntimeError, match="closed by peer"):  # alone it has nobody to lose
        m2("train", "run.yaml")
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    ran = m2("train", "run.yaml")
    assert (ran.code, ran.out) == (1, "")
    assert (
        ran.err
        == "m2clip: another process of this run has ended, and this one with it; the other one's words tell why "
        "([../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:5)\n"
    )
