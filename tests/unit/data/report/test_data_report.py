"""The page of a data set: each figure by hand from the letters."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from data_helpers import make

from longseq.config.arguments import Data
from longseq.data.datasets import open_datasets
from longseq.data.report import facts as module
from longseq.data.report.facts import Facts, facts_of
from longseq.data.report.page import page, write_report
from longseq.errors import FullDisk
from tests.full_disk import room_for


def facts(prefix: str, split: str = "1,0,0") -> Facts:
    flags = Data(data_path=prefix, split=split)
    (dataset,) = open_datasets(prefix)
    return facts_of(dataset, flags)


@pytest.mark.parametrize("tokenizer", ["nucleotide", "codon", "kmer:2"])
@pytest.mark.parametrize("block", [7, 1 << 22])
def test_gc_of_each_document(
    tmp_path: Path, tokenizer: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However documents lie in the blocks that are read."""
    monkeypatch.setattr(module, "BLOCK", block)
    rng = np.random.default_rng(0)
    records = ["".join(rng.choice(list("ACGT"), 6 * int(n))) for n in rng.integers(1, 9, 30)]
    content = "".join(f">{n}\n{text}\n" for n, text in enumerate(records))
    found = facts(make(tmp_path, content, tokenizer=tokenizer)[0])
    expected = [(text.count("G") + text.count("C")) / len(text) for text in records]
    assert found.gc.tolist() == pytest.approx(expected)
    assert found.letters.tolist() == list(map(len, records))
    assert found.lengths.tolist() == list(map(len, records))
    assert found.gc_of_all == pytest.approx(np.average(expected, weights=found.letters))


def test_repeats_weights_and_other_letters(tmp_path: Path) -> None:
    content = ">a\nACgtACNNRA\n>b <x>\nggGG\n"
    prefix, manifest = make(tmp_path, content, lower_case_weight=0.1, unknown_weight=0.0)
    assert manifest.counts["lower_case_bases"] == 4
    found = facts(prefix)
    assert found.weights == {1.0: 9, 0.1: 4, 0.0: 3}
    assert found.not_acgt == 3
    text = page(found)
    assert "<x>" not in text
    assert text.count("data:image/svg+xml") == 5
    assert re.search(r"28\.57%.{0,40}lower case", text, re.S)


def test_a_full_disk_leaves_the_page_of_before(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path, ">a\nACGT\n")
    flags = Data(data_path=prefix, split="1,0,0")
    write_report(flags)
    before = Path(f"{prefix}.report.html").read_bytes()
    with room_for(500), pytest.raises(FullDisk, match=r"out\.report\.html cannot .*no space left"):
        write_report(flags)
    assert Path(f"{prefix}.report.html").read_bytes() == before


@pytest.mark.parametrize("block", [7, 1 << 22])
def test_gc_of_parts_of_one_record(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chromosome is cut by position: a part's letters are its own, not those of the record."""
    monkeypatch.setattr(module, "BLOCK", block)
    text = "AT" * 300 + "GGAT" * 100
    found = facts(make(tmp_path, f">one\n{text}\n")[0], "60,40,0")
    assert found.split.by == "position"
    for part in found.parts[:2]:
        (start,), (length,) = (
            getattr(found.split.parts[part.name], n) for n in ("start", "length")
        )
        inside = text[start : start + length]
        assert part.gc == pytest.approx((inside.count("G") + inside.count("C")) / len(inside))
    assert abs(found.parts[0].gc - found.parts[1].gc) > 0.1


def test_shares_of_a_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten groups of one size at 70, 20, 10: seven, two and one, each with its letters."""
    content = "".join(f">{n}\n{'AC' * 50 if n % 2 else 'AT' * 50}\n" for n in range(10))
    prefix, _ = make(tmp_path, content)
    found = facts(prefix, "70,20,10")
    assert [(part.groups, round(part.got, 6)) for part in found.parts] == [
        (7, 0.7), (2, 0.2), (1, 0.1),
    ]  # fmt: skip
    assert all(part.fair for part in found.parts)
    offsets, total = np.diff(found.dataset.tokens.document_offsets), 0.0
    total = sum(part.gc * part.documents for part in found.parts)
    assert total == pytest.approx(0.25 * len(offsets))
    write_report(Data(data_path=prefix, split="70,20,10"))
    assert "70.00% of the tokens for 70.00% asked" in capsys.readouterr().out
    assert Path(f"{prefix}.report.html").exists()
