"""Checkpoints to the Hugging Face hub, each with a card made from its own record. Loading is `m2clip.load("hf-hub:owner/name")`."""

from m2clip.hub.pushing import push, write_folder

__all__ = ["push", "write_folder"]
