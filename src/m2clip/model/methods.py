"""The methods by name: what a checkpoint and a configuration call them, and the class that each of them is."""

from collections.abc import Mapping

from m2clip.config import Method
from m2clip.model.m2clip import M2CLIP
from m2clip.model.rivals.aim import AIM
from m2clip.model.rivals.full import FullFineTuning
from m2clip.model.rivals.linear_probe import LinearProbe
from m2clip.model.rivals.st_adapter import STAdapterCLIP
from m2clip.model.rivals.text_prompts import TextPrompts
from m2clip.model.video_clip import VideoCLIP

METHODS: Mapping[Method, type[VideoCLIP]] = {
    "m2clip": M2CLIP,
    "frozen": VideoCLIP,
    "linear-probe": LinearProbe,
    "full": FullFineTuning,
    "st-adapter": STAdapterCLIP,
    "aim": AIM,
    "text-prompts": TextPrompts,
}
