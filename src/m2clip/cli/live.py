"""The command timeline with --stream: a live source, said as it happens."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2clip.cli.output import print_json_line, say, show
from m2clip.cli.recognizing import model_facts, window_line
from m2clip.errors import ConfigError

if TYPE_CHECKING:
    from m2clip.data.live import LiveState
    from m2clip.labels import Labels
    from m2clip.recognizer import Recognizer


Stream = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="VIDEO is live: a camera (0, /dev/video0), rtsp://, http:// or https://, or a file at its own pace. --json is a line a "
        "window, --out grows with each (.jsonl, .csv, .vtt).",
    ),
]
ForSeconds = Annotated[
    float | None, typer.Option("--for", min=1e-3, help="End a --stream after so many seconds; default: with Ctrl-C.")
]


def check_stream(address: str, files: Sequence[Path], *, compiled: bool) -> None:
    """What is wrong with a --stream, before a model is loaded for it."""
    from m2clip.data.live import live_address
    from m2clip.report.live_files import check_ending

    live_address(address)
    for path in files:
        check_ending(path)
    if compiled:
        raise ConfigError(
            "--compile is for clips, but the frames of a live source are encoded one after another; leave it out"
        )


def stream_timeline(
    recognizer: "Recognizer",
    address: str,
    labels: "Labels | None",
    *,
    checkpoint: str,
    window_seconds: float,
    step_seconds: float,
    top: int,
    for_seconds: float,
    files: Sequence[Path],
    json: bool,
) -> None:
    """A line a window, as they come; how things stand with the source goes to stderr."""
    from m2clip.data.live import live_address
    from m2clip.live import recognize_live
    from m2clip.report.live_files import LiveFile, window_document

    classes = recognizer.prepare(labels)
    facts = {
        **model_facts(recognizer, checkpoint),
        "reading": classes.reading,
        "temperature": classes.temperature,
        "threshold": classes.threshold(strength=recognizer.model.strength),
        "source": live_address(address).shown,
        "window_seconds": window_seconds,
        "step_seconds": step_seconds,
    }
    windows = recognize_live(
        recognizer, address, labels, window_seconds, step_seconds, top, for_seconds=for_seconds, tell=_Teller()
    )
    count = dropped = reconnects = 0
    waited_seconds = 0.0
    with ExitStack() as held:
        opened = [held.enter_context(LiveFile(path)) for path in files]
        for file in opened:
            file.begin(facts)
        if json:
            print_json_line(facts)
        try:
            for window in windows:
                if window.dropped_frames and not dropped:
                    say(
                        "recognition is slower than the source: frames are dropped, and each window is of the newest ones"
                    )
                count, dropped, reconnects = count + 1, window.dropped_frames, window.reconnects
                waited_seconds += window.latency_seconds
                for file in opened:
                    file.add(window)
                if json:
                    print_json_line(window_document(window))
                else:
                    show(f"{window_line(window, top)}  (after {window.latency_seconds:.2f} s)")
        finally:
            if count:
                say(
                    f"{count} window{'s' * (count != 1)}, on average {waited_seconds / count:.2f} s after their pictures; "
                    f"{dropped} frames dropped, {reconnects} new connections"
                )
    if not count:
        raise ConfigError(
            f"{facts['source']} gave no whole window of {window_seconds:g} s; give a shorter --window, or listen longer"
        )


class _Teller:
    """Says how things stand with a source; that it is still lost is said once for each reason."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, state: "LiveState", sentence: str) -> None:
        reason = sentence.partition("; trying again")[0]
        if state.value in ("reconnecting", "ended") or reason == self._said:
            return
        self._said = reason
        say(sentence)
