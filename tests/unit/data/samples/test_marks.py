"""Marks beside the validation loss: of the same labels as it, which count as they do in it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import make, options

from longseq.__main__ import main
from longseq.data.opening import TrainingData, open_data
from longseq.data.samples.samples import BlendedSamples, FileSamples, Samples
from longseq.run.summary import CELLS_A_TOKEN, baselines

FLAGS: list[dict[str, Any]] = [
    {},
    {"eod_mask_loss": True},
    {"no_cross_document": True},
    {"sample_overlap": 9},
]
WEIGHTS: list[dict[str, Any]] = [{}, {"lower_case_weight": 0.3, "unknown_weight": 0.0}]


def texts(seed: int, count: int = 12, length: int = 300) -> list[str]:
    """Records whose lower case, which repeats, is foretold more easily; with some N."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        record = ""
        while len(record) < length:
            record += "".join(rng.choice(list("ACGT"), 30, p=[0.2, 0.4, 0.3, 0.1]))
            record += "".join(rng.choice(list("acgt"), 12, p=[0.7, 0.1, 0.1, 0.1])) + "acgt" * 3
            record += "NN" if rng.random() < 0.3 else ""
        found.append(record)
    return found


def fasta(records: list[str]) -> str:
    return "".join(f">r{number}\n{text}\n" for number, text in enumerate(records))


def by_the_loss(samples: Samples, batches: int) -> dict[int, float]:
    """What each token counts for in so many samples, by their labels and masks: the loss's own."""
    found: dict[int, float] = {}
    for index in range(batches):
        batch = samples.batch([index])
        pairs = zip(batch.labels[0].tolist(), batch.loss_mask[0].tolist(), strict=True)
        for label, weight in pairs:
            found[label] = found.get(label, 0.0) + weight
    return found


def entropy(counts: Iterable[float]) -> float:
    filled = [n for n in counts if n]
    return -sum(n / sum(filled) * math.log(n / sum(filled)) for n in filled)


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_unigram_mark_is_of_the_labels_of_the_loss(
    tmp_path: Path, flags: dict[str, Any], weights: dict[str, Any]
) -> None:
    prefix, _ = make(tmp_path, fasta(texts(1)), **weights)
    train = open_data(options(prefix, **flags), 40, 3).train
    assert isinstance(train, FileSamples)
    found = by_the_loss(train, 8 * train.layout.epoch_samples)
    assert train.unigram_loss() == pytest.approx(entropy(found.values()), rel=2e-4)


def test_of_a_blend_by_the_labels_that_its_samples_hold(tmp_path: Path) -> None:
    """Where documents are kept apart, samples of short ones hold few."""
    for name, records, weight in (("a", texts(2), 0.3), ("b", texts(3, 40, 20), 1.0)):
        (tmp_path / name).mkdir()
        make(tmp_path / name, fasta(records), lower_case_weight=weight)
    (tmp_path / "two.blend").write_text("0.5 a/out\n0.5 b/out\n")
    for flags in FLAGS:
        train = open_data(options(str(tmp_path / "two.blend"), **flags), 200, 3).train
        assert isinstance(train, BlendedSamples)
        found = by_the_loss(train, 1000)
        assert train.unigram_loss() == pytest.approx(entropy(found.values()), rel=1e-3)
        drawn: defaultdict[int, float] = defaultdict(float)
        for one in train.some_labels(10_000):  # which are all of both
            weights = one.weights if one.weights is not None else np.ones(len(one))
            for token, weight in zip(one.tokens.tolist(), weights.tolist(), strict=True):
                drawn[token] += weight
        total, of_all = sum(drawn.values()), sum(found.values())
        for token, count in found.items():
            assert drawn[token] / total == pytest.approx(count / of_all, abs=2e-3)


def test_markov_marks_of_a_blend_are_of_its_samples(tmp_path: Path) -> None:
    """Of a small set that is foretold by three letters, and a large one of chance, half each."""
    rng = np.random.default_rng(6)
    small = "ACG"
    while len(small) < 3000:
        likely = "ACGT"[small[-3:].count("A")]
        small += likely if rng.random() < 0.9 else str(rng.choice(list("ACGT")))
    for name, text in (("a", small), ("b", "".join(rng.choice(list("ACGT"), 60_000)))):
        (tmp_path / name).mkdir()
        make(tmp_path / name, f">{name}\n{text}\n")
    (tmp_path / "two.blend").write_text("0.5 a/out\n0.5 b/out\n")
    data = open_data(options(str(tmp_path / "two.blend"), "80,20,0"), 1000, 3)
    both: list[Spelt] = []
    for part in (data.train, data.valid):
        assert part is not None
        labels = np.concatenate([part.batch([i]).labels[0].numpy() for i in range(50)])
        both.append((data.tokenizer.decode(labels), [1.0] * len(labels)))
    found = baselines(data)["markov_losses"]
    assert max(map(int, found)) >= 3  # as is chosen where all is rule, and not where all is chance
    for order, value in found.items():
        assert value == pytest.approx(by_counting(both[0], both[1], int(order), 6), rel=0.02)


