"""How far a preparation says it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longseq.data.prepare.job import prepare
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.sources.inputs import expand
from longseq.data.sources.tables import Columns
from longseq.data.survey.reading import PIECE, read_all

CONTENT = ">one\n" + "ACGTTGCATC" * 100_000 + "\n"  # one record, of many pieces


@pytest.mark.parametrize("recipe", [{}, {"reverse_complement": True}, {"tokenizer": "byte"}])
def test_the_way_through_one_long_record_is_told(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """A chromosome is most of its file: a bar must not wait for its end."""
    (tmp_path / "in.fa").write_text(CONTENT)
    seen = [0]
    settings = Settings(Recipe(**recipe), chunk_bytes=10_000)
    inputs = expand([str(tmp_path / "in.fa")])
    prepare(inputs, str(tmp_path / "out"), settings, True, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)
    assert max(np.diff(seen)) < len(CONTENT) / 10


def test_so_does_the_pass_before(tmp_path: Path) -> None:
    (tmp_path / "in.fa").write_text(CONTENT)
    seen: list[int] = []
    found = read_all((str(tmp_path / "in.fa"),), Columns(), "", False, seen.append, {})
    assert sum(len(part) for record in found for part in record.parts) == 1_000_001
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)
    assert max(np.diff(seen)) <= PIECE
