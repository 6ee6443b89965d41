"""Embeddings of many videos: into a Parquet file, from there into an index, and out of it by text or by example."""

from m2clip.bulk.source_model import SourceModel
from m2clip.search.video_index import Found, VideoIndex

__all__ = ["Found", "SourceModel", "VideoIndex"]
