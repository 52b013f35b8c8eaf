"""Every `./longseq.sh VERB …` that README and docs quote parses by the verb's own parser."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from longseq.__main__ import VERBS, make_parser

ROOT = Path(__file__).parents[3]
QUOTED = re.compile(r"\./longseq\.sh ([^`|#>;\n]+)")
BARE = re.compile(r"`longseq (?:" + "|".join(VERBS) + r")\b")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def quoted() -> list[str]:
    """What follows `./longseq.sh`, in all documents; without the brackets and a last …"""
    texts = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
    found = {words.strip() for text in texts for words in QUOTED.findall(text)}
    return sorted(re.sub(r"[\[\]]| …$", "", words) for words in found)


@pytest.mark.parametrize("words", quoted())
def test_a_quoted_command_parses(words: str) -> None:
    """A verb alone is its name in a sentence; with more it is a command."""
    verb, *options = shlex.split(words)
    assert verb in VERBS
    if options:
        make_parser(verb)[0].parse_args([verb, *options])


def test_documents_quote_commands_that_work_outside_the_environment() -> None:
    assert {words.split()[0] for words in quoted()} >= {"prepare", "report", "doctor", "flags"}
    for path in DOCUMENTS:
        lines = path.read_text(encoding="utf-8").split("\n## Measured")[0].splitlines()
        assert [line for line in lines if BARE.search(line)] == [], path
