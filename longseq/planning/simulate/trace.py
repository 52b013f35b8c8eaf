"""What a step does to memory, operation by operation, though no tensor has any.

with Trace(on_gpu=False) as trace:
    ...                                    # any torch code; all its tensors are on the meta device
trace.peak.total, trace.peak.by_kind       # bytes of tensors alive at once
trace.messages[("tp", "send")]             # Count(calls, bytes)
trace.flops

A storage counts from the operation that makes it until its last tensor is gone. Its kind follows
from who made it (kinds.py), and changes where its role does: what a layer leaves alive is kept.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map_only

from longseq.planning.simulate.arithmetic import flops_of, workspace_of
from longseq.planning.simulate.calls import (
    added_in_place,
    leaves,
    takes_device,
    tensors,
    without_data,
)
from longseq.planning.simulate.kinds import HOST, KEPT, KINDS, WORK, kind_now, line_now
from longseq.planning.simulate.shapes import META, plain

ATEN = torch.ops.aten
BETWEEN_TWO = (torch.ops.c10d.send.default, torch.ops.c10d.recv_.default)


@dataclass
class Count:
    """Messages of one sort: how many, and the bytes that this rank hands over."""

    calls: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Moment:
    """Bytes by kind after operation `at`, and where in the network that was."""

    at: int = 0
    total: int = 0
    by_kind: tuple[int, ...] = (0,) * len(KINDS)
    phase: str = ""
    line: str = ""


@dataclass
class _Held:
    bytes: int
    kind: int
    born: int
    gone: Any = field(repr=False)


class Trace(TorchDispatchMode):
    """Counts what runs within it. `on_gpu`: host memory is apart, kernels have their workspaces."""

    def __init__(self, on_gpu: bool) -> None:
        super().__init__()
        self.on_gpu = on_gpu
        self.phase = "build"
        self.operations = 0
        self.times = self.passes = 1  # how often what runs now would run: see layers.py
        self.axes: dict[str, str] = {}  # name of a process group → of its axis
        self._sent: dict[Any, Any] = {}  # what a message between two gives: that it is done
        self._held: dict[int, _Held] = {}
        self._bytes = [0] * (len(KINDS) + 1)
        self._forward_lines: dict[int, str] = {}
        self.restart()

    def restart(self) -> None:
        """Forget what was counted; what is alive stays so."""
        self.flops: Counter[str] = Counter()
        self.messages: dict[tuple[str, str], Count] = {}
        self.moments: list[Moment] = []
        self.phases: list[tuple[int, str]] = []
        self.peak = Moment()
        self.host_peak = self._bytes[HOST]
        self.began = self.operations
        self._forward_lines.clear()

    def enter(self, phase: str) -> None:
        """What runs from here on belongs to `phase`, a key of kinds.PHASES."""
        if phase == "head":
            self.keep()
        self.phase = phase
        self.phases.append((self.operations - self.began, phase))

    @contextmanager
    def repeated(self, times: int) -> Iterator[None]:
        """What runs within would run so many times."""
        before, self.times = self.times, self.times * times
        yield
        self.times = before

    def of_passes(self, count: int) -> None:
        """The micro batch that follows stands for `count` of them."""
        self.passes = self.times = count

    def run_times(self, times: int) -> None:
        """What follows is run so many times in this micro batch."""
        self.times = self.passes * times

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        kwargs = dict(kwargs or {})
        if func is ATEN._local_scalar_dense.default:  # a norm, or whether one overflowed
            dtype = args[0].dtype
            return False if dtype is torch.bool else 1.0 if dtype.is_floating_point else 0
        if func.namespace == "c10d":
            return self._message(func, args)
        host = self._on_host(func, args, kwargs)
        if takes_device(func):
            kwargs["device"] = META
        if not all(x.is_meta for x in tensors(args, kwargs)):
            args, kwargs = tree_map_only(Tensor, without_data, (args, kwargs))
        same = func is ATEN.lift_fresh.default or added_in_place(func, args)
        result = args[0] if same else plain(func, args, kwargs)
        if result is None:
            result = func(*args, **kwargs)
        for kind, flops in flops_of(func, args):
            self.flops[kind] += flops * self.times
        self._count(result, host, workspace_of(func, args) if self.on_gpu else 0)
        return result

    def _on_host(self, func: Any, args: Any, kwargs: Any) -> bool:
        """Whether the result lies in the memory of a GPU's host."""
        if not self.on_gpu:
            return False
        asked = kwargs.get("device")
        if asked is not None:
            return bool(asked.type == "cpu")
        first = next(tensors(args, {}), None)
        return first is None or self.is_on_host(first)

    def is_on_host(self, x: Tensor) -> bool:
        """Whether x lies in the memory of a GPU's host."""
        known = self._held.get(x.untyped_storage()._cdata)
        return known is not None and known.kind == HOST

    def _message(self, func: Any, args: Any) -> Any:
        """A collective: counted, and made of a number in place of each tensor."""
        handed: list[Tensor] = []
        axis = ""
        for item in leaves(args):
            if isinstance(item, Tensor):
                handed.append(item)
            elif isinstance(item, torch.ScriptObject) and not axis:
                name = dist.ProcessGroup.unbox(item).group_name
                axis = self.axes.get(name, "engine")
        kind = func._schema.name.removeprefix("c10d::").strip("_")
        if kind != "recv":  # is another rank's send
            # What the engine sends is sent for every layer, also for those that stand in
            times = self.passes if axis == "replicas" else self.times
            count = self.messages.setdefault((axis, kind), Count())
            count.calls += times
            count.bytes += sum(x.nbytes for x in handed) * times
        if func in self._sent:
            return self._sent[func]
        least = max(1, min((x.numel() for x in handed), default=1))

        def few(x: Tensor) -> Tensor:
            """Some numbers, in the proportions that are asked for."""
            return torch.zeros(x.numel() // least, dtype=x.dtype)

        with _disable_current_modes():
            result = func(*tree_map_only(Tensor, few, args))
        if func in BETWEEN_TWO:
            self._sent[func] = result
        return result

    def _count(self, result: Any, host: bool, workspace: int) -> None:
        """Take up the storages that `result` brings, and note the memory where it grew."""
        grown = workspace > 0
        for item in tensors((result,), {}):
            storage = item.untyped_storage()
            key = storage._cdata
            if key not in self._held and storage.nbytes():
                grown = True
                kind = HOST if host else kind_now(self.phase)
                gone = weakref.ref(storage, partial(self._gone, key))
                self._held[key] = _Held(storage.nbytes(), kind, self.operations, gone)
                self._bytes[kind] += storage.nbytes()
        if self.phase == "forward":
            number = torch._C._autograd._get_sequence_nr() - 1
            if number not in self._forward_lines:
                self._forward_lines[number] = line_now()
        if grown:
            self._note(workspace)

    def _gone(self, key: int, _: object) -> None:
        self._drop(key)

    def _drop(self, key: int) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._bytes[held.kind] -= held.bytes
            self._note(0)

    def _note(self, workspace: int) -> None:
        now = self._bytes.copy()
        now[WORK] += workspace
        self.host_peak = max(self.host_peak, now[HOST])
        total = sum(now[:HOST])
        line = ""
        if total > self.peak.total:
            line = self._line_at_work()
        moment = Moment(self.operations - self.began, total, tuple(now[:HOST]), self.phase, line)
        self.moments.append(moment)
        if total > self.peak.total:
            self.peak = moment

    def _line_at_work(self) -> str:
        """The line of the network that runs now; in backward the one whose gradient is made."""
        line = line_now()
        if self.phase == "backward" and "longseq/training/" in line:
            node = torch._C._current_autograd_node()
            if node is not None:
                return self._forward_lines.get(node._sequence_nr(), line)
        return line

    def mark(self) -> int:
        """A number for `made_since` and `keep`."""
        return self.operations

    def made_since(self, mark: int) -> list[tuple[int, bool]]:
        """(bytes, whether on the host) of living storages that were made after `mark`."""
        held = [h for h in self._held.values() if h.born > mark]
        return [(h.bytes, h.kind == HOST) for h in held]

    def keep(self) -> None:
        """What layers have left alive is kept for backward."""
        for held in self._held.values():
            if held.kind == WORK:
                self._move(held, KEPT)

    def label(self, tensor: Tensor | None, kind: str) -> None:
        """Count the storage of `tensor`, if there is one and not on the host, as `kind`."""
        if tensor is None:
            return
        held = self._held.get(tensor.untyped_storage()._cdata)
        if held is not None and held.kind != HOST:
            self._move(held, KINDS.index(kind))

    def forget(self, tensor: Tensor) -> None:
        """Do not count the storage of `tensor`, which stands for a shape."""
        self._drop(tensor.untyped_storage()._cdata)

    def _move(self, held: _Held, kind: int) -> None:
        self._bytes[held.kind] -= held.bytes
        self._bytes[kind] += held.bytes
        held.kind = kind
