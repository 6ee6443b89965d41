"""What all tabs work with, and how they open a video and speak of what went wrong."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from m2clip.app.limits import Busy, TooSlow
from m2clip.app.page.examples import Example
from m2clip.app.page.markup import trouble
from m2clip.app.page.shelf import Shelf
from m2clip.app.page.uploads import Uploads
from m2clip.app.page.visits import Visit, Visits
from m2clip.app.service import ReadVideo, Service
from m2clip.errors import M2CLIPError, VideoError

_LOG = logging.getLogger(__name__)

QUIET: dict[str, Any] = {
    # By default Gradio would drop an event whose like is still under way, and a second video would never be read. What older
    # questions answer is thrown away by their number; see `visits`.
    "trigger_mode": "multiple",
    "concurrency_limit": None,
    "show_progress": "hidden",  # the page has its own signs
    "api_visibility": "private",
}
"""How events of this page run."""


@dataclass(frozen=True)
class Desk:
    """The service, the videos that were sent, the videos that were found, and who is here."""

    service: Service
    uploads: Uploads
    visits: Visits
    shelf: Shelf
    examples: Sequence[Example]

    def open(self, visit: Visit, data: Any) -> None:
        """A video was chosen: what the picker told of it."""
        data = data if isinstance(data, dict) else {}
        token, name = data.get("token"), data.get("name")
        last = visit.open(token if isinstance(token, str) else None, str(name)[:200])
        if last != visit.token:
            self.uploads.drop(last)

    async def read(self, visit: Visit) -> ReadVideo:
        """The visit's video, decoded once. Raises M2CLIPError."""
        if visit.read is not None:
            return visit.read
        if visit.token is None:
            raise VideoError("there is no video yet: choose, drop or record one")
        token = visit.token
        read = await self.service.read(self.uploads.path(token), name=visit.name)
        if visit.token == token:
            visit.read = read
        return read

    def leave(self, session: str | None) -> None:
        """A page was closed: its videos are deleted."""
        for visit in self.visits.leave(session):
            self.uploads.drop(visit.token)

    def told(self, error: Exception, visit: Visit) -> str:
        """The server's sentence and what to do about it, as a panel of the page; of a fault of our own, that there is one."""
        if not isinstance(error, M2CLIPError):
            _LOG.error("the page met a fault", exc_info=error)
            return trouble("something broke inside the server", remedy="Try again; the server's log says what it was.")
        sentence, remedy = str(error), ""
        if isinstance(error, Busy):
            remedy = "Nothing is lost: press the button once more."
        elif isinstance(error, TooSlow):
            remedy = "A shorter video, or fewer names, takes less time."
        elif isinstance(error, VideoError) and visit.token is not None:
            remedy = "Choose another video, or open this one in a player to see whether it is whole."
        return trouble(sentence, remedy=remedy)
