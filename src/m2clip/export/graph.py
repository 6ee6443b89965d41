"""What is exported: from the pixels of clips to embeddings and probabilities, as one module, and its trace for any B and T."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from m2clip.data.transforms import PixelStatistics
from m2clip.errors import ConfigError
from m2clip.model.video_clip import VideoCLIP
from m2clip.scoring import calibrated, scores
from m2clip.video_scores import Classes

INPUT = "pixels"
DIMENSIONS = {0: "batch", 1: "frames"}
"""The dimensions of the input that are free, by their names in the file."""


class VideoGraph(nn.Module):
    """The image side of a model with everything before and behind it that a user would have to write again.

    `classes`: labels whose embeddings become constants of the graph; None: no probabilities.
    """

    def __init__(self, model: VideoCLIP, classes: Classes | None) -> None:
        super().__init__()
        self.model = model
        self.statistics = PixelStatistics(model.info.sizes.mean, model.info.sizes.std)
        self.reading = None if classes is None else classes.reading
        self.head_columns = None if classes is None or classes.head_columns is None else list(classes.head_columns)
        self.temperature = 1.0 if classes is None else classes.temperature
        self.threshold = None if classes is None else classes.threshold(strength=model.strength)
        embeddings = None if classes is None else classes.embeddings.clone()  # they were made in inference mode
        self.class_embeddings: Tensor
        self.register_buffer("class_embeddings", embeddings)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Clips uint8 [B, T, S, S, 3], RGB -> by name, float32:

        `embedding` [B, D] of unit norm; `frames` [B, T, D], whose mean over T has its direction; with a visual head `visual_logits`
        [B, C] of its C trained classes; with labels `probabilities` [B, K] of them, as of one view in `Recognizer.score`, and
        `none_of_these`, bool [B], where the model has a threshold for them.
        """
        clips = self.statistics.normalize(pixels.permute(0, 1, 4, 2, 3))
        features = self.model.read_frames(*self.model.encode_frames(clips))
        found = {"embedding": F.normalize(features.embedding, dim=-1), "frames": features.frames}
        if features.visual_logits is not None:
            found["visual_logits"] = features.visual_logits
        if self.reading is None:
            return found
        logits = None
        if self.head_columns is not None and features.visual_logits is not None:
            logits = features.visual_logits[:, self.head_columns]
        read = scores(features.embedding, self.class_embeddings, logits)
        found["probabilities"] = calibrated(read.readings()[self.reading], self.temperature)
        if self.threshold is not None:
            found["none_of_these"] = read.evidence.amax(-1) < self.threshold
        return found


@torch.no_grad()
def traced(graph: VideoGraph) -> ExportedProgram:
    """The graph for any number of clips and of frames, from 1 on; holds only the tensors that it uses.

    Raises ConfigError for a method whose code cannot be traced.
    """
    size = graph.model.info.image_size
    example = torch.zeros(2, 5, size, size, 3, dtype=torch.uint8)
    free = {dimension: Dim(name, min=1) for dimension, name in DIMENSIONS.items()}
    slim = _without_unused(graph, example[:1, :2])
    try:
        program = torch.export.export(slim, (example,), dynamic_shapes={INPUT: free})
    except Exception as error:  # of PyTorch's tracer, which has no one kind
        raise ConfigError(
            f"a model of the method {graph.model.info.method} cannot be exported for any number of frames "
            f"({type(error).__name__}: {str(error).splitlines()[0][:200]}); evaluate it with m2clip"
        ) from error
    for part in program.graph_module.modules():  # what runs under a context is a graph of its own
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # it names files of this machine
    return program


class _Seen(TorchFunctionMode):
    """Notes every object that is handed to an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[int] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.ids.update(map(id, tree_leaves((args, kwargs))))
        return func(*args, **(kwargs or {}))


def _without_unused(graph: VideoGraph, pixels: Tensor) -> VideoGraph:
    """The same graph on the same numbers, frozen, without the tensors that a run does not touch: the text tower's, above all.

    A program keeps every tensor of its module. Which ones are used is observed, so that a method need not say it.
    """
    with _Seen() as seen:
        graph(pixels)
    tensors: dict[str, Tensor] = dict(graph.named_parameters()) | dict(graph.named_buffers())
    shared = {id(one): nn.Parameter(one.detach(), requires_grad=False) for one in graph.parameters()}
    slim = copy.deepcopy(graph, {id(one): one for one in graph.buffers()} | shared)
    for name, tensor in tensors.items():
        if id(tensor) not in seen.ids:
            owner, _, own_name = name.rpartition(".")
            delattr(slim.get_submodule(owner), own_name)
    return slim
