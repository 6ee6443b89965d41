"""Signals are noted while a run needs it, and mean what they did before and after."""

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from m2clip.train.interruption import Interruption


def send(number: int) -> None:
    signal.raise_signal(number)


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """As in a program at a terminal: whoever starts the tests in the background may have had SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_is_noted_and_ends_nothing(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with Interruption(tells=True) as interruption:
        assert interruption.number is None
        send(number)
        assert interruption.number == number
        assert Interruption.name(interruption.number) == f"by {name}"
    assert signal.getsignal(number) == before
    told = "m2clip: ending when the run is kept; Ctrl-C again ends it at once\n"
    assert capfd.readouterr().err == (told if name == "SIGINT" else "")


def test_ctrl_c_a_second_time_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not the copy of the first one that torchrun passes on, nor the SIGTERM that it sends."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with Interruption(tells=False) as interruption:
        send(signal.SIGINT)
        now = 100.5
        send(signal.SIGINT)
        send(signal.SIGTERM)
        now = 102.0
        send(signal.SIGTERM)
        assert interruption.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_work_that_can_be_done_again_ends_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    """Also where the signal came before it began; behind it signals are noted again, and none raises twice."""
    with Interruption(tells=True) as interruption:
        with interruption.at_once(lambda: ValueError("nothing came")):
            pass
        with pytest.raises(ValueError, match="during"), interruption.at_once(lambda: ValueError("during")):
            send(signal.SIGINT)
        send(signal.SIGTERM)
        assert interruption.number == signal.SIGINT
    assert capfd.readouterr().err == ""
    with Interruption(tells=False) as interruption:
        send(signal.SIGTERM)
        with pytest.raises(ValueError, match="before"), interruption.at_once(lambda: ValueError("before")):
            raise AssertionError("the work has begun")
        send(signal.SIGUSR1)
        assert interruption.number == signal.SIGTERM


def test_what_is_ignored_stays_so_and_another_thread_hears_nothing() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interruption(tells=False) as interruption:
            send(signal.SIGTERM)
            assert interruption.number is None
    finally:
        signal.signal(signal.SIGTERM, before)
    handlers = []

    def elsewhere() -> None:
        with Interruption(tells=False):
            handlers.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGUSR1)]
