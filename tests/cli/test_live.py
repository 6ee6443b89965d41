"""`m2clip timeline --stream`: lines as they come, what is said, files, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live_server import sending, silence, transport_stream
from tests.program import Ran
from tests.web_server import serving

QUICK = ("--window", "0.4", "--step", "0.2")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.2 s."""
    path = tmp_path_factory.mktemp("live") / "clip.ts"
    path.write_bytes(transport_stream(30))
    return path


def test_lines_come_with_their_latency(m2: Callable[..., Ran], place: Path, clip: Path) -> None:
    ran = m2("timeline", clip, "--stream", "--checkpoint", place / "model.safetensors", *QUICK)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert 1 <= len(lines) <= 5
    assert all(" s  0." in line and line.endswith(" s)") and "(after " in line for line in lines)
    assert "is live" in ran.err
    assert f"{len(lines)} windows" in ran.err


def test_json_is_a_line_each_and_files_hold_the_same(
    m2: Callable[..., Ran], place: Path, clip: Path, tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("live.jsonl", "live.csv", "live.vtt")]
    outs = [part for path in files for part in ("--out", path)]
    ran = m2("timeline", clip, "--stream", "--checkpoint", place / "model.safetensors", *QUICK, "--json", *outs)
    assert ran.code == 0
    facts, *windows = (json.loads(line) for line in ran.out.splitlines())
    assert facts["source"] == str(clip)
    assert facts["reading"] == "ensemble"
    assert facts["window_seconds"] == 0.4
    assert windows[-1]["end_seconds"] == pytest.approx(1.2)
    assert {"time", "latency_seconds", "dropped_frames", "reconnects", "predictions"} <= set(windows[0])
    assert files[0].read_text() == ran.out
    assert len(files[1].read_text().splitlines()) == 1 + len(windows)
    assert files[2].read_text().count("-->") == len(windows)


def test_it_ends_after_the_time_that_is_asked_for(m2: Callable[..., Ran], place: Path, clip: Path) -> None:
    with serving() as server:
        server.answers["/live"] = sending(clip.read_bytes(), silence)
        address = server.url + "/live"
        ran = m2("timeline", address, "--stream", "--for", "2", "--checkpoint", place / "model.safetensors", *QUICK)
    assert ran.code == 0
    assert ran.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nothing.ts", "--stream"), 1, "there is no such file"),
        (("udp://127.0.0.1:1", "--stream"), 1, "is no live source"),
        (("CLIP", "--stream", "--window", "60"), 1, "no whole window of 60 s"),
        (("CLIP", "--stream", "--step", "0"), 1, "step_seconds"),
        (("CLIP", "--stream", "--out", "live.png"), 1, "must end in"),
        (("CLIP", "--stream", "--compile"), 1, "--compile"),
        (("CLIP", "--for", "3"), 2, "--stream"),
        (("CLIP", "--stream", "--for", "0"), 2, "--for"),
    ],
)
def test_what_cannot_be_done_is_told(
    arguments: tuple[str, ...], code: int, said: str, m2: Callable[..., Ran], place: Path, clip: Path
) -> None:
    given = [str(clip) if part == "CLIP" else part for part in arguments]
    ran = m2("timeline", *given, "--checkpoint", place / "model.safetensors")
    assert ran.code == code
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert not ran.out


def test_an_address_that_is_not_there_ends_in_one_sentence(m2: Callable[..., Ran], place: Path) -> None:
    ran = m2("timeline", "rtsp://user:secret@127.0.0.1:9/x", "--stream", "--checkpoint", place / "model.safetensors")
    assert ran.code == 1
    assert "secret" not in ran.err
    assert "Connection refused (3 tries)" in ran.err.splitlines()[-1]


def test_ctrl_c_ends_it_and_what_was_written_stays(place: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "live.jsonl"
    with serving() as server:
        server.answers["/live"] = sending(clip.read_bytes(), silence)
        command = [sys.executable, "-m", "m2clip", "timeline", server.url + "/live", "--stream", *QUICK]
        process = subprocess.Popen(
            [*command, "--checkpoint", str(place / "model.safetensors"), "--out", str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            # Where the tests' own shell ignores the signal, the program is to hear it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert re.search("[0-9] windows?, on average", said)
    assert len(out.read_text().splitlines()) >= 1 + len([first, *rest.splitlines()])
