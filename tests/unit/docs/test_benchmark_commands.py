"""Every `python -m benchmarks NAME …` that README, docs and the code quote exists and parses."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import listing, main, parser_of, paths
from benchmarks.readme import rows_of
from benchmarks.table import Table

ROOT = Path(__file__).parents[3]
QUOTED = re.compile(r"python -m benchmarks ([^`|#\n]+)")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def quoted() -> list[str]:
    """What follows `python -m benchmarks`, in all documents."""
    texts = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
    return sorted({words.strip() for text in texts for words in QUOTED.findall(text)})


@pytest.mark.parametrize("words", quoted())
def test_a_quoted_command_parses(words: str) -> None:
    if words == "--list":
        return
    name, *options = shlex.split(words)
    assert name in paths(), f"no benchmark {name}"
    parser_of(name).parse_args(options)


def test_documents_quote_benchmarks() -> None:
    """Or the test above would hold nothing: each folder's are quoted."""
    names = {words.split()[0] for words in quoted()}
    assert names >= {"one_rank", "pairs", "ladder", "zero", "prepare", "readme"}


@pytest.mark.parametrize("name", paths())
def test_each_says_what_it_measures(name: str) -> None:
    parser = parser_of(name)
    first = (parser.description or "").splitlines()[0]
    assert first.endswith((".", "?")), first
    assert f"  {name} " in listing()


def test_a_reader_that_has_seen_enough_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert main(["--list"]) == 0


def test_a_wrong_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["one_rnak"]) == 2
    assert capsys.readouterr().err == (
        "benchmarks: no benchmark 'one_rnak': see python -m benchmarks --list\n"
    )


def test_readme_measures_each_row_of_its_table() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.split("## Measured")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    rows = rows_of(text)
    assert len(rows) == len(lines) - 1  # the head
    assert rows[0].words == ["benchmarks", "one_rank"]
    assert rows[0].figure.startswith("1.02 at 512 tokens")


def test_table_pads_numbers_and_leaves_out_what_was_not_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table(("axis", "<8"), ("tokens", ","), ("ratio", ".2f"))
    table.row("ring", 16384, None)
    table.row("ulysses", 512, 0.987)
    assert capsys.readouterr().out.splitlines() == [
        "| axis     |  tokens |   ratio |",
        "|----------|---------|---------|",
        "| ring     |  16,384 |         |",
        "| ulysses  |     512 |    0.99 |",
    ]
