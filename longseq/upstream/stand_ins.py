"""What Megatron-DeepSpeed imports and today's libraries lack, supplied from outside.

    provide(checkout)        # before its first import
    adapt()                  # after it: what it takes to run here at all

Modules that only tasks other than ours use (vision, other tokenizers, compression) become empty.
flash-attn, where it is not installed, becomes torch's flash kernel: no mask and no s², as with it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import types
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

# Used by other tasks than ours, imported by all
UNUSED = ("torchvision", "six", "regex", "transformers", "deepspeed.compression.compress")


class _Empty(types.ModuleType):
    """A module in which every name is a class that nobody uses."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Missing(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for what is not used, also where it is installed: its import takes
    seconds.
    """

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        if not any(name == unused or name.startswith(f"{unused}.") for unused in UNUSED):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing in it."""


def provide(checkout: Path) -> None:
    """Make `import megatron` that of the checkout, and let it find what it imports."""
    sys.path[:0] = [str(checkout)]
    sys.meta_path.insert(0, _Missing())
    sys.modules.setdefault("wandb", None)  # type: ignore[arg-type]  # it goes without; ours records
    # DeepSpeed counts the devices of a CPU by it
    os.environ.setdefault("LOCAL_SIZE", os.environ.get("LOCAL_WORLD_SIZE", "1"))
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")  # it insists, on GPUs


def has_flash_attention() -> bool:
    """Is the package there, whose kernel it calls?"""
    return find_spec("flash_attn") is not None


class TorchFlash(nn.Module):
    """Attention by torch's flash kernel, in the place of flash-attn's; fp32 as well."""

    def __init__(self, causal: bool = False, attention_dropout: float = 0.0, **_: Any) -> None:
        super().__init__()
        self.causal, self.dropout = causal, attention_dropout

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[b, s, heads, d] → [b, s, heads, d]."""
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        drop = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=drop, is_causal=self.causal)
        return out.transpose(1, 2)


class LayerNorm(nn.LayerNorm):
    """Torch's, with the argument that its pipeline gives to any."""

    def __init__(self, size: int, *, eps: float, sequence_parallel: bool) -> None:
        super().__init__(size, eps)


def adapt() -> None:
    """Put in, in its modules, what it takes to run on this machine; no number changes by it."""
    transformer: Any = import_module("megatron.model.transformer")
    gpt_model: Any = import_module("megatron.model.gpt_model")
    dataset_utils: Any = import_module("megatron.data.dataset_utils")
    sequence_parallel: Any = import_module("megatron.core.sequence_parallel")
    if sys.modules["wandb"] is None:  # its modules have looked
        del sys.modules["wandb"]
    dataset_utils.compile_helper = _nothing  # C++ for its own data sets, which are not read
    if gpt_model.LayerNorm is nn.LayerNorm:
        gpt_model.LayerNorm = LayerNorm
    if not has_flash_attention():
        transformer.FlashAttentionBuilder = None  # of a kernel for GPUs; it catches that
        transformer.flash_attn_varlen_func = _nothing  # it looks whether there is one
        transformer.FlashSelfAttention = TorchFlash
    sequence_parallel.vocab_sequence_parallel_cross_entropy = _cross_entropy_of(sequence_parallel)


def _nothing() -> None:
    """In the place of what is not used."""


def _cross_entropy_of(module: Any) -> Any:
    """The losses [s, b] of all tokens, from the logits [s/n, b, V] of this Ulysses rank's.

    Its own gathers a loss without its second dimension, which gloo refuses.
    """

    def losses(logits: Tensor, target: Tensor, _: float = 0.0) -> Tensor:
        mine = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
        state = module.cross_entropy
        group = state.get_sequence_parallel_group()
        whole: Tensor = _Gather.apply(mine.view_as(target), group)
        return whole

    return losses


class _Gather(Function):
    """[s/n, b] of each rank → [s, b] on all; backward leaves each its own part."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, group: Any) -> Tensor:
        size = dist.get_world_size(group)
        ctx.start, ctx.length = dist.get_rank(group) * len(mine), len(mine)
        whole = mine.new_empty(len(mine) * size, *mine.shape[1:])
        dist.all_gather_into_tensor(whole, mine.contiguous(), group=group)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].narrow(0, ctx.start, ctx.length), None
