"""What --data-path names is opened, checked against its tokenizer, and blended."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from data_helpers import make, options

from longseq.data import opening
from longseq.data.datasets import check_data, contents, open_datasets
from longseq.data.held_out import split_datasets
from longseq.data.opening import open_data
from longseq.errors import UserError


def test_part_without_weight_is_none(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path, ">a\nACGTACGTAC\n")
    data = open_data(options(prefix, split="8"), 4, 0)
    assert data.valid is None
    assert data.train is not None
    assert data.vocab_size == 16


@pytest.mark.parametrize("until", ["bin", "json", "idx"])
def test_data_prepared_again_meanwhile_are_not_opened_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: str
) -> None:
    """The .idx is gone; the manifest is another; or all of it is."""
    (tmp_path / "new").mkdir()
    new, _ = make(tmp_path / "new", ">b\nCCCC\n>c\nCCCCC\n")
    prefix, _ = make(tmp_path, ">a\nACGTACGTAC\n")

    def replaced(*args: Any) -> Any:
        Path(f"{prefix}.idx").unlink()
        for ending in ("bin", "json", "idx"):
            os.replace(f"{new}.{ending}", f"{prefix}.{ending}")
            if ending == until:
                break
        return split_datasets(*args)

    monkeypatch.setattr(opening, "split_datasets", replaced)
    with pytest.raises(UserError, match="was prepared again while it was opened"):
        open_data(options(prefix), 4, 0)


def test_tokenizer_must_agree(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path, ">a\nACGTACGTAC\n", tokenizer="codon")
    assert check_data(prefix) == 71
    with pytest.raises(UserError, match="prepared with codon"):
        check_data(prefix, "nucleotide")


def test_tokenizer_of_a_file_must_say_what_the_datas_own_does(tmp_path: Path) -> None:
    files = []
    for order in ("ACGT", "TGCA"):
        vocabulary = {letter: place for place, letter in enumerate([*order, "<eos>"])}
        model = {"type": "BPE", "vocab": vocabulary, "merges": []}
        files.append(tmp_path / f"{order}.json")
        text = json.dumps({"version": "1.0", "model": model, "added_tokens": []})
        files[-1].write_text(text)
    prefix, _ = make(tmp_path, ">a\nACGT\n", tokenizer=f"huggingface:{files[0]}")
    assert check_data(prefix, f"huggingface:{files[0]}") == 5
    with pytest.raises(UserError, match="prepared with another: leave the flag out"):
        check_data(prefix, f"huggingface:{files[1]}")
    files[0].unlink()  # the data have their own
    assert check_data(prefix, f"huggingface:{files[0]}") == 5


def test_data_of_other_programs(tmp_path: Path) -> None:
    """Without a manifest the tokenizer must be named, and tokens are checked against it."""
    prefix, _ = make(tmp_path, ">a\nACGTACGTRC\n")
    Path(f"{prefix}.json").unlink()
    with pytest.raises(UserError, match="--tokenizer-type"):
        check_data(prefix)
    assert check_data(prefix, "nucleotide") == 16
    data = open_data(options(prefix, tokenizer_type="kmer:1"), 4, 0)
    assert data.vocab_size == 6
    with pytest.raises(UserError, match="outside the vocabulary"):
        check_data(prefix, "kmer:1")


@pytest.mark.parametrize("own", [True, False])
def test_contents_are_the_samples_and_no_name(tmp_path: Path, own: bool) -> None:
    """Of other programs' data too, which have no manifest."""

    def made(name: str, text: str, **options: Any) -> dict[str, Any]:
        (tmp_path / name).mkdir()
        prefix, _ = make(tmp_path / name, text, **options)
        if not own:
            Path(f"{prefix}.json").unlink()
        return contents(open_datasets(prefix, "nucleotide"))

    whole = f">a\n{'ACGT' * 50}\n>b\nAC\n"
    first, same = made("1", whole), made("2", whole)
    assert first["sha256"] == same["sha256"]
    (one,) = first["sets"]
    assert one == {**same["sets"][0], "name": str(tmp_path / "1" / "out")}
    assert (one["tokens"], one["documents"]) == (204, 2)
    others = {
        "letter": whole.replace("C\n>b", "T\n>b").replace("AC\n", "AG\n"),
        "cut": f">a\n{'ACGT' * 49}\n>b\nACGTAC\n",
        "order": f">b\nAC\n>a\n{'ACGT' * 50}\n",
    }
    found = {made(name, text)["sha256"] for name, text in others.items()}
    assert len(found | {first["sha256"]}) == 4


