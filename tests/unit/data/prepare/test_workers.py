"""Workers are started where they win more than they take, and nowhere else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys

import pytest

from longseq.data.prepare import workers
from longseq.data.prepare.encode import Encoder
from longseq.data.prepare.encoded import Encoded
from longseq.data.prepare.recipe import Recipe
from longseq.data.sources.pieces import Chunk


@pytest.mark.parametrize(
    ("encoding", "handing", "more", "expected"),
    [
        (1.0, 0.1, 9.0, True),  # nine seconds more: five and the start
        (1.0, 0.97, 9.0, False),  # handing over takes as long as encoding
        (1.0, 0.1, 0.5, False),  # half a second is less than the start
        (0.1, 0.1, 1e9, False),  # not tried long enough to know
    ],
)
def test_when_workers_are_worth_it(
    monkeypatch: pytest.MonkeyPatch, encoding: float, handing: float, more: float, expected: bool
) -> None:
    monkeypatch.setattr(workers, "available_cores", lambda: 2)
    trial = workers._Trial()
    trial.encoding, trial.handing, trial.start_up = encoding, handing, 0.5
    assert trial.worth_it(more) is expected


def test_what_is_nearly_done_stays_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing left to read the pool is not started, and every task has its result."""
    monkeypatch.setattr(workers, "available_cores", lambda: 64)
    monkeypatch.setattr(workers, "TRIED", 0.0)
    monkeypatch.setitem(sys.modules, "longseq.data.prepare.pool", None)  # importing it fails
    chunks = [Chunk("fasta", "x", b">a\n" + b"ACGT" * (1 << 18) + b"\n")] * 3
    done = list(workers.encode_all(iter(chunks), Encoder(Recipe()), 0, lambda: 0.0))
    assert [len(result.tokens) for _, result in done if isinstance(result, Encoded)] == [
        (1 << 20) + 1
    ] * 3


def test_ctrl_c_is_not_for_workers(capfd: pytest.CaptureFixture[str]) -> None:
    """A terminal sends it to all of them; an idle one would die of it, and break the others."""
    from longseq.data.prepare.pool import encode_in_pool

    chunks = [Chunk("fasta", "x", b">a\nACGT\n")] * 4
    done = encode_in_pool(iter(chunks), Recipe(), 2)
    found = [next(done)]
    workers_of_pool = multiprocessing.active_children()
    assert len(workers_of_pool) == 2
    for worker in workers_of_pool:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
    found += done
    assert [len(result.tokens) for _, result in found if isinstance(result, Encoded)] == [5] * 4
    assert not any(worker.is_alive() for worker in workers_of_pool)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert capfd.readouterr().err == ""
