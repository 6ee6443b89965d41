"""What one connection may do, and how many there may be: silence ends, and whoever only waits gives way to the next."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class BoundedProtocol(H11Protocol):
    """HTTP on one connection, with the bounds that uvicorn leaves open.

    It ends where the head of a request does not arrive in time, or an answer is not fetched. Of too many connections the one ends
    that has waited longest without a request; where all are being answered, the newest. It is h11 in every installation, since that
    parser bounds the length of a head.
    """

    most_connections = 256
    head_seconds = 10.0
    stalled_seconds = 60.0
    _head_timer: asyncio.TimerHandle | None = None
    _stalled_timer: asyncio.TimerHandle | None = None
    _quiet_since = 0.0

    @property
    def _waits(self) -> bool:
        """Whether nothing is asked on it."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room, then begin to wait."""
        super().connection_made(transport)
        self._quiet_since = self.loop.time()
        self._wait()
        living = [
            one for one in self.connections if isinstance(one, BoundedProtocol) and not one.transport.is_closing()
        ]
        if len(living) > self.most_connections:
            waiting = [one for one in living if one._waits and one is not self]
            min(waiting, key=lambda one: one._quiet_since, default=self).transport.close()

    def data_received(self, data: bytes) -> None:
        """Wait on, unless a whole head is here."""
        super().data_received(data)
        self._quiet_since = self.loop.time()
        if not self._waits:
            self._stop_waiting()
        elif self._head_timer is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        self._stop_stalling()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes the answer more slowly than it is made."""
        super().pause_writing()
        if self._stalled_timer is None:
            self._stalled_timer = self.loop.call_later(self.stalled_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client goes on."""
        super().resume_writing()
        self._stop_stalling()

    def _wait(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_stalling(self) -> None:
        if self._stalled_timer is not None:
            self._stalled_timer.cancel()
            self._stalled_timer = None
