"""The compressors that `evaluate` sets the network beside, against the programs of their makers."""

from __future__ import annotations

import random
import shutil
import subprocess

import pytest

from longseq.inference.evaluation.baselines import compression

TRAIN = "".join(random.Random(1).choices("ACGT", k=20_000)).encode()
EVALUATED = TRAIN[5_000:9_000] + b"ACGTT" * 200


def test_a_text_that_stands_in_the_training_part_costs_nearly_nothing_behind_it() -> None:
    found = compression(TRAIN, EVALUATED, len(EVALUATED))
    assert found["lzma, primed with the training part"] < 0.1
    assert 1.5 < found["lzma"] < 2.5
    assert "lzma, primed with the training part" not in compression(b"", EVALUATED, 1)


@pytest.mark.skipif(not shutil.which("xz"), reason="needs the program xz")
def test_lzma_needs_the_bytes_of_xz() -> None:
    def size(text: bytes) -> int:
        command = ["xz", "--format=raw", "--lzma2=preset=9,dict=64MiB", "--stdout"]
        return len(subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True).stdout)

    found = compression(TRAIN, EVALUATED, 8)
    assert found["lzma"] == size(EVALUATED)
    assert found["lzma, primed with the training part"] == size(TRAIN + EVALUATED) - size(TRAIN)
