"""The tab Recognise: a video, names, and what the model makes of them."""

from typing import TYPE_CHECKING, Any

import gradio as gr

from m2clip.app.page import markup
from m2clip.app.page.desk import QUIET, Desk
from m2clip.app.page.names import typed_names
from m2clip.app.page.picker import asset, names_file, picker
from m2clip.app.page.timeline_chart import timeline_chart
from m2clip.app.page.visits import MAP, SCORES, TIMELINE, Visit
from m2clip.model.adapters import Residual

if TYPE_CHECKING:
    from m2clip.explanations import Explanation

BARS = 8
AT_ONCE_SECONDS = 60.0  # a longer video's timeline is made when it is asked for
WINDOW_SECONDS, LEAST_STEP_SECONDS, MOST_STEPS = 2.0, 0.5, 600

SHOW_FRAMES, SHOW_HEAT, SHOW_CHANGE = "Frames", "Where it looks", "What changes"
_NO_VIDEO = markup.empty(
    "No video yet", "Choose, drop or record one, or take an example. Its scores stand here a moment later."
)
_NO_STRIP = markup.empty(
    "The frames that the model sees", "A model looks at a few frames of a video. They stand here with their times."
)
_NO_TIMELINE = markup.empty(
    "What happens when", "For a longer video: the best actions over time. A click leads there in the player."
)
_NO_NAMES = markup.empty(
    "Which actions?", "This model has no classes of its own. Type action names, then press Recognise."
)


