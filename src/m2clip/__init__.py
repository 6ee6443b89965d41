"""m2clip: adapt a frozen CLIP to video action recognition.

The names below are the public surface; everything else may change. They load on first use: `import m2clip` costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from m2clip.errors import CheckpointError, ConfigError, M2CLIPError, ManifestError, VideoError

if TYPE_CHECKING:
    from m2clip import losses
    from m2clip.checkpoint import create, from_reference, load
    from m2clip.data.video import Video
    from m2clip.data.web import WebLimits
    from m2clip.explanations import Explanation, explain
    from m2clip.live import LiveWindow, recognize_live
    from m2clip.model.m2clip import M2CLIP
    from m2clip.model.video_clip import TextFeatures, VideoCLIP, VideoFeatures
    from m2clip.recognizer import Recognizer
    from m2clip.scoring import Prediction
    from m2clip.search import VideoIndex
    from m2clip.timeline import Window

__version__ = "0.1.0"

__all__ = [
    "M2CLIP",
    "CheckpointError",
    "ConfigError",
    "Explanation",
    "LiveWindow",
    "M2CLIPError",
    "ManifestError",
    "Prediction",
    "Recognizer",
    "TextFeatures",
    "Video",
    "VideoCLIP",
    "VideoError",
    "VideoFeatures",
    "VideoIndex",
    "WebLimits",
    "Window",
    "create",
    "explain",
    "from_reference",
    "load",
    "losses",
    "recognize_live",
]

_HOMES = {
    "create": "m2clip.checkpoint",
    "from_reference": "m2clip.checkpoint",
    "load": "m2clip.checkpoint",
    "Video": "m2clip.data.video",
    "WebLimits": "m2clip.data.web",
    "Explanation": "m2clip.explanations",
    "explain": "m2clip.explanations",
    "LiveWindow": "m2clip.live",
    "recognize_live": "m2clip.live",
    "M2CLIP": "m2clip.model.m2clip",
    "TextFeatures": "m2clip.model.video_clip",
    "VideoCLIP": "m2clip.model.video_clip",
    "VideoFeatures": "m2clip.model.video_clip",
    "Recognizer": "m2clip.recognizer",
    "Prediction": "m2clip.scoring",
    "VideoIndex": "m2clip.search",
    "Window": "m2clip.timeline",
}


def __getattr__(name: str) -> Any:
    if name == "losses":
        return import_module("m2clip.losses")
    if name not in _HOMES:
        raise AttributeError(f"module 'm2clip' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next look-up finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
