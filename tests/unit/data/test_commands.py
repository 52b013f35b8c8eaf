"""`longseq prepare` and `longseq data` as a user calls them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from Bio.Seq import Seq
from data_helpers import LAMBDA, make, records_of

from longseq.__main__ import main, run_verb
from longseq.data.indexed.manifest import ENDINGS
from longseq.data.prepare.writing.finish import finish
from longseq.errors import UserError


def test_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = str(tmp_path / "a b" / "it's")
    assert run_verb(["prepare", str(LAMBDA), "--output", prefix]) == 0
    printed = capsys.readouterr().out
    assert "48,503 tokens in 1 document\n" in printed
    assert re.search(r"\n  [0-9.]+ s, [1-9][0-9.]*[kM]?B/s\n$", printed)  # however little it was
    with pytest.raises(UserError, match="--overwrite"):
        run_verb(["prepare", str(LAMBDA), "--output", prefix])
    assert run_verb(["prepare", str(LAMBDA), "--output", prefix, "--overwrite"]) == 0
    capsys.readouterr()
    assert run_verb(["data", "inspect", prefix, "--seq-length", "100"]) == 0
    printed = capsys.readouterr().out
    assert "train 46,029 tokens" in printed
    assert "GGGCGGCGACCTCGCGGGTTTTCGC" in printed
    assert run_verb(["data", "verify", prefix]) == 0
    assert "good" in capsys.readouterr().out
    assert run_verb(["data", "decode", prefix]) == 0
    header, _, body = capsys.readouterr().out.partition("\n")
    assert header == f">0 {records_of(LAMBDA.read_text())[0][0]}"
    assert body.replace("\n", "") == records_of(LAMBDA.read_text())[0][1]


@pytest.mark.parametrize("look", ["inspect", "report"])
def test_what_the_trainer_refuses_is_refused_of_data_too(tmp_path: Path, look: str) -> None:
    prefix, _ = make(tmp_path, ">a\nACGT\n")
    with pytest.raises(UserError, match=r"^--split-seed -1 is too small: give 0 or more$"):
        run_verb(["data", look, prefix, "--split-seed", "-1"])


RECORD = '{"id": "a", "text": "ACGTACGT"}\n'
LOST = [  # words of prepare, what is said
    ("out.json", "would replace out.json, which is an input: name another"),
    ("./../here/out.json", "would replace out.json, which is an input (./../here/out.json): name"),
    ("link", "would replace out.json, which is an input (link): name another"),
    ("hard", "would replace out.json, which is an input (hard): name another"),
    ("@list", "would replace out.json, which is an input: name another"),
    ("@out.groups", "would replace out.groups, which is an input: name another"),
    ("x.fa --metadata out.records.tsv --tags kind", "out.records.tsv, which is --metadata: name"),
    ("x.fa --annotation out.documents.tsv", "out.documents.tsv, which is of --annotation: name"),
    ("x.fa --regions out.places", "would replace out.places, which is of --regions: name another"),
    ("x.fa --tokenizer huggingface:out.json", "out.json, which is a file of --tokenizer: name"),
    ("x.fa --tokenizer gpt2:v,out.merges.txt", "out.merges.txt, which is a file of --tokenizer"),
    ("out.unfinished/x.fa", "would remove out.unfinished/x.fa, which is read: name another"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that preparing to `out` would write, in a folder to work in."""
    folder = tmp_path / "here"
    (folder / "out.unfinished").mkdir(parents=True)
    monkeypatch.chdir(folder)
    bed = "a\t0\t4\n"
    gff = "##gff-version 3\na\tx\tCDS\t1\t6\t.\t+\t0\tID=c\n"
    for name, text in {
        "out.json": RECORD, "x.fa": ">a\nACGTACGT\n", "out.unfinished/x.fa": ">a\nACGT\n",
        "list": "out.json\n", "out.groups": "x.fa\n", "v": "{}", "out.merges.txt": "",
        "out.records.tsv": "name\tkind\na\tb\n", "out.documents.tsv": gff, "out.places": bed,
    }.items():  # fmt: skip
        Path(name).write_text(text)
    os.symlink("out.json", "link")
    os.link("out.json", "hard")
    return folder


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
@pytest.mark.parametrize(("words", "said"), LOST)
def test_preparing_replaces_nothing_that_it_reads(
    words: str, said: str, more: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert main(["prepare", *words.split(), "--output", "out", *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("longseq: --output out would ")
    assert said in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


def test_preparing_replaces_what_is_no_prepared_data_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was prepared, whose .idx is gone, is replaced; so is what a killed one left."""
    prefix = tmp_path / "out"
    words = ["prepare", str(LAMBDA), "--output", str(prefix)]
    Path(f"{prefix}.bin").write_text("mine")
    Path(f"{prefix}.fa").write_text("never written")
    assert main([*words[:-1], f"{prefix}/"]) == 2
    assert main(words) == 2
    error = capsys.readouterr().err.splitlines(keepends=True)[-1]
    assert error == (
        f"longseq: --output {prefix} would replace {prefix}.bin, which is of no prepared data: name"
        " another, or add --overwrite\n"
    )
    assert Path(f"{prefix}.bin").read_text() == "mine"
    assert main([*words, "--overwrite"]) == 0
    Path(f"{prefix}.idx").unlink()
    assert main(words) == 0
    Path(f"{prefix}.idx").unlink()
    Path(f"{prefix}.json").unlink()
    assert main(words) == 2
    Path(f"{prefix}.unfinished").mkdir()
    Path(f"{prefix}.unfinished/lock").touch()
    assert main(words) == 0
    assert Path(f"{prefix}.fa").read_text() == "never written"


@pytest.mark.parametrize(
    ("there", "strange"),
    [
        (["thesis.txt"], "thesis.txt"),
        (["lock", "thesis.txt"], "thesis.txt"),
        (["lock", "out.fa"], "out.fa"),
        (["out.bin"], "out.bin"),
        (["lock=mine"], "lock"),
        (["lock", "sub/m.txt"], "sub"),
    ],
)
def test_preparing_removes_nothing_of_a_user(
    there: list[str], strange: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of a user's may be called as the one that a preparation works in."""
    folder, prefix = tmp_path / "out.unfinished", tmp_path / "out"
    for entry in there:
        name, _, text = entry.partition("=")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert main(["prepare", str(LAMBDA), "--output", str(prefix), "--overwrite"]) == 2
    assert capsys.readouterr().err == (
        f"longseq: --output {prefix} would be prepared in {folder}, where {strange} is of no"
        " preparation: move that away, or name another --output\n"
    )
    assert {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("there", [[], ["lock"]])
def test_what_desktops_leave_forbids_nothing(there: list[str], tmp_path: Path) -> None:
    """Nor is it removed."""
    folder = tmp_path / "out.unfinished"
    folder.mkdir()
    for name in (*there, ".DS_Store", ".nfs0001"):
        (folder / name).touch()
    assert main(["prepare", str(LAMBDA), "--output", f"{tmp_path}/out"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [".DS_Store", ".nfs0001"]


def test_preparing_works_in_no_folder_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out.unfinished").symlink_to("real")
    assert main(["prepare", str(LAMBDA), "--output", f"{tmp_path}/out"]) == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out.unfinished", "real"]


def test_what_comes_where_a_preparation_works_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but its own files is moved or removed at its end."""

    def also(*words: Any) -> Any:
        (tmp_path / "out.unfinished" / "mine").write_text("mine")
        return finish(*words)

    monkeypatch.setattr("longseq.data.prepare.job.finish", also)
    assert main(["prepare", str(LAMBDA), "--output", f"{tmp_path}/out"]) == 0
    assert [path.name for path in (tmp_path / "out.unfinished").iterdir()] == ["mine"]
    assert not (tmp_path / "mine").exists()


def test_every_file_of_prepared_data_has_a_known_ending(tmp_path: Path) -> None:
    """What protects them goes by their names: all that these preparations write."""
    sequence = records_of(LAMBDA.read_text())[0][1]
    (tmp_path / "x.fa").write_text(
        f">a\n{sequence[:600]}n\n>b\n{sequence[:600]}n\n>c\nACGTACGTAC\n"
    )
    (tmp_path / "x.gff").write_text(
        "##gff-version 3\n"
        + "".join(f"a\tx\tCDS\t{at}\t{at + 8}\t.\t+\t0\tID=c\n" for at in (1, 31))
    )
    (tmp_path / "m.tsv").write_text("name\tkind\na\tx\nb\ty\nc\tx\n")
    (tmp_path / "v").write_text(
        json.dumps({n: i for i, n in enumerate(["<|endoftext|>", *"ACGTN"])})
    )
    (tmp_path / "m").write_text("#version: 0.2\n")
    names = {name: number for number, name in enumerate([*"ACGTN", "<stop>"])}
    model = {"type": "BPE", "vocab": names, "merges": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<stop>"}')
    ways = [
        f"--tokenizer huggingface:{tmp_path}/tokenizer.json",
        "--drop-duplicates exact --group-by file",
        "--group-by kind --metadata m.tsv --tags kind --lower-case-weight 0.5",
        "--train-tokenizer bpe:40",
        f"--tokenizer gpt2:{tmp_path}/v,{tmp_path}/m",
        f"--annotation {tmp_path}/x.gff --reverse-complement",
        f"--annotation {tmp_path}/x.gff",
        "--reverse-complement",
    ]
    endings = set()
    for number, way in enumerate(ways):
        folder = tmp_path / str(number)
        words = way.replace("m.tsv", f"{tmp_path}/m.tsv").split()
        main(["prepare", f"{tmp_path}/x.fa", "--output", str(folder / "out"), *words])
        endings |= {path.name.removeprefix("out.") for path in folder.glob("out.*")}
    assert endings == set(ENDINGS)


def test_duplicates_are_a_table_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record and its other strand, by Biopython; sums and mistakes are not in the table."""
    sequence = records_of(LAMBDA.read_text())[0][1][:1000]
    fasta = tmp_path / "x.fa"
    fasta.write_text(f">a\n{sequence}\n>b\n{Seq(sequence).reverse_complement()}\n>c\nAC\n")
    assert run_verb(["data", "duplicates", str(fasta), "--near", "1"]) == 0
    said = capsys.readouterr()
    rows = [line.split("\t") for line in said.out.splitlines()]
    assert rows[1:] == [["1.0000", "b", str(fasta), "a", str(fasta)]]
    assert said.err == "1 of 3 records are duplicates\n"
    for wrong, message in (["--near", "2"], "--near 2"), (["--column", "x"], "--column x"):
        with pytest.raises(UserError, match=message):
            run_verb(["data", "duplicates", str(fasta), *wrong])


def test_verify_finds_a_flipped_bit(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path, LAMBDA.read_bytes())
    raw = bytearray(Path(f"{prefix}.bin").read_bytes())
    raw[1000] ^= 1
    Path(f"{prefix}.bin").write_bytes(bytes(raw))
    with pytest.raises(UserError, match=r"out\.bin was changed"):
        run_verb(["data", "verify", prefix])


@pytest.mark.parametrize(
    "flag",
    ["--lower-case-weight 0.5", "--unknown-weight 0", "--ambiguous split", "--genes"],
)
def test_what_a_tokenizer_of_text_cannot_do_is_named(tmp_path: Path, flag: str) -> None:
    for tokenizer in ("--train-tokenizer bpe:64", "--tokenizer byte"):
        words = [str(LAMBDA), "--output", str(tmp_path / "x"), *tokenizer.split(), *flag.split()]
        with pytest.raises(UserError) as caught:
            run_verb(["prepare", *words])
        assert str(caught.value).startswith(f"{flag} with {tokenizer}: it needs a tokenizer of seq")


@pytest.mark.parametrize(
    "words",
    [
        ["--genes", "--reverse-complement"],
        ["--tokenizer", "byte", "--genes"],
        ["--tokenizer", "byte", "--ambiguous", "split"],
        ["--workers", "-1"],
        ["--min-length", "-1"],
        ["--lower-case-weight", "2"],
        ["--tokenizer", "byte", "--unknown-weight", "0"],
        ["--mask-lower-case", "--lower-case-weight", "0.1"],
        ["--tokenizer", "nonsense"],
        ["--colour"],
    ],
)
def test_wrong_flags(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(UserError, match="--"):
        run_verb(["prepare", str(LAMBDA), "--output", str(tmp_path / "x"), *words])
