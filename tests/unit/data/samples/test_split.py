"""Training, validation and test never share a base, on either strand, and groups stay whole."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from data_helpers import make, options
from hypothesis import given
from hypothesis import strategies as st

from longseq.__main__ import main
from longseq.config.split import parse_split
from longseq.data.datasets import documents_of, open_datasets
from longseq.data.held_out import split_datasets, write_held_out
from longseq.data.opening import open_data
from longseq.data.samples.cuts import Documents
from longseq.data.samples.split import split_documents
from longseq.errors import UserError

WORD = 40


def offsets(lengths: list[int]) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


def genome(rng: np.random.Generator, *lengths: int) -> str:
    """Random stretches with runs of N between them."""
    return ("N" * 7).join("".join(rng.choice(list("ACGT"), n)) for n in lengths)


def words(prefix: str, **flags: object) -> dict[str, set[str]]:
    """For each part all words of 40 letters, on both strands, from the tokens themselves."""
    datasets = open_datasets(prefix)
    (split,) = split_datasets(datasets, options(prefix, **flags))  # type: ignore[arg-type]
    found = {}
    for part, segments in split.parts.items():
        texts = []
        for start, length in zip(segments.start.tolist(), segments.length.tolist(), strict=True):
            texts.append(datasets[0].tokenizer.decode(datasets[0].tokens.read(start, length)))
        plain = re.findall("[ACGT]+", "|".join(texts))
        other = [text[::-1].translate(str.maketrans("ACGT", "TGCA")) for text in plain]
        found[part] = {
            text[i : i + WORD] for text in plain + other for i in range(len(text) - WORD + 1)
        }
    return found


@pytest.mark.parametrize("text", ["1e999999,1", "1,1E-0999999,1", "1" * 5000, "1e9_9_9,1"])
def test_weights_are_exact_and_so_of_few_digits(text: str) -> None:
    with pytest.raises(UserError, match="up to three weights") as caught:
        parse_split(text)
    assert len(str(caught.value)) < 200
    assert parse_split("1e-3, 0.5e+01,1/3") == [Fraction(part, 16003) for part in (3, 15000, 1000)]


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=300),
    st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)).filter(any),
)
def test_parts_are_disjoint_and_complete(lengths: list[int], weights: tuple[int, int, int]) -> None:
    shares = parse_split(",".join(map(str, weights)))
    split = split_documents(Documents(offsets(lengths), True), shares)
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
    split = split_documents(Documents(offsets([10] * 1000), True), parse_split("949,50,1"))
    assert split.by == "document"
    assert [len(part.start) for part in split.parts.values()] == [949, 50, 1]
    assert not split.notes


def test_one_genome_is_cut_by_position() -> None:
    split = split_documents(Documents(offsets([1000]), True), parse_split("949,40,11"))
    assert split.by == "position"
    assert [part.num_tokens for part in split.parts.values()] == [949, 40, 11]
    assert [part.closed.tolist() for part in split.parts.values()] == [[False], [False], [True]]


@pytest.mark.parametrize("genomes", [60, 499, 520])
def test_groups_stay_whole(genomes: int) -> None:
    """Whatever the number of equal genomes; that the test gets none is said."""
    documents = Documents(offsets([7] * 3 * genomes), True, np.arange(0, 3 * genomes, 3))
    split = split_documents(documents, parse_split("949,50,1"))
    assert split.by == "group"
    assert [len(part.start) % 3 for part in split.parts.values()] == [0, 0, 0]
    assert len(split.parts["valid"].start) == pytest.approx(3 * genomes * 0.05, abs=3)
    assert bool(split.notes) == (len(split.parts["test"].start) == 0)
    assert not split.notes or "test has 0.0% of the tokens" in split.notes[0]


def test_groups_that_were_asked_for_are_never_cut() -> None:
    """Two genomes: one is validation, far more than its share, and that is said."""
    groups = np.array([0, 200])
    documents = Documents(offsets([7] * 300), True, groups, kept=True)
    split = split_documents(documents, parse_split("949,50,1"))
    assert split.by == "group"
    assert sorted(len(part.start) for part in split.parts.values()) == [0, 100, 200]
    assert "valid has" in split.notes[0] or "valid has" in split.notes[1]


@pytest.mark.parametrize("named", [None, 3])
@pytest.mark.parametrize("small", [[30_000], [50_000], [2_000, 3_000] + [500] * 40])
def test_a_chromosome_is_not_held_out_where_smaller_groups_can_be(
    named: int | None, small: list[int]
) -> None:
    """Whatever the seed, and where one plasmid is held out by name."""
    sizes = [460_000, *small] + [9_000] * (named is not None)
    flags = np.arange(len(sizes)) == len(sizes) - 1
    names = {} if named is None else {"test": flags}
    documents = Documents(offsets(sizes), True, np.arange(len(sizes)), kept=named is None)
    for seed in range(30):
        parts = split_documents(documents, parse_split("949,50,1"), seed, names).parts
        assert parts["train"].num_tokens > 430_000
        assert 0 < parts["valid"].num_tokens <= 50_000


def test_what_is_drawn_stays_where_it_is_near_to_its_share() -> None:
    """Splits of before are those of now: only what is over twice its share is not taken."""
    documents = Documents(offsets([90] * 10 + [100]), True, np.arange(11), kept=True)
    drawn = {
        tuple(split_documents(documents, parse_split("95,5"), seed).parts["valid"].start.tolist())
        for seed in range(100)
    }
    assert drawn == {(90 * n,) for n in range(11)}


def test_groups_are_drawn_by_the_seed() -> None:
    documents = Documents(offsets([7] * 100), True)
    chosen = [
        tuple(split_documents(documents, parse_split("9,1"), seed).parts["valid"].start.tolist())
        for seed in (1, 1, 2)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    assert chosen[0] != tuple(range(630, 700, 7))  # not the tail of the files


def test_too_few_groups_are_cut_between_documents() -> None:
    """The genes of two genomes: no gene is divided, and one that overlaps a cut is in no part."""
    start = np.concatenate((np.arange(200), np.arange(100))) * 5  # genes of 6 overlap by one
    record = np.repeat([0, 1], [200, 100])
    documents = Documents(
        offsets([7] * 300), True, np.array([0, 200]), False, record, start,
        np.zeros(300, dtype=bool),
    )  # fmt: skip
    split = split_documents(documents, parse_split("9,1"))
    assert split.by == "document"
    assert all(part.closed.all() for part in split.parts.values())
    assert sum(len(part.start) for part in split.parts.values()) == 299


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        ("0 4000 + 0 4000 -", "60,40"),
        ("0 4000 + 0 4000 + 0 4000 +", "60,40"),
        ("0 4000 + " + " ".join(f"{at} {at + 400} -" for at in range(0, 3601, 1200)), "80,10,10"),
        ("2000 4000 + 1000 3000 - 0 2000 +", "80,10,10"),
    ],
)
def test_documents_that_overlap_are_cut_where_the_shares_are(
    tmp_path: Path, lines: str, asked: str
) -> None:
    words = lines.split()
    (tmp_path / "x.bed").write_text(
        "".join(
            f"a\t{start}\t{stop}\tx\t0\t{strand}\n"
            for start, stop, strand in zip(words[::3], words[1::3], words[2::3], strict=True)
        )
    )
    sequence = genome(np.random.default_rng(1), 4000)
    (tmp_path / "x.fa").write_text(f">a\n{sequence}\n")
    prefix = str(tmp_path / "out")
    bed = f"{tmp_path}/x.bed"
    main(["prepare", f"{tmp_path}/x.fa", "--regions", bed, "--output", prefix])
    (split,) = split_datasets(open_datasets(prefix), options(prefix, asked))
    total = sum(part.num_tokens for part in split.parts.values())
    got = [part.num_tokens / total for part in split.parts.values()]
    assert split.by == "position"
    assert got == pytest.approx([float(share) for share in parse_split(asked)], abs=1e-3)
    assert not split.notes


def test_a_share_that_no_cut_by_position_gives_is_said(tmp_path: Path) -> None:
    """Two records of four letters, read with the start of a run, and of one joined gene."""
    prefix, _ = make(tmp_path, ">a\nAC\n>b\nA\n")
    notes = "\n".join(open_data(options(prefix, "949,50,1"), 4, 0).notes)
    assert (
        "out: valid has 0.0% of the tokens where --split asks for 5.0%: no cut by position comes"
        " nearer\n" in notes
    )
    reaches = np.array([[0, 90], [0, 90]])
    documents = Documents(
        offsets([31, 31]), True, None, False, np.zeros(2, int), np.zeros(2, int), None,
        reaches=reaches,
    )  # fmt: skip
    split = split_documents(documents, parse_split("9,1"))
    assert [part.num_tokens for part in split.parts.values()] == [62, 0, 0]
    assert "valid has 0.0%" in split.notes[0]


@pytest.mark.parametrize("tokenizer", ["nucleotide", "codon"])
@pytest.mark.parametrize("chunk", [0, 512])
@pytest.mark.parametrize("records", [1, 3, 30])
def test_other_strand_is_held_back_too(
    tmp_path: Path, tokenizer: str, chunk: int, records: int
) -> None:
    """By content: no word of 40 letters of what is held out is in training, on either strand.

    Records of unequal stretches with N between them, the usual chromosome, both strands of each.
    """
    rng = np.random.default_rng(records)
    content = "".join(f">{i}\n{genome(rng, 901, 350, 78, 205)}\n" for i in range(records))
    prefix, _ = make(
        tmp_path, content, tokenizer=tokenizer, reverse_complement=True, ambiguous="split",
        chunk=chunk,
    )  # fmt: skip
    found = words(prefix, split="8,1,1")
    assert all(found.values())
    assert not found["train"] & found["valid"]
    assert not found["train"] & found["test"]
    assert not found["valid"] & found["test"]
    everything = sum(map(len, found.values()))
    assert everything > 2 * records * 1000


def test_data_of_the_first_format_hold_out_the_other_strand(tmp_path: Path) -> None:
    """Without places: whole records pair with the next; of pieces no position is known."""
    rng = np.random.default_rng(3)
    prefix, _ = make(tmp_path, f">a\n{genome(rng, 900)}\n", reverse_complement=True)
    manifest = Path(f"{prefix}.json")
    text = re.sub(r'"places": \{[^}]*\},?', "", manifest.read_text())
    old = text.replace('"format": 2', '"format": 1').replace('"auto"', '"record"')
    manifest.write_text(old)
    found = words(prefix, split="8,1,1")
    assert all(found.values())
    assert not found["train"] & (found["valid"] | found["test"])
    manifest.write_text(old.replace('"ambiguous": "keep"', '"ambiguous": "split"'))
    with pytest.raises(UserError, match="prepare them again"):
        words(prefix, split="8,1,1")


def test_held_out_by_name(tmp_path: Path) -> None:
    """Records, and a list of them; what is not named is divided as before."""
    content = "".join(f">chr{i} some words\n{'ACGT' * (i + 1)}\n" for i in range(9))
    prefix, _ = make(tmp_path, content, reverse_complement=True)
    (tmp_path / "list").write_text("chr7 some words\n\nchr1\n")
    flags = options(prefix, split="9,1", valid_records="chr3", test_records=f"@{tmp_path}/list")
    datasets = open_datasets(prefix)
    (split,) = split_datasets(datasets, flags)
    assert split.parts["valid"].start.tolist() == documents_of(datasets[0]).offsets[6:8].tolist()
    assert len(split.parts["test"].start) == 4
    assert len(split.parts["train"].start) == 12
    write_held_out(tmp_path / "held_out.tsv", [(datasets[0], split)])
    lines = (tmp_path / "held_out.tsv").read_text().splitlines()
    assert [line.split("\t")[4] for line in lines[1:3]] == ["chr3 some words"] * 2
    assert len(lines) == 1 + 2 + 4
    for wrong, message in (
        ("chr33", "did you mean 'chr3'"),
        ("Chr3", "did you mean 'chr3'"),
        ("3", "did you mean 'chr3'"),
        ("chopin", "has that name$"),
        ("@none", "cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            split_datasets(datasets, options(prefix, valid_records=wrong))
    with pytest.raises(UserError, match="name the same group"):
        split_datasets(datasets, options(prefix, valid_records="chr1", test_records="chr1"))


def test_notes_reach_the_run(tmp_path: Path) -> None:
    content = "".join(f">{i}\n{'ACGT' * 9}\n" for i in range(3))
    prefix, _ = make(tmp_path, content)
    assert "cut by position" in "\n".join(open_data(options(prefix, "949,50,1"), 4, 0).notes)
    kept, _ = make(tmp_path, content, group_by="record")
    notes = "\n".join(open_data(options(kept, "949,50,1"), 4, 0).notes)
    assert "valid has 33.3% of the tokens where --split asks for 5.0%" in notes


@pytest.mark.parametrize("wrong", ["", "a,b", "-1,2", "0,0,0", "1,2,3,4", "1/0"])
def test_wrong_split(wrong: str) -> None:
    with pytest.raises(UserError, match="--split"):
        parse_split(wrong)
