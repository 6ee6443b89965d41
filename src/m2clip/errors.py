"""The errors that input can cause.

Each message is one sentence that says what is wrong, where, and what to do; the command line prints it without a traceback.
"""


class M2CLIPError(ValueError):
    """Base of every error that bad input causes."""

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
