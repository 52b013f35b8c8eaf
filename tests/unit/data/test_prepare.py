"""`longseq prepare`: right tokens from anything that is a sequence, a clear no to anything else."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from data_helpers import make, texts
from hypothesis import example, given, settings
from hypothesis import strategies as st

from longseq.data.commands import data as data_verb
from longseq.data.commands import prepare as prepare_verb
from longseq.data.indexed.format import IndexedTokens
from longseq.data.indexed.manifest import read_manifest
from longseq.data.prepare.encode import Recipe
from longseq.data.prepare.prepare import Settings, prepare, quiet
from longseq.data.sources.files import expand
from longseq.errors import UserError

LAMBDA = Path(__file__).parents[3] / "data" / "NC_001416.1.fa"
GENBANK = """LOCUS       TEST                      12 bp    DNA     linear   PHG 01-JAN-2000
DEFINITION  test.
ACCESSION   TEST
VERSION     TEST.1
ORIGIN
        1 acgtacgtac gn
//
"""


def records_of(content: str) -> list[tuple[str, str]]:
    """An independent reading."""
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    return list(SimpleFastaParser(io.StringIO(content)))


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


@settings(max_examples=300)
@given(st.binary(max_size=300), st.sampled_from([b"", b">", b">a\n", b"@r\nAC\n", b"LOCUS "]))
@example(b"@", b"")
def test_garbage_never_crashes(garbage: bytes, start: bytes) -> None:
    """Either the file is refused in a sentence, or every letter is accounted for."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            prefix, manifest = make(Path(folder), start + garbage, chunk=64, name="x.fa")
        except UserError as error:
            refusal = str(error)
        else:
            assert sum(map(len, texts(prefix))) == manifest.counts["bases"]
            return
        assert "x.fa" in refusal
        assert not Path(folder, "out.idx").exists()


def test_codons_and_what_is_left_over(tmp_path: Path) -> None:
    prefix, manifest = make(tmp_path, ">a\nATGGCNTAAC\n>b\nAC\n>c\nTAG\n", tokenizer="codon")
    tokens = IndexedTokens(prefix)
    assert [tokens.document(i).tolist() for i in range(2)] == [[12, 0, 67, 3], [70, 3]]
    assert manifest.counts["trailing_bases"] == 3
    assert manifest.num_documents == 2


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
    assert not list(tmp_path.glob("*aside*"))


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


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("x.fa.gz", gzip.compress),
        ("x.fa.bz2", bz2.compress),
        ("x.fa.xz", lzma.compress),
        ("gzip without a suffix", gzip.compress),
    ],
)
def test_compressed(tmp_path: Path, name: str, pack) -> None:  # type: ignore[no-untyped-def]
    prefix, _ = make(tmp_path, pack(b">a\nACGT\n>b\nGG\n"), name=name)
    assert texts(prefix) == ["ACGT", "GG"]


