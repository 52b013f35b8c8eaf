"""`longseq prepare`: right tokens from anything that is a sequence, a clear no to anything else."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import LAMBDA, make, records_of, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from longseq.data.datasets import check_data
from longseq.data.indexed.format import IndexedTokens
from longseq.data.indexed.manifest import read_manifest
from longseq.data.indexed.record_table import read_records
from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.prepare.text import pieces_of
from longseq.data.prepare.writing.progress import fingerprint
from longseq.data.sources.inputs import expand
from longseq.data.tokenizers.registry import tokenizer_from
from longseq.errors import UserError


def test_a_folder_that_is_removed_meanwhile_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.fa").write_text(">a\nACGT\n")
    out = tmp_path / "folder"

    def report(_: int) -> None:
        shutil.rmtree(out, ignore_errors=True)

    inputs, settings = expand([str(tmp_path / "in.fa")]), Settings(Recipe())
    with pytest.raises(UserError, match=f"{out} is gone: it was removed or moved while this run"):
        prepare(inputs, str(out / "x"), settings, False, report)


def test_lambda(tmp_path: Path) -> None:
    prefix, manifest = make(tmp_path, LAMBDA.read_bytes())
    ((_, sequence),) = records_of(LAMBDA.read_text())
    assert len(sequence) == 48502
    assert texts(prefix) == [sequence]
    assert manifest.counts["bases"] == 48502
    assert manifest.num_tokens == 48503
    assert manifest.sources[0]["sha256"].startswith("0a04f819")


@pytest.mark.parametrize("chunk", [64, 1000, 1 << 20])
@pytest.mark.parametrize("tokenizer", ["nucleotide", "codon", "kmer:4"])
def test_any_chunk_size_gives_the_same(tmp_path: Path, chunk: int, tokenizer: str) -> None:
    """With records far shorter and far longer than a chunk, and both strands."""
    rng = np.random.default_rng(0)
    lines = []
    for number, length in enumerate([5, 700, 0, 2, 4000, 63, 64, 65, 1]):
        sequence = "".join(rng.choice(list("ACGTNacgtR"), length))
        lines += [f">r{number}", *[sequence[i : i + 60] for i in range(0, length, 60)]]
    content = "\n".join(lines) + "\n"
    for policy in ("keep", "split", "drop", "n"):
        both = partial(
            make, content=content, tokenizer=tokenizer, ambiguous=policy, reverse_complement=True
        )
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "b").mkdir(exist_ok=True)
        one, first = both(tmp_path / "a", chunk=chunk)
        two, second = both(tmp_path / "b", chunk=1 << 22)
        for ending in ("bin", "idx"):
            assert Path(f"{one}.{ending}").read_bytes() == Path(f"{two}.{ending}").read_bytes()
        assert {k: v for k, v in first.counts.items() if v} == {
            k: v for k, v in second.counts.items() if v
        }
        assert first.files.get("groups") == second.files.get("groups")


HEADERS = st.text("abc >;@|1\t", max_size=8)
SEQUENCES = st.text("ACGTacgtNnRYKMSWBDHVUu", max_size=90)
ENDS = st.sampled_from(["\n", "\r\n"])


@settings(max_examples=150)
@given(
    st.lists(st.tuples(HEADERS, SEQUENCES), min_size=1, max_size=8),
    ENDS,
    st.integers(1, 40),
    st.integers(16, 200),
    st.booleans(),
)
def test_fuzzed_fasta_loses_no_base(
    records: list[tuple[str, str]], end: str, width: int, chunk: int, closing: bool
) -> None:
    """Any layout of records: the letters come back, the empty records are counted."""
    lines = []
    for header, sequence in records:
        lines.append(f">{header}")
        lines += [sequence[i : i + width] for i in range(0, len(sequence), width)]
    content = end.join(lines) + (end if closing else "")
    expected = [s.upper().replace("U", "T") for _, s in records if s]
    with tempfile.TemporaryDirectory() as folder:
        if not expected:
            with pytest.raises(UserError, match="no sequence"):
                make(Path(folder), content.encode(), chunk=chunk)
            return
        prefix, manifest = make(Path(folder), content.encode(), chunk=chunk)
        assert texts(prefix) == expected
    assert manifest.counts["bases"] == sum(map(len, expected))
    assert manifest.counts["records"] == len(records)


def test_codons_and_what_is_left_over(tmp_path: Path) -> None:
    prefix, manifest = make(tmp_path, ">a\nATGGCNTAAC\n>b\nAC\n>c\nTAG\n", tokenizer="codon")
    tokens = IndexedTokens(prefix)
    assert [tokens.document(i).tolist() for i in range(2)] == [[12, 0, 67, 3], [70, 3]]
    assert manifest.counts["trailing_bases"] == 3
    assert manifest.num_documents == 2


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("chunk", [8, 1 << 20])
def test_records_shorter_than_a_token_are_counted(tmp_path: Path, chunk: int, both: bool) -> None:
    """In whichever way they are read: as one of many, or as a long one."""
    content = f">a\nA{' ' * 40}C\n>b\nACGTACGTA\n>c\nA\n>d\n\n>e\nTT\n"
    prefix, manifest = make(
        tmp_path, content, tokenizer="codon", chunk=chunk, reverse_complement=both
    )
    counts = manifest.counts
    assert (counts["records"], counts["empty_records"], counts["below_a_token"]) == (5, 1, 3)
    assert IndexedTokens(prefix).num_documents == 1 + both


@pytest.mark.parametrize("tokenizer", ["codon", "kmer:2", "kmer:5", "kmer:6", "kmer:9"])
def test_words_by_hand(tmp_path: Path, tokenizer: str) -> None:
    """Many records of any length, some letters foreign: looked up one by one by their names."""
    rng = np.random.default_rng(5)
    records = ["".join(rng.choice(list("ACGTACGTACGTN"), n)) for n in rng.integers(9, 60, 300)]
    content = "".join(f">{n}\n{text}\n" for n, text in enumerate(records))
    prefix, manifest = make(tmp_path, content, tokenizer=tokenizer)
    names = tokenizer_from(tokenizer).names()
    places, size = {name: place for place, name in enumerate(names)}, len(names[-1])
    tokens = IndexedTokens(prefix)
    for number, text in enumerate(records):
        words = [text[i : i + size] for i in range(0, len(text) - size + 1, size)]
        expected = [places.get(word, places["[UNK]"]) for word in words]
        assert tokens.document(number).tolist()[:-1] == expected
    assert manifest.counts["trailing_bases"] == sum(len(text) % size for text in records)


@pytest.mark.parametrize(
    ("policy", "expected", "left_out"),
    [
        ("keep", ["ACNNRT", "GG"], 0),
        ("n", ["ACNNNT", "GG"], 0),
        ("split", ["AC", "T", "GG"], 3),
        ("drop", ["GG"], 0),
    ],
)
def test_policies(tmp_path: Path, policy: str, expected: list[str], left_out: int) -> None:
    prefix, manifest = make(tmp_path, ">a\nACNNRT\n>b\nGG\n", ambiguous=policy)
    assert texts(prefix) == expected
    assert manifest.counts.get("ambiguous_left_out", 0) == left_out
    assert manifest.counts.get("dropped_bases", 0) == (6 if policy == "drop" else 0)


def test_refusals_name_record_and_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="record bad one: letter 3 is R"):
        make(tmp_path, ">ok\nAC\n>bad one\nACR\n", ambiguous="refuse")
    with pytest.raises(UserError, match=r"in\.fa: record p: letter 2 is no nucleotide"):
        make(tmp_path, ">p\nMEEK\n")
    with pytest.raises(UserError, match="record long: letter 2,001 is no nucleotide"):
        make(tmp_path, ">long\n" + "ACGT\n" * 500 + "!\n", chunk=64)
    assert not (tmp_path / "out.idx").exists()
    assert not list(tmp_path.glob("*unfinished*"))


def test_lower_case_as_n(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path, ">a\nACgtAC\n", mask_lower_case=True)
    assert texts(prefix) == ["ACNNAC"]


def test_both_strands_and_groups(tmp_path: Path) -> None:
    prefix, manifest = make(tmp_path, ">a\nAACG\n>b\nTTC\n", reverse_complement=True)
    assert texts(prefix) == ["AACG", "CGTT", "TTC", "GAA"]
    assert np.fromfile(f"{prefix}.groups", "<i8").tolist() == [0, 2]
    assert "groups" in manifest.files


def test_groups_by_file(tmp_path: Path) -> None:
    for name in ("a.fa", "b.fa"):
        (tmp_path / name).write_text(">1\nAC\n>2\nGT\n>3\nGG\n")
    prefix = str(tmp_path / "out")
    inputs = expand([str(tmp_path)])
    prepare(inputs, prefix, Settings(Recipe(), group_by="file"), False, quiet)
    assert np.fromfile(f"{prefix}.groups", "<i8").tolist() == [0, 3]


def test_workers_do_not_change_a_byte(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    content = "".join(
        f">{i}\n{''.join(rng.choice(list('ACGTN'), n))}\n"
        for i, n in enumerate([900, 20000, 7] * 3)
    )
    files = []
    for workers in (1, 3):
        prefix, _ = make(
            tmp_path, content, workers=workers, chunk=4096, tokenizer="codon", ambiguous="split"
        )
        files.append([Path(f"{prefix}.{kind}").read_bytes() for kind in ("bin", "idx", "json")])
    assert files[0] == files[1]


@pytest.mark.filterwarnings("ignore:sequence should be at least")
@pytest.mark.parametrize("meta", [True, False])
def test_genes_as_pyrodigal_calls_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meta: bool
) -> None:
    """Codons of each gene in order, by the meta models (λ is short) or trained on the sequence."""
    from pyrodigal import GeneFinder

    monkeypatch.setattr(
        "longseq.data.sources.gene_calling.SINGLE_FROM", 100_000 if meta else 20_000
    )
    ((_, sequence),) = records_of(LAMBDA.read_text())
    finder = GeneFinder(meta=meta)
    if not meta:
        finder.train(sequence.encode())
    genes = [gene.sequence() for gene in finder.find_genes(sequence.encode())]
    prefix, manifest = make(tmp_path, LAMBDA.read_bytes(), tokenizer="codon", genes=True)
    assert manifest.counts["genes"] == len(genes) > 60
    assert texts(prefix) == [gene[: len(gene) - len(gene) % 3] for gene in genes]
    assert np.fromfile(f"{prefix}.groups", "<i8").tolist() == [0]
    chunked, _ = make(tmp_path, LAMBDA.read_bytes(), tokenizer="codon", genes=True, chunk=1000)
    assert len(texts(chunked)) == len(genes)


def test_text_tokenizers_keep_their_files(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(
        models.WordLevel({"AC": 0, "GT": 1, "[UNK]": 2, "[EOS]": 3}, unk_token="[UNK]")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.save(str(tmp_path / "own.json"))
    prefix, manifest = make(
        tmp_path, "AC GT\nGT\n", name="x.txt", tokenizer=f"huggingface:{tmp_path}/own.json"
    )
    (tmp_path / "own.json").unlink()
    assert texts(prefix) == ["AC GT", "GT"]
    assert manifest.tokenizer == "huggingface"
    assert "tokenizer.json" in manifest.files
    tokens = IndexedTokens(prefix)
    assert tokens.document(0).tolist() == [0, 1, 3]


def test_bytes_of_text(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path, "one\ntwo\n", name="x.txt", tokenizer="byte")
    assert texts(prefix) == ["one", "two"]


def test_manifest_is_complete(tmp_path: Path) -> None:
    prefix, manifest = make(tmp_path, LAMBDA.read_bytes(), tokenizer="codon")
    assert read_manifest(prefix) == manifest
    values = json.loads(Path(f"{prefix}.json").read_text())
    assert values["vocab_size"] == 71
    assert set(values["files"]) == {"bin", "idx", "records.tsv"}
    assert values["files"]["bin"]["bytes"] == 48502 // 3 + 1


@pytest.mark.parametrize("chunk", [0, 16])
def test_short_records_are_left_out(tmp_path: Path, chunk: int) -> None:
    content = f">a\nACG\n>b\nACGTA\n>c\n{'GATTACA' * 9}\n"
    prefix, manifest = make(tmp_path, content, min_length=5, chunk=chunk)
    assert texts(prefix) == ["ACGTA", "GATTACA" * 9]
    assert (manifest.counts["short_records"], manifest.counts["short_bases"]) == (1, 3)
    assert [record.documents for record in read_records(prefix)] == [0, 1, 1]
    with pytest.raises(UserError, match=r"makes a token \(3 are below --min-length 100\)"):
        make(tmp_path, content, min_length=100, chunk=chunk)


def test_genes_keep_other_letters(tmp_path: Path) -> None:
    """A Y in a gene stays one, though the gene caller reads N there."""
    plain, _ = make(tmp_path, LAMBDA.read_bytes(), genes=True)
    ((_, sequence),) = records_of(LAMBDA.read_text())
    gene = texts(plain)[5]
    place = sequence.index(gene) + 30
    prefix, _ = make(tmp_path, f">x\n{sequence[:place]}Y{sequence[place + 1 :]}\n", genes=True)
    assert texts(prefix)[5] == f"{gene[:30]}Y{gene[31:]}"


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_files_are_left_out_and_listed(tmp_path: Path, workers: int) -> None:
    """Whatever a file brought before it turned out to be bad is taken back."""
    (tmp_path / "d").mkdir()
    good = ">a\nACGT\n>b\nGATTACA\n"
    bad = {
        "b-letter.fa": f">x\n{'ACGT' * 99}\n>y\nACG!\n".encode(),
        "c-cut.fa.gz": gzip.compress(b">a\n" + b"ACGT\n" * 9999)[:-9],
        "d-empty.fa": b"",
        "e-long.fa": f">x\n{'ACGT' * 99}!\n".encode(),
    }
    for name, content in {"a.fa": good.encode(), **bad, "f.fa": b">c\nCC\n"}.items():
        (tmp_path / "d" / name).write_bytes(content)
    inputs, prefix = expand([str(tmp_path / "d")]), str(tmp_path / "out")
    recipe = Recipe(reverse_complement=True, unknown_weight=0.5)
    settings = Settings(recipe, workers, "file", 64, skip_bad=True)
    manifest = prepare(inputs, prefix, settings, False, quiet)
    assert texts(prefix) == ["ACGT", "ACGT", "GATTACA", "TGTAATC", "CC", "GG"]
    assert [Path(entry["path"]).name for entry in manifest.skipped] == list(bad)
    assert all(entry["reason"] for entry in manifest.skipped)
    assert manifest.counts["records"] == 3
    assert [Path(source["path"]).name for source in manifest.sources] == ["a.fa", "f.fa"]
    assert np.fromfile(f"{prefix}.groups", "<i8").tolist() == [0, 4]
    check_data(prefix)
    assert len(list(read_records(prefix))) == 3
    with pytest.raises(UserError, match=r"b-letter|c-cut"):
        prepare(inputs, prefix, Settings(recipe, workers), True, quiet)


def own_tokenizer(path: Path, vocabulary: dict[str, int]) -> str:
    from tokenizers import Tokenizer, models

    inner = Tokenizer(models.BPE(vocabulary, [("A", "C")], unk_token=None))
    inner.save(str(path))
    return f"huggingface:{path}"


@pytest.mark.parametrize("chunk", [0, 16])
@pytest.mark.parametrize(
    ("flags", "unknown"),
    [
        ({"tokenizer": "codon"}, 3),
        ({"tokenizer": "kmer:4"}, 4),
        ({"tokenizer": "kmer:4", "reverse_complement": True}, 8),
        ({"tokenizer": "codon", "ambiguous": "split"}, 0),
        ({"tokenizer": "nucleotide"}, 0),
    ],
)
def test_words_that_became_unknown_are_counted(
    tmp_path: Path, flags: dict[str, Any], unknown: int, chunk: int
) -> None:
    """Also of a record that is read in windows; a nucleotide has a token for each letter."""
    content = ">a\nACGNCGTTTAAA\n>b\nACRACGTTTAAACCCGGGNNNTTT\n"
    _, manifest = make(tmp_path, content, chunk=chunk, **flags)
    assert manifest.counts.get("unknown_words", 0) == unknown


def test_letters_that_a_tokenizer_does_not_know(tmp_path: Path) -> None:
    """A BPE without a token for T and without [UNK] drops it in silence: refused by its place."""
    words = {"A": 0, "C": 1, "G": 2, "AC": 3, "[EOS]": 9}
    tokenizer = own_tokenizer(tmp_path / "t.json", words)
    with pytest.raises(UserError, match=r"record b: .* no token for 'TAG', nor for 7\.1%"):
        make(tmp_path, ">a\nACG\n>b\nACTAG\n>c\nACACAC\n>d\n\n", tokenizer=tokenizer)
    prefix = str(tmp_path / "out")
    settings = Settings(Recipe(tokenizer), allow_unknown=0.2)
    manifest = prepare(expand([str(tmp_path / "in.fa")]), prefix, settings, False, quiet)
    assert manifest.counts["unknown_letters"] == 1
    assert manifest.vocab_size == 10  # the vocabulary's ids leave a gap
    tokens = IndexedTokens(prefix)
    assert [tokens.document(i).tolist() for i in range(2)] == [[3, 2, 9], [3, 0, 2, 9]]


@pytest.mark.parametrize("name", ["x.fa", "x.txt"])
def test_text_tokenizers_stream(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that is longer than a chunk comes in stretches: the same tokens."""
    monkeypatch.setattr("longseq.data.prepare.text.PIECE", 64)
    words = {letter: number for number, letter in enumerate(("A", "C", "G", "T", "AC", "</s>"))}
    tokenizer = own_tokenizer(tmp_path / "t.json", words)
    text = "GATTACACCA" * 50
    content = f">x\n{text}\n>y\nAC\n" if name == "x.fa" else f"{text}\nAC\n"
    (tmp_path / "a").mkdir()
    whole, _ = make(tmp_path / "a", content, name=name, tokenizer=tokenizer)
    parts, manifest = make(tmp_path, content, name=name, tokenizer=tokenizer, chunk=128)
    for ending in ("bin", "idx"):
        assert Path(f"{whole}.{ending}").read_bytes() == Path(f"{parts}.{ending}").read_bytes()
    assert manifest.counts["letters"] == 502
    expected = [
        words[word] for i in range(0, 500, 64) for word in re.findall("AC|.", text[i : i + 64])
    ]
    assert IndexedTokens(parts).document(0).tolist() == [*expected, 5]


