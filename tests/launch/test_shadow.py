"""A user's own types.py, random.py or longseq/ in the current folder is not taken for ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.shell import Tree, clean_env

MODULES = ("types.py", "random.py", "json.py", "numbers.py", "longseq/__init__.py")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="PYTHONSAFEPATH is of Python 3.11")
@pytest.mark.parametrize(
    ("command", "env", "says"),
    [
        ("longseq.sh score --help", {}, "usage:"),
        ("ALCF/status.sh .", {}, "no job and no run yet"),
        ("ALCF/train-gpt3.sh -- --help", {}, "usage:"),
        ("ALCF/train-gpt3.sh", {"DRY_RUN": "1"}, "# ds_config.json"),
        ("ALCF/train-gpt3.sh", {"PLAN": "1"}, "weights"),
        (
            "ALCF/submit.sh -q debug -A p -t 1h --dry-run",
            {"MACHINE": "polaris", "MODEL_SIZE_KEY": "GPT125M"},
            "debug",
        ),
    ],
)
def test_modules_of_the_current_folder_are_not_taken(
    tree: Tree, tmp_path: Path, command: str, env: dict[str, str], says: str
) -> None:
    tree.environment()
    for name in MODULES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('the module of the current folder')")
    script, *words = command.split()
    given = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **env}
    done = subprocess.run(
        [str(tree.root / script), *words],
        env=clean_env(tree.home, given),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert says in done.stdout, done.stderr
    assert done.returncode == 0
