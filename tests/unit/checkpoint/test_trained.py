"""A checkpoint goes on with data of the same ids, whatever their tokenizer is called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from longseq.__main__ import main
from longseq.checkpoint.format.manifest import Manifest, read_manifest
from longseq.checkpoint.trained import check_tokenizer
from longseq.config.arguments import Network
from longseq.data.tokenizers.base import Tokenizer
from longseq.data.tokenizers.registry import tokenizer_from
from longseq.data.tokenizers.tagged import Tagged
from longseq.errors import UserError
from tests.unit.huggingface.making import LLAMA, make_model, write_checkpoint

VOCABULARY = ["<|endoftext|>", *"ACGT", "AC", "CG"]
MERGES = ["A C", "C G"]


def gpt2(folder: Path, merges: list[str]) -> Tokenizer:
    folder.mkdir()
    numbered = {name: number for number, name in enumerate(VOCABULARY)}
    (folder / "v.json").write_text(json.dumps(numbered))
    (folder / "m.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return tokenizer_from(f"gpt2:{folder}/v.json,{folder}/m.txt")


def written(tokenizer: Tokenizer, folder: Path) -> tuple[Path, Manifest]:
    write_checkpoint(make_model(Network(**LLAMA), tokenizer.vocab_size), tokenizer, folder)
    return folder, read_manifest(folder)


def test_gpt2_goes_out_and_comes_back_to_its_own_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = gpt2(tmp_path / "files", MERGES)
    ours, manifest = written(tokenizer, tmp_path / "ours")
    out, back = tmp_path / "out", tmp_path / "back"
    assert main(["export", str(ours), "--to", "huggingface", str(out)]) == 0
    assert main(["import", str(out), "--output", str(back)]) == 0
    said = capsys.readouterr().out.splitlines()
    alike = f"huggingface:{back}/tokenizer.json"
    assert said[-2] == f"go on training on data prepared with --tokenizer {alike}, with:"
    line = f"LOAD={back} SEQ_LEN={Network(**LLAMA).seq_length} ./ALCF/train-gpt3.sh -- --num-layers"
    assert said[-1].startswith(line)
    assert read_manifest(back).tokenizer == "huggingface"
    check_tokenizer(back, read_manifest(back), tokenizer)
    check_tokenizer(ours, manifest, tokenizer_from(alike))


def test_other_merges_make_other_ids_of_the_same_vocabulary(tmp_path: Path) -> None:
    """Under the same name as well, where nothing else tells them apart."""
    ours, manifest = written(gpt2(tmp_path / "files", MERGES), tmp_path / "ours")
    other = gpt2(tmp_path / "other", MERGES[::-1])
    with pytest.raises(UserError, match="was written with another tokenizer gpt2 than the data"):
        check_tokenizer(ours, manifest, other)
    check_tokenizer(*written(tokenizer_from("codon"), tmp_path / "a"), tokenizer_from("codon"))
    first = written(tokenizer_from("nucleotide"), tmp_path / "b")
    with pytest.raises(UserError, match="vocabulary=16, tokenizer=nucleotide; this run has vocab"):
        check_tokenizer(*first, tokenizer_from("codon"))


def test_other_tags_are_other_tokens(tmp_path: Path) -> None:
    inner = tokenizer_from("nucleotide")
    first = written(Tagged(inner, ["<a=1>", "<a=2>"]), tmp_path / "ours")
    check_tokenizer(*first, Tagged(inner, ["<a=1>", "<a=2>"]))
    with pytest.raises(
        UserError, match=r"--tokenizer nucleotide and the tags of .*/tags\.json in their order, or"
    ):
        check_tokenizer(*first, Tagged(inner, ["<a=2>", "<a=1>"]))


def test_a_mean_is_of_one_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its numbers count, not its name: of a gpt2 that came back as huggingface too."""
    ours, _ = written(gpt2(tmp_path / "files", MERGES), tmp_path / "ours")
    other, _ = written(gpt2(tmp_path / "other files", MERGES[::-1]), tmp_path / "other")
    out, back, mean = (str(tmp_path / name) for name in ("out", "back", "mean"))
    assert main(["export", str(ours), "--to", "huggingface", out]) == 0
    assert main(["import", out, "--output", back]) == 0
    assert main(["checkpoint", "average", str(ours), str(other), "--output", mean]) == 2
    assert capsys.readouterr().err == (
        f"longseq: {other} (gpt2) and {ours} (gpt2) have other tokens under the same numbers:"
        " average those of one tokenizer\n"
    )
    alike, _ = written(tokenizer_from(f"huggingface:{back}/tokenizer.json"), tmp_path / "alike")
    for paths in ([ours, alike], [alike, ours]):
        assert main(["checkpoint", "average", *map(str, paths), "--output", mean]) == 0
        made = read_manifest(Path(mean))
        check_tokenizer(Path(mean), made, gpt2(tmp_path / f"as {made.tokenizer}", MERGES))
        shutil.rmtree(mean)
    capsys.readouterr()
    assert main(["checkpoint", "average", str(ours), back, "--output", mean]) == 2
    assert (
        f"{back} and {ours} differ in the vocabulary's padding: average" in capsys.readouterr().err
    )
