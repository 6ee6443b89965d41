"""The fields of the API's forms, as /openapi.json describes them."""

from collections.abc import Iterable
from typing import Any

FIELDS: dict[str, dict[str, Any]] = {
    "file": {"type": "string", "format": "binary", "description": "The video."},
    "labels": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Names to choose from: the field repeated, one JSON list, or one text with commas. Default: the server's.",
        "example": ["waving a hand", "jumping"],
    },
    "top": {"type": "integer", "minimum": 1, "description": "How many results to give.", "example": 3},
    "strength": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "Share of the adapters' effect, 0 (the frozen CLIP) to 1. Default: the checkpoint's.",
    },
    "model": {"type": "string", "description": "One of the models that /healthz names. Default: the first."},
    "window_seconds": {"type": "number", "exclusiveMinimum": 0, "default": 2.0, "description": "Length of a window."},
    "step_seconds": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 1.0,
        "description": "From one window's start to the next.",
    },
    "text": {"type": "string", "description": "What to search for, in words.", "example": "a person waving"},
}


def form_schema(names: Iterable[str], *, file: bool) -> dict[str, Any]:
    """The description of a request's body; `file`: whether the form must have a video (else it may)."""
    properties = {name: FIELDS[name] for name in ("file", *names)}
    schema = {"type": "object", "properties": properties, "required": ["file"] if file else []}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
