"""FSDP2: each process keeps a share of every weight, gradient and optimiser moment (Zhao et al. 2023, arXiv 2304.11277).

A block's attention and its MLP are gathered when they are used, forward and backward, and given up behind it; all else
(embeddings, norms, adapters, heads) is gathered once a step. Whoever wants the model as such, to save or to measure it, asks
for it `whole`. Where nothing is sharded, all of this does nothing.
"""

import copy
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from m2clip.model.clip import MLP, Attention
from m2clip.model.video_clip import VideoCLIP

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from lightning.fabric.wrappers import _FabricModule, _FabricOptimizer
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

Tree = TypeVar("Tree")

# The modules of each model that is sharded, without the tensors.
_SKELETONS: WeakKeyDictionary[VideoCLIP, VideoCLIP] = WeakKeyDictionary()


def shard(step: nn.Module, mesh: "DeviceMesh") -> nn.Module:
    """Cut the weights below `step` into shares along the mesh's data-parallel side, in place."""
    from torch.distributed.fsdp import fully_shard

    # Our blocks add to what a gathered part returns and never write into it, which is what FSDP2 warns of.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module", category=UserWarning)
    along = mesh["data_parallel"]
    for part in [module for module in step.modules() if isinstance(module, (Attention, MLP))]:
        fully_shard(part, mesh=along)
    single = {parameter for parameter in step.parameters() if parameter.ndim == 0}  # cannot be cut
    fully_shard(step, mesh=along, ignored_params=single)
    return step


def set_up(fabric: "Fabric", step: nn.Module, model: VideoCLIP) -> "_FabricModule":
    """`step`, which runs `model`, as the processes of this run share it. An optimiser has to be made of its parameters afterwards."""
    from lightning.fabric.strategies import ModelParallelStrategy

    model.to(fabric.device)
    if isinstance(fabric.strategy, ModelParallelStrategy):
        _SKELETONS[model] = _skeleton(model)
    # The logit scale is used by the loss, outside of the module that DDP watches. Each process gives it the gradient of the whole batch.
    outside = [name for name, parameter in step.named_parameters() if parameter is model.logit_scale]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(step, outside)
    return fabric.setup_module(step)


def _skeleton(model: VideoCLIP) -> VideoCLIP:
    """A copy whose tensors have shapes only."""
    empty = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, memo=cast(dict[int, Any], empty))


@contextmanager
def whole(model: VideoCLIP) -> Iterator[VideoCLIP]:
    """The model as a process by itself has it: the very model where it is not sharded, else a copy with all weights gathered.

    Every process has to come here, and may do with the copy what it likes; to write into it changes nothing.
    """
    skeleton = _SKELETONS.get(model)
    if skeleton is None:
        yield model
        return
    plain = copy.deepcopy(skeleton)
    plain.info = model.info
    plain.load_state_dict(
        {name: gathered_state(tensor.detach()) for name, tensor in model.named_parameters()}, assign=True
    )
    yield plain.train(model.training)


def gathered_state(tree: Tree) -> Tree:
    """Nested dicts and lists with each shared-out tensor in full. Every process has to ask."""
    if isinstance(tree, Mapping):
        return cast(Tree, {key: gathered_state(value) for key, value in tree.items()})
    if isinstance(tree, list):
        return cast(Tree, [gathered_state(value) for value in tree])
    return cast(Tree, tree.full_tensor()) if _is_share(tree) else tree


def own_share(tensor: Tensor, like: Tensor) -> Tensor:
    """Of a full tensor that every process has, what belongs to this one: cut as `like` is, and on its device."""
    tensor = tensor.to(like.device)
    if not _is_share(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state dict of full tensors, as `gathered_state` gave it."""
    optimizer.load_state_dict(state)
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim > 0:
                kept[name] = own_share(value, parameter)


def clip_gradients(fabric: "Fabric", module: nn.Module, optimizer: "_FabricOptimizer", *, most: float | None) -> Tensor:
    """Scale the gradient, which lies in shares or not, down to the norm `most`; returns the norm before. None: no limit."""
    limit = math.inf if most is None else most
    if not any(_is_share(parameter) for group in optimizer.param_groups for parameter in group["params"]):
        norm = fabric.clip_gradients(module, optimizer, max_norm=limit, error_if_nonfinite=False)
        assert norm is not None  # Fabric gives none only for value clipping
        return norm
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    local = [gradient.to_local() for gradient in gradients if _is_share(gradient)]
    singles = [gradient for gradient in gradients if not _is_share(gradient)]
    for single in singles:  # FSDP2 leaves them alone
        dist.all_reduce(single)
        single.div_(dist.get_world_size())
    squares = torch.zeros((), device=fabric.device)
    if local:
        squares = torch.nn.utils.get_total_norm(local).square().to(fabric.device)
    dist.all_reduce(squares)
    if singles:
        squares += torch.nn.utils.get_total_norm(singles).square()
    norm = squares.sqrt()
    scale = (limit / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_ does it
    for gradient in (*local, *singles):
        gradient.mul_(scale)
    return norm


def _is_share(value: object) -> TypeGuard["DTensor"]:
    if not isinstance(value, Tensor) or not (dist.is_available() and dist.is_initialized()):
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)
