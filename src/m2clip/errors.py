"""The errors that input can cause.

Each message is one sentence that says what is wrong, where, and what to do; the command line prints it without a traceback.
"""

import signal


def first_line(error: BaseException) -> str:
    """What an error of other people's code says in its first line; its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


class M2CLIPError(ValueError):
    """Base of every error that bad input causes."""

    exit_code = 1
    """Of the program that it ends."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # a quoted file name may hold a line break


class ConfigError(M2CLIPError):
    """A configuration, option or argument cannot be used."""


class ManifestError(M2CLIPError):
    """A list of videos or classes cannot be used."""


class VideoError(M2CLIPError):
    """A video cannot be read."""


class CheckpointError(M2CLIPError):
    """A weight file cannot be used."""


class Interrupted(M2CLIPError):
    """A signal ended a run, which has kept what it did."""

    def __init__(self, message: str, *, signal_number: int | None) -> None:
        """`signal_number` None: another process of the run had the signal."""
        super().__init__(message)
        self.exit_code = 128 + (signal.SIGTERM if signal_number is None else signal_number)
