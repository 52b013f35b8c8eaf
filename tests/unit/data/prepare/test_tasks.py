"""How far a preparation says it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.sources.identity import identity
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


def test_sizes_are_looked_up_once_and_a_file_may_be_gone(tmp_path: Path) -> None:
    """Whether workers are worth it is asked after each task: each time a look at every file."""
    for number in range(30):
        (tmp_path / f"{number:02}.fa").write_text(f">{number}\nACGT\n")
    inputs = expand([str(tmp_path)])
    (tmp_path / "07.fa").unlink()
    settings = Settings(workers=0, skip_bad=True)
    with mock.patch("os.path.getsize", side_effect=os.path.getsize) as size:
        manifest = prepare(inputs, f"{tmp_path}/out", settings, False, quiet)
    assert [one["path"] for one in manifest.skipped] == [str(tmp_path / "07.fa")]
    assert size.call_count < 3 * 30


def test_standard_input_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where a file is called as it is written."""
    monkeypatch.chdir(tmp_path)
    Path("-").write_text(">a\nACGT\n")
    assert identity("-") == ""
    assert identity("./-")
