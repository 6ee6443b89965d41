"""Action names as people type them, and numbers as they read them."""

from collections.abc import Sequence


def typed_names(text: str | None) -> list[str] | None:
    """The names in a text: a line each or, where there is only one line, between commas; None where there are none.

    A name given twice counts once.
    """
    lines = [line for line in (text or "").splitlines() if line.strip()]
    parts: Sequence[str] = lines[0].split(",") if len(lines) == 1 else lines
    names = list(dict.fromkeys(" ".join(part.split()) for part in parts if part.strip()))
    return names or None


def percent(score: float) -> str:
    """A probability for people: 93.1 %, and never a 0 or a 100 that is none."""
    if 0 < score < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= score < 1:
        return "> 99.9 %"
    return f"{100 * score:.1f} %"


def clock(seconds: float) -> str:
    """A time of a video for people: 0:03.4, 12:05.0, 1:02:03.0."""
    tenths = round(10 * max(seconds, 0.0))
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"
