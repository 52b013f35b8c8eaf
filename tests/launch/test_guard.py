"""A Slurm job that has lost the host of its script: nothing else of it could end it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.launch.shell import ROOT, clean_env, write_script

# What scontrol answers one look after another: all there, no answer, put aside, n1 gone
ANSWERS = [
    "JobId=7 ReqNodeList=(null) NodeList=n[1-2] BatchHost=n1 NumNodes=2",
    "",
    "JobId=7 ReqNodeList=n1 NodeList=(null) NumNodes=2",
    "JobId=7 ReqNodeList=n1 NodeList=n2 BatchHost=n1 NumNodes=1",
]
SCONTROL = r"""#!/bin/sh
case "$*" in
    "-o show job 7")
        head -n 1 "$0.answers"
        sed -i 1d "$0.answers"
        ;;
    "show hostnames n[1-2]") printf 'n1\nn2\n' ;;
    "show hostnames n2") echo n2 ;;
    *)
        echo "scontrol $*" >>"$0.done"
        exit STATUS
        ;;
esac
"""


@pytest.mark.parametrize(
    ("waits", "status", "expected"),
    [
        ("", 0, ["scontrol requeue 7"]),
        ("afterany:77(unfulfilled)", 0, ["scontrol requeue 7"]),
        ("", 1, ["scontrol requeue 7", "scancel 7"]),  # not allowed here
        ("afterany:7(unfulfilled)", 0, ["scancel 7"]),
        ("(null)\nafterany:6,afterany:7", 0, ["scancel 7"]),
    ],
)
def test_a_job_without_its_first_host_is_ended(
    tmp_path: Path, waits: str, status: int, expected: list[str]
) -> None:
    """The next job of a chain goes on then; where there is none, this one does, from the queue."""
    scontrol = write_script(tmp_path / "bin/scontrol", SCONTROL.replace("STATUS", str(status)))
    Path(f"{scontrol}.answers").write_text("".join(f"{line}\n" for line in ANSWERS))
    write_script(tmp_path / "bin/squeue", f"#!/bin/sh\nprintf '%s\\n' '{waits}'\n")
    write_script(tmp_path / "bin/scancel", f'#!/bin/sh\necho "scancel $*" >>{scontrol}.done\n')
    result = subprocess.run(
        ["/bin/sh", str(ROOT / "ALCF/guard.sh"), "7", "n1", "0.01"],
        env=clean_env(tmp_path, {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.stderr == ""
    assert Path(f"{scontrol}.done").read_text().splitlines() == expected
    assert Path(f"{scontrol}.answers").read_text() == ""
