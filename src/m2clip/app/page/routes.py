"""The page's own addresses: uploads in; examples, found videos and their pictures out.

Who may come, from where, with how much: `app.guard` around all routes; errors become answers in `app.refusals`.
"""

import asyncio
import mimetypes
from typing import TYPE_CHECKING
from urllib.parse import unquote

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from m2clip.app.limits import LimitError
from m2clip.errors import VideoError

if TYPE_CHECKING:
    from m2clip.app.page.desk import Desk

_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=600"}


def page_routes(desk: "Desk") -> APIRouter:
    """The routes under /page/."""
    router = APIRouter(prefix="/page", include_in_schema=False)
    examples = {one.key: one for one in desk.examples}
    drawing = asyncio.Semaphore(1)  # pictures of found videos wait for each other, and uploads for one of them at most

    @router.post("/upload")
    async def upload(request: Request) -> Response:
        name = unquote(request.headers.get("x-name", ""))[:200] or "the video"
        return JSONResponse({"token": await desk.uploads.receive(request.stream(), name=name)})

    @router.get("/example/{key}")
    async def example(key: str) -> Response:
        if key not in examples:
            return Response(status_code=404)
        return FileResponse(examples[key].path, media_type="video/mp4", headers=_HEADERS)

    @router.get("/found/{key}")
    async def found(key: str) -> Response:
        try:
            path = desk.shelf.path(key)
        except VideoError:
            return Response(status_code=404)
        kind = mimetypes.guess_type(path.name)[0] or ""
        return FileResponse(
            path, media_type=kind if kind.startswith("video/") else "application/octet-stream", headers=_HEADERS
        )

    @router.get("/found/{key}/picture")
    async def picture(key: str) -> Response:
        try:
            async with drawing:
                drawn = await desk.shelf.picture(key, desk.service.picture)
            return Response(drawn, media_type="image/jpeg", headers=_HEADERS)
        except (VideoError, LimitError):
            return Response(status_code=404)

    return router
