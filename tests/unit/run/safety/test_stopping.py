"""Stopping in time: signals, the wall time with its margin, and agreement of the ranks."""

import socket
from itertools import pairwise
from typing import Any

import pytest

from longseq.errors import UserError
from longseq.parallel.agreement import Ranks
from longseq.run.safety import stopping
from longseq.run.safety.stopping import BrokenOff, Looks, Stopper, end_time, seconds_of
from longseq.run.safety.watch import Watch

ALONE = Ranks()


class Clock:
    def __init__(self) -> None:
        self.now, self.wall = 1000.0, 0.0

    def time(self) -> float:
        return self.now + self.wall

    def monotonic(self) -> float:
        return self.now


def set_clock(monkeypatch: pytest.MonkeyPatch, fake: Clock) -> Clock:
    monkeypatch.setattr(stopping, "time", fake)
    return fake


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return set_clock(monkeypatch, Clock())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("01:00:00", 3600), ("1-00:00:01", 86401), ("0:30:00", 1800), ("30m", 1800), (" 6h ", 21600)],
)
def test_walltime(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "60", "1:30", "x", "-1:00:00", "0s", "1:2:3:4", "$(x)", "1e3h", "9" * 5000 + "h"]
)
def test_walltime_that_is_none(text: str) -> None:
    with pytest.raises(UserError, match=r"WALLTIME=.* is not a time"):
        seconds_of(text)


def test_earliest_end_counts() -> None:
    assert end_time({}) is None
    assert end_time({"SLURM_JOB_END_TIME": "5000"}, started=1000) == 5000
    assert end_time({"SLURM_JOB_END_TIME": "5000", "WALLTIME": "30m"}, started=1000) == 2800
    assert end_time({"LONGSEQ_END_TIME": "2000", "WALLTIME": "30m"}, started=1000) == 2000
    slurm = {"SLURM_JOB_END_TIME": "5000"}  # from the job's start on; it was extended
    assert end_time(slurm | {"LONGSEQ_END_TIME": "6000"}, started=1000) == 6000


def test_the_end_of_another_job_is_none() -> None:
    """Of a terminal that was opened in it, say; who started the ranks has said so."""
    slurm = {"SLURM_JOB_END_TIME": "1700000000"}
    assert end_time(slurm) is None
    assert end_time({"SLURM_JOB_END_TIME": "9" * 10, "LONGSEQ_END_TIME": ""}) is None
    assert end_time(slurm | {"WALLTIME": "30m"}, started=1.8e9) == 1.8e9 + 1800


