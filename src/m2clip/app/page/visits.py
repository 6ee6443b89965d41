"""What one visitor has open: the video that was read, the names that were typed, and which question is the newest."""

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m2clip.app.decoding import ReadVideo

MOST_VISITS = 64  # each may hold the frames of a video
# The parts of an answer, each of which may be asked again alone.
SCORES, MAP, TIMELINE = "scores", "map", "timeline"


@dataclass
class Visit:
    """One tab of one open page."""

    token: str | None = None
    """Of the video that was chosen; see `uploads`."""
    name: str = ""
    read: "ReadVideo | None" = None
    """The video once it is decoded."""
    labels: list[str] | None = None
    """The names that were asked last; None: the model's own."""
    strength: float | None = None
    """Where the dial stands; None: it was never moved."""
    shown: tuple[str, ...] = ()
    """The labels of the bars, in their order."""
    chosen: str | None = None
    """The label whose map is shown."""
    _numbers: Counter[str] = field(default_factory=Counter)

    def ask(self, *parts: str) -> Callable[[], bool]:
        """A new question for these parts: the answer tells whether it is still the newest, and may be shown.

        Whatever is under way for older questions is shown no more.
        """
        self._numbers.update(parts)
        numbers = {part: self._numbers[part] for part in parts}
        return lambda: all(self._numbers[part] == number for part, number in numbers.items())

    def open(self, token: str | None, name: str) -> str | None:
        """Another video: nothing of the last one is left, whose token is returned."""
        self.ask(SCORES, MAP, TIMELINE)
        last, self.token, self.name = self.token, token, name
        self.read, self.shown, self.chosen = None, (), None
        return last


@dataclass
class Visits:
    """The visits by Gradio's session and tab; the ones unused longest go first."""

    _open: "OrderedDict[tuple[str, str], Visit]" = field(default_factory=OrderedDict)

    def of(self, session: str | None, tab: str) -> Visit:
        """The visit of a session to a tab; a new one where there is none."""
        key = (session or "", tab)
        visit = self._open.setdefault(key, Visit())
        self._open.move_to_end(key)
        while len(self._open) > MOST_VISITS:
            self._open.popitem(last=False)
        return visit

    def leave(self, session: str | None) -> list[Visit]:
        """A page was closed: its visits, which are forgotten here."""
        return [self._open.pop(key) for key in list(self._open) if key[0] == (session or "")]
