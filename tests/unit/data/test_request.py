"""What is asked of the data is looked at before a job is queued, in the words of the run."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from longseq.config.arguments import Data
from longseq.config.checks import parse_config
from longseq.data.datasets import check_data
from longseq.data.request import look_at_data
from longseq.data.sources.inputs import open_source
from longseq.errors import UserError

GENOME = ">chr1 first\nACGTACGTNN\nacgt\n>chr2\nGGCC\n"
OTHER = "name another file, or give --tokenizer-type byte"


def refusal(**flags: str) -> str:
    with pytest.raises(UserError) as caught:
        look_at_data(Data(**flags))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LONGSEQ_CACHE", str(tmp_path / "cache"))
    Path("good.fa").write_text(GENOME)
    Path("empty.fa").touch()
    Path("words.fa").write_text("hello\n")
    Path("words.txt").write_text("hello\n")
    Path("protein.fa").write_text(">p\nMKVLE\n")
    Path("good.fa.gz").write_bytes(gzip.compress(GENOME.encode()))
    Path("mix.blend").write_text("1 good.fa\n1 gone.fa\n")
    Path("vocab.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("folder", "--data-path folder (DATA_PATH) is a folder: run ./longseq.sh prepare folder"),
        ("gone.fa", "--data-path gone.fa (DATA_PATH): No such file or directory: name a FASTA"),
        ("empty.fa", "--data-path empty.fa (DATA_PATH) is empty: name a FASTA file"),
        ("words.fa", "words.fa is not FASTA, FASTQ, GenBank"),
        ("https://user:secret@host/x.fa", "--data-path https://host/x.fa (DATA_PATH) is a URL"),
        ("mix.blend", "--data-path gone.fa (DATA_PATH): No such file"),
        ("1 a 2 b", r"--data-path '1 a 2 b' (DATA_PATH) is no file: several data sets are a file"),
    ],
)
def test_a_file_that_cannot_be_prepared(folder: Path, path: str, said: str) -> None:
    (folder / "folder").mkdir()
    told = refusal(data_path=path)
    assert told.startswith(said)
    assert not (folder / "cache").exists()
    with pytest.raises(UserError) as run:
        check_data(path)
    assert str(run.value) == told


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("outer.blend", b"# x\n0.5 mix.blend\n1 good.fa\n", ", line 2: 'mix.blend' is a blend"),
        ("x.zip", b"PK\3\4\24\0\0\0hello", " is no text: byte 6 of its content is 0"),
        ("x.txt", "text".encode("utf-16"), " is no text: byte 4 of its content is 0"),
        ("x.gz", gzip.compress(b"\x93NUMPY\1\0v\0"), " is no text: byte 8 of its content is 0"),
        ("pair.records.tsv", b"documents\tbases\n", " (DATA_PATH) is a file of the prepared data"),
        ("pair.json", b"{}", " (DATA_PATH) is a file of the prepared data pair: name pair"),
    ],
)
def test_what_is_no_text_is_no_data_of_a_tokenizer_of_text(
    folder: Path, path: str, content: bytes, said: str
) -> None:
    """Bytes stand for anything, lists of data and archives as well."""
    (folder / "pair.bin").write_bytes(b"")
    (folder / "pair.idx").write_bytes(b"")
    (folder / path).write_bytes(content)
    assert path + said in refusal(data_path=path, tokenizer_type="byte")


def test_a_blend_is_no_input_of_other_verbs(folder: Path) -> None:
    with (
        pytest.raises(UserError, match=r"mix\.blend is a list of data for --data-path"),
        open_source("mix.blend", text_tokens=True),
    ):
        pass


def test_the_first_letters_are_nucleotides(folder: Path) -> None:
    assert refusal(data_path="words.txt") == (
        f"words.txt: record (no name): letter 2 is no nucleotide, but 'e': {OTHER}"
    )
    assert refusal(data_path="protein.fa") == (
        f"protein.fa: record p: letter 4 is no nucleotide, but 'L': {OTHER}"
    )
    look_at_data(Data(data_path="words.txt", tokenizer_type="byte"))
    look_at_data(Data(data_path="good.fa.gz"))


@pytest.mark.parametrize(
    ("tokenizer", "said"),
    [
        ("GPT2BPETokenizer", "--tokenizer-type 'GPT2BPETokenizer' is unknown: use one of nucleot"),
        ("kmer:13", "--tokenizer-type kmer:13: K is a number from 1 to 12"),
        ("codon:70", "--tokenizer-type codon:70: the vocabularies are codon:71"),
        ("byte:1", "--tokenizer-type byte:1: byte takes nothing after it"),
        ("huggingface", "--tokenizer-type huggingface: name its file"),
        ("huggingface:gone.json", "--tokenizer-type: gone.json: No such file"),
        ("gpt2:vocab.json", "--tokenizer-type gpt2:vocab.json: name two files"),
        ("gpt2:vocab.json,gone", "--tokenizer-type: gone: No such file"),
    ],
)
def test_a_tokenizer_that_there_is_not(folder: Path, tokenizer: str, said: str) -> None:
    told = refusal(data_path="good.fa", tokenizer_type=tokenizer)
    assert told.startswith(said)
    with pytest.raises(UserError) as run:
        check_data("good.fa", tokenizer)
    assert str(run.value) == told


def test_names_that_the_data_do_not_have(folder: Path) -> None:
    held = refusal(data_path="good.fa", valid_records="chr1,chr3")
    assert held == (
        "--valid-records chr3: no record or file of the data has that name: did you mean 'chr2'?"
    )
    listed = refusal(data_path="good.fa", test_records="@gone")
    assert listed.startswith("--test-records @gone: cannot be read as a list of names")
    look_at_data(Data(data_path="good.fa", valid_records="chr1 first", test_records="chr2"))
    look_at_data(Data(data_path="good.fa.gz", valid_records="nope"))  # the run's to say
    check_data("good.fa")
    (prefix,) = (folder / "cache").glob("*/tokens.bin")
    prepared = str(prefix.with_suffix(""))
    assert "no record or file" in refusal(data_path=prepared, valid_records="chr3")
    assert refusal(data_path=prepared, tokenizer_type="codon") == (
        f"--tokenizer-type codon: {prepared} was prepared with nucleotide: leave the flag out"
    )
    look_at_data(Data(data_path=prepared, valid_records="good.fa"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--sample-overlap 64", "--sample-overlap 64 is not below --seq-length 64: give less"),
        (
            "--sample-overlap 16 --curriculum-seq-length 16 --curriculum-iters 2",
            "--sample-overlap 16 is not below --curriculum-seq-length 16: give less",
        ),
    ],
)
def test_an_overlap_leaves_something_to_learn(flags: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_config(["--seq-length", "64", *flags.split()], 1)


def test_a_login_node_has_no_numpy(folder: Path) -> None:
    code = """import sys
sys.modules["numpy"] = sys.modules["xopen"] = sys.modules["torch"] = None
from longseq.config.arguments import Data
from longseq.data.request import look_at_data
from longseq.data.sources.inputs import open_source
look_at_data(Data(data_path="good.fa", valid_records="chr1", tokenizer_type="kmer:3"))
"""
    root = Path(__file__).parents[3]
    env = {"PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, check=True)
