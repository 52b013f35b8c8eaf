"""Training, validation and test never share a base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_helpers import make
from hypothesis import given
from hypothesis import strategies as st

from longseq.data.indexed.format import IndexedTokens
from longseq.data.samples.split import parse_split, split_documents
from longseq.data.tokenizers.alphabet import COMPLEMENT
from longseq.errors import UserError


def offsets(lengths: list[int]) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=300),
    st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)).filter(any),
)
def test_parts_are_disjoint_and_complete(lengths: list[int], weights: tuple[int, int, int]) -> None:
    split = split_documents(offsets(lengths), True, parse_split(",".join(map(str, weights))))
    taken = np.zeros(sum(lengths), dtype=int)
    for segments in split.parts.values():
        for start, length in zip(segments.start, segments.length, strict=True):
            taken[start : start + length] += 1
    assert (taken == 1).all()
    ends = set(np.cumsum(lengths).tolist())
    for segments in split.parts.values():
        stops = (segments.start + segments.length).tolist()
        assert segments.closed.tolist() == [stop in ends for stop in stops]


def test_documents_stay_whole_when_they_are_many() -> None:
    split = split_documents(offsets([10] * 1000), True, parse_split("949,50,1"))
    assert split.by == "document"
    assert [len(part.start) for part in split.parts.values()] == [949, 50, 1]


def test_one_genome_is_cut_by_position() -> None:
    split = split_documents(offsets([1000]), True, parse_split("949,50,1"))
    assert split.by == "position"
    assert [part.num_tokens for part in split.parts.values()] == [949, 50, 1]
    assert [part.closed.tolist() for part in split.parts.values()] == [[False], [False], [True]]


def test_groups_stay_whole() -> None:
    groups = np.arange(0, 300, 3)
    split = split_documents(offsets([7] * 300), True, parse_split("80,15,5"), groups)
    assert split.by == "group"
    assert [len(part.start) % 3 for part in split.parts.values()] == [0, 0, 0]


def test_too_few_groups_are_cut_between_documents() -> None:
    """The genes of two genomes: no gene is divided, though a genome is."""
    split = split_documents(offsets([7] * 300), True, parse_split("9,1"), np.array([0, 100]))
    assert split.by == "document"
    assert all(part.closed.all() for part in split.parts.values())


def test_other_strand_is_held_back_too(tmp_path: Path) -> None:
    """Cut by position, each part's other strand is the mirror of its own bases."""
    rng = np.random.default_rng(1)
    sequences = ["".join(rng.choice(list("ACGT"), n)) for n in (101, 57)]
    content = "".join(f">{i}\n{s}\n" for i, s in enumerate(sequences))
    prefix, _ = make(tmp_path, content, reverse_complement=True)
    tokens = IndexedTokens(prefix)
    groups = np.fromfile(f"{prefix}.groups", "<i8")
    split = split_documents(tokens.document_offsets, True, parse_split("6,3,1"), groups, 2)
    assert split.by == "position"
    taken = np.zeros(tokens.num_tokens, dtype=int)
    for segments in split.parts.values():
        bases: dict[bool, list[int]] = {False: [], True: []}
        for start, length in zip(segments.start.tolist(), segments.length.tolist(), strict=True):
            taken[start : start + length] += 1
            document = int(np.searchsorted(tokens.document_offsets, start, side="right")) - 1
            first, last = tokens.document_offsets[document : document + 2].tolist()
            for place in range(start, min(start + length, last - 1)):
                base = place - first if document % 2 == 0 else last - 2 - place
                bases[document % 2 == 1].append(document // 2 * 1000 + base)
        assert sorted(bases[False]) == sorted(bases[True])
    assert (taken == 1).all()
    first = tokens.document(0)[:-1]
    assert np.array_equal(COMPLEMENT[first[::-1]], tokens.document(1)[:-1])


@pytest.mark.parametrize("wrong", ["", "a,b", "-1,2", "0,0,0", "1,2,3,4", "1/0"])
def test_wrong_split(wrong: str) -> None:
    with pytest.raises(UserError, match="--split"):
        parse_split(wrong)
