"""The tab Compare: two models on one video, side by side."""

import asyncio
from typing import Any

import gradio as gr

from m2clip.app.page import markup
from m2clip.app.page.desk import QUIET, Desk
from m2clip.app.page.names import percent, typed_names
from m2clip.app.page.picker import names_file, picker
from m2clip.app.page.visits import SCORES, Visit
from m2clip.video_scores import VideoScores

BARS = 8
_ONE_MODEL = markup.empty(
    "There is one model only",
    "Start the server with a second checkpoint to see both on the same video.",
    commands=("m2clip serve CHECKPOINT --compare OTHER",),
)
_NO_VIDEO = markup.empty("No video yet", "Choose one: both models look at it.")


class CompareTab:
    """Its components, and what happens on their events."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._service = desk, desk.service
        models = list(desk.service.models)
        if len(models) < 2:
            with gr.Column(elem_classes="m2-card"):
                gr.HTML(_ONE_MODEL, elem_id="one-model", apply_default_css=False)
            return
        with gr.Row(elem_classes="m2-columns"):
            with gr.Column(scale=4, min_width=300, elem_classes="m2-card m2-ask"):
                gr.HTML(html_template="<h2>Video and actions</h2>", apply_default_css=False)
                chosen = picker(desk.service.limits, desk.examples, elem_id="compare-video")
                names = gr.Textbox(
                    label="Action names",
                    info="One a line, or on one line with commas between them. Empty: each model's own classes; "
                    "a model without any takes the other's.",
                    lines=3,
                    max_lines=8,
                    elem_id="compare-names",
                )
                names_file("compare-names")
                with gr.Row():
                    first = gr.Dropdown(
                        models, value=models[0], label="First model", elem_id="first-model", filterable=False
                    )
                    second = gr.Dropdown(
                        models, value=models[1], label="Second model", elem_id="second-model", filterable=False
                    )
                go = gr.Button("Compare", variant="primary", elem_id="compare-go")
            with gr.Column(scale=6, min_width=300, elem_classes="m2-card m2-answer"):
                gr.HTML(html_template="<h2>Side by side</h2>", apply_default_css=False)
                status = gr.HTML(elem_id="compare-status", apply_default_css=False)
                both = gr.HTML(_NO_VIDEO, elem_id="both", apply_default_css=False)
        opened = chosen.upload(self.open, None, [status, both], **QUIET)
        asked = gr.on([go.click, first.input, second.input], self.ask_again, None, [status, both], **QUIET)
        for begin in (opened, asked):
            begin.then(self.compare, [names, first, second], [status, both], **QUIET)

    def open(self, event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        """A video has arrived."""
        visit = self._visit(request)
        self._desk.open(visit, event._data)
        return markup.loading(f"Reading {visit.name}…"), markup.skeleton()

    def ask_again(self, request: gr.Request) -> tuple[Any, ...]:
        """The same video, other names or models."""
        waits = self._visit(request).token is not None
        return (markup.loading("Comparing…"), markup.skeleton()) if waits else (gr.skip(), gr.skip())

    async def compare(self, names: str, first: str, second: str, request: gr.Request) -> tuple[Any, ...]:
        """What both models make of the video."""
        visit = self._visit(request)
        newest = visit.ask(SCORES)
        labels = typed_names(names) or self._lent_classes(first, second)
        try:
            read = await self._desk.read(visit)
            pair = (first, second)
            found = await asyncio.gather(*(self._service.classify(read, labels=labels, model=name) for name in pair))
        except Exception as error:
            return (self._desk.told(error, visit), "") if newest() else (gr.skip(), gr.skip())
        if not newest():
            return gr.skip(), gr.skip()
        sides = "".join(self._side(name, scores) for name, scores in zip(pair, found, strict=True))
        best = [scores.top(1)[0] for scores in found]
        if best[0].label == best[1].label:
            said = f"Both say “{best[0].label}”: {percent(best[0].score)} and {percent(best[1].score)}."
        else:
            said = f"They differ: “{best[0].label}” and “{best[1].label}”."
        return markup.done(said), f'<div class="m2-both">{sides}</div>'

    def _lent_classes(self, *models: str) -> list[str] | None:
        """Where a model has no classes of its own, those of the other; None: each has its own, or the server has names for all."""
        owned = [self._service.models[name].model.info.class_names for name in models]
        if self._service.labels is not None or all(owned):
            return None
        return list(next(filter(None, owned), ())) or None

    def _side(self, name: str, scores: VideoScores) -> str:
        info = self._service.models[name].model.info
        facts = markup.facts(
            [
                ("backbone", info.backbone),
                ("method", info.method),
                ("frames", str(scores.frame_indices.shape[1])),
                ("read from", scores.classes.reading),
            ]
        )
        shown = markup.bars(
            scores.top(BARS), total=len(scores.classes.names), none_of_these=scores.none_of_these, choose=False
        )
        return f"<section><h3>{markup.escape(name)}</h3>{facts}{shown}</section>"

    def _visit(self, request: gr.Request) -> Visit:
        return self._desk.visits.of(request.session_hash, "compare")
