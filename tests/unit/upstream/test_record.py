"""What is kept back of the wall time where upstream's own loop trains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from longseq.config.checks import parse_config
from longseq.parallel.agreement import Ranks
from longseq.run.safety import stopping
from longseq.run.safety.stopping import REASONS, WALL_TIME, Stopper
from longseq.run.safety.watch import Watch
from longseq.upstream import record as upstream_record
from longseq.upstream.record import Recorder

WORDS = "--num-layers 2 --hidden-size 32 --num-attention-heads 4 --eval-interval 10"


class Clock:
    now = 0.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now


def test_a_validation_that_nothing_breaks_off_is_kept_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes between the look after a step and the save: 120 s, where a step takes 10."""
    clock = Clock()
    monkeypatch.setattr(stopping, "time", clock)
    monkeypatch.setattr(upstream_record, "time", clock)
    stopper = Stopper(1000.0)
    stopper.saved_in(5.0)
    run: Any = object.__new__(Recorder)
    run.config, run.watch, run.ranks = parse_config(WORDS.split(), 1), Watch(stopper, {}), Ranks()
    run.tracker, run.screen = SimpleNamespace(), SimpleNamespace()
    run._validated = 0.0

    def takes(seconds: float) -> Any:
        def theirs() -> tuple[dict[str, float], None]:
            clock.now += seconds
            return {}, None

        return theirs

    for run.iteration in range(1, 4):
        run.watch.at(run.iteration, "step")
        clock.now += 10
        assert stopper.should_stop(Ranks(), run._until_next_look()) is None
    run._evaluate(takes(120.0))
    found = {}
    for run.iteration, clock.now in ((9, 730.0), (10, 730.0), (9, 970.0)):
        found[run.iteration, clock.now] = stopper.should_stop(Ranks(), run._until_next_look())
    wall_time = REASONS[WALL_TIME]
    # 5 + 2 * (10 + 5) before a step, and 2 * 120 more before a validation
    assert found == {(9, 730.0): None, (10, 730.0): wall_time, (9, 970.0): wall_time}
