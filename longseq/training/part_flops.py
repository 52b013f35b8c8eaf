"""FLOPs of each part of a network in a step: forward, backward, and what backward makes again.

    with PartFlops(network) as counter:
        step()
    flops_text(counter.get_flop_counts(), kernel="sdpa")     # a table, whole step first

torch counts operations (torch.utils.flop_counter; a multiply-add is two). It finds the part that
backward works for by hooks on the tensors of a module, which recomputed layers break, as their
tensors come to be within backward. Here each operation of forward is remembered by the number of
its node in autograd's graph, and backward asks which node is at work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from longseq.attention.limits import KERNELS
from longseq.host.uncompiled import load_compiler

ATEN = torch.ops.aten
WHOLE = "Global"  # torch's name of all together
ALL = frozenset({WHOLE})
FORWARD = -1  # torch's number of no backward


class PartFlops(FlopCounterMode):
    """Counts by the names that `network` has for its modules."""

    def __init__(self, network: nn.Module) -> None:
        load_compiler()  # torch is about to
        super().__init__(display=False, custom_mapping=_ours())
        self.mod_tracker: Any = _Parts(network)


def _ours() -> dict[Any, Any]:
    """What torch has no count for, of shapes: sums in place, and the flash attention of CPUs."""

    def sum_of_products(_: Any, a: Any, b: Any, **__: Any) -> int:
        return int(2 * a[0] * a[1] * b[1])

    def forward(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(q, k, v))

    def backward(dy: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_backward_flop_count(dy, q, k, v))

    return {
        ATEN.addmm_: sum_of_products,
        ATEN._scaled_dot_product_flash_attention_for_cpu: forward,
        ATEN._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }


class _Parts:
    """Which parts an operation belongs to; in the place of torch's ModuleTracker.

    Numbers of nodes are of a thread, and on a GPU backward has its own, in which layers that it
    makes again begin from 0. So they are kept by the backward within which they were given.
    """

    def __init__(self, network: nn.Module) -> None:
        self._names = {module: _and_above(name) for name, module in network.named_modules()}
        self._running: list[frozenset[str]] = []
        # By the backward within which a node was given its number, and that
        self._nodes: dict[tuple[int, int], frozenset[str]] = {}
        self._results: dict[tuple[int, int], frozenset[str]] = {}  # of a part, its last node
        self._last = FORWARD, ALL  # within which backward, and its part, a node was made last
        self._made: dict[int, tuple[int, frozenset[str]]] = {}  # the same, of a backward's nodes

    def __enter__(self) -> _Parts:
        self._hooks = (
            nn.modules.module.register_module_forward_pre_hook(self._begin),
            nn.modules.module.register_module_forward_hook(self._end, always_call=True),
        )
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _begin(self, module: nn.Module, _: Any) -> None:
        self._running.append(self._names.get(module, ALL))

    def _end(self, _: nn.Module, __: Any, output: Any) -> None:
        parts = self._running.pop()
        node = output.grad_fn if isinstance(output, Tensor) else None
        if node is not None:
            place = torch._C._current_graph_task_id(), node._sequence_nr()
            self._results.setdefault(place, parts)

    @property
    def parents(self) -> frozenset[str]:
        """The parts that the operation at work belongs to, and WHOLE."""
        backward = torch._C._current_graph_task_id()
        around = self._at_work(backward)
        # What runs says it best: a group of layers is made again while its last one is at work
        parts = ALL.union(*self._running) if self._running else around
        if self._running or torch.is_grad_enabled():
            place = backward, torch._C._autograd._get_sequence_nr() - 1
            self._nodes[place] = self._nodes.get(place, parts) & parts
            self._last = backward, around
        return parts

    def _at_work(self, backward: int) -> frozenset[str]:
        """The parts for which this backward is at work; of FORWARD, none."""
        if backward == FORWARD:
            return ALL
        made, around = self._made.setdefault(backward, self._last)
        node = torch._C._current_autograd_node()
        place = made, -1 if node is None else node._sequence_nr()
        # Where a module's result has a node that does all of it, as a recomputed layer's
        return around | self._results.get(place, self._nodes.get(place, ALL))


def _and_above(name: str) -> frozenset[str]:
    """a.b.c → a.b.c, a.b and a, and WHOLE."""
    words = name.split(".") if name else []
    return ALL | {".".join(words[: n + 1]) for n in range(len(words))}


def flops_text(counts: Mapping[str, Mapping[Any, int]], kernel: str = "") -> str:
    """FLOPs of this rank by part of the network, and their share of all; `kernel` of attention."""
    whole = sum(counts.get(WHOLE, {}).values()) or 1
    lines = [f"{whole:>18,}   100%  the whole step"]
    for part in sorted(counts):
        flops = sum(counts[part].values())
        if part != WHOLE and flops:
            lines.append(f"{flops:>18,} {flops / whole:>6.1%}  {part}")
    if kernel in KERNELS and KERNELS[kernel].package.startswith("flash-attn"):
        lines.append(f"without attention: torch does not count that of {KERNELS[kernel].title}")
    else:
        lines.append("attention is counted as a whole square, as torch does; causal is half of it")
    return "\n".join(lines) + "\n"