Spelt = tuple[str, list[float]]


def spelt(
    samples: Samples, records: list[str], data: TrainingData, masks: bool, weighted: bool
) -> Spelt:
    """The letters of an epoch, and what each counts for: by where they stand in the records."""
    (labels,) = samples.some_labels(1 << 20)
    letters = data.tokenizer.decode(labels.tokens)
    counts: list[float] = []
    for piece in letters.split("|")[:-1]:
        (place,) = [(one, one.upper().find(piece)) for one in records if piece in one.upper()]
        text = place[0][place[1] : place[1] + len(piece)]
        each = [0.0 if c == "N" else 0.3 if c.islower() else 1.0 for c in text + "|"]
        each = each if weighted else [1.0] * len(each)
        counts += [0.0, *each[1:]] if masks else each
    return letters, counts


def by_counting(
    train: Spelt, judged: Spelt, order: int, symbols: int, until: float = 1.0, skip: float = 0.0
) -> float:
    """Nats a label of a Markov model that adds a half to each count."""
    follows: defaultdict[str, float] = defaultdict(float)
    seen: defaultdict[str, float] = defaultdict(float)
    stop = int(len(train[0]) * until)
    for at in range(stop):
        context = ("^" * order + train[0])[at : at + order]
        follows[context + train[0][at]] += train[1][at]
        seen[context] += train[1][at]
    nats = total = 0.0
    for at in range(int(len(judged[0]) * skip), len(judged[0])):
        context = ("^" * order + judged[0])[at : at + order]
        p = (follows[context + judged[0][at]] + 0.5) / (seen[context] + 0.5 * symbols)
        nats -= judged[1][at] * math.log(p)
        total += judged[1][at]
    return nats / total


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_marks_against_a_loop_over_the_text(
    tmp_path: Path, flags: dict[str, Any], weights: dict[str, Any]
) -> None:
    records = texts(4)
    prefix, _ = make(tmp_path, fasta(records), **weights)
    data = open_data(options(prefix, "60,40,0", **flags), 40, 3)
    assert data.train is not None
    assert data.valid is not None
    masks = bool(flags.get("eod_mask_loss") or flags.get("no_cross_document"))
    train, valid = (
        spelt(part, records, data, masks, bool(weights)) for part in (data.train, data.valid)
    )
    found = baselines(data)
    counts: defaultdict[str, float] = defaultdict(float)
    for letter, weight in zip(*valid, strict=True):
        counts[letter] += weight
    assert found["unigram_loss"] == pytest.approx(entropy(counts.values()), rel=1e-6)
    symbols = len(set(train[0])) + 1
    most = int(math.log(CELLS_A_TOKEN * len(train[0]), symbols)) - 1
    assert found["markov_losses"]
    for order, value in found["markov_losses"].items():
        expected = by_counting(train, valid, int(order), symbols)
        assert value == pytest.approx(expected, rel=1e-5)
    chosen = [by_counting(train, train, k, symbols, 0.9, 0.9) for k in range(most + 1)]
    assert str(int(np.argmin(chosen)) or 2) in found["markov_losses"]


def test_tags_which_count_nothing_are_in_no_mark(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(fasta(texts(5)))
    rows = "".join(f"r{number}\tE. coli\n" for number in range(12))
    (tmp_path / "m.tsv").write_text("record\torganism\n" + rows)
    words = ["prepare", str(tmp_path / "a.fa"), "--output", str(tmp_path / "tagged")]
    table = ["--metadata", str(tmp_path / "m.tsv"), "--tags", "organism"]
    assert main([*words, *table]) == 0
    tagged = open_data(options(str(tmp_path / "tagged")), 40, 3)
    assert tagged.train is not None
    counts = tagged.train.label_counts()
    assert counts[16:].sum() == 0
    prefix, _ = make(tmp_path, fasta(texts(5)))
    plain = open_data(options(prefix), 40, 3).train
    assert plain is not None
    assert tagged.train.unigram_loss() == pytest.approx(plain.unigram_loss(), rel=1e-9)


def test_where_nothing_counts_there_is_no_mark(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path, f">a\n{'N' * 400}\n", unknown_weight=0.0)
    data = open_data(options(prefix, "60,40,0", eod_mask_loss=True), 40, 3)
    found = baselines(data)
    assert (found["unigram_loss"] or 0.0) == pytest.approx(0.0)
    open_without = open_data(options(prefix, "60,40,0"), 40, 3, with_weights=False)
    assert baselines(open_without)["unigram_loss"] > 0
    assert "do not act in this trainer" in "\n".join(open_without.notes)
