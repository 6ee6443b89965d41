"""CLIP towers, adapters, heads and the whole model."""
