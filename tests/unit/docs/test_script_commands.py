"""Every `./ALCF/SCRIPT.sh …` that README and docs quote: variables are ours, words parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from longseq.__main__ import make_parser
from longseq.config.arguments import GROUPS
from longseq.config.flags import parse
from longseq.host.variables import read_table

ROOT = Path(__file__).parents[3]
QUOTED = re.compile(r"((?:[A-Z_0-9]+=\S+ +)*)\./ALCF/([a-z0-9-]+\.sh)([^`|#>;…\n]*)")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ALONE = {"--help", "--list-models", "--list-variables", "--dry-run", "--bench", "--use"}
VALUED = {"-q", "-n", "-t", "-A", "--chain"}


def quoted() -> list[tuple[str, str, str]]:
    """(variables, script, words) of all documents; a line that goes on is one."""
    texts = [path.read_text(encoding="utf-8").replace("\\\n", " ") for path in DOCUMENTS]
    found = {match for text in texts for match in QUOTED.findall(text)}
    return sorted((a.strip(), script, b.strip()) for a, script, b in found)


def parses(script: str, words: list[str]) -> None:
    """Raises UserError, or fails, where the script would refuse them."""
    if script == "bench.sh":
        make_parser("bench")[0].parse_args(["bench", *words])
        return
    if script == "use.sh":
        if words[1:]:
            make_parser(words[0])[0].parse_args(words)
        return
    cut = words.index("--") if "--" in words else len(words)
    own, behind = words[:cut], words[cut + 1 :]
    if "--bench" in own:
        parses("bench.sh", behind)
    elif "--use" in own:
        parses("use.sh", behind)
    else:
        parse(GROUPS, behind)
    if script == "submit.sh":
        for flag in sorted(VALUED & set(own)):
            at = own.index(flag)
            del own[at : at + 2]
        assert len([word for word in own if not word.startswith("-")]) in (0, 4)
        own = [word for word in own if word.startswith("-")]
    assert set(own) <= ALONE


@pytest.mark.parametrize(("variables", "script", "words"), quoted())
def test_a_quoted_command_is_one_that_is_taken(variables: str, script: str, words: str) -> None:
    assert (ROOT / "ALCF" / script).is_file()
    table = read_table()
    for assignment in shlex.split(variables):
        name, _, value = assignment.partition("=")
        assert name in table.ours or table.marks_of_other(name), name
        assert value
    parses(script, shlex.split(words))


def test_documents_quote_scripts() -> None:
    """Or the test above would hold nothing."""
    assert {script for _, script, _ in quoted()} >= {
        "train-gpt3.sh", "submit.sh", "bench.sh", "use.sh",
    }  # fmt: skip
    with pytest.raises(Exception, match="swigloo"):
        parses("train-gpt3.sh", ["--", "--swigloo"])
