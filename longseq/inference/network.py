"""This rank's share of a trained network, filled from a checkpoint of any layout.

    ready = make_ready(trained, config, device, ranks)
    ready.model.hidden(tokens, positions)

As in training, the plain network is parallelized on the meta device; then each parameter gets its
memory and its numbers, one after the other, so that no rank ever holds more than its share and one
parameter. Layers work in tiles, so that beside the hidden states only queries, keys, values and
what attention gives exist for all tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from longseq.checkpoint.format.boxes import Box, as_matrix, boxes
from longseq.checkpoint.format.manifest import Damaged
from longseq.checkpoint.format.tensors import Tensors, open_checkpoint
from longseq.checkpoint.trained import Trained
from longseq.config.arguments import Config
from longseq.engine.engine import DTYPES, attention_kernel
from longseq.engine.network.parallelize import parallelize
from longseq.engine.network.recompute import apply_recompute_policy
from longseq.errors import UserError
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.model.gpt import GPT
from longseq.parallel.agreement import Ranks
from longseq.parallel.mesh import Mesh
from longseq.parallel.sharding import sharding_of

WEIGHT = "weight/"


@dataclass(frozen=True)
class Ready:
    """A network to ask, on this rank; it may see `length` tokens at once."""

    trained: Trained
    config: Config
    model: GPT
    mesh: Mesh
    device: torch.device
    ranks: Ranks

    @property
    def length(self) -> int:
        return self.config.network.seq_length


def make_ready(trained: Trained, config: Config, device: torch.device, ranks: Ranks) -> Ready:
    """Build and fill it, on every rank; raises UserError for a checkpoint that is damaged, or has
    weights that are no numbers: what such a network says would be found out after all the work.
    """
    mesh = Mesh.create(config.layout)
    with torch.device("meta"):
        kernel = attention_kernel(config.memory)
        model = GPT(config.network, trained.manifest.vocabulary, kernel, seed=0)
    parallelize(model, mesh, config.memory.kernel)
    parts = mesh.tp.size if mesh.sequence_parallel else 1
    apply_recompute_policy(model, RecomputePolicy("full", tile=config.memory.tile_size), parts)
    try:
        with open_checkpoint(trained.path) as tensors:
            _fill(model, tensors, device, DTYPES[config.training.dtype])
    except Damaged as damage:
        raise UserError(f"checkpoint {trained.path} is damaged: {damage}") from None
    return Ready(trained, config, model.eval(), mesh, device, ranks)


def _fill(model: nn.Module, tensors: Tensors, device: torch.device, dtype: torch.dtype) -> None:
    """Memory and numbers for every parameter; one that two modules share is read once."""
    shared: dict[int, nn.Parameter] = {}
    for module_name, module in model.named_modules():
        for name, old in list(module.named_parameters(recurse=False)):
            if id(old) not in shared:
                numbers = _share(tensors, f"{module_name}.{name}", old)
                if not (numbers.sum().isfinite() or numbers.isfinite().all()):
                    raise UserError(
                        f"checkpoint {tensors.path}: {module_name}.{name} has weights that are no"
                        " numbers (nan or inf), as after a training that diverged: name an earlier"
                        " checkpoint, a folder checkpoints/step-N of its run"
                    )
                new = nn.Parameter(numbers.to(device, dtype), requires_grad=False)
                new.__dict__.update(old.__dict__)  # the sharding
                shared[id(old)] = new
            setattr(module, name, shared[id(old)])


def _share(tensors: Tensors, name: str, like: Tensor) -> Tensor:
    """This rank's piece of a parameter, fp32, in the shape of `like`; rows that the checkpoint has
    not are of the padding and 0.
    """
    tensor, sharding = WEIGHT + name, sharding_of(like)
    stored = tensors.manifest.tensors.get(tensor)
    shape = sharding.whole_shape(like.shape) if sharding else like.shape
    if stored is None or len(stored) != len(shape) or stored[1:] != tuple(shape[1:]):
        raise Damaged(f"{name} has shape {stored} and this network has {tuple(shape)}")
    whole, numbers, at = Box(0, 0, *as_matrix(stored)), torch.zeros(like.numel()), 0
    for box in boxes(tuple(shape), sharding, 0, like.numel()):
        if common := box.meet(whole):
            tensors.read(tensor, common, numbers[at : at + common.size])
        at += box.size
    return numbers.view(like.shape)
