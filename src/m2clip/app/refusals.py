"""Errors -> answers of the API: {"error": {"code", "message"}} with the status that says whose fault it is."""

from starlette.responses import JSONResponse

from m2clip.app.limits import Broken, Busy, LimitError, TooSlow
from m2clip.errors import ConfigError, M2CLIPError, VideoError


class NoIndex(ConfigError):
    """The server has no index to search."""


# The first kind that fits counts.
_KINDS: tuple[tuple[type[M2CLIPError], int, str], ...] = (
    (LimitError, 413, "too_large"),
    (Busy, 429, "busy"),
    (TooSlow, 504, "too_slow"),
    (Broken, 503, "broken"),
    (VideoError, 422, "video"),
    (NoIndex, 404, "no_index"),
    (M2CLIPError, 422, "request"),
)


def refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An answer that is an error."""
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def refusal_of(error: M2CLIPError) -> JSONResponse:
    """The answer to an error that the request caused, or that says that too much is asked at once."""
    status, code = next((status, code) for kind, status, code in _KINDS if isinstance(error, kind))
    headers = {"Retry-After": str(error.retry_seconds)} if isinstance(error, Busy) else None
    return refusal(status, code, str(error), headers)