class RecogniseTab:
    """Its components, and what happens on their events."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._service = desk, desk.service
        self._model = desk.service.models[desk.service.default_model].model
        self._info = self._model.info
        self._build()

    def _build(self) -> None:
        desk = self._desk
        own = len(desk.service.labels or self._info.class_names)
        with gr.Row(elem_classes="m2-columns"):
            with gr.Column(scale=4, min_width=300, elem_classes="m2-card m2-ask"):
                gr.HTML(html_template="<h2>Video and actions</h2>", apply_default_css=False)
                chosen = picker(desk.service.limits, desk.examples, elem_id="video")
                names = gr.Textbox(
                    label="Action names",
                    info="One a line, or on one line with commas between them."
                    + (f" Empty: the model's own {own} classes." if own else ""),
                    lines=3,
                    max_lines=8,
                    elem_id="names",
                    placeholder="a red circle moving left to right"
                    if self._info.class_names
                    else "waving, clapping, running",
                )
                names_file("names")
                go = gr.Button("Recognise", variant="primary", elem_id="go")
            with gr.Column(scale=6, min_width=300, elem_classes="m2-answer"):
                with gr.Column(elem_classes="m2-card"):
                    gr.HTML(html_template="<h2>Scores</h2>", apply_default_css=False)
                    status = gr.HTML(elem_id="status", apply_default_css=False)
                    bars = gr.HTML(_NO_VIDEO, js_on_load=asset("bars.js"), elem_id="bars", apply_default_css=False)
                    dial = gr.Slider(
                        0.0,
                        1.0,
                        value=self._model.strength,
                        step=0.05,
                        label="Adapter strength",
                        info="0: the frozen CLIP. 1: as trained. It acts at once on the scores; the map follows when you let go.",
                        elem_id="dial",
                        visible=any(isinstance(module, Residual) for module in self._model.modules()),
                    )
                with gr.Column(elem_classes="m2-card"):
                    gr.HTML(html_template="<h2>What the model sees</h2>", apply_default_css=False)
                    view = gr.Radio(
                        [SHOW_FRAMES, SHOW_HEAT, SHOW_CHANGE],
                        value=SHOW_HEAT,
                        label="Show over the frames",
                        elem_id="view",
                    )
                    map_status = gr.HTML(elem_id="map-status", apply_default_css=False)
                    strip = gr.HTML(_NO_STRIP, elem_id="strip", elem_classes="m2-show-heat", apply_default_css=False)
        with gr.Column(elem_classes="m2-card"):
            gr.HTML(html_template="<h2>Timeline</h2>", apply_default_css=False)
            timeline = gr.HTML(
                _NO_TIMELINE, js_on_load=asset("timeline.js"), elem_id="timeline", apply_default_css=False
            )
            make = gr.Button("Make the timeline", visible=False, elem_id="make-timeline")

        everything = [status, bars, map_status, strip, timeline, make]
        opened = chosen.upload(self.open, None, everything, **QUIET)
        asked = gr.on([go.click, names.submit], self.ask_again, None, everything, **QUIET)
        for begin in (opened, asked):
            scored = begin.then(self.recognise, [names], everything, **QUIET)
            scored.then(self.explain, None, [map_status, strip], **QUIET)
            scored.then(self.timeline_at_once, None, [timeline], **QUIET)
        # The newest place of the dial is always asked, and those between only as fast as answers come.
        dial.input(self.turn_dial, [dial], [status, bars], **(QUIET | {"trigger_mode": "always_last"}))
        dial.release(self.explain, None, [map_status, strip], **QUIET)
        bars.select(self.choose, None, [bars, map_status], **QUIET).then(
            self.explain, None, [map_status, strip], **QUIET
        )
        make.click(self.announce_timeline, None, [timeline, make], **QUIET).then(
            self.timeline, None, [timeline], **QUIET
        )
        view.change(None, [view], None, js=_SHOW_LAYER, api_visibility="private")

    def open(self, event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        """A video has arrived."""
        visit = self._visit(request)
        self._desk.open(visit, event._data)
        return self._begin(f"Reading {visit.name}…")

    def ask_again(self, request: gr.Request) -> tuple[Any, ...]:
        """The button: the same video, perhaps other names."""
        visit = self._visit(request)
        visit.ask(SCORES, MAP, TIMELINE)
        return self._begin("Recognising…") if visit.token is not None else (gr.skip(),) * 6

    def _begin(self, text: str) -> tuple[Any, ...]:
        grey = markup.skeleton()
        return markup.loading(text), grey, "", markup.skeleton(1), markup.skeleton(2), gr.update(visible=False)

    async def recognise(self, names: str, request: gr.Request) -> tuple[Any, ...]:
        """Read the video if that was not done, and score the names."""
        visit = self._visit(request)
        newest = visit.ask(SCORES, MAP, TIMELINE)
        visit.labels, visit.shown = typed_names(names), ()
        try:
            read = await self._desk.read(visit)
            frames = self._strip(visit)
            if visit.labels is None and not (self._service.labels or self._info.class_names):
                note = markup.done("The video is read.")
                return (
                    (note, _NO_NAMES, "", frames, _NO_TIMELINE, gr.update(visible=False))
                    if newest()
                    else (gr.skip(),) * 6
                )
            status, bars = await self._scores(visit)
        except Exception as error:
            if not newest():
                return (gr.skip(),) * 6
            frames = _NO_STRIP if visit.read is None else self._strip(visit)
            return self._desk.told(error, visit), "", "", frames, _NO_TIMELINE, gr.update(visible=False)
        if not newest():
            return (gr.skip(),) * 6
        late = read.info.duration_seconds > AT_ONCE_SECONDS
        if late:
            waits = markup.empty("Not made yet", "This video is long: its timeline is made when you ask for it.")
        else:
            waits = markup.loading("Making the timeline…") + markup.skeleton(2)
        return status, bars, markup.loading("Looking where the model looks…"), frames, waits, gr.update(visible=late)

    async def _scores(self, visit: Visit) -> tuple[str, str]:
        """The status line and the bars for where the dial stands; asked again if it was moved meanwhile."""
        read = await self._desk.read(visit)
        while True:
            strength = visit.strength
            scores = await self._service.classify(read, labels=visit.labels, strength=strength)
            if visit.strength == strength:
                break
        best = scores.top(BARS)
        visit.shown = tuple(one.label for one in best)
        if visit.chosen not in visit.shown:
            visit.chosen = best[0].label
        info = read.info
        said = f"{visit.name}: {info.duration_seconds:.1f} s, {info.width} × {info.height}, {info.frame_count} frames"
        if info.lost_frames:
            said += f"; {info.lost_frames} frames were lost to damage in the file"
        names = scores.classes.names
        bars = markup.bars(best, total=len(names), chosen=visit.chosen, none_of_these=scores.none_of_these)
        return markup.done(said), bars

    async def turn_dial(self, strength: float, request: gr.Request) -> tuple[Any, ...]:
        """The same features would not do: the adapters sit inside the model. The frames are kept, so nothing is decoded again."""
        visit = self._visit(request)
        visit.strength = strength
        if not visit.shown:
            return gr.skip(), gr.skip()
        newest = visit.ask(SCORES)
        try:
            answer = await self._scores(visit)
        except Exception as error:
            return (self._desk.told(error, visit), gr.skip()) if newest() else (gr.skip(), gr.skip())
        return answer if newest() else (gr.skip(), gr.skip())

    async def choose(self, event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        """A bar was pressed."""
        visit = self._visit(request)
        place = event._data.get("place") if isinstance(event._data, dict) else None
        if not isinstance(place, int) or not 0 <= place < len(visit.shown):
            return gr.skip(), gr.skip()
        visit.chosen = visit.shown[place]
        newest = visit.ask(SCORES)
        try:
            _, bars = await self._scores(visit)
        except Exception as error:
            return gr.skip(), self._desk.told(error, visit)
        return (bars if newest() else gr.skip()), markup.loading("Looking where the model looks…")

    async def explain(self, request: gr.Request) -> tuple[Any, ...]:
        """Where the model looks for the chosen label."""
        visit = self._visit(request)
        label, read = visit.chosen, visit.read
        if label is None or read is None or not visit.shown:
            return gr.skip(), gr.skip()
        newest = visit.ask(MAP)
        try:
            found = await self._service.explain(read, label=label, labels=visit.labels, strength=visit.strength)
        except Exception as error:
            return (self._desk.told(error, visit), gr.skip()) if newest() else (gr.skip(), gr.skip())
        if not newest():
            return gr.skip(), gr.skip()
        said = f"Where the model looks for “{label}” (lighter: more). The line under a frame is its share of that."
        if found.difference is None:
            said += " This model has no difference branch, so “What changes” shows nothing."
        return markup.done(said), self._strip(visit, found)

    async def timeline_at_once(self, request: gr.Request) -> Any:
        """The timeline of a short video, unasked."""
        visit = self._visit(request)
        if visit.read is None or not visit.shown or visit.read.info.duration_seconds > AT_ONCE_SECONDS:
            return gr.skip()
        return await self.timeline(request)

    def announce_timeline(self) -> tuple[Any, ...]:
        """The button was pressed."""
        return markup.loading("Making the timeline…") + markup.skeleton(2), gr.update(visible=False)

    async def timeline(self, request: gr.Request) -> Any:
        """What happens when, in windows of about two seconds."""
        visit = self._visit(request)
        read = visit.read
        if read is None or not visit.shown:
            return gr.skip()
        newest = visit.ask(TIMELINE)
        duration = read.info.duration_seconds
        recognizer = self._service.models[self._service.default_model]
        step = max(LEAST_STEP_SECONDS, duration / MOST_STEPS)
        window = max(WINDOW_SECONDS, recognizer.sampling.span_seconds(read.info.fps), step)
        top = min(len(visit.labels or self._service.labels or self._info.class_names), self._service.limits.most_top)
        try:
            windows = await self._service.timeline(
                self._desk.uploads.path(visit.token),
                name=visit.name,
                labels=visit.labels,
                window_seconds=window,
                step_seconds=step,
                top=top,
            )
        except Exception as error:
            return self._desk.told(error, visit) if newest() else gr.skip()
        if not newest():
            return gr.skip()
        note = f"Windows of {window:.3g} s, one every {step:.3g} s, at the model's own strength. Click or use the arrow keys to jump."
        return timeline_chart(windows, note=note)

    def _strip(self, visit: Visit, found: "Explanation | None" = None) -> str:
        assert visit.read is not None
        clips = visit.read.clips[self._service.default_model]
        return markup.strip(clips.pixels[0, 0].numpy(), clips.frame_indices[0, 0], clips.frame_seconds[0, 0], found)

    def _visit(self, request: gr.Request) -> Visit:
        return self._desk.visits.of(request.session_hash, "recognise")


_SHOW_LAYER = f"""(view) => {{
  const strip = document.querySelector("#strip");
  strip.classList.toggle("m2-show-heat", view === "{SHOW_HEAT}");
  strip.classList.toggle("m2-show-change", view === "{SHOW_CHANGE}");
}}"""
