"""The tab Search: the videos of an index that are nearest to a text or to a video."""

from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from m2clip.app.page import markup
from m2clip.app.page.desk import QUIET, Desk
from m2clip.app.page.picker import picker
from m2clip.app.page.visits import SCORES, Visit

if TYPE_CHECKING:
    from m2clip.search import Found

RESULTS = 12
_NO_INDEX = markup.empty(
    "There is no index to search",
    "Make one of a folder of videos with the first two commands, then start the server with it.",
    commands=(
        "m2clip embed VIDEOS --checkpoint CHECKPOINT --out vectors.parquet",
        "m2clip index vectors.parquet --out index",
        "m2clip serve CHECKPOINT --index index",
    ),
)
_NOTHING = markup.empty(
    "Nothing searched yet", "Say what should be seen, or choose a video that the others should be like."
)


class SearchTab:
    """Its components, and what happens on their events."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._service = desk, desk.service
        if desk.service.index is None:
            with gr.Column(elem_classes="m2-card"):
                gr.HTML(_NO_INDEX, elem_id="no-index", apply_default_css=False)
            return
        with gr.Row(elem_classes="m2-columns"):
            with gr.Column(scale=4, min_width=300, elem_classes="m2-card m2-ask"):
                gr.HTML(html_template="<h2>What to look for</h2>", apply_default_css=False)
                text = gr.Textbox(
                    label="By text", elem_id="search-text", placeholder="a person waving", lines=1, max_lines=1
                )
                go = gr.Button("Search", variant="primary", elem_id="search-go")
                gr.HTML(
                    html_template='<p class="m2-label">By example: the nearest to a video</p>', apply_default_css=False
                )
                chosen = picker(desk.service.limits, desk.examples, elem_id="search-video")
            with gr.Column(scale=6, min_width=300, elem_classes="m2-card m2-answer"):
                count = len(desk.service.index)
                things = "videos" if desk.service.index.source.every_seconds is None else "stretches of videos"
                gr.HTML(html_template=f"<h2>Nearest of {count:,} {things}</h2>", apply_default_css=False)
                status = gr.HTML(elem_id="search-status", apply_default_css=False)
                results = gr.HTML(_NOTHING, elem_id="results", apply_default_css=False)
        gr.on([go.click, text.submit], self.begin_text, None, [status, results], **QUIET).then(
            self.by_text, [text], [status, results], **QUIET
        )
        chosen.upload(self.begin_video, None, [status, results], **QUIET).then(
            self.by_video, None, [status, results], **QUIET
        )

    def begin_text(self) -> tuple[Any, ...]:
        """Something was asked in words."""
        return markup.loading("Searching…"), markup.skeleton()

    async def by_text(self, text: str, request: gr.Request) -> tuple[Any, ...]:
        """The videos that are nearest to a text."""
        visit = self._visit(request)
        newest = visit.ask(SCORES)
        try:
            found = await self._service.search(text=text, top=RESULTS)
        except Exception as error:
            return (self._desk.told(error, Visit()), "") if newest() else (gr.skip(), gr.skip())
        return self._answer(found, f"Nearest to “{text.strip()}”") if newest() else (gr.skip(), gr.skip())

    def begin_video(self, event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        """An example has arrived."""
        visit = self._visit(request)
        self._desk.open(visit, event._data)
        return markup.loading(f"Reading {visit.name}…"), markup.skeleton()

    async def by_video(self, request: gr.Request) -> tuple[Any, ...]:
        """The videos that are nearest to the example."""
        visit = self._visit(request)
        newest = visit.ask(SCORES)
        try:
            found = await self._service.search(read=await self._desk.read(visit), top=RESULTS)
        except Exception as error:
            return (self._desk.told(error, visit), "") if newest() else (gr.skip(), gr.skip())
        return self._answer(found, f"Nearest to {visit.name}") if newest() else (gr.skip(), gr.skip())

    def _answer(self, found: "list[Found]", said: str) -> tuple[str, str]:
        if not found:
            return markup.done(said), markup.empty("Nothing found", "The index holds no videos.")
        cards = "".join(self._card(place, one) for place, one in enumerate(found, start=1))
        note = "The score is the cosine between the embeddings, from -1 to 1: it ranks, and is no probability."
        return markup.done(said), f'<ol class="m2-results">{cards}</ol><p class="m2-note">{note}</p>'

    def _card(self, place: int, one: "Found") -> str:
        key = self._desk.shelf.offer(one.path)
        name = one.name.rpartition("/")[2]
        part = ""
        if one.start_seconds is not None and one.end_seconds is not None:
            part = f'<span class="m2-when">{markup.moment(one.start_seconds, one.end_seconds)}</span>'
        if key is None:
            player = '<div class="m2-absent">The file is not on this machine.</div>'
        else:
            fragment = "" if one.start_seconds is None else f"#t={one.start_seconds:.2f}"
            fragment += "" if not fragment or one.end_seconds is None else f",{one.end_seconds:.2f}"
            player = (
                f'<video controls playsinline muted preload="none" poster="page/found/{key}/picture" src="page/found/{key}{fragment}" '
                f'aria-label="Result {place}: {escape(name)}"></video>'
            )
        width = 100 * max(0.0, min(1.0, one.score))
        return (
            f'<li class="m2-card-small">{player}<p class="m2-bar">'
            f'<span class="m2-name" title="{escape(one.name)}">{escape(name)}</span><span class="m2-value">{one.score:.3f}</span>'
            f'<span class="m2-track" aria-hidden="true"><span style="width:{width:.1f}%"></span></span></p>{part}</li>'
        )

    def _visit(self, request: gr.Request) -> Visit:
        return self._desk.visits.of(request.session_hash, "search")
