"""--on-spike rewind: back to the last checkpoint, and on without the batch that was at fault.

    rewind = Rewind(trainer, kept, spikes, tracker)
    trainer.consumed_samples = rewind.next_sample()    # before each batch
    done = rewind.plan(why, first, last)      # after a step whose update was left out for it
    if rewind.due:
        said = rewind.go(warn)                # the next step is the one after that checkpoint

Weights, optimizer, random states, iteration and position in the data are the checkpoint's again;
the iterations after it come again with the samples that they had, but for the batch. Every rank
calls all of this alike.
"""

from __future__ import annotations

from collections.abc import Callable

from longseq.checkpoint.left_out import LeftOut
from longseq.checkpoint.run_checkpoints import RunCheckpoints
from longseq.errors import BadNumbers
from longseq.run.safety.spikes import Spikes
from longseq.run.tracking import Tracker
from longseq.training.trainer import Trainer

MOST = 10  # times back to one checkpoint: what spikes more often is no accident of the data


class Rewind:
    """What a run goes back for, and what it leaves out from then on."""

    def __init__(
        self, trainer: Trainer, kept: RunCheckpoints, spikes: Spikes, tracker: Tracker
    ) -> None:
        self.trainer, self.kept, self.spikes, self.tracker = trainer, kept, spikes, tracker
        self.due: tuple[str, int, int] | None = None

    def next_sample(self) -> int:
        """The position in the data, behind samples that are left out where they would be next."""
        trainer, config = self.trainer, self.trainer.config
        return self.kept.left_out.next_sample(
            trainer.consumed_samples,
            config.global_batch_size,
            config.network.seq_length,
            self.kept.contents["sha256"],
        )

    def told(self) -> list[str]:
        """What to say in the record of an iteration: why the run went back to right before it."""
        return [batch.why for batch in self.kept.left_out.back_at(self.trainer.iteration - 1)]

    def plan(self, why: str, first: int, last: int) -> str:
        """Go back next, because of samples first to last; says what is done about them."""
        self.kept.settle()
        if self.kept.last is None:
            return "its update was left out: there is no checkpoint to go back to yet"
        self.due = why, first, last
        return "its update was left out, and the training goes back"

    def go(self, warn: Callable[[str], None]) -> str:
        """Do what was planned, and say it. Raises BadNumbers where that has no end."""
        assert self.due is not None
        why, first, last = self.due
        self.due = None
        progress = self.kept.go_back(warn)
        iteration, length = progress["iteration"], self.trainer.config.network.seq_length
        if len(self.kept.left_out.back_at(iteration)) >= MOST:
            raise BadNumbers(
                f"{why}; the training went back to iteration {iteration} {MOST} times already;"
                f" {self.kept.tell_last()}"
            )
        self.trainer.resume(progress)
        self.spikes.go_back(iteration, self.kept.spikes)
        self.tracker.go_back(iteration)
        said = f"{why}; went back to iteration {iteration}, and on without them"
        data = self.kept.contents["sha256"]
        self.kept.leave_out(LeftOut(first, last, length, iteration, said, data))
        return said
