"""What a run of the program left, for the tests of its commands."""

from typing import NamedTuple

NAMES = ("bouncing", "moving", "spinning")


class Ran(NamedTuple):
    """What a run of the program left."""

    code: int
    out: str
    err: str


def one_sentence(ran: Ran) -> str:
    """The only line of stderr, without the name of the program; nothing may look like a traceback."""
    assert "Traceback" not in ran.err
    lines = [line for line in ran.err.splitlines() if "builtin model knows" not in line]
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("m2clip: ")
    return lines[0]
