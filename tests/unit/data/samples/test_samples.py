"""Every token goes to the loss exactly as often as it should, on any cut, blend and rank."""

from __future__ import annotations

import tempfile
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import END, make, options, unique_stream
from hypothesis import given, settings
from hypothesis import strategies as st

from longseq.data.opening import open_data
from longseq.data.samples.blend import place
from longseq.data.samples.samples import BlendedSamples, FileSamples
from longseq.data.samples.shuffle import shuffled
from longseq.errors import UserError

VOCABULARY = 1 << 30
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def counted_labels(samples: FileSamples, indices: range) -> Counter[int]:
    found: Counter[int] = Counter()
    for index in indices:
        batch = samples.batch([index])
        found.update(batch.labels[batch.loss_mask == 1].tolist())
    return found


@settings(max_examples=60)
@given(LENGTHS, st.integers(1, 50), st.integers(0, 9), st.integers(0, 3), st.booleans())
def test_packed_counts_every_token(
    lengths: list[int], seq_length: int, overlap: int, seed: int, closed: bool
) -> None:
    """Over n epochs of samples, labels are a stretch of the stream without gap or repetition."""
    overlap = min(overlap, seq_length - 1)
    with tempfile.TemporaryDirectory() as folder:
        stream = unique_stream(Path(folder), lengths, seed, closed)
        samples = FileSamples(stream, seq_length, VOCABULARY, options(sample_overlap=overlap))
        epochs = 3
        number = epochs * samples.layout.epoch_samples
        found = counted_labels(samples, range(number))
        last = number * (seq_length - overlap) + overlap  # the last position that was a label
        per_epoch = sum(lengths) + len(lengths)
        assert sum(found.values()) == last
        expected: Counter[int] = Counter()
        for position in range(1, last + 1):
            expected[reference_token(stream, lengths, position, per_epoch)] += 1
        assert found == expected


def reference_token(stream, lengths: list[int], position: int, per_epoch: int) -> int:  # type: ignore[no-untyped-def]
    """A token of the stream by walking through the documents in the epoch's order."""
    epoch, left = divmod(position, per_epoch)
    for document in stream._epoch(epoch)[0].tolist():
        if left <= lengths[document]:
            first = 1 + sum(lengths[:document])
            return END if left == lengths[document] else first + left
        left -= lengths[document] + 1
    raise AssertionError(position)


@settings(max_examples=60)
@given(LENGTHS, st.integers(1, 50), st.integers(0, 9), st.integers(0, 3), st.booleans())
def test_separate_counts_every_token(
    lengths: list[int], seq_length: int, overlap: int, seed: int, closed: bool
) -> None:
    """In each epoch every token that another precedes in its document is a label once."""
    overlap = min(overlap, seq_length - 1)
    flags = options(no_cross_document=True, sample_overlap=overlap)
    with tempfile.TemporaryDirectory() as folder:
        samples = FileSamples(
            unique_stream(Path(folder), lengths, seed, closed), seq_length, VOCABULARY, flags
        )
        size = samples.layout.epoch_samples
        firsts = [1 + sum(lengths[:i]) for i in range(len(lengths))]
        expected = Counter(range(1, sum(lengths) + 1))
        for first in firsts:
            del expected[first]
        expected[END] = len(lengths)
        for epoch in range(2):
            found = counted_labels(samples, range(epoch * size, (epoch + 1) * size))
            assert found == expected
        labels = sum(lengths)
        assert samples.fill == pytest.approx(labels / (size * seq_length))


@settings(max_examples=40)
@given(LENGTHS, st.integers(2, 60), st.data(), st.booleans())
def test_slices_make_up_the_whole(
    lengths: list[int], seq_length: int, data: st.DataObject, apart: bool
) -> None:
    """Ranks that each take some pieces get the columns of the whole batch."""
    cuts = data.draw(st.lists(st.integers(0, seq_length), min_size=1, max_size=5))
    edges = sorted({0, *cuts, seq_length})
    spans = list(pairwise(edges))
    flags = options(
        reset_position_ids=True,
        reset_attention_mask=True,
        eod_mask_loss=True,
        no_cross_document=apart,
    )
    with tempfile.TemporaryDirectory() as folder:
        samples = FileSamples(
            unique_stream(Path(folder), lengths, 1), seq_length, VOCABULARY, flags
        )
        indices = [0, 3, 17]
        whole = samples.batch(indices)
        for own in (spans[::2], spans[1::2]):
            if not own:
                continue
            part = samples.batch(indices, own)
            columns = torch.cat([torch.arange(low, high) for low, high in own])
            for name in ("tokens", "labels", "loss_mask", "positions"):
                assert torch.equal(getattr(part, name), getattr(whole, name)[:, columns])
            assert part.documents == whole.documents


