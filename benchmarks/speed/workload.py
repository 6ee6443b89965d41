"""What is measured: sizes, models with random weights, clips and class names. Seeds are fixed."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from m2clip import create
from m2clip.config import BACKBONES, BackboneConfig
from m2clip.data.lists.class_files import read_classes
from m2clip.model.m2clip import M2CLIP
from m2clip.model.precision import lower

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@dataclass(frozen=True)
class Workload:
    """The size of everything. Videos are (width, height)."""

    backbone: BackboneConfig
    frames: int
    classes: int
    batch: int
    """Videos of a training step, and the larger batch of inference."""
    rounds: int
    """Measurements of each case beside each other."""
    small_video: tuple[int, int]
    large_video: tuple[int, int]
    short_seconds: int
    middle_seconds: int
    long_seconds: int
    scale_frames: tuple[int, ...]
    scale_images: tuple[int, ...]
    scale_batches: tuple[int, ...]
    scale_classes: tuple[int, ...]
    scale_videos: tuple[tuple[int, int], ...]


FULL = Workload(
    backbone=BACKBONES["ViT-B-16"],
    frames=8,
    classes=400,
    batch=4,
    rounds=3,
    small_video=(340, 256),
    large_video=(1280, 720),
    short_seconds=10,
    middle_seconds=60,
    long_seconds=600,
    scale_frames=(8, 16, 32),
    scale_images=(112, 224, 336),
    scale_batches=(1, 2, 4, 8),
    scale_classes=(10, 100, 400, 1000),
    scale_videos=((340, 256), (640, 360), (1280, 720), (1920, 1080)),
)

QUICK = Workload(
    backbone=BackboneConfig(
        image_size=32, patch_size=16, vision_width=64, vision_layers=2, vision_heads=2,
        embed_dim=32, text_width=32, text_layers=2, text_heads=2,
    ),
    frames=4,
    classes=12,
    batch=4,
    rounds=1,
    small_video=(64, 48),
    large_video=(96, 64),
    short_seconds=10,
    middle_seconds=60,
    long_seconds=600,
    scale_frames=(2, 4),
    scale_images=(32, 64),
    scale_batches=(1, 2),
    scale_classes=(4, 12),
    scale_videos=((64, 48), (96, 64)),
)  # fmt: skip
"""Everything in small, under the same names: runs through every line soon; its figures say nothing."""


def class_names(count: int) -> tuple[str, ...]:
    """The names of Kinetics-400, and beyond these the same names with a word more."""
    shipped = Path(str(resources.files("m2clip").joinpath("protocol", "shipped", "classes")))
    names = list(read_classes(shipped / "kinetics-400.csv").names)
    names += [f"{name} again" for name in names] + [f"{name} once more" for name in names]
    return tuple(names[:count])


def build_model(workload: Workload, *, classes: int | None = None, image_size: int | None = None) -> M2CLIP:
    """M2-CLIP with random weights; its adapters are fresh, which costs as much as if they had learned."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # another picture size than the backbone's is meant
        model = create(
            workload.backbone,
            class_names=class_names(workload.classes if classes is None else classes),
            frames=workload.frames,
            image_size=image_size,
        )
    assert isinstance(model, M2CLIP)
    return model


def clip_tower(workload: Workload) -> nn.Module:
    """The yardstick: the frozen CLIP image tower of transformers with random weights of the same sizes."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(**_vision_settings(workload.backbone), projection_dim=workload.backbone.embed_dim)
    torch.manual_seed(0)
    tower = CLIPVisionModelWithProjection._from_config(config, attn_implementation="sdpa")
    return tower.eval().requires_grad_(False)


def _vision_settings(sizes: BackboneConfig) -> dict[str, Any]:
    return {
        "hidden_size": sizes.vision_width,
        "intermediate_size": 4 * sizes.vision_width,
        "num_hidden_layers": sizes.vision_layers,
        "num_attention_heads": sizes.vision_heads,
        "image_size": sizes.image_size,
        "patch_size": sizes.patch_size,
        "hidden_act": "quick_gelu",
    }


def clips(workload: Workload, batch: int, *, frames: int | None = None, image_size: int | None = None) -> Tensor:
    """Noise [B, T, 3, H, W]: the time does not depend on what is seen."""
    side = workload.backbone.image_size if image_size is None else image_size
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, frames or workload.frames, 3, side, side, generator=generator)


@contextmanager
def autocast(precision: Precision) -> Iterator[None]:
    """PyTorch's own way to compute in bfloat16 with weights in float32."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        yield


def our_video_case(model: M2CLIP, videos: Tensor, *, precision: Precision) -> Callable[[], None]:
    """`encode_video` as `classify` and `evaluate` run it: in bfloat16 with weights that are stored so, which changes the model."""
    if precision == "bf16":
        lower(model)
    return inference_case(model.encode_video, videos, precision="fp32")


def inference_case(function: Callable[..., Any], *arguments: Any, precision: Precision) -> Callable[[], None]:
    """A call without gradients."""

    def run() -> None:
        with torch.inference_mode(), autocast(precision):
            function(*arguments)

    return run


def weights_file(workload: Workload, folder: Path) -> Path:
    """A CLIP with random weights as a file of transformers' layout, about 600 MB for ViT-B/16; one that is there is kept."""
    from transformers import CLIPConfig, CLIPModel

    sizes = workload.backbone
    path = folder / f"clip-{sizes.vision_width}-{sizes.vision_layers}" / "model.safetensors"
    if not path.exists():
        vision = _vision_settings(sizes)
        text = {
            "hidden_size": sizes.text_width,
            "intermediate_size": 4 * sizes.text_width,
            "num_hidden_layers": sizes.text_layers,
            "num_attention_heads": sizes.text_heads,
            "hidden_act": "quick_gelu",
        }
        torch.manual_seed(0)
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=sizes.embed_dim)
        partial = path.parent.with_suffix(".partial")
        CLIPModel(config).save_pretrained(partial)
        partial.rename(path.parent)
    return path