def test_zstandard(tmp_path: Path) -> None:
    zstd = pytest.importorskip("backports.zstd")
    prefix, _ = make(tmp_path, zstd.compress(b">a\nACGT\n"), name="x.fna.zst")
    assert texts(prefix) == ["ACGT"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.fq", "@r\nACGT\n+\nIIII\n@s\nGG\n+\n@I\n", ["ACGT", "GG"]),
        ("x.gbk", GENBANK + GENBANK, ["ACGTACGTACGN"] * 2),
        ("x.txt", "ACGT\n\nGG\n", ["ACGT", "GG"]),
        ("x.jsonl", '{"text": "ACGT", "id": 1}\n{"sequence": "GG"}\n', ["ACGT", "GG"]),
        ("windows.fa", ">a\r\nAC\r\nGT\r\n>b\r\nGG\r\n", ["ACGT", "GG"]),
        ("twins.fa", ">a\nACGT\n>a\nGG\n", ["ACGT", "GG"]),
        ("gaps.fa", ">a\nAC--G.T\n>b\nG G\n", ["ACGT", "GG"]),
        ("blank.fa", "\n\n>a\n\nACGT\n\n>b\nGG", ["ACGT", "GG"]),
    ],
)
def test_formats(tmp_path: Path, name: str, content: str, expected: list[str]) -> None:
    prefix, _ = make(tmp_path, content, name=name)
    assert texts(prefix) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.fa", b"", "is empty"),
        ("plain.fa", b"ACGT\n", "is not FASTA"),
        ("binary.fa", bytes(range(256)) * 4, "is not FASTA"),
        ("cut.fa.gz", gzip.compress(b">a\n" + b"ACGT" * 9999)[:-20], "damaged or cut off"),
        ("flip.fa.gz", gzip.compress(b">a\nACGT\n")[:-6] + b"xxxxxx", "damaged or cut off"),
        ("mac.fa", b">a\rACGT\r", "line ends of old Macintoshes"),
        ("header.fa", b">" + b"x" * 5000, "header line"),
        ("only.fa", b">a\n>b\n", "no sequence in it"),
        ("cut.fq", b"@r\nACGT\n+\nII\n", "is not FASTQ"),
        ("x.jsonl", b'{"text": 3}\n', "one string named text"),
        ("y.jsonl", b"{[\n", "JSON"),
        ("x.gbk", GENBANK.split("ORIGIN")[0].encode() + b"//\n", "GenBank"),
    ],
)
def test_refused_inputs(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make(tmp_path, content, name=name, chunk=1024)
    assert name in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_inputs_as_folder_list_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("b.fa", "a.fna.gz", "notes.txt"):
        (tmp_path / "d" / name).write_text("x")
    listed = tmp_path / "files"
    listed.write_text(f"{tmp_path}/d/b.fa\n\n{tmp_path}/d\n")
    found = expand([f"@{listed}"])
    assert [Path(path).name for path in found.paths] == ["b.fa", "a.fna.gz", "b.fa"]
    assert [Path(path).name for path in found.skipped] == ["notes.txt"]
    with pytest.raises(UserError, match="no such file"):
        expand([str(tmp_path / "none")])
    (tmp_path / "e").mkdir()
    with pytest.raises(UserError, match="no sequence file"):
        expand([str(tmp_path / "e")])


@pytest.mark.filterwarnings("ignore:sequence should be at least")
@pytest.mark.parametrize("meta", [True, False])
def test_genes_as_pyrodigal_calls_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meta: bool
) -> None:
    """Codons of each gene in order, by the meta models (λ is short) or trained on the sequence."""
    from pyrodigal import GeneFinder

    monkeypatch.setattr("longseq.data.sources.genes.SINGLE_FROM", 100_000 if meta else 20_000)
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


def test_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = str(tmp_path / "a b" / "it's")
    assert prepare_verb([str(LAMBDA), "--output", prefix]) == 0
    assert "48,503 tokens in 1 documents" in capsys.readouterr().out
    with pytest.raises(UserError, match="--overwrite"):
        prepare_verb([str(LAMBDA), "--output", prefix])
    assert prepare_verb([str(LAMBDA), "--output", prefix, "--overwrite"]) == 0
    capsys.readouterr()
    assert data_verb(["inspect", prefix, "--seq-length", "100"]) == 0
    printed = capsys.readouterr().out
    assert "train 46,029 tokens" in printed
    assert "GGGCGGCGACCTCGCGGGTTTTCGC" in printed
    assert data_verb(["verify", prefix]) == 0
    assert "good" in capsys.readouterr().out
    assert data_verb(["decode", prefix]) == 0
    header, _, body = capsys.readouterr().out.partition("\n")
    assert header == ">0"
    assert body.replace("\n", "") == records_of(LAMBDA.read_text())[0][1]


def test_verify_finds_a_flipped_bit(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path, LAMBDA.read_bytes())
    raw = bytearray(Path(f"{prefix}.bin").read_bytes())
    raw[1000] ^= 1
    Path(f"{prefix}.bin").write_bytes(bytes(raw))
    with pytest.raises(UserError, match=r"out\.bin was changed"):
        data_verb(["verify", prefix])


@pytest.mark.parametrize(
    "words",
    [
        ["--genes", "--reverse-complement"],
        ["--tokenizer", "byte", "--genes"],
        ["--tokenizer", "byte", "--ambiguous", "split"],
        ["--workers", "-1"],
        ["--tokenizer", "nonsense"],
        ["--colour"],
    ],
)
def test_wrong_flags(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(UserError, match="--"):
        prepare_verb([str(LAMBDA), "--output", str(tmp_path / "x"), *words])


def test_manifest_is_complete(tmp_path: Path) -> None:
    prefix, manifest = make(tmp_path, LAMBDA.read_bytes(), tokenizer="codon")
    assert read_manifest(prefix) == manifest
    values = json.loads(Path(f"{prefix}.json").read_text())
    assert values["vocab_size"] == 71
    assert set(values["files"]) == {"bin", "idx"}
    assert values["files"]["bin"]["bytes"] == 48502 // 3 + 1
