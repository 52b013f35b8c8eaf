"""Sourcing changes nothing in the caller but what the files say they define."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.launch.shell import ROOT, clean_env

FILES = [
    *(
        f"ALCF/{name}.sh"
        for name in (
            "setup",
            "variables",
            "machine",
            "environment",
            "hosts",
            "models",
            "args",
            "launch",
            "deadline",
            "running",
            "preflight",
            "idle",
            "again",
            "broadcast",
            "verb",
            "queue",
            "freeze",
        )
    )
]
FILES += [
    str(path.relative_to(ROOT))
    for folder in ("machines", "launchers")
    for path in (ROOT / "ALCF" / folder).glob("*.sh")
]

# Writes down options, traps and folder, functions, and variables: all that a file could change
STATE = r"""
state() {
    { set +o; shopt; trap -p; pwd; umask; printf 'IFS=%q\n' "$IFS"; } >"$HOME/options.$1"
    declare -F >"$HOME/functions.$1"
    declare -p >"$HOME/variables.$1"
}
trap 'echo bye' EXIT
x='kept' name='kept' line='kept' file='kept' row='kept' status=7
own() { :; }
"""
VOLATILE = re.compile(
    r"_|BASH_[A-Z]+|LINENO|RANDOM|SRANDOM|SECONDS|EPOCH[A-Z]+|FUNCNAME|PIPESTATUS"
)
OURS = re.compile(
    r"longseq_|LC_ALL$|LONGSEQ_(MODELS|VARIABLES|HOST_NAME|ADDRESS|OTHERS|LIKELY|SECRET|BY_HAND|VERSIONS|EXIT_BAD_HOST|EXIT_NO_ROOM|IDLE_GRACE|WORTH_IT|BROADCAST_SECONDS)$"
)


def names(text: str) -> dict[str, str]:
    """`declare -p` or `declare -F` output: name → its line; continuation lines are left out."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"declare -\S+ ([A-Za-z_]\w*)", line)
        if match and not VOLATILE.fullmatch(match[1]):
            found[match[1]] = line
    return found


def changes(home: Path, options: str, action: str) -> list[str]:
    """What `action` changed in a shell with these options, our own names apart."""
    script = f"{options}\nLONGSEQ_ROOT={ROOT}\n{STATE}\nstate a\n{action}\nstate b\n"
    subprocess.run(
        ["/bin/bash", "-c", script],
        env=clean_env(home, {}),
        check=True,
        capture_output=True,
        text=True,
    )
    before, after = ((home / f"options.{n}").read_text() for n in "ab")
    found = [] if before == after else ["options, traps or folder"]
    for kind in ("functions", "variables"):
        old, new = (names((home / f"{kind}.{n}").read_text()) for n in "ab")
        found += [n for n in old if new.get(n) != old[n]]
        found += [n for n in new if n not in old and not OURS.match(n)]
    return found


@pytest.mark.parametrize(
    "options", ["", "set -u", "set -euo pipefail", "set -f; shopt -s nullglob"]
)
@pytest.mark.parametrize("file", FILES)
def test_sourcing_adds_only_our_names(tmp_path: Path, options: str, file: str) -> None:
    assert changes(tmp_path, options, f"source '{ROOT}/{file}'") == []


@pytest.mark.parametrize(
    ("action", "seen"),
    [
        ("set -o noclobber", "options, traps or folder"),
        ("trap 'echo no' EXIT", "options, traps or folder"),
        ("cd /", "options, traps or folder"),
        ("x=changed", "x"),
        ("fresh=1", "fresh"),
        ("helper() { :; }", "helper"),
        ("unset -f own", "own"),
    ],
)
def test_the_comparison_sees_a_change(tmp_path: Path, action: str, seen: str) -> None:
    assert seen in changes(tmp_path, "", action)


def test_nothing_is_sourced_twice(tmp_path: Path) -> None:
    """The predecessor sourced its setup four times, and loaded modules as often."""
    trace = subprocess.run(
        ["/bin/bash", "-x", str(ROOT / "ALCF/train-gpt3.sh")],
        env=clean_env(tmp_path, {"DRY_RUN": "1", "BASH_ENV": ""}),
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    sourced = [line.split()[-1] for line in trace.splitlines() if " source /" in line]
    assert len(sourced) >= 5
    assert len(sourced) == len(set(sourced))
