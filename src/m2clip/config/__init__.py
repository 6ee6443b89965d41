"""What a run, a model and a backbone may be told; nothing here imports torch."""

from m2clip.config.model import BACKBONES, METHOD_TERMS, BackboneConfig, Method, ModelConfig
from m2clip.config.run import LossConfig, Precision, RunConfig, Sharding, Share, TrainConfig, checked, load_config

__all__ = [
    "BACKBONES",
    "METHOD_TERMS",
    "BackboneConfig",
    "LossConfig",
    "Method",
    "ModelConfig",
    "Precision",
    "RunConfig",
    "Sharding",
    "Share",
    "TrainConfig",
    "checked",
    "load_config",
]
