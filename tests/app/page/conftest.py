"""A server with a page on this machine, and a browser that may talk to nobody else."""

import asyncio
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from m2clip import Recognizer
from tests.small_inputs import moving_square, tiny_model, write_video

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from m2clip.app.service import Service

LABELS = ("waving", "clapping", "running", "jumping")
MOST_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Site:
    """A server that runs in this process, in a thread of its own."""

    address: str
    service: "Service"
    folder: Path
    """Where visitors' videos lie."""
    reached: list[Any]
    """Every address that a socket of this process was connected to while the server ran."""


@pytest.fixture(scope="session")
def chromium() -> str:
    """Debian's browser; absent for a stranger (skip), never absent in CI (error)."""
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI") == "true":
            raise RuntimeError("CI needs chromium, which is absent")
        pytest.skip("needs chromium, which is not here")
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> "Iterator[Browser]":
    """One browser for all tests of a module; Playwright holds an event loop, which no other module's tests may meet."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        launched = started.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
        )
        yield launched
        launched.close()


def uneven_model(seed: int) -> Any:
    """A tiny model whose adapters do something, so that their strength matters."""
    model = tiny_model(LABELS)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return model


def make_index(folder: Path, recognizer: Recognizer) -> Any:
    """Three videos with an index, and a fourth beside them that is not in it."""
    from m2clip.bulk.wanted_videos import wanted_videos
    from m2clip.search import SourceModel, VideoIndex
    from m2clip.search.building import build_index
    from tests.bulk.embedded import embed_videos

    for number, name in enumerate(("a.mp4", "b.mp4", "odd <i> & name.mp4")):
        write_video(folder / "indexed" / name, moving_square(frames=24, side=64, shift=number))
    write_video(folder / "private" / "secret.mp4", moving_square(frames=24, side=64, shift=5))
    table, place = folder / "vectors.parquet", folder / "index"
    embed_videos(recognizer, wanted_videos([str(folder / "indexed")]), table, SourceModel.of(recognizer, "tiny"))
    build_index([table], str(place))
    return VideoIndex.open(place)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two tiny models, an index of three videos, small limits."""
    from m2clip.app.service import Limits, Service

    folder = tmp_path_factory.mktemp("site")
    first = Recognizer(uneven_model(1), device="cpu", web=None)
    second = Recognizer(uneven_model(2), device="cpu", web=None)
    service = Service(
        {"first": first, "second": second},
        limits=Limits(most_bytes=MOST_BYTES, most_labels=50),
        index=make_index(folder, first),
    )
    with running(service) as started:
        yield started


@pytest.fixture(scope="module")
def bare_site() -> Iterator[Site]:
    """One model without classes, no index."""
    from m2clip.app.service import Service

    with running(Service({"bare": Recognizer(tiny_model(), device="cpu", web=None)})) as started:
        yield started


class running:
    """A context in which a service has its API and its page at an address of this machine."""

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._connect = socket.socket.connect

    def __enter__(self) -> Site:
        """Start, and wait until requests are answered."""
        import uvicorn

        from m2clip.app.api import make_app
        from m2clip.app.page import mount_page
        from m2clip.app.upload_folder import UploadFolder

        reached: list[Any] = []
        connect = self._connect

        def noted(one: socket.socket, address: Any) -> None:
            reached.append(address)
            connect(one, address)

        socket.socket.connect = noted  # type: ignore[method-assign]
        self._uploads = UploadFolder()
        listening = socket.create_server(("127.0.0.1", 0))
        app = make_app(self._service, self._uploads)
        mount_page(app, self._service)
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=asyncio.run, args=[self._server.serve(sockets=[listening])], daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            self._thread.join(0.05)
        folder = Path(os.environ["GRADIO_TEMP_DIR"]).parent
        return Site(f"http://127.0.0.1:{listening.getsockname()[1]}/", self._service, folder, reached)

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._server.should_exit = True
        self._thread.join(30)
        self._uploads.close()
        socket.socket.connect = self._connect  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def good_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds that the browser can play, with a change in the middle."""
    pixels = moving_square(frames=72, side=64)
    pixels[36:] = 255 - pixels[36:]
    return write_video(tmp_path_factory.mktemp("good") / "good <b> & bold.mp4", np.ascontiguousarray(pixels))
