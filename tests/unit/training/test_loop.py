"""A validation that is broken off: nothing since the last save is lost, and what is left is done
later.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from longseq.config.checks import parse_config
from longseq.data.samples.curriculum import curriculum_of
from longseq.errors import EXIT_DONE, EXIT_FAILED, EXIT_NO_ROOM, EXIT_STOPPED_EARLY
from longseq.parallel.agreement import Ranks
from longseq.run.safety.stopping import TERM, Stopper
from longseq.run.safety.watch import Watch
from longseq.run.throughput import Rates
from longseq.training.loop import Training
from longseq.training.losses import Losses
from longseq.training.trainer import Evaluation, StepResult

RATES = Rates(0.0, 0.0, 0.0, 0.0)
WORDS = "--num-layers 2 --hidden-size 32 --num-attention-heads 4 --eval-iters 9 --eval-interval 2"


class Fake:
    """A Training whose steps and batches take no time; a signal comes in that batch of a
    validation.
    """

    def __init__(
        self, total: int, signal_in: int | None, done: int = 0, saves: bool = True
    ) -> None:
        self.stopper, self.signal_in = Stopper(), signal_in
        self.records: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.saved: Path | None = None
        self.training = one = object.__new__(Training)
        one.config = parse_config(f"{WORDS} --train-iters {total}".split(), 1)
        one.watch, one.stopper, one.ranks = Watch(self.stopper, {}), self.stopper, Ranks()
        one.validation_loss, one._broken_off = None, ""
        given: dict[str, Any] = {
            "trainer": SimpleNamespace(iteration=done, evaluate=self.evaluate),
            "valid_feed": object(),
            "announcer": mock.MagicMock(),
            "rewind": SimpleNamespace(due=False),
            "profile": SimpleNamespace(around=lambda _: nullcontext(), close=lambda: None),
            "tracker": SimpleNamespace(log=self.records.append),
            "screen": SimpleNamespace(iteration=lambda _: None, note=self.notes.append),
            "kept": SimpleNamespace(
                advance=dict,
                has=lambda iteration: not saves or self.saved == Path(f"step-{iteration}"),
                newest=None,
            ),
            "step": self.step,
            "save": self.save if saves else lambda: None,
            "_look_for_stragglers": lambda _: {},
            "_complete_last": lambda _: None,
        }
        vars(one).update(given)

    def step(self) -> dict[str, Any]:
        self.training.trainer.iteration += 1
        return {"iteration": self.training.trainer.iteration, "iteration_time": 0.0}

    def save(self) -> None:
        self.saved = self.training.kept.newest = Path(f"step-{self.training.trainer.iteration}")

    def evaluate(self, _: object, batches: int, look: Callable[[int, Any], None]) -> Evaluation:
        for number in range(batches):
            look(number, lambda: None)
            if number == self.signal_in:
                self.stopper.ask(TERM)
        return Evaluation(1.5, {"loss_after_64": 1.5})


def test_a_signal_in_a_validation_saves_and_stops() -> None:
    run = Fake(total=10, signal_in=0)
    assert run.training.run() == EXIT_STOPPED_EARLY
    assert run.saved == Path("step-2")
    text = "the validation was broken off after 1 of 9 batches"
    assert run.notes == [f"stopping after iteration 2: SIGTERM; {text}"]
    assert [record["iteration"] for record in run.records] == [1, 2]
    assert run.records[-1]["event"] == text
    assert not any(name.startswith(("validation", "loss")) for name in run.records[-1])
    assert run.training.validation_loss is None


def test_the_one_after_the_last_iteration_is_made_by_a_run_that_goes_on() -> None:
    """All is trained and saved, but 0 would end a chain, and that loss would never be."""
    run = Fake(total=4, signal_in=0, done=3)
    assert run.training.run() == EXIT_STOPPED_EARLY
    assert run.saved == Path("step-4")
    assert run.notes == [
        "stopping after iteration 4: SIGTERM; the validation was broken off after 1 of 9 batches,"
        " LOAD makes it"
    ]
    again = Fake(total=4, signal_in=0, done=4)
    assert again.training.run() == EXIT_STOPPED_EARLY
    assert again.notes == run.notes
    rest = Fake(total=4, signal_in=None, done=4)
    assert rest.training.run() == EXIT_DONE
    assert (rest.training.validation_loss, rest.records, rest.notes) == (1.5, [], [])


@pytest.mark.parametrize(("saves", "code"), [(False, EXIT_FAILED), (True, EXIT_NO_ROOM)])
def test_of_the_last_nothing_can_be_had_without_a_checkpoint(saves: bool, code: int) -> None:
    run = Fake(total=2, signal_in=0, saves=saves)
    if saves:
        run.training.save = lambda: None  # type: ignore[method-assign]
    assert run.training.run() == code


def test_told_to_stop_it_lacks_room_for_what_it_did() -> None:
    """Whether or not there is an older checkpoint; and the end alone speaks of it."""
    for newest in (None, Path("step-1")):
        run = Fake(total=10, signal_in=0)
        run.training.save = lambda: None  # type: ignore[method-assign]
        run.training.kept.newest = newest
        assert run.training.run() == EXIT_NO_ROOM
        assert run.training.kept.ends_at == 2


def test_a_stop_that_comes_in_a_save_adds_neither_a_step_nor_a_save() -> None:
    """The margin is of a step and a save: they would come between a wish and what it saves."""
    run = Fake(total=9, signal_in=None)
    run.training.config = parse_config(
        f"{WORDS} --train-iters 9 --save-interval 3 --save x".split(), 1
    )
    saved: list[int] = []

    def save() -> None:
        if run.training.trainer.iteration not in saved:
            saved.append(run.training.trainer.iteration)
        run.stopper.ask(TERM)
        run.save()

    run.training.save = save  # type: ignore[method-assign]
    assert run.training.run() == EXIT_STOPPED_EARLY
    assert saved == [3]


def test_a_save_that_has_ended_is_in_the_margin_at_once() -> None:
    """It ends steps after it began; until the next one began, the margin was that of none."""
    run = Fake(total=1, signal_in=None)
    vars(run.training.kept).update(advance=lambda: {"checkpoint_seconds": 50.0}, seconds=50.0)
    assert run.training.run() == EXIT_DONE
    assert run.stopper.margin(0.0) == 5 + 2 * 50


def steps(words: str, loss: float) -> tuple[list[dict[str, Any]], list[int], list[str]]:
    """Of three steps with this loss alone: the records, the lengths read ahead, the warnings."""
    one: Any = object.__new__(Training)
    one.config = parse_config(f"{WORDS} {words}".split(), 1)
    ahead: list[int] = []
    warned: list[str] = []

    def step(_: object, meanwhile: Callable[[], None]) -> StepResult:
        meanwhile()
        one.trainer.iteration += 1
        return StepResult(loss, loss, 0.1, True)

    one.trainer = mock.MagicMock(iteration=0, step=step)
    one.trainer.parts.seconds.return_value = {}
    one.trainer.device.type = "cpu"
    one.announcer = mock.MagicMock()
    one.announcer.rates.return_value, one.announcer.peak_memory.return_value = RATES, {}
    one.announcer.restarted.return_value = []
    one.rewind = SimpleNamespace(next_sample=lambda: 0, told=list)
    one.train_feed = SimpleNamespace(
        step=lambda *_: [], ahead=lambda _, length: ahead.append(length)
    )
    one.screen = SimpleNamespace(warn=warned.append)
    one.spikes, one.losses, one.lengths = SimpleNamespace(), Losses(0), curriculum_of(one.config)
    one._told_empty = set()
    return [one.step() for _ in range(3)], ahead, warned


def test_a_curriculum_has_its_full_length_in_its_last_iteration() -> None:
    """And on a GPU what is read ahead is as long as what is asked for then."""
    grows = "--seq-length 96 --curriculum-seq-length 32 --curriculum-iters 3 --train-iters 3"
    records, ahead, _ = steps(grows, 1.0)
    lengths = [record["sequence_length"] for record in records]
    assert lengths == [32, 64, 96]
    assert ahead == lengths[1:]


def test_that_no_label_counts_is_said_once_and_not_that_the_weights_stay() -> None:
    """Adam's moments and the weight decay change them: nothing comes of the batch alone."""
    warned = steps("--train-iters 3", 0.0)[2]
    assert len(warned) == 1
    assert warned[0].startswith("no label of iteration 1 counts (")
    assert warned[0].endswith(": it gives no gradient")
