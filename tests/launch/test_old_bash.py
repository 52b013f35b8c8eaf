"""Login nodes have bash 4.2: nothing newer may be in the scripts that run there.

There is none to run them with here, so the text is searched: for what later versions brought, and
for arrays that may be empty, which up to 4.3 count as unset under `set -u`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.launch.shell import ROOT

SCRIPTS = sorted([*(ROOT / "ALCF").rglob("*.sh"), ROOT / "install.sh", ROOT / "tests/run.sh"])
NEWER = {
    "4.3: namerefs": r"\b(local|declare|typeset)\s+-\w*n\b",
    "4.3: wait -n": r"\bwait\s+-n\b",
    "4.3: unset of a negative index, [[ -v a[i] ]]": r"-v\s+\w+\[",
    "4.4: ${x@Q}": r"\$\{\w+(\[[^]]*\])?@[A-Za-z]\}",
    "4.4: local -": r"\blocal\s+-\s*$",
    "4.4: mapfile -d": r"\b(mapfile|readarray)\s+(-\w+\s+)*-\w*d\b",
    "5.0: EPOCHSECONDS": r"\bEPOCH(SECONDS|REALTIME)\b",
    "5.1: SRANDOM": r"\bSRANDOM\b",
    "5.1: wait -p": r"\bwait\s+-\w*p\b",
    "5.3: ${ command; }": r"\$\{\s",
}
# Arrays that hold something wherever they are expanded
FULL = set(
    """LONGSEQ_VARIABLES LONGSEQ_OTHERS LONGSEQ_LIKELY words LONGSEQ_MODELS LONGSEQ_ARGS
    LONGSEQ_NOTES LONGSEQ_COMMAND LONGSEQ_LAUNCHER LONGSEQ_SETTINGS LONGSEQ_HOSTS
    LONGSEQ_REQUEST LONGSEQ_QUEUES LONGSEQ_NCCL_LIBRARIES LONGSEQ_BIND all hosts names queues
    ranges missing pids clean gpus lines candidates entries known olds repeat good source
    scripts tiers summary failed extra ops""".split()
)
EXPANDED = re.compile(r'(?<!\+)"\$\{(\w+)\[@\]')


def code(path: Path) -> str:
    """The text without comments."""
    return re.sub(r"(?m)(^|\s)#.*$", r"\1", path.read_text())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_nothing_newer_than_4_2(path: Path) -> None:
    text = code(path)
    for what, pattern in NEWER.items():
        assert not re.search(pattern, text, re.MULTILINE), what


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_arrays_that_may_be_empty_are_guarded(path: Path) -> None:
    assert {name for name in EXPANDED.findall(code(path)) if name not in FULL} == set()


def test_the_search_finds_what_it_looks_for() -> None:
    bad = {
        "4.3: namerefs": "local -n x=y",
        "4.4: ${x@Q}": 'echo "${x@Q}"',
        "4.4: mapfile -d": "mapfile -t -d '' x",
        "5.0: EPOCHSECONDS": "echo $EPOCHSECONDS",
    }
    for what, text in bad.items():
        assert re.search(NEWER[what], text, re.MULTILINE), what
    assert EXPANDED.findall('x "${a[@]}" ${b[@]+"${b[@]}"}') == ["a"]
