"""--profile (PROFILE=1): what a few steps do, in RUN/profile.

    with profile.around(iteration):       # of each step; acts in a few of them
        step()
    profile.close()                       # after the last one, also of a run that is told to stop

rankN.json     a trace of each rank, which https://ui.perfetto.dev and chrome://tracing open
gaps.txt       of rank 0: the widest times in which nothing ran, and what stood on either side
flops.txt      of rank 0: FLOPs of each part of the network, in one step more (part_flops.py)
memory.pickle  of rank 0, on a GPU: what is allocated, for https://pytorch.org/memory_viz
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from longseq.config.checks import PROFILED
from longseq.training.part_flops import PartFlops, flops_text

WARM = 2  # steps before those that are traced; the last of PROFILED counts FLOPs
WIDEST = 10
GPU_WORK = {"kernel", "gpu_memcpy", "gpu_memset"}  # not what people have named, which is as well


class Profile:
    """Of one rank; `folder` None: of none. Steps are counted, as a run may go back to one."""

    def __init__(
        self,
        folder: Path | None,
        rank: int,
        device: str,
        network: nn.Module,
        kernel: str,
        say: Callable[[str], None],
    ) -> None:
        """kernel: of attention, as longseq.attention.limits calls it. say: told what is written."""
        self._folder, self._rank, self._device = folder, rank, device
        self._network, self._kernel, self._say = network, kernel, say
        self._step = 0
        self._traced: list[int] = []
        self._trace: Any = None

    @contextmanager
    def around(self, iteration: int) -> Iterator[None]:
        """One step, which is traced, counted or left alone."""
        self._step += 1
        if self._folder is None or not WARM < self._step <= PROFILED:
            yield
        elif self._step == PROFILED:
            with PartFlops(self._network) as counter:
                yield
            if self._rank == 0:
                text = flops_text(counter.get_flop_counts(), self._kernel)
                (self._folder / "flops.txt").write_text(text, encoding="utf-8")
            self._say(f"profile of {self._iterations}: {self._folder}")
        else:
            if not self._traced:
                self._start()
            with torch.profiler.record_function(f"iteration {iteration}"):
                yield
            self._traced.append(iteration)
            if self._step == PROFILED - 1:
                self._stop()

    def close(self) -> None:
        """After the last step: write what was traced where the run was too short for all of it."""
        if self._folder is None or self._step >= PROFILED:
            return
        if self._trace is not None:
            self._stop()
        short = f"the run made {self._step} of the {PROFILED} iterations that a profile takes"
        if self._traced:
            self._say(f"profile of {self._iterations}: {self._folder}, without flops.txt: {short}")
        else:
            self._say(f"--profile (PROFILE=1): nothing was profiled: {short}")

    @property
    def _iterations(self) -> str:
        return f"iterations {self._traced[0]} to {self._traced[-1]}"

    def _start(self) -> None:
        assert self._folder is not None
        self._folder.mkdir(exist_ok=True)
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would print beside the screen
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self._device == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
            if self._rank == 0:
                torch.cuda.memory._record_memory_history()
        self._trace = torch.profiler.profile(activities=activities)
        self._trace.start()

    def _stop(self) -> None:
        assert self._folder is not None
        self._trace.stop()
        trace = self._folder / f"rank{self._rank}.json"
        self._trace.export_chrome_trace(str(trace))
        self._trace = None
        if self._rank == 0:
            # The file: torch's own lists of events take ten times as long to make
            events = json.loads(trace.read_bytes())["traceEvents"]
            spans = spans_of(events, self._device)
            (self._folder / "gaps.txt").write_text(gaps_text(spans), encoding="utf-8")
            if self._device == "cuda":
                torch.cuda.memory._dump_snapshot(str(self._folder / "memory.pickle"))
                torch.cuda.memory._record_memory_history(enabled=None)


def spans_of(events: Iterable[Mapping[str, Any]], device: str) -> list[tuple[float, float, str]]:
    """(from, to, what) in microseconds of all that computed: kernels on a GPU, else operators."""
    wanted = GPU_WORK if device == "cuda" else {"cpu_op"}
    return [
        (event["ts"], event["ts"] + event["dur"], event["name"])
        for event in events
        if event.get("cat") in wanted
        and (device == "cuda" or event["name"].startswith(("aten::", "c10d::")))
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
