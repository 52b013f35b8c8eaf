"""Sequence length that grows over a run, from short to long, as DeepSpeed's curriculum schedules
it.
"""

import math
from dataclasses import dataclass

from longseq.config.arguments import Config
from longseq.errors import UserError


@dataclass(frozen=True)
class Curriculum:
    """Lengths from `start` to `full` over `steps` iterations, in multiples of `multiple` tokens.

    root: 1 grows evenly, 2 with the square root of the steps: fast first, then slower.
    """

    start: int
    full: int
    steps: int
    multiple: int
    root: int = 1

    def __post_init__(self) -> None:
        if (
            not 0 < self.start <= self.full
            or self.start % self.multiple
            or self.full % self.multiple
        ):
            raise UserError(
                f"a curriculum from {self.start} to {self.full} tokens needs both to divide by"
                f" {self.multiple} and the first not above the second"
            )
        if self.steps < 1 or self.root < 1:
            raise UserError(
                f"a curriculum of {self.steps} steps and root {self.root}: both are at least 1"
            )

    def length(self, iteration: int) -> int:
        """What `Samples.batch` is given in iteration 1, 2, …: of it alone, so that resuming is
        exact. In iteration `steps` it is full, as in Megatron-DeepSpeed.
        """
        done = min(1.0, iteration / self.steps) ** (1 / self.root)
        grown = int(self.start + (self.full - self.start) * done)
        return max(self.start, grown - grown % self.multiple)


def curriculum_of(config: Config) -> Curriculum:
    """What the flags ask for; without a curriculum every step has --seq-length.

    Lengths are multiples of what both ends divide by: the same on every layout that takes both.
    """
    full, data = config.network.seq_length, config.data
    start = data.curriculum_seq_length or full
    multiple = math.gcd(start, full)
    return Curriculum(start, full, data.curriculum_iters or 1, multiple, data.curriculum_root)
