"""The page's frame: its heading, its three tabs, its colours."""

from html import escape

import gradio as gr

from m2clip.app.page.comparing import CompareTab
from m2clip.app.page.desk import Desk
from m2clip.app.page.picker import asset
from m2clip.app.page.recognise import RecogniseTab
from m2clip.app.page.searching import SearchTab

_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "DejaVu Sans", "sans-serif")


def build(desk: Desk) -> gr.Blocks:
    """The Blocks of the page."""
    with gr.Blocks(title="m2clip: what happens in a video", analytics_enabled=False, elem_id="m2clip") as blocks:
        gr.HTML(html_template=_heading(desk), apply_default_css=False)
        gr.HTML(
            html_template='<div role="status" aria-live="polite" class="m2-spoken"></div>',
            js_on_load=asset("announce.js"),
            apply_default_css=False,
        )
        with gr.Tabs():
            with gr.Tab("Recognise", render_children=True):
                RecogniseTab(desk)
            with gr.Tab("Search", render_children=True):
                SearchTab(desk)
            with gr.Tab("Compare", render_children=True):
                CompareTab(desk)

        def left(request: gr.Request) -> None:
            desk.leave(request.session_hash)

        blocks.unload(left)
    return blocks


def theme() -> gr.themes.Base:
    """Calm colours that hold their contrast in light and dark, and the fonts that the machine has."""
    made = gr.themes.Base(
        font=list(_FONTS), font_mono=["ui-monospace", "DejaVu Sans Mono", "monospace"], text_size="md"
    )
    return made.set(
        body_background_fill="#f5f6f4",
        body_background_fill_dark="#131618",
        body_text_color="#1b2024",
        body_text_color_dark="#e9ecee",
        body_text_color_subdued="#545c64",
        body_text_color_subdued_dark="#a9b2ba",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1c2124",
        block_info_text_color="#545c64",
        block_info_text_color_dark="#a9b2ba",
        block_label_text_color="#1b2024",
        block_label_text_color_dark="#e9ecee",
        block_title_text_color="#1b2024",
        block_title_text_color_dark="#e9ecee",
        input_background_fill="#ffffff",
        input_background_fill_dark="#14181a",
        input_border_color="#7f8990",
        input_border_color_dark="#76818a",
        input_placeholder_color="#697179",
        input_placeholder_color_dark="#949da5",
        border_color_primary="#d6dadd",
        border_color_primary_dark="#343b40",
        slider_color="#0b6b66",
        slider_color_dark="#4fc4ba",
        checkbox_label_border_color="#7f8990",
        checkbox_label_border_color_dark="#76818a",
        checkbox_border_color="#7f8990",
        checkbox_border_color_dark="#76818a",
        checkbox_background_color_selected="#0b6b66",
        checkbox_background_color_selected_dark="#2a958c",
        button_primary_background_fill="#0b6b66",
        button_primary_background_fill_dark="#4fc4ba",
        button_primary_background_fill_hover="#095550",
        button_primary_background_fill_hover_dark="#7ad6ce",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#06201e",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_dark="#262c30",
        button_secondary_border_color="#7f8990",
        button_secondary_border_color_dark="#76818a",
        button_secondary_text_color="#1b2024",
        button_secondary_text_color_dark="#e9ecee",
        input_border_width="1px",
        input_border_width_dark="1px",
        block_border_width="0px",
        block_shadow="none",
        block_padding="0px",
        color_accent="#0b6b66",
    )


def _heading(desk: Desk) -> str:
    name = desk.service.default_model
    info = desk.service.models[name].model.info
    classes = f"{len(info.class_names)} classes of its own" if info.class_names else "no classes of its own"
    shapes = " It knows coloured shapes, and nothing of the world." if info.backbone == "builtin" else ""
    calibrated = ", calibrated scores" if info.calibration is not None else ""
    # Gradio would put each rule of its option css below its own class, and those for phones elsewhere.
    return (
        f"<style>{asset('page.css')}</style>"
        '<header class="m2-heading"><h1>What happens in a video?</h1>'
        f"<p><strong>{escape(name)}</strong>: {escape(info.method)} on {escape(info.backbone)}, {info.sampling.frames} frames a clip, "
        f"{classes}{calibrated}.{shapes} Everything stays on the machine that serves this page.</p></header>"
    )
