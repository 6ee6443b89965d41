"""CLIP weights and our own checkpoints: from files or the hub to models, every key accounted for."""

from m2clip.checkpoint.builder import create, load
from m2clip.checkpoint.convert import convert
from m2clip.checkpoint.record import read_info
from m2clip.checkpoint.reference import from_reference

__all__ = ["convert", "create", "from_reference", "load", "read_info"]
