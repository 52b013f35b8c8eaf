"""--profile (PROFILE=1): what a few steps do, in RUN/profile.

    with profile.around(iteration):       # of each step; acts in a few of them
        step()

rankN.json     a trace of each rank, which https://ui.perfetto.dev and chrome://tracing open
gaps.txt       of rank 0: the widest times in which nothing ran, and what stood on either side
flops.txt      of rank 0: FLOPs of each part of the network, counted in one step more
memory.pickle  of rank 0, on a GPU: what is allocated, for https://pytorch.org/memory_viz
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

WARM, TRACED = 2, 3  # steps before, and that are traced; one more counts FLOPs
WIDEST = 10
MODULE = "DeepSpeedEngine.module."
ATEN = torch.ops.aten


class Profile:
    """Of one rank; `folder` None: of none."""

    def __init__(self, folder: Path | None, rank: int, device: torch.device, first: int) -> None:
        """first: the iteration that the run begins with."""
        self._folder, self._rank, self._device = folder, rank, device
        self._begin = first + WARM
        self._trace: Any = None
        self.said = ""  # once, when all of it is written

    @contextmanager
    def around(self, iteration: int) -> Iterator[None]:
        """One step, which is traced, counted or left alone."""
        end = self._begin + TRACED
        if self._folder is None or not self._begin <= iteration <= end:
            yield
        elif iteration == end:
            with FlopCounterMode(display=False, custom_mapping=_attention()) as counter:
                yield
            if self._rank == 0:
                text = flops_text(counter.get_flop_counts())
                (self._folder / "flops.txt").write_text(text, encoding="utf-8")
            self.said = f"profile of iterations {self._begin} to {end - 1}: {self._folder}"
        else:
            if iteration == self._begin:
                self._start()
            with torch.profiler.record_function(f"iteration {iteration}"):
                yield
            if iteration == end - 1:
                self._stop()

    def _start(self) -> None:
        assert self._folder is not None
        self._folder.mkdir(exist_ok=True)
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would print beside the screen
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self._device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
            if self._rank == 0:
                torch.cuda.memory._record_memory_history()
        self._trace = torch.profiler.profile(activities=activities)
        self._trace.start()

    def _stop(self) -> None:
        assert self._folder is not None
        self._trace.stop()
        self._trace.export_chrome_trace(str(self._folder / f"rank{self._rank}.json"))
        if self._rank == 0:
            spans = spans_of(self._trace.events(), self._device.type)
            (self._folder / "gaps.txt").write_text(gaps_text(spans), encoding="utf-8")
            if self._device.type == "cuda":
                torch.cuda.memory._dump_snapshot(str(self._folder / "memory.pickle"))
                torch.cuda.memory._record_memory_history(enabled=None)
        self._trace = None


def _attention() -> dict[Any, Callable[..., int]]:
    """torch counts its flash attention on GPUs; here that of CPUs."""

    def forward(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(q, k, v))

    def backward(dy: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_backward_flop_count(dy, q, k, v))

    return {
        ATEN._scaled_dot_product_flash_attention_for_cpu: forward,
        ATEN._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }


def flops_text(counts: Mapping[str, Mapping[Any, int]]) -> str:
    """FLOPs of this rank by part of the network, forward and backward, and their share of all."""
    whole = sum(counts.get("Global", {}).values()) or 1
    lines = [f"{whole:>18,}   100%  the whole step"]
    for name in sorted(counts):
        part, flops = name.removeprefix(MODULE), sum(counts[name].values())
        # torch finds the end of a part in backward by its tensors, which dropout of 0 passes on
        if name.startswith(MODULE) and flops and not part.endswith("dropout"):
            lines.append(f"{flops:>18,} {flops / whole:>6.1%}  {part}")
    return "\n".join(lines) + "\n"


def spans_of(events: Any, device: str) -> list[tuple[float, float, str]]:
    """(from, to, what) in microseconds of all that computed: kernels on a GPU, else operators."""
    wanted = DeviceType.CUDA if device == "cuda" else DeviceType.CPU
    return [
        (event.time_range.start, event.time_range.end, event.name)
        for event in events
        if event.device_type == wanted
        and (device == "cuda" or event.name.startswith(("aten::", "c10d::")))
    ]


def gaps(
    spans: Sequence[tuple[float, float, str]], most: int = WIDEST
) -> list[tuple[float, float, str, str]]:
    """(length, begin, what ended there, what follows) of the widest gaps, the widest first."""
    found = []
    reached, last = None, ""
    for start, end, name in sorted(spans):
        if reached is not None and start > reached:
            found.append((start - reached, reached, last, name))
        if reached is None or end > reached:
            reached, last = end, name
    return sorted(found, key=lambda gap: -gap[0])[:most]


def gaps_text(spans: Sequence[tuple[float, float, str]]) -> str:
    """A table of them, in milliseconds from the first thing that ran."""
    if not spans:
        return "nothing ran\n"
    began, ended = min(span[0] for span in spans), max(span[1] for span in spans)
    lines = [f"{'ms':>10} {'at ms':>10}  between"]
    for length, at, before, after in gaps(spans):
        place = (at - began) / 1000
        lines.append(f"{length / 1000:10.3f} {place:10.3f}  {before} and {after}")
    lines.append(f"of {(ended - began) / 1000:.3f} ms")
    return "\n".join(lines) + "\n"