def test_positions_documents_and_mask_by_hand(tmp_path: Path) -> None:
    """Two documents of 3 and 2 tokens in one sample of the stream."""
    stream = unique_stream(tmp_path, [3, 2], 0)
    flags = options(reset_position_ids=True, reset_attention_mask=True, eod_mask_loss=True)
    samples = FileSamples(stream, 7, VOCABULARY, flags)
    batch = samples.batch([0])
    first_is_long = int(batch.tokens[0, 0]) == 1
    if first_is_long:
        assert batch.tokens.tolist() == [[1, 2, 3, END, 4, 5, END]]
        assert batch.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2]]
        assert batch.documents == ((4, 7),)
        assert batch.loss_mask.tolist() == [[1, 1, 1, 0, 1, 1, 0]]
    else:
        assert batch.tokens.tolist() == [[4, 5, END, 1, 2, 3, END]]
        assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 2, 3]]
        assert batch.documents == ((3, 7),)
        assert batch.loss_mask.tolist() == [[1, 1, 0, 1, 1, 1, 0]]
    assert batch.labels[0, :-1].tolist() == batch.tokens[0, 1:].tolist()


def test_head_of_a_sample(tmp_path: Path) -> None:
    """A curriculum's shorter samples are the heads of the long ones, documents included."""
    flags = options(reset_position_ids=True, reset_attention_mask=True)
    samples = FileSamples(unique_stream(tmp_path, [3] * 9, 0), 20, VOCABULARY, flags)
    whole, head = samples.batch([1]), samples.batch([1], length=9)
    for name in ("tokens", "labels", "loss_mask", "positions"):
        assert torch.equal(getattr(head, name), getattr(whole, name)[:, :9])
    assert whole.documents == ((4, 8, 12, 16, 20),)
    assert head.documents == ((4, 8, 9),)


def test_same_samples_on_any_number_of_ranks(tmp_path: Path) -> None:
    """A resume after 6 samples on 1, 2 or 3 ranks goes on with the same tokens."""
    samples = FileSamples(unique_stream(tmp_path, [50, 9], 5), 8, VOCABULARY, options())
    seen = []
    for ranks in (1, 2, 3):
        rows = []
        for step in range(6 // ranks):
            for rank in range(ranks):
                rows += samples.batch([6 + step * ranks + rank]).tokens.tolist()
        seen.append(rows)
    assert seen[0] == seen[1] == seen[2]


def test_epochs_differ_and_seeds_differ(tmp_path: Path) -> None:
    stream = unique_stream(tmp_path, [5] * 40, 1)
    assert stream._epoch(0)[0].tolist() != stream._epoch(1)[0].tolist()
    (tmp_path / "b").mkdir()
    other = unique_stream(tmp_path / "b", [5] * 40, 2)
    assert stream._epoch(0)[0].tolist() != other._epoch(0)[0].tolist()
    samples = FileSamples(stream, 4, VOCABULARY, options())
    count = samples.layout.epoch_samples
    starts = [samples.layout.window(i).start for i in range(count)]
    assert sorted(starts) == list(range(0, len(starts) * 4, 4))
    assert starts != sorted(starts)
    again = [samples.layout.window(count + i).start - starts[i] for i in range(count)]
    assert len(set(again)) > count // 2  # another order, and not the same one further on


@given(st.integers(1, 3000), st.integers(0, 5))
def test_shuffle_is_a_permutation(count: int, key: int) -> None:
    assert sorted(shuffled(i, count, key) for i in range(count)) == list(range(count))


def test_shuffle_of_a_trillion_is_quick() -> None:
    count = 10**12 + 7
    assert len({shuffled(i, count, 3) for i in range(1000)}) == 1000


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(1, 300))
def test_blend_shares(raw: list[int], number: int) -> None:
    """Each dataset's samples come in order, without gap, and as often as its weight says."""
    weights = [Fraction(weight, sum(raw)) for weight in raw]
    given_so_far = [0] * len(weights)
    for index in range(number):
        dataset, local = place(index, weights)
        assert local == given_so_far[dataset]
        given_so_far[dataset] += 1
        for weight, count in zip(weights, given_so_far, strict=True):
            assert abs(count - weight * (index + 1)) <= len(weights)