def test_text_is_cut_between_characters_and_before_blanks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longseq.data.prepare.text.PIECE", 8)
    for text in ("naïve naïveté ünüberlegtes", "ä" * 31, "a b " * 9, "short"):
        pieces = pieces_of(text.encode())
        assert "".join(piece.decode() for piece in pieces) == text
        assert all(len(piece) <= 8 for piece in pieces)
    assert pieces_of(b"one two three") == [b"one two", b" three"]


@pytest.mark.parametrize("start", [b"", b"A", b"hello world\n"])
@pytest.mark.parametrize("chunk", [0, 64])
def test_bytes_that_are_no_text_are_all_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes, chunk: int
) -> None:
    """Where no character of UTF-8 begins there is still a place to cut."""
    monkeypatch.setattr("longseq.data.prepare.text.PIECE", 16)
    content = start + b"\x90" * 1001
    prefix, _ = make(tmp_path, content, name="x.txt", tokenizer="byte", chunk=chunk)
    tokens = IndexedTokens(prefix)
    found = [bytes(tokens.document(i)[:-1].tolist()) for i in range(tokens.num_documents)]
    assert found == content.split(b"\n")


def test_weights_beside_the_tokens(tmp_path: Path) -> None:
    """By hand: lower case 0.1, N 0; of a word the smallest; the other strand mirrored."""
    content = ">a\nACGtacN\n>b\nGGG\n"
    flags: dict[str, Any] = {
        "lower_case_weight": 0.1,
        "unknown_weight": 0.0,
        "reverse_complement": True,
    }
    prefix, manifest = make(tmp_path, content, **flags)
    assert manifest.weights == [1.0, 0.1, 0.0]
    forward = [0, 0, 0, 1, 1, 1, 2, 0]
    backward = [2, 1, 1, 1, 0, 0, 0, 0]
    found = np.fromfile(f"{prefix}.weights", np.uint8).tolist()
    assert found == forward + backward + [0] * 8
    for chunk in (0, 6):
        prefix, _ = make(tmp_path, content, tokenizer="codon", chunk=chunk, **flags)
        found = np.fromfile(f"{prefix}.weights", np.uint8).tolist()
        assert found == [0, 1, 0] + [2, 1, 0] + [0, 0] * 2


