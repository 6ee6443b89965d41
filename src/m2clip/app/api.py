"""The HTTP API: forms in, typed JSON out. Every route's work is the service's."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from m2clip import __version__
from m2clip.app.answers import (
    ERROR_ANSWERS,
    Classified,
    Embedded,
    FoundVideo,
    Health,
    ScoredWindow,
    SearchResult,
    Timeline,
    VideoFacts,
)
from m2clip.app.forms import Form, receive_form
from m2clip.app.guard import Guard
from m2clip.app.journal import Journal
from m2clip.app.metrics import Metrics
from m2clip.app.refusals import NoIndex, refusal, refusal_of
from m2clip.app.request_fields import form_schema
from m2clip.app.service import Busy, Service
from m2clip.app.upload_folder import UploadFolder
from m2clip.errors import ConfigError, M2CLIPError

T = TypeVar("T")
Route = TypeVar("Route", bound=Callable[..., Any])


def make_app(
    service: Service,
    uploads: UploadFolder,
    *,
    token: str | None = None,
    hosts: Iterable[str] | None = None,
) -> FastAPI:
    """The application. `token` and `hosts`: see `guard.Guard`; whatever is mounted on it later stands behind them, too."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    # The usual page of documentation loads its scripts from elsewhere; /openapi.json says the same.
    app = FastAPI(title="m2clip", version=__version__, description=_ABOUT, lifespan=life, docs_url=None, redoc_url=None)
    metrics = Metrics(service)
    app.add_middleware(Guard, limits=service.limits, token=token, hosts=hosts)
    app.add_middleware(Journal, metrics=metrics)
    _say_errors(app)
    _add_state(app, service, metrics)
    _add_questions(app, service, uploads)
    return app


_ABOUT = (
    "Recognises actions in videos. Each question is a form (multipart/form-data) with the video in its field `file`; uploads are "
    "deleted once they are answered."
)


def _say_errors(app: FastAPI) -> None:
    """All errors in one form."""

    @app.exception_handler(M2CLIPError)
    async def ours(_: Request, error: M2CLIPError) -> Response:
        return refusal_of(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return refusal(422, "request", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method"}.get(error.status_code, "http")
        return refusal(error.status_code, code, str(error.detail), dict(error.headers or {}))


def _add_state(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/healthz", response_model=Health, responses={503: {"model": Health}}, tags=["state"])
    async def health() -> Response:
        """Status 200: ready; 503: alive, but not able to answer yet, or any more."""
        state = Health(
            ready=service.ready,
            models=list(service.models),
            decoders_ready=service.pool.ready,
            decode_waiting=service.pool.waiting,
            model_waiting=service.thread.waiting,
        )
        return JSONResponse(state.model_dump(), 200 if state.ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse, tags=["state"])
    async def counts() -> Response:
        """Counts for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_questions(app: FastAPI, service: Service, uploads: UploadFolder) -> None:
    limits = service.limits
    places = Places(limits.most_waiting)

    async def answered(request: Request, fields: Iterable[str], work: Callable[[Form], Awaitable[T]]) -> T:
        """Receive a form and work on it; the file is deleted afterwards, and the work is given up when the client goes."""
        async with places.one():
            with uploads.new_file() as path:
                form = await receive_form(
                    request.stream(), request.headers.get("content-type", ""), limits=limits, to=path
                )
                form.check_names(*fields)
                async with service.in_time():
                    return await _unless_gone(request, work(form))

    def question(path: str, *fields: str, file: bool = True, **options: Any) -> Callable[[Route], Route]:
        return app.post(
            path,
            responses=ERROR_ANSWERS,
            openapi_extra={"requestBody": form_schema(fields, file=file)},
            tags=["questions"],
            **options,
        )

    asked = ("labels", "top", "strength", "model")

    @question("/v1/classify", *asked)
    async def classify(request: Request) -> Classified:
        """Name the action in a video: the most probable of the labels."""

        async def work(form: Form) -> Classified:
            labels, top, model, strength = (
                form.labels(),
                form.whole("top", 5),
                form.text("model"),
                form.number("strength", None),
            )
            service.check(labels=labels, top=top, model=model, strength=strength)
            read = await service.read(_file(form), name=form.file_name)
            scores = await service.classify(read, labels=labels, top=top, model=model, strength=strength)
            name = model or service.default_model
            used = service.strength(name) if strength is None else strength
            return Classified.of(read, scores, top=top, model=name, strength=used)

        return await answered(request, asked, work)

    @question("/v1/embed", "model")
    async def embed(request: Request) -> Embedded:
        """Turn a video into an embedding."""

        async def work(form: Form) -> Embedded:
            model = form.text("model")
            service.check(model=model)
            read = await service.read(_file(form), name=form.file_name)
            vector = await service.embed(read, model=model)
            return Embedded(
                model=model or service.default_model, video=VideoFacts.of(read.info), embedding=vector.tolist()
            )

        return await answered(request, ("model",), work)

    times = ("labels", "top", "window_seconds", "step_seconds", "model")

    @question("/v1/timeline", *times)
    async def timeline(request: Request) -> Timeline:
        """Say what a video shows when, window by window."""

        async def work(form: Form) -> Timeline:
            labels, top, model = form.labels(), form.whole("top", 3), form.text("model")
            windows = await service.timeline(
                _file(form),
                name=form.file_name,
                labels=labels,
                window_seconds=form.number("window_seconds", 2.0),
                step_seconds=form.number("step_seconds", 1.0),
                top=top,
                model=model,
            )
            return Timeline(model=model or service.default_model, windows=[ScoredWindow.of(one) for one in windows])

        return await answered(request, times, work)

    @question("/v1/search", "text", "top", file=False)
    async def search(request: Request) -> SearchResult:
        """Find videos of the server's index by a text or by an example (one of the two)."""
        if service.index is None:
            raise NoIndex("this server has no index to search; start it with --index")

        async def work(form: Form) -> SearchResult:
            text, top = form.text("text"), form.whole("top", 10)
            service.check(top=top)
            if (text is None) == (form.file is None):
                raise ConfigError("search by a text or by a video: send one of the fields text and file")
            read = None if form.file is None else await service.read(form.file, name=form.file_name)
            found = await service.search(text=text, read=read, top=top)
            return SearchResult(found=[FoundVideo.of(one) for one in found])

        return await answered(request, ("text", "top"), work)


class Places:
    """Bounds how many requests are received or worked on; `Busy` for one more."""

    def __init__(self, most: int) -> None:
        self._most, self._taken = most, 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a place."""
        if self._taken >= self._most:
            raise Busy(f"{self._taken} requests are being worked on; try again in a moment")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


def _file(form: Form) -> Any:
    if form.file is None:
        raise ConfigError("there is no video: send one in the field file")
    return form.file


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The work's result; it is cancelled when the client closes the connection, for nobody wants it any more."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    wanted, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((wanted, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise ClientDisconnect
        return wanted.result()
    finally:
        for task in (wanted, leaving):
            task.cancel()
        await asyncio.gather(wanted, leaving, return_exceptions=True)
