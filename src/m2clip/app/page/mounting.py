"""Builds the page and hangs it into the server's app."""

import os
from typing import TYPE_CHECKING

from m2clip.app.page.examples import make_examples
from m2clip.app.page.shelf import Shelf
from m2clip.app.page.uploads import Uploads
from m2clip.app.page.visits import Visits

if TYPE_CHECKING:
    from fastapi import FastAPI

    from m2clip.app.service import Service


def mount_page(app: "FastAPI", service: "Service") -> None:
    """Put the page at "/" of an app whose other routes are already there, since all that is left goes to the page.

    Nothing that the page does calls another machine; videos that are sent lie in a private folder until their visitor leaves.
    """
    uploads = Uploads(service.limits.most_bytes)
    # Gradio reads these when it is imported or when an app is made: no telemetry, no look at any hub, no folder but ours.
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_TEMP_DIR=str(uploads.folder / "gradio"),
        HF_HUB_DISABLE_TELEMETRY="1",
    )
    import gradio
    from starlette.routing import Mount

    from m2clip.app.page.blocks import build, theme
    from m2clip.app.page.desk import Desk
    from m2clip.app.page.events import MOST_SESSIONS, Events, Sessions
    from m2clip.app.page.fence import Fence
    from m2clip.app.page.routes import page_routes

    examples = make_examples(uploads.folder)
    for one in examples:
        uploads.lend(one.token, one.path)
    desk = Desk(service, uploads, Visits(), Shelf(), examples)
    app.include_router(page_routes(desk))
    blocks = build(desk)
    blocks.queue(max_size=service.limits.most_waiting)
    blocks.state_session_capacity = MOST_SESSIONS
    gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=False,
        theme=theme(),
    )
    mounted = app.routes[-1]
    assert isinstance(mounted, Mount)
    mounted.app = Fence(mounted.app, Events(blocks), Sessions(blocks))
