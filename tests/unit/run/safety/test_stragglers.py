"""Which rank is slower than the others, when that is looked for, and when it is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from longseq.parallel.agreement import Ranks
from longseq.reports.runs import RunRecord
from longseq.reports.sections import slowest_rank
from longseq.run.safety import stragglers as module
from longseq.run.safety.stragglers import Stragglers, slowest


@pytest.mark.parametrize(
    ("seconds", "rank", "over"),
    [([1.0, 3.0], 1, 3.0), ([2.0, 1.0, 1.0, 4.0], 3, 4.0), ([5.0, 2.0, 4.0], 0, 5 / 3)],
)
def test_the_slowest_is_held_against_the_others(
    seconds: list[float], rank: int, over: float
) -> None:
    found, factor = slowest(seconds)
    assert found == rank
    assert factor == pytest.approx(over)


class Others:
    """Rank 0's view of four ranks, of which rank 2 needs `factor` times as long."""

    def __init__(self) -> None:
        self.factor, self.asked = 1.5, 0

    def gather(self, item: Any) -> list[Any]:
        self.asked += 1
        seconds, host, step, gib = item
        factors = [self.factor if k == 2 else 1 for k in range(4)]
        return [(seconds * f, f"{host}{k}", step, gib + k % 3) for k, f in enumerate(factors)]


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Others:
    monkeypatch.setattr(module, "_timed", lambda x, products: 0.002)
    monkeypatch.setattr(module, "peak_memory_gib", lambda kind: 3.0)
    monkeypatch.setattr("socket.gethostname", lambda: "n")
    return Others()


def test_peaks_may_have_grown_since_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "peak_memory_gib", lambda kind: 4.5)
    at_end = {"least_memory_gib": 4.0, "most_memory_gib": 5.0, "most_memory_rank": 2}
    looker = Stragglers(Ranks(0, 3, lambda gib: [gib, 4.0, 5.0]), torch.device("cpu"))
    assert looker.peaks() == at_end
    assert Stragglers(Ranks(0, 1), torch.device("cpu")).peaks() == {}


def test_it_is_looked_for_once_a_minute_and_said_after_five_times(others: Others) -> None:
    looker = Stragglers(Ranks(0, 4, others.gather), torch.device("cpu"))
    records, said = {}, []
    for iteration in range(1, 40):
        records[iteration] = looker.look(iteration, 20.0)
        said += [(iteration, looker.warning)] if looker.warning else []
    looked = [iteration for iteration, record in records.items() if record]
    assert looked == list(range(2, 40, 3))  # 60 s are 3 steps
    expected = {"slowest_rank": 2, "slowest_host": "n2", "slowest_over_median": 1.5}
    memory = {"least_memory_gib": 3.0, "most_memory_gib": 5.0, "most_memory_rank": 2}
    assert records[2] == expected | memory
    assert [iteration for iteration, _ in said] == [14]
    assert "rank 2 on n2 needs 1.50 times as long as the others" in said[0][1]


def test_once_in_a_while_is_nothing(others: Others) -> None:
    looker = Stragglers(Ranks(0, 4, others.gather), torch.device("cpu"))
    for iteration in range(2, 40):
        others.factor = 1.05 if iteration % 4 == 0 else 1.5
        looker.look(iteration, 60.0)
        assert looker.warning == ""


def test_a_rank_alone_is_not_timed(others: Others) -> None:
    looker = Stragglers(Ranks(0, 1, others.gather), torch.device("cpu"))
    assert [looker.look(iteration, 1.0) for iteration in range(5)] == [{}] * 5
    assert others.asked == 0


def test_the_report_names_the_one_that_is_mostly_slowest(tmp_path: Any) -> None:
    looks = [(1, "a", 1.1), (3, "b", 1.4), (3, "b", 1.2), (3, "b", 1.3)]
    metrics: list[dict[str, Any]] = [{"iteration": 1}]
    metrics += [
        {"iteration": 2, "slowest_rank": r, "slowest_host": h, "slowest_over_median": o}
        for r, h, o in looks
    ]
    factor, said = slowest_rank(RunRecord(tmp_path, metrics))
    assert factor == "1.30 x"
    assert "rank 3 on b, alone, in 3 of 4 looks" in said
    assert "up to 23% of a step" in said
    assert slowest_rank(RunRecord(tmp_path, metrics[:1])) == ("", "")