def test_an_end_by_a_clock_that_nobody_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the script's host; of others', whose clocks may be wrong, rank 0 alone looks."""
    monkeypatch.setattr(stopping, "_uptime", lambda: 500.0)
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    job = {"LONGSEQ_END_TIME": "2000", "LONGSEQ_END_UPTIME": "here:1700"}
    assert end_time(job | {"RANK": "3"}, started=9000) == 9000 + 1200
    job["LONGSEQ_END_UPTIME"] = "there:1700"
    assert end_time(job | {"RANK": "0"}, started=9000) == 2000
    assert end_time(job | {"RANK": "3"}, started=9000) is None
    assert end_time(job | {"RANK": "3", "WALLTIME": "20m"}, started=9000) == 9000 + 1200
    job["LONGSEQ_END_UPTIME"] = ""
    assert end_time(job | {"RANK": "3"}, started=1000) == 2000


def test_the_weightiest_reason_counts() -> None:
    stopper = Stopper()
    assert stopper.should_stop(ALONE) is None
    for reason in (stopping.STOP_FILE, stopping.TERM, stopping.USR1):
        stopper.ask(reason)
    assert stopper.should_stop(ALONE) == "SIGTERM"
    assert stopper.should_stop(ALONE) == "SIGTERM"


def test_signal_on_one_rank_stops_all() -> None:
    asked: list[int] = []

    def largest(number: int) -> int:
        asked.append(number)
        return max(number, stopping.TERM)  # what the other rank wishes

    assert Stopper().should_stop(Ranks(0, 2, largest=largest)) == "SIGTERM"
    assert asked == [stopping.GO_ON]


def steps_until_stop(clock: Clock, end: float, step: float, save: float | None) -> float:
    """Run steps of `step` seconds; the time left when it is told to stop."""
    stopper = Stopper(end)
    for _ in range(9999):
        stopper.at("step")
        clock.now += step
        if save is not None:
            stopper.at("save")
            clock.now += save
            stopper.saved_in(save)
        if stopper.should_stop(ALONE):
            return end - clock.now
    raise AssertionError("never stopped")


@pytest.mark.parametrize(("step", "save"), [(1, 10), (30, 1), (0.5, 40), (20, 20)])
def test_stops_with_room_for_a_save(clock: Clock, step: float, save: float) -> None:
    left = steps_until_stop(clock, 5000, step, save)
    assert left >= save  # and another step would not have been sure to fit:
    assert left <= 2 * (step + save) + stopping.LEAST_MARGIN
    assert left > 2 * (step + save) + stopping.LEAST_MARGIN - (step + save)


def test_first_save_is_allowed_a_minute(clock: Clock) -> None:
    assert steps_until_stop(clock, 1000 + 3600, 1, None) > stopping.FIRST_SAVE


def test_short_jobs_still_train(clock: Clock) -> None:
    """In a job of two minutes the guess for the first save does not eat the job."""
    assert steps_until_stop(clock, 1000 + 120, 1, None) < 60


def steps(clock: Clock, stopper: Stopper, *lengths: float) -> float:
    """Make steps of these lengths; the longest that counts then."""
    for seconds in lengths:
        stopper.at("step")
        clock.now += seconds
        assert stopper.should_stop(ALONE) is None
    return stopper.longest_step


def test_what_is_no_step_is_in_no_margin(clock: Clock) -> None:
    """Setting up, which may take ten minutes in each job of a chain; validation, load and save."""
    stopper = Stopper()
    clock.now += 600
    assert steps(clock, stopper, 2.0) == 2.0
    for phase in ("validation", "load", "save"):
        stopper.at("step")
        clock.now += 1.0
        stopper.at(phase)
        clock.now += 300.0
        assert stopper.should_stop(ALONE) is None
    assert stopper.longest_step <= 2.0
    watched = Watch(Stopper(), {})
    watched.at(1, "step")
    clock.now += 3.0
    watched.at(1, "validation")
    clock.now += 100.0
    watched.at(2, "step")
    assert watched.stopper.longest_step == 3.0


def test_a_first_step_that_compiles_counts_until_others_are_known(clock: Clock) -> None:
    stopper = Stopper()
    assert steps(clock, stopper, 120.0) == 120.0
    assert steps(clock, stopper, 1.0) == 120.0
    assert steps(clock, stopper, 2.0) == 2.0
    assert steps(clock, stopper, 7.0, 1.0) == 7.0


def test_no_end_no_stop(clock: Clock) -> None:
    stopper = Stopper(None)
    clock.now += 1e9
    assert stopper.should_stop(ALONE) is None


def test_a_clock_that_jumps_changes_nothing(clock: Clock) -> None:
    stopper = Stopper(clock.now + 3600)
    clock.wall += 7200  # somebody sets the clock, in the middle of the run
    clock.now += 60
    assert stopper.should_stop(ALONE) is None
    clock.wall -= 90000
    clock.now += 3500
    assert stopper.should_stop(ALONE) == stopping.REASONS[stopping.WALL_TIME]


def validate(clock: Clock, looks: Looks, seconds: float, batches: int) -> list[int]:
    """The batches before which the ranks have looked."""
    seen: list[int] = []
    for number in range(batches):
        looks(number, lambda number=number: seen.append(number))  # type: ignore[misc]
        clock.now += seconds
    return seen


@pytest.mark.parametrize(("seconds", "most"), [(0.001, 20), (0.1, 110), (5.0, 1000)])
def test_a_validation_looks_once_a_second_at_most(clock: Clock, seconds: float, most: int) -> None:
    """A look waits for a GPU: of short batches, few have one."""
    seen = validate(clock, Looks(Stopper(), ALONE), seconds, 1000)
    assert seen[:2] == [0, 1]
    assert len(seen) <= most
    gaps = [(b - a) * seconds for a, b in pairwise(seen)]
    assert max(gaps) <= max(stopping.LOOK_EVERY, seconds) + 1e-6


def test_a_signal_in_a_validation_breaks_it_off_on_all_ranks(clock: Clock) -> None:
    """Whichever rank it came to, and however their times differ, all end before the same batch."""
    ended: list[int] = []
    for rank in (0, 1):
        # Milliseconds and wishes of a third one, which is slower
        given = iter([stopping.GO_ON, *(5000, stopping.GO_ON) * 3, 5000, stopping.TERM])

        def largest(mine: int, given: Any = given) -> int:
            return max(mine, next(given))

        looks = Looks(Stopper(), Ranks(rank, 2, largest=largest))
        with pytest.raises(BrokenOff) as stop:
            validate(clock, looks, 0.1 + 0.1 * rank, 1000)
        ended.append(stop.value.batches)
        assert stop.value.reason == "SIGTERM"
    assert ended == [4, 4]


@pytest.mark.parametrize(("seconds", "save"), [(0.01, 10.0), (3.0, 1.0), (20.0, 20.0)])
def test_a_validation_leaves_room_for_a_save(clock: Clock, seconds: float, save: float) -> None:
    """Its margin is that of what comes before the next look and a save, whatever a step takes."""
    end = clock.now + 2000
    stopper = Stopper(end)
    stopper.saved_in(save)
    steps(clock, stopper, 30.0, 0.1, 0.1)
    stopper.at("validation")
    with pytest.raises(BrokenOff, match="wall time"):
        validate(clock, Looks(stopper, ALONE), seconds, 10**6)
    room = stopping.LEAST_MARGIN + 2 * (max(seconds, stopping.LOOK_EVERY) + save)
    assert save <= room - 2 * max(seconds, stopping.LOOK_EVERY) <= end - clock.now <= room