@pytest.mark.parametrize(
    ("tokenizer", "ambiguous", "weights"),
    [
        ("nucleotide", "keep", "000011110011110"),
        ("nucleotide", "n", "000011110011110"),
        ("codon", "keep", "01110"),
        ("kmer:4", "n", "0110"),
    ],
)
def test_a_masked_letter_weighs_like_an_n(
    tmp_path: Path, tokenizer: str, ambiguous: str, weights: str
) -> None:
    """By hand; the same as of a file in which N stands there."""
    flags: dict[str, Any] = {
        "tokenizer": tokenizer,
        "ambiguous": ambiguous,
        "unknown_weight": 0.0,
    }
    for letters, mask in (("ACGTacNnGTaaRN", True), ("ACGTNNNNGTNNRN", False)):
        for chunk in (0, 5):
            flags |= {"mask_lower_case": mask, "chunk": chunk}
            prefix, _ = make(tmp_path, f">a\n{letters}\n", **flags)
            found = np.fromfile(f"{prefix}.weights", np.uint8)
            assert "".join(map(str, found)) == weights


def test_no_preparation_goes_on_with_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a version left which weighed the same letters otherwise, of the same options."""
    weighted, plain = Settings(Recipe(unknown_weight=0.5)), Settings(Recipe())
    before = [fingerprint(settings, {}) for settings in (weighted, plain)]
    monkeypatch.setattr(Recipe, "weight_table", lambda self: bytes(256))
    after = [fingerprint(settings, {}) for settings in (weighted, plain)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True]


PROTEIN = ">p\nMKVLUXaa*\n>q\nACDG-HKMNRSTVWY\nUX\n"


@pytest.mark.parametrize("chunk", [0, 8])
def test_protein_is_bytes_of_text(tmp_path: Path, chunk: int) -> None:
    """In upper case without gaps; U and X are what they are, also where all letters are IUPAC's."""
    prefix, manifest = make(tmp_path, PROTEIN, tokenizer="byte", chunk=chunk)
    assert texts(prefix) == ["MKVLUXAA*", "ACDGHKMNRSTVWYUX"]
    counts = [manifest.counts[name] for name in ("bases", "gaps", "lower_case_bases")]
    assert counts == [25, 1, 2]
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {name: n for n, name in enumerate([*"ACDEFGHIKLMNPQRSTUVWXY*", "[UNK]", "</s>"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.save(str(tmp_path / "p.json"))
    prefix, _ = make(tmp_path, PROTEIN, tokenizer=f"huggingface:{tmp_path}/p.json", chunk=chunk)
    found = IndexedTokens(prefix).document(0).tolist()
    assert found == [words[letter] for letter in [*"MKVLUXAA*", "</s>"]]


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"mask_lower_case": True}, r"4 is no nucleotide, but .L.: mend .* leave out --mask-lower"),
        ({"ambiguous": "n"}, r"4 is no nucleotide, but .L.: mend .* and --ambiguous"),
    ],
)
def test_what_needs_nucleotides_refuses_protein(
    tmp_path: Path, recipe: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        make(tmp_path, PROTEIN, tokenizer="byte", **recipe)


def test_duplicates_are_of_nucleotides(tmp_path: Path) -> None:
    (tmp_path / "p.fa").write_text(PROTEIN)
    settings = Settings(Recipe("byte"), drop_duplicates="exact")
    with pytest.raises(UserError, match="letter 4 is no nucleotide: duplicates and likeness are"):
        prepare(expand([f"{tmp_path}/p.fa"]), f"{tmp_path}/out", settings, False, quiet)
