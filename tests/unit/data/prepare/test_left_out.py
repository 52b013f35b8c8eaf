"""What makes no document is nowhere among the documents, and counted once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import texts

from longseq.data.indexed.manifest import DatasetManifest
from longseq.data.indexed.record_table import read_records
from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.sources.inputs import expand

WORDS = ("alpha", "beta", "gamma", "delta")


def words(folder: Path) -> str:
    """A tokenizer of text that makes no token of blanks."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    known = {word: number for number, word in enumerate(("<eod>", "[UNK]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "words.json"))
    return f"huggingface:{folder / 'words.json'}"


def prepared(folder: Path, *names: str, **flags: Any) -> tuple[str, DatasetManifest]:
    """Prepare these files of a folder; `recipe` holds what is the recipe's."""
    recipe = Recipe(**flags.pop("recipe", {}))
    prefix, paths = str(folder / "out"), [str(folder / name) for name in names]
    return prefix, prepare(expand(paths), prefix, Settings(recipe, **flags), True, quiet)


@pytest.mark.parametrize("tags", ["", "fam"])
@pytest.mark.parametrize("chunk", [16, 1 << 19])
def test_a_text_without_tokens_shifts_no_other(tmp_path: Path, chunk: int, tags: str) -> None:
    lines = [" ", "alpha", " ", "beta beta", "gamma gamma gamma", "delta", "  "]
    families = "bxmyxzb"
    rows = [{"text": text, "id": f"r{place}"} for place, text in enumerate(lines)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = ["name\tfam", *(f"r{place}\t{family}" for place, family in enumerate(families))]
    (tmp_path / "m.tsv").write_text("\n".join(table) + "\n")
    prefix, manifest = prepared(
        tmp_path, "x.jsonl", chunk_bytes=chunk, metadata=str(tmp_path / "m.tsv"), group_by="fam",
        recipe={"tokenizer": words(tmp_path), "tags": tags},
    )  # fmt: skip
    wanted = [1, 3, 4, 5]
    said = [f"<fam={families[place]}>" if tags else "" for place in wanted]
    expected = [tag + lines[place] for tag, place in zip(said, wanted, strict=True)]
    assert texts(prefix) == expected
    assert np.fromfile(f"{prefix}.group_of", "<i8").tolist() == [0, 1, 0, 2]
    assert [one.documents for one in read_records(prefix)] == [0, 1, 0, 1, 1, 1, 0]
    assert manifest.counts["below_a_token"] == 3


@pytest.mark.parametrize("ambiguous", ["keep", "split"])
@pytest.mark.parametrize("tokenizer", ["kmer:4", "nucleotide"])
def test_counts_of_duplicates_do_not_depend_on_length(
    tmp_path: Path, tokenizer: str, ambiguous: str
) -> None:
    rng = np.random.default_rng(3)
    one, other = ("".join(rng.choice(list("ACGT"), 90)) for _ in range(2))
    one = one[:20] + "NNRN" + one[20:] + "NN"
    (tmp_path / "x.fa").write_text(f">a\n{one}\n>b\n{other}\n>c\n{one}\n>d\n{one}\n")
    found = []
    for chunk in (32, 1 << 19):
        prefix, manifest = prepared(
            tmp_path, "x.fa", chunk_bytes=chunk, drop_duplicates="exact",
            recipe={"tokenizer": tokenizer, "ambiguous": ambiguous, "reverse_complement": True},
        )  # fmt: skip
        found.append(manifest.counts)
        unknown = sum(text.count("[UNK]") for text in texts(prefix))
        assert manifest.counts.get("unknown_words", 0) == unknown
        assert bool(unknown) == (tokenizer != "nucleotide" and ambiguous == "keep")
    assert found[0] == found[1]
    assert found[0]["duplicate_records"] == 2
