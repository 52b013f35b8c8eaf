"""Memory and first values of a model built on the meta device.

A weight is a function of its name and the seed alone: the whole one is made, in blocks of rows,
and a rank keeps its share of each. So every layout, ZeRO stage and device starts from the same
network.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from longseq.config.arguments import Network
from longseq.parallel.sharding import Sharding, sharding_of

BLOCK = 1 << 22  # random numbers at once: bounds the memory of a large matrix


def initialize(
    model: nn.Module,
    net: Network,
    seed: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Give every parameter of `model` memory on `device` and its first value, in `dtype`."""
    for _ in initialized_parameters(model, net, seed, device, dtype):
        pass


def initialized_parameters(
    model: nn.Module, net: Network, seed: int, device: torch.device, dtype: torch.dtype
) -> Iterator[nn.Parameter]:
    """As initialize, but yields each parameter when it has its value.

    Who iterates can partition one before the next is initialized: only one is ever whole (ZeRO 3).
    """
    tied: dict[int, nn.Parameter] = {}
    for module_name, module in model.named_modules():
        for name, old in list(module.named_parameters(recurse=False)):
            if id(old) not in tied:
                path = f"{module_name}.{name}"
                new = nn.Parameter(first_value(path, old, net, seed).to(device, dtype))
                new.__dict__.update(old.__dict__)  # the sharding, and DeepSpeed's mark
                tied[id(old)] = new
                yield new
            setattr(module, name, tied[id(old)])


def first_value(path: str, parameter: Tensor, net: Network, seed: int) -> Tensor:
    """This rank's share of the first value of `parameter`, in its shape, whose name is `path`.

    Norm weights 1, biases 0, matrices normal; those that write to the residual stream are scaled
    down by the square root of their number (GPT-2).
    """
    kind = path.rsplit(".", 1)[1]
    if kind == "bias":
        return torch.zeros(parameter.shape)
    if parameter.dim() == 1:
        return torch.ones(parameter.shape)
    scale = net.init_method_std
    if ".projection." in path or ".down." in path:
        scale /= math.sqrt(2 * net.num_layers)
    sharding = sharding_of(parameter)
    shape = sharding.whole_shape(parameter.shape) if sharding else parameter.shape
    return _normal(path, seed, shape, sharding).mul_(scale)


def _normal(path: str, seed: int, shape: torch.Size, sharding: Sharding | None) -> Tensor:
    """Standard normal numbers of `shape`, or the piece of them that `sharding` takes."""
    digest = hashlib.sha256(f"{seed}/{path}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    rows = max(1, BLOCK // shape[1])
    wanted = (
        None if sharding is None or sharding.dim != 0 else sharding.take(torch.arange(shape[0]))
    )
    pieces = []
    for start in range(0, shape[0], rows):
        block = torch.empty(min(rows, shape[0] - start), shape[1]).normal_(generator=generator)
        if wanted is not None:
            inside = (wanted >= start) & (wanted < start + len(block))
            block = block[wanted[inside] - start]
        elif sharding is not None:
            block = sharding.take(block)
        pieces.append(block)
    return torch.cat(pieces)
