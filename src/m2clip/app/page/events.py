"""What a page may send to Gradio, and for how many pages Gradio keeps answers: it asks neither, and prints what it stumbles over."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import gradio as gr
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from m2clip.app.limits import Busy

MOST_SESSIONS = 64
MOST_UNREAD = 16  # answers of one session; a page asks for three at a time
MOST_STREAMS = 4  # of one session; a page has two

SESSION = r"[A-Za-z0-9]{1,64}"
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Plain = str | int | _Number | bool | None
# What the components of this page hold, as JSON.
_KINDS: dict[type, type | tuple[type, ...]] = {
    gr.Textbox: str,
    gr.Slider: (int, float),
    gr.Dropdown: str,
    gr.Radio: str,
}


class _Event(BaseModel):
    """An event as this page's script sends it. No mapping among the values: it could name a file or an address to fetch."""

    model_config = ConfigDict(extra="forbid", strict=True)

    data: list[_Plain]
    event_data: Annotated[dict[str, _Plain], Field(max_length=4)] | _Plain = None
    fn_index: int
    trigger_id: int | None = None
    session_hash: Annotated[str, StringConstraints(pattern=f"^{SESSION}$")]


class Events:
    """The events of a page: which there are, and what each carries."""

    def __init__(self, blocks: gr.Blocks) -> None:
        self._inputs = {
            number: function.inputs
            for number, function in blocks.fns.items()
            if function.fn is not None and not any(kind == "unload" for _, kind in function.targets)
        }
        self._places = frozenset(blocks.blocks)

    def session(self, body: bytes) -> str | None:
        """The session of an event; None for what this page does not send: an unknown event, or values of the wrong kind."""
        try:
            event = _Event.model_validate_json(body)
        except ValidationError:
            return None
        inputs = self._inputs.get(event.fn_index)
        if inputs is None or len(inputs) != len(event.data) or event.trigger_id not in self._places | {None}:
            return None
        if not all(_fits(one, value) for one, value in zip(inputs, event.data, strict=True)):
            return None
        return event.session_hash


def _fits(component: Any, value: _Plain) -> bool:
    if isinstance(value, bool) or not isinstance(value, _KINDS[type(component)]):
        return False
    try:
        component.preprocess(value)
    except gr.Error:  # out of its range, or none of its choices
        return False
    return True


class Sessions:
    """The pages that are open, each by a session that it made up. Gradio keeps what they asked for until it is read.

    So their number is bounded: of too many, the one ends that has asked for nothing the longest and has no connection left.
    """

    def __init__(self, blocks: gr.Blocks) -> None:
        # Gradio offers no way to ask for these, or to end a session whose answers were never read.
        self._queue = blocks._queue
        self._streams: OrderedDict[str, int] = OrderedDict()

    async def enter(self, session: str) -> None:
        """A page asks for something. Busy where so many others are open, or where it does not read its answers."""
        if len(self._queue.pending_event_ids_session.get(session, ())) >= MOST_UNREAD:
            raise Busy(f"{MOST_UNREAD} answers wait for this page already; load it again")
        if session not in self._streams and len(self._streams) >= MOST_SESSIONS:
            oldest = next((one for one, streams in self._streams.items() if not streams), None)
            if oldest is None:
                raise Busy(f"{MOST_SESSIONS} pages are open; close one, or try again later")
            await self._forget(oldest)
        self._streams.setdefault(session, 0)
        self._streams.move_to_end(session)

    @asynccontextmanager
    async def stream(self, session: str) -> AsyncIterator[None]:
        """A page holds a connection. Busy where it has too many."""
        await self.enter(session)
        if self._streams[session] >= MOST_STREAMS:
            raise Busy(f"this page has {MOST_STREAMS} connections; close one")
        self._streams[session] += 1
        try:
            yield
        finally:
            self._streams[session] -= 1

    def has_asked(self, session: str) -> bool:
        """Whether there are answers to wait for."""
        return session in self._queue.pending_messages_per_session

    async def _forget(self, session: str) -> None:
        del self._streams[session]
        await self._queue.clean_events(session_hash=session)  # what runs for it will be told to nobody
        self._queue.pending_event_ids_session.pop(session, None)
        if session in self._queue.pending_messages_per_session:
            del self._queue.pending_messages_per_session[session]
