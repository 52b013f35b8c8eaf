"""Scores, states and sequences on two ranks are those of one, whatever the ranks share."""

from __future__ import annotations

from pathlib import Path

from tests.parallel.ranks import run_ranks
from tests.parallel.scored import LAYOUTS


def test_two_ranks_score_as_one(tmp_path: Path) -> None:
    found = run_ranks(2, Path(__file__).with_name("scored.py"), str(tmp_path / "run"))
    assert found["tokens"] == 1024 + 7 + 613 + 1 + 1023 + 300
    assert len(found["largest"]) == 2 * len(LAYOUTS)
    assert max(found["largest"].values()) < 1e-5
    assert found["generated"] == found["generated alone"]
    assert [len(tokens) for tokens in found["generated"]] == [40, 40]
    assert found["made"] == {"tp": [5, 5], "dp": [3, 2]}
    texts = {path.stem: path.read_text() for path in (tmp_path / "run").glob("*.fa")}
    assert sorted(texts) == ["alone-0", "alone-1", "dp", "tp"]
    assert len(set(texts.values())) == 1
    assert texts["dp"].count(">") == len(set(texts["dp"].splitlines()[1::2])) == 5