def test_contents_of_a_blend(tmp_path: Path) -> None:
    for name, letter in (("a", "A"), ("b", "C")):
        (tmp_path / name).mkdir()
        make(tmp_path / name, f">x\n{letter * 50}\n")

    def blended(text: str) -> str:
        (tmp_path / "mix.blend").write_text(text)
        return str(contents(open_datasets(str(tmp_path / "mix.blend")))["sha256"])

    first = blended("3 a/out\n1 b/out\n")
    assert first == blended("6 a/out\n2 b/out\n")
    assert len({first, blended("1 a/out\n3 b/out\n"), blended("1 b/out\n3 a/out\n")}) == 3


def test_the_token_that_is_outside_is_the_one_that_is_said(tmp_path: Path) -> None:
    """As another program may write it: signed, its largest token a good one."""
    prefix, _ = make(tmp_path, ">a\nACGTACGTRC\n")
    Path(f"{prefix}.json").unlink()
    for name, place, byte in (("bin", 3, 256 - 3), ("idx", 17, 2)):  # 2: the format's code of int8
        raw = bytearray(Path(f"{prefix}.{name}").read_bytes())
        raw[place] = byte
        Path(f"{prefix}.{name}").write_bytes(bytes(raw))
    with pytest.raises(UserError, match="holds token -3 outside the vocabulary of 16"):
        check_data(prefix, "nucleotide")


def test_flipped_bit_is_found_before_the_ranks_start(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path, ">a\nACGTACGTRC\n")
    raw = bytearray(Path(f"{prefix}.bin").read_bytes())
    raw[3] ^= 1
    Path(f"{prefix}.bin").write_bytes(bytes(raw))
    with pytest.raises(UserError, match=r"out\.bin was changed"):
        check_data(prefix)


def test_blend_of_files(tmp_path: Path) -> None:
    for name, letter in (("a", "A"), ("b b", "C")):
        (tmp_path / name).mkdir()
        make(tmp_path / name, f">x\n{letter * 50}\n")
    blend = tmp_path / "mix.blend"
    blend.write_text("# weights\n3\ta/out\n1 b b/out\n")
    data = open_data(options(str(blend)), 5, 0)
    assert data.train is not None
    rows = data.train.batch(list(range(80))).tokens
    share = float((rows == 0).sum() / ((rows == 0) | (rows == 1)).sum())
    assert share == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("text", ["", "x a\n", "0 a\n", "1\n", "-1 a\n", "1e-999999 a\n"])
def test_wrong_blend(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.blend").write_text(text)
    with pytest.raises(UserError, match=r"m\.blend"):
        check_data(str(tmp_path / "m.blend"))


@pytest.mark.parametrize("again", ["a/out", "./a/../a/out", "a/out.bin", "folder/out", "b"])
def test_a_blend_names_each_data_once(tmp_path: Path, again: str) -> None:
    """By whatever way: both would give the same samples."""
    (tmp_path / "a").mkdir()
    make(tmp_path / "a", ">x\nACGTACGT\n")
    (tmp_path / "folder").symlink_to("a")
    for ending in ("bin", "idx", "json", "records.tsv"):
        (tmp_path / f"b.{ending}").symlink_to(f"a/out.{ending}")
    (tmp_path / "m.blend").write_text(f"1 a/out\n2 {again}\n")
    with pytest.raises(UserError, match=r"m\.blend: .*a/out and .* are the same data.* one line"):
        check_data(str(tmp_path / "m.blend"))


def test_blend_of_different_tokens(tmp_path: Path) -> None:
    for name, tokenizer in (("a", "codon"), ("b", "nucleotide")):
        (tmp_path / name).mkdir()
        make(tmp_path / name, ">x\nACGTACGT\n", tokenizer=tokenizer)
    (tmp_path / "m.blend").write_text("1 a/out\n1 b/out\n")
    with pytest.raises(UserError, match="prepare them alike"):
        check_data(str(tmp_path / "m.blend"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"reverse_complement": True}, "hold both strands"),
        ({"tokenizer": "byte"}, "tokens have no other strand"),
    ],
)
def test_data_without_another_strand(tmp_path: Path, flags: dict[str, Any], message: str) -> None:
    prefix, _ = make(tmp_path, f">a\n{'ACGT' * 9}\n", **flags)
    with pytest.raises(UserError, match=message):
        open_data(options(prefix, reverse_complement_prob=0.5), 4, 0)


def test_no_name_is_no_folder() -> None:
    with pytest.raises(UserError, match=r"^--data-path \(DATA_PATH\) is empty: name a FASTA file"):
        open_data(options(""), 4, 0)
