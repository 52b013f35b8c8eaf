"""A network that was trained with tags: they come from its checkpoint, and count nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from longseq.checkpoint import trained as checkpoint
from longseq.checkpoint.trained import Trained
from longseq.data.tokenizers.nucleotides import Nucleotides
from longseq.data.tokenizers.registry import write_tokenizer
from longseq.data.tokenizers.tagged import Tagged
from longseq.errors import UserError
from longseq.inference.score import log_likelihood
from longseq.inference.sequences import Reader, Weighing

TAGS = ["<genome=E. coli>", "<genome=>", "<feature=CDS>"]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    write_tokenizer(Tagged(Nucleotides(), TAGS), tmp_path)
    said = SimpleNamespace(tokenizer="tagged:nucleotide", vocabulary=19)
    tokenizer = checkpoint._tokenizer(tmp_path, cast(Any, said))
    assert tokenizer.names()[16:] == TAGS
    assert tokenizer.decode(np.array([18, 16, 0, 1, 15, 17])) == (
        "<feature=CDS><genome=E. coli>AC|<genome=>"
    )
    return Reader(Trained(tmp_path, cast(Any, said), cast(Any, None), tokenizer), [], Weighing())


def test_tags_in_front_are_tokens_that_count_nothing(reader: Reader) -> None:
    sequence = reader.encode("x", "r", b"<feature=CDS><genome=E. coli>acg\nT")
    assert sequence.tokens.tolist() == [18, 16, 0, 1, 2, 3]
    assert (sequence.letters, sequence.tags) == (4, 2)
    losses = np.array([9, 9, 1, 2, 3, 4], np.float32)
    assert log_likelihood(sequence, losses) == (-10.0, 4.0)
    plain = reader.encode("x", "r", b"ACGT")
    assert plain.tokens.tolist() == [0, 1, 2, 3]
    assert plain.weights is None


def test_a_tag_that_it_was_not_trained_with_is_refused(reader: Reader) -> None:
    with pytest.raises(UserError, match="record r: letter 1 is no nucleotide"):
        reader.encode("x", "r", b"<genome=B. subtilis>ACGT")


def test_a_list_of_tags_that_is_damaged(tmp_path: Path) -> None:
    write_tokenizer(Tagged(Nucleotides(), TAGS), tmp_path)
    (tmp_path / "tags.json").write_text('["a", 3]')
    said = SimpleNamespace(tokenizer="tagged:nucleotide", vocabulary=19)
    with pytest.raises(UserError, match=r"tags\.json is not a list of tags"):
        checkpoint._tokenizer(tmp_path, cast(Any, said))
