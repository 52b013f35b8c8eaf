"""A run held to its plan: the peak of its first steps beside what was planned for them.

    held = HeldToPlan(config, vocabulary, device)      # before the network is there
    peak = held.after(length, policy, copied)          # after each step; once it is not None

What the process held before is left out. Where both differ by more than a fifth, something is held
that was not planned: a sequence that was to be split and is not looks like this, and so does a
network that is kept whole. On a CPU it must be half, as glibc keeps holes of what was freed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from longseq.config.arguments import Config
from longseq.host.host_memory import peak_memory_gib, reset_peak, resident_gib
from longseq.memory.need import needed
from longseq.memory.recompute_policy import RecomputePolicy

GIB = 2**30
FAR = {"cpu": 0.5}  # of what was planned; elsewhere FIFTH
FIFTH = 0.2
OWN = 0.25  # GiB that Python and libraries may take meanwhile; a smaller difference says nothing
STEPS = 2  # the optimizer's state comes with the first


@dataclass(frozen=True)
class Peak:
    """GiB of this rank: planned, and measured above what it held before; `far` is too far apart."""

    planned: float
    measured: float
    far: float = FIFTH

    @property
    def line(self) -> str:
        """One sentence for the screen and the report."""
        both = f"{self.measured:.2f} GiB a rank, {self.planned:.2f} planned"
        if self.planned < OWN:
            return f"{both}: too small to compare"
        return f"{both} ({self.measured / self.planned - 1:+.0%})"

    @property
    def warning(self) -> str:
        """What to look at, empty where both agree."""
        difference = self.measured - self.planned
        if abs(difference) <= max(OWN, self.far * self.planned):
            return ""
        if difference < 0:
            return f"peak memory is {self.line}: the plan is too high for this run"
        return (
            f"peak memory is {self.line}: something is held that was not planned, such as a"
            " sequence or a network that was to be split and is not; ./longseq.sh simulate says"
            " what a rank should hold, by kind"
        )

    @property
    def record(self) -> dict[str, float]:
        """The keys of metrics.jsonl."""
        return {"planned_memory_gib": self.planned, "measured_memory_gib": self.measured}


class HeldToPlan:
    """Of one rank, on `device` cpu, cuda or xpu."""

    def __init__(self, config: Config, vocabulary: int, device: str) -> None:
        self.config, self.vocabulary, self.device = config, vocabulary, device
        self._steps = 0
        self._before = 0.0
        if device == "cpu":
            reset_peak()
            self._before = resident_gib()

    def after(self, length: int, policy: RecomputePolicy, copied: bool) -> Peak | None:
        """After a step of samples of `length` tokens: what there is to say, once in a run. copied:
        whether there is memory for a checkpoint's copy.
        """
        self._steps += 1
        if self._steps != STEPS:
            return None
        network = replace(self.config.network, seq_length=length)
        config = replace(self.config, network=network)
        need = needed(config, self.vocabulary, policy, self.device, copied)
        measured = peak_memory_gib(self.device) - self._before
        return Peak(need.tensors / GIB, measured, FAR.get(self.device, FIFTH))
