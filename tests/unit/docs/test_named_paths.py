"""Every file and folder of ours that README, CONTRIBUTING and docs name or link to exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "longseq"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TOP = ["longseq", "ALCF", "tests", "benchmarks", "docs"]
ROOMS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"data"}  # a user's, too
PATH = re.compile(
    rf"(?<![\w/~$-])(?<!\w\.)(?:\./)?((?:{'|'.join([*TOP, *ROOMS])})/[\w./*-]*[\w/*])"
)
BARE = re.compile(r"`([\w-]+\.(?:py|sh))\b[^`]*`")  # where a sentence has named the folder
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
ANY = "NAME"  # that the reader fills in
WRITTEN = {"command.sh", "settings.sh"}  # into a run's or a job's folder
SCRIPTS = {path.name for top in TOP for path in (ROOT / top).rglob("*.*")} | {
    path.name for path in ROOT.glob("*.*")
}


def missing(text: str) -> list[str]:
    """What of the tree a text names that is not there; a path may begin inside `longseq/`."""
    gone = [name for name in BARE.findall(text) if name not in SCRIPTS | WRITTEN]
    for path in PATH.findall(text):
        pattern = path.rstrip("/").replace(ANY, "*")
        if not any(any(top.glob(pattern)) for top in (ROOT, PACKAGE)):
            gone.append(path)
    return gone


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_what_a_document_names_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert missing(text) == []
    assert [to for to in LINK.findall(text) if not (document.parent / to).exists()] == []


def test_the_search_sees() -> None:
    assert missing(
        "in longseq/nowhere.py, `engine/gone.py` and\n    ./ALCF/no.sh x data/y.fa. `a.py`"
    ) == [*("a.py", "longseq/nowhere.py", "engine/gone.py", "ALCF/no.sh")]
    assert missing("ALCF/machines/NAME.sh and `./ALCF/train-gpt3.sh -- --x`, `args.sh:2`") == []