def test_blended_samples(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    parts = []
    for folder in folders:
        folder.mkdir()
        parts.append(FileSamples(unique_stream(folder, [30], 1), 4, VOCABULARY, options()))
    blend = BlendedSamples(parts, [Fraction(3, 4), Fraction(1, 4)])
    chosen = [place(i, blend.weights) for i in range(8)]
    assert [part for part, _ in chosen].count(1) == 2
    for index, (part, local) in enumerate(chosen):
        assert torch.equal(blend.batch([index]).tokens, parts[part].batch([local]).tokens)


def test_entropy(tmp_path: Path) -> None:
    """Against a loop over the text."""
    text = "ACGTACGGTTACGATTTACG" * 9
    prefix, _ = make(tmp_path, f">a\n{text}\n")
    data = open_data(options(prefix), 16, 0)
    assert data.train is not None
    cycle = [*text, "|"]
    count = Counter(cycle)
    total = len(cycle)
    unigram = -sum(n / total * np.log(n / total) for n in count.values())
    assert data.train.unigram_loss() == pytest.approx(unigram)


def test_token_outside_the_vocabulary(tmp_path: Path) -> None:
    stream = unique_stream(tmp_path, [30], 0)
    samples = FileSamples(stream, 30, 10, options())
    with pytest.raises(UserError, match=r"unique\.bin holds token \d+ outside"):
        samples.batch([0])


def test_split_shorter_than_a_sample(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path, ">a\nACGTTGCA\n")
    data = open_data(options(prefix), 100, 0)
    assert data.train is not None
    assert "holds them 11.1 times" in "\n".join(data.notes)
    row = data.tokenizer.decode(data.train.batch([0]).tokens[0].numpy())
    assert "ACGTTGCA|ACGTTGCA|ACGTTGCA" in row


@pytest.mark.parametrize("apart", [False, True])
def test_weights_of_labels(tmp_path: Path, apart: bool) -> None:
    """Each label counts what its letter does, on any cut; of one record the letters are unique."""
    text = "ACGT" + "acgt" * 3 + "NNN" + "GGGG"
    prefix, _ = make(tmp_path, f">a\n{text}\n", lower_case_weight=0.1, unknown_weight=0.0)
    data = open_data(options(prefix, no_cross_document=apart), 23, 0)
    assert data.train is not None
    assert not data.train.all_labels_count
    batch = data.train.batch([0], [(0, 9), (9, 23)])
    expected = {"A": 1.0, "a": 0.1, "N": 0.0}
    by_letter = [expected["N" if c == "N" else "a" if c.islower() else "A"] for c in text]
    if apart:
        assert batch.loss_mask[0].tolist() == pytest.approx([*by_letter[1:], 1.0])
    else:
        start = int(data.train.layout.window(0).start) % 24  # type: ignore[attr-defined]
        cycle = [*by_letter, 1.0] * 3
        assert batch.loss_mask[0].tolist() == pytest.approx(cycle[start + 1 : start + 24])
    assert "count 0.1 in the loss" in "\n".join(data.notes)


def test_what_masked_letters_count_is_said(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path, ">a\nACGTacgt\n", mask_lower_case=True, unknown_weight=0.25)
    notes = "\n".join(open_data(options(prefix), 4, 0).notes)
    assert "lower-case letters count 0.25 in the loss, letters other than ACGT 0.25" in notes


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("tokenizer", ["nucleotide", "codon"])
def test_other_strand_at_random(tmp_path: Path, apart: bool, tokenizer: str) -> None:
    """A document is itself or, as Biopython says it, its reverse complement; anew each epoch."""
    from Bio.Seq import Seq

    rng = np.random.default_rng(1)
    texts = ["".join(rng.choice(list("ACGT"), 30)) for _ in range(20)]
    content = "".join(f">{number}\n{text}\n" for number, text in enumerate(texts))
    prefix, _ = make(tmp_path, content, tokenizer=tokenizer, lower_case_weight=0.5)
    flags = options(prefix, reverse_complement_prob=0.5, no_cross_document=apart)
    data = open_data(flags, 30 if tokenizer == "nucleotide" else 10, 3)
    assert data.train is not None
    mirrored = {str(Seq(text).reverse_complement()): text for text in texts}
    strands: Counter[tuple[str, bool]] = Counter()
    samples = 20 * 8 if apart else data.train.layout.epoch_samples * 8  # type: ignore[attr-defined]
    rows = [data.train.batch([i], [(0, 4), (4, data.train.seq_length)]) for i in range(samples)]
    if apart:
        found = [data.tokenizer.decode(row.tokens[0].numpy()) for row in rows]
        assert all((row.loss_mask == 1).all() for row in rows)
    else:
        stream = data.train.stream  # type: ignore[attr-defined]
        whole = data.tokenizer.decode(stream.read(0, stream.epoch_tokens * 8))
        end = data.tokenizer.names()[data.tokenizer.end_of_document]
        found = whole.split("|" if tokenizer == "nucleotide" else end)[:-1]
    for text in found:
        strands[mirrored.get(text, text), text in mirrored] += 1
    assert {text for text, _ in strands} == set(texts)
    assert all(strands[text, False] + strands[text, True] == 8 for text in texts)
    assert sum(0 < strands[text, True] < 8 for text in texts) > 10
    assert sum(strands[text, True] for text in texts) == pytest.approx(80, abs=25)


@pytest.mark.parametrize("apart", [False, True])
def test_the_seed_draws_no_sample_of_validation(tmp_path: Path, apart: bool) -> None:
    """Of a validation that does not read all of its part: runs of two seeds have the same one."""
    rng = np.random.default_rng(1)
    records = ("".join(rng.choice(list("ACGT"), 200)) for _ in range(40))
    prefix, _ = make(tmp_path, "".join(f">{n}\n{one}\n" for n, one in enumerate(records)))
    flags = options(prefix, "50,50", no_cross_document=apart)
    of: dict[str, list[object]] = {"train": [], "valid": []}
    for seed in (1, 2):
        data = open_data(flags, 64, seed)
        for name, samples in (("train", data.train), ("valid", data.valid)):
            assert samples is not None
            of[name].append(samples.batch(range(5)).tokens.tolist())
    assert of["train"][0] != of["train"][1]
    assert of["valid"][0] == of["valid"][1]
