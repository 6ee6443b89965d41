"""The place where a video is chosen, dropped, recorded or picked from the examples, and its player."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from m2clip.app.page.examples import Example
from m2clip.app.page.uploads import size_text

if TYPE_CHECKING:
    import gradio

    from m2clip.app.limits import Limits

ENDINGS = ("mp4", "webm", "mov", "mkv", "avi", "m4v", "mpg", "mpeg", "ts", "mts", "ogv", "3gp", "flv", "wmv", "gif")
"""File endings that are taken for a video's where the browser knows no type; whether it is one, decoding tells."""


def asset(name: str) -> str:
    """The text of a file of this page."""
    return files("m2clip.app.page").joinpath("assets", name).read_text("utf-8")


def picker(limits: "Limits", examples: Sequence[Example], *, elem_id: str) -> "gradio.HTML":
    """A gr.HTML whose event `upload` carries the token and the name of a video that has arrived."""
    import gradio

    shown = "".join(
        f'<li><button type="button" data-example="{one.key}" data-name="{escape(one.name)}">'
        f'<img src="{one.picture}" alt=""><span>{escape(one.name)}</span></button></li>'
        for one in examples
    )
    offered = (
        f'<div class="m2-examples"><p class="m2-label">Or an example (drawings made by this program)</p><ul>{shown}</ul></div>'
        if shown
        else ""
    )
    minutes = limits.most_seconds / 60
    html = f"""
<div class="m2-picker" data-state="empty" data-most-bytes="{limits.most_bytes}" data-most-seconds="{limits.most_seconds:g}"
  data-endings="{" ".join(ENDINGS)}">
  <div class="m2-drop">
    <p class="m2-title">Drop a video here</p>
    <p class="m2-actions"><button type="button" class="m2-button m2-choose">Choose a file</button>
    <button type="button" class="m2-button m2-record">Record</button></p>
    <p class="m2-note">up to {size_text(limits.most_bytes)} and {minutes:.3g} minutes; it stays on the machine of this server</p>
  </div>
  <div class="m2-player">
    <video playsinline controls aria-label="The chosen video"></video>
    <p class="m2-note m2-unplayable" hidden>This browser cannot play the file. If it is whole, recognition works all the same.</p>
    <p class="m2-picked"></p>
    <p class="m2-actions"><button type="button" class="m2-button m2-stop">Stop recording</button>
    <button type="button" class="m2-button m2-choose m2-choose-again">Choose another</button>
    <button type="button" class="m2-button m2-record m2-record-again">Record</button></p>
  </div>
  <progress hidden max="1" value="0" aria-label="Upload"></progress>
  <p class="m2-picker-trouble" role="alert" hidden></p>
  <input type="file" accept="video/*,{",".join("." + ending for ending in ENDINGS)}" aria-label="Video file" tabindex="-1" hidden>
  {offered}
</div>"""
    return gradio.HTML(html_template=html, js_on_load=asset("picker.js"), elem_id=elem_id, apply_default_css=False)


def names_file(box_id: str) -> "gradio.HTML":
    """A button that fills the text box `box_id` from a text file, inside the browser."""
    import gradio

    html = f"""<div class="m2-names-file" data-box="{box_id}"><button type="button" class="m2-button">Load names from a text file</button>
<input type="file" accept=".txt,.csv,text/plain,text/csv" aria-label="Text file with action names" tabindex="-1" hidden>
<span class="m2-note" role="status"></span></div>"""
    return gradio.HTML(html_template=html, js_on_load=asset("names.js"), apply_default_css=False)
