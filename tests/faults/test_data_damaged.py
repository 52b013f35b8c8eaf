"""Data that somebody writes over, cuts or replaces while a run reads them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from longseq.__main__ import main
from longseq.config.arguments import Data
from longseq.data.opening import open_data
from longseq.data.samples.samples import Samples
from longseq.errors import UserError


def opened(folder: Path) -> tuple[Path, Samples]:
    """A run's samples of data that are prepared and opened."""
    (folder / "a.fa").write_text(">a\n" + "ACGT" * 500 + "\n")
    prefix = folder / "tokens"
    assert main(["prepare", str(folder / "a.fa"), "--output", str(prefix)]) == 0
    samples = open_data(Data(data_path=str(prefix), split="1,0,0"), 64, 1).train
    assert samples is not None
    assert samples.batch([0]).tokens.max() < samples.vocab_size
    return prefix.with_suffix(".bin"), samples


def read_all(samples: Samples) -> None:
    for number in range(40):
        samples.batch([number])


def test_what_is_written_over_is_noticed(tmp_path: Path) -> None:
    path, samples = opened(tmp_path)
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff" * 16)
    with pytest.raises(UserError, match=r"tokens.bin holds token 255 outside its vocabulary"):
        read_all(samples)


def test_what_is_cut_is_noticed(tmp_path: Path) -> None:
    path, samples = opened(tmp_path)
    os.truncate(path, 1000)
    with pytest.raises(UserError, match=r"tokens.bin shrank while it was read"):
        read_all(samples)


def test_what_is_prepared_anew_is_another_file(tmp_path: Path) -> None:
    """A run goes on with the data that it opened."""
    path, samples = opened(tmp_path)
    before = samples.batch([0, 1]).tokens
    (tmp_path / "a.fa").write_text(">a\n" + "TTTT" * 500 + "\n")
    output = ["--output", str(path.with_suffix("")), "--overwrite"]
    assert main(["prepare", str(tmp_path / "a.fa"), *output]) == 0
    assert np.array_equal(samples.batch([0, 1]).tokens, before)
    assert set(path.read_bytes()) != {int(token) for token in before.unique()}
