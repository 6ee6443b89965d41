"""The video side of a model as one file that runs without m2clip: ONNX, or a program of `torch.export`."""

from m2clip.export.writing import export_video

__all__ = ["export_video"]
