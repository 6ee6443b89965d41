"""Other ways of adapting CLIP to video, each from its paper: what M2-CLIP is measured against (docs/rivals.md)."""
