"""The losses of a training, for the mean that its end tells (reports/runs.py: recent).

    losses = Losses(trainer.iteration)      # when it has resumed
    losses.add(loss)                        # of each iteration
    losses.go_back(iteration)               # those of later ones come again
    losses.recent(config)

All of a run are kept, 8 bytes each: to go back may lead past as many iterations as there are.
"""

from __future__ import annotations

import os
from array import array

from longseq.config.arguments import Config
from longseq.reports.runs import LAST, losses_before, recent


class Losses:
    """Those of this run, from the iteration on that it began after."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.own = array("d")

    def add(self, loss: float) -> None:
        self.own.append(loss)

    def go_back(self, iteration: int) -> None:
        """The training goes on after `iteration`, of this run or of one before."""
        del self.own[max(0, iteration - self.start) :]
        self.start = min(self.start, iteration)

    def recent(self, config: Config) -> list[float]:
        """What is to be averaged. Reads the runs before where there are too few of this one."""
        own = recent(self.own)
        if len(own) >= LAST:
            return own
        return recent([*losses_before(config.run.load, os.getcwd(), self.start + 1), *own])
