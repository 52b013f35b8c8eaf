"""The measure of bash coverage sees what did not run."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.launch import coverage
from tests.launch.shell import ROOT

SCRIPT = r"""
f() { # head of a function
    local x
    if [[ $1 == 1 ]]; then
        x=(a b
            "c )")
    else
        echo never \
            at all
    fi
    case $1 in
        1) echo "a
two lines" ;;
        *) echo never ;;
    esac
    cat <<'END'
echo text
END
}
f 1
"""


def test_lines_that_did_not_run_are_named(tmp_path: Path) -> None:
    script = tmp_path / "ALCF/x.sh"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    subprocess.run(
        ["/bin/bash", str(script)],
        env={"BASH_ENV": str(ROOT / "tests/launch/trace.sh"), "BASH_COVERAGE": str(tmp_path)},
        check=True,
        capture_output=True,
    )
    trace = next(tmp_path.glob("*.trace")).read_bytes()
    ran = {int(line) for name, line in coverage.TRACED.findall(trace) if name == b"ALCF/x.sh"}
    found = coverage.statements(SCRIPT)
    assert [group[0] for group in found if not ran & set(group)] == [8, 14]
    assert [4] in found
    assert [5, 6] in found
    assert [17] not in found
