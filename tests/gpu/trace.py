"""What a trace of torch.profiler says of a step: time by kernel, gaps, copies, synchronisations.

    trace = Trace.read(Path("trace.json"))
    trace.by_group(); trace.by_kernel(); trace.gaps(); trace.copies(); trace.waits()

Times are in milliseconds. Of a CPU's trace the outermost operations count as kernels.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# In this order: the kernels of flash attention are made of matmuls, those of norms are reductions
GROUPS = {
    "attention": r"flash|fmha|sdpa|attention",
    "optimizer": r"multi_tensor_apply|adam|_foreach_",
    "matmul": r"gemm|gemv|nvjet|cutlass|cublas|xmma|splitk|matmul|linear|addmm|::mm\b|::bmm\b",
    "norm": r"layer_?norm|rms_?norm|gammabeta|rowwisemoments",
    "copies": r"^mem(cpy|set)|copy|catarray|::cat\b|::to\b",
    "pointwise": r"elementwise|reduce|softmax|triton|gelu|silu|dropout|aten::",
}
# Compiled kernels are named after all operations that they are made of, matmuls' biases among them
COMPILED = {"optimizer": r"_sqrt", "norm": GROUPS["norm"], "pointwise": r""}
ON_GPU = ("kernel", "gpu_memcpy", "gpu_memset")
ON_CPU = ("cpu_op", "cuda_runtime", "cuda_driver", "user_annotation")


@dataclass(frozen=True)
class Event:
    """Something that took `ms` from `start` on."""

    kind: str
    name: str
    start: float
    ms: float
    thread: Any = 0
    bytes: int = 0

    @property
    def end(self) -> float:
        return self.start + self.ms

    def within(self, start: float, end: float) -> float:
        """Milliseconds of it that lie between two moments."""
        return max(0.0, min(self.end, end) - max(self.start, start))


@dataclass(frozen=True)
class Gap:
    """Time in which no kernel ran, the kernels around it, and what the CPU did meanwhile."""

    start: float
    ms: float
    before: str
    after: str
    cpu: str


def group_of(name: str) -> str:
    """What a kernel belongs to, by its name."""
    lower = name.lower()
    groups = COMPILED if lower.startswith("triton_") else GROUPS
    return next((group for group, words in groups.items() if re.search(words, lower)), "other")


@dataclass
class Trace:
    """The events of one step: those of the device in their order, and the CPU's."""

    device: list[Event]
    cpu: list[Event]

    @classmethod
    def of(cls, events: Iterable[Event]) -> Trace:
        """Without kernels, what no other operation of its thread contains stands for them."""
        known = sorted(events, key=lambda event: (event.start, -event.ms))
        device = [event for event in known if event.kind in ON_GPU]
        cpu = [event for event in known if event.kind in ON_CPU]
        return cls(device or list(_outermost(cpu)), cpu)

    @classmethod
    def read(cls, path: Path) -> Trace:
        """From torch's file."""
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
        return cls.of(_event(event) for event in events if _counts(event))

    @property
    def span(self) -> tuple[float, float]:
        """When the device began, and when it was done."""
        return self.device[0].start, max(event.end for event in self.device)

    def by_kernel(self) -> list[tuple[str, float, int]]:
        """(name, ms, calls), the longest first."""
        return _sums((event.name, event.ms) for event in self.device)

    def by_group(self) -> list[tuple[str, float, int]]:
        """(group, ms, calls), the longest first."""
        return _sums((group_of(event.name), event.ms) for event in self.device)

    def copies(self) -> list[tuple[str, float, int, float]]:
        """(from where to where, ms, calls, MiB) of copies between host and device."""
        there = [e for e in self.device if re.search("DtoH|HtoD", e.name)]
        size = {e.name: sum(x.bytes for x in there if x.name == e.name) for e in there}
        sums = _sums((event.name, event.ms) for event in there)
        return [(name, ms, calls, size[name] / 2**20) for name, ms, calls in sums]

    def waits(self) -> list[tuple[str, float, int]]:
        """(call, ms, calls) in which the CPU waited for the device."""
        return _sums((e.name, e.ms) for e in self.cpu if "Synchronize" in e.name)

    def gaps(self, most: int = 10) -> tuple[float, list[Gap]]:
        """Milliseconds of all of them together, and the widest."""
        found, last = [], self.device[0]
        for event in self.device[1:]:
            if event.start > last.end:
                found.append((event.start - last.end, last, event))
            last = max(last, event, key=lambda one: one.end)
        widest = sorted(found, key=lambda gap: -gap[0])[:most]
        began = self.span[0]
        return sum(gap[0] for gap in found), [
            Gap(last.end - began, ms, last.name, event.name, self._doing(last.end, event.start))
            for ms, last, event in widest
        ]

    def _doing(self, start: float, end: float) -> str:
        """The CPU's part of the step, and the innermost call that lasted most of the time."""
        there = [e for e in self.cpu if e.within(start, end) > (end - start) / 2]
        parts = [e.name for e in there if e.kind == "user_annotation"]
        calls = [e for e in there if e.kind != "user_annotation"]
        call = min(calls, key=lambda e: e.ms).name if calls else "Python"
        return f"{parts[-1]}: {call}" if parts else call


def compress(path: Path) -> bytes:
    """torch's file without what takes most of its room, the arguments of calls, as a .gz."""
    kept = ("ph", "cat", "name", "pid", "tid", "ts", "dur")
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    small = [{key: event[key] for key in kept} for event in events if _counts(event)]
    names = [event for event in events if event.get("ph") == "M"]  # of processes and threads
    return gzip.compress(json.dumps({"traceEvents": names + small}).encode())


def _counts(event: dict[str, Any]) -> bool:
    return event.get("ph") == "X" and event.get("cat") in (*ON_GPU, *ON_CPU)


def _event(found: dict[str, Any]) -> Event:
    size = found.get("args", {}).get("bytes", 0)
    start, length = float(found["ts"]) / 1e3, float(found["dur"]) / 1e3
    return Event(found["cat"], found["name"], start, length, found["tid"], int(size))


def _outermost(events: list[Event]) -> Iterator[Event]:
    done: dict[Any, float] = {}
    for event in events:
        if event.kind == "cpu_op" and event.start >= done.get(event.thread, 0.0):
            done[event.thread] = event.end
            yield event


def _sums(pairs: Iterable[tuple[str, float]]) -> list[tuple[str, float, int]]:
    sums: dict[str, tuple[float, int]] = {}
    for name, ms in pairs:
        total, calls = sums.get(name, (0.0, 0))
        sums[name] = total + ms, calls + 1
    return sorted(((n, ms, c) for n, (ms, c) in sums.items()), key=lambda row: -row[1])
