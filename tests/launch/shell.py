"""Bash from Python: each test runs the launch scripts in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from longseq.host.variables import Variable, read_table
from tests.parallel.ranks import MPICH, mpi_environ

ROOT = Path(__file__).resolve().parents[2]
SOURCES = "".join(
    f'source "$LONGSEQ_ROOT/ALCF/{n}.sh"\n'
    for n in "setup models args launch running preflight idle again broadcast".split()
)

# Whose lines others run as well, but for 1 in 100
UNTRACED = tuple(f"tests/launch/test_{n}.py" for n in "args old_bash predecessor use".split())

Result = subprocess.CompletedProcess[str]
Env = Mapping[str, str]


def clean_env(home: Path, more: Env) -> dict[str, str]:
    """The little that a login shell has, this Python first on the path, and `more`."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(home), **mpi_environ(), **traced(), **more}


def traced() -> dict[str, str]:
    """What makes bash write down the lines it runs, when ./tests/run.sh measures coverage."""
    folder = os.environ.get("BASH_COVERAGE")
    if not folder or os.environ.get("PYTEST_CURRENT_TEST", "").startswith(UNTRACED):
        return {}
    return {"BASH_ENV": str(ROOT / "tests/launch/trace.sh"), "BASH_COVERAGE": folder}


ARGS_SCRIPT = r"""
longseq_default_facts
LONGSEQ_DEVICE=$1 LONGSEQ_DEVICES=$2 LONGSEQ_HOSTS=(localhost) LONGSEQ_BASE_PYTHON=python3
shift 2
longseq_count_ranks
longseq_args "$@"
printf '%s\0' "${LONGSEQ_ARGS[@]}"
"""


def options(words: Sequence[str]) -> dict[str, str]:
    """--name value pairs as a dictionary, the last of a repeated one; "" for a switch."""
    found: dict[str, str] = {}
    for word, after in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            found[word] = "" if after.startswith("--") else after
    return found


def write_script(path: Path, text: str) -> Path:
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


ANSWERS: dict[tuple[str, str, str], str] = {}
TREE = "<the tree>"


class Tree:
    """A copy of the repository whose environment is this one; the trainer can be replaced."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root, self.home = root, home
        for name in ("ALCF", "longseq", "data"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        files = "longseq.sh install.sh constraints.txt pyproject.toml pretrain_gpt.py"
        for name in files.split():
            shutil.copy2(ROOT / name, root / name)

    def environment(self, machine: str = "", mpi: Path = MPICH, **env: str) -> Path:
        """Pretend that install.sh has made its environment, with `mpi`'s programs; its folder."""
        if machine:
            env |= {"MACHINE": machine, "DS_ACCELERATOR": "cpu"}
        script = 'longseq_setup >&2; printf %s "$LONGSEQ_VENV"'
        venv = Path(self._answer(script, env))
        venv.mkdir(parents=True)
        for name in ("lib", "pyvenv.cfg"):
            source = Path(sys.prefix) / name
            if source.exists():
                (venv / name).symlink_to(source)
        (venv / "bin").mkdir()
        for program in {*Path(sys.prefix, "bin").iterdir(), *(mpi / "bin").iterdir()}:
            if program.name != "mpiexec" or program.parent == mpi / "bin":
                (venv / "bin" / program.name).symlink_to(program)
        stamp = self._answer("longseq_setup >&2; longseq_stamp", env)
        (venv / "installed-base.txt").write_text(stamp)
        return venv

    def _answer(self, script: str, env: Env) -> str:
        """What `script` prints in a tree like this one: asked once of all with the same files."""
        files = [path for path in self.root.iterdir() if path.is_file()]
        files += list((self.root / "ALCF").rglob("*.*"))
        states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        key = (script, str(sorted(env.items())), str(sorted(states)))
        if key not in ANSWERS:
            ANSWERS[key] = self.bash(script, **env).stdout.replace(str(self.root), TREE)
        return ANSWERS[key].replace(TREE, str(self.root))

    def trainer(self, text: str) -> None:
        """Replace what every rank runs."""
        (self.root / "pretrain_gpt.py").write_text(text)

    def bash(self, script: str, **env: str) -> Result:
        given = {"LONGSEQ_ROOT": str(self.root), **env}
        result = subprocess.run(
            ["/bin/bash", "-c", f"set -euo pipefail\n{SOURCES}{script}"],
            env=clean_env(self.home, given),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result

    def command(self, *words: str, **env: str) -> tuple[list[str], dict[str, str]]:
        return [str(self.root / "ALCF/train-gpt3.sh"), *words], clean_env(self.home, env)

    def launch(self, *words: str, **env: str) -> Result:
        """./ALCF/train-gpt3.sh with words and environment."""
        command, full = self.command(*words, **env)
        return subprocess.run(
            command,
            env=full,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def listing(self) -> dict[str, tuple[int, int]]:
        """Every path with its size and time of change."""
        found = {}
        for folder in (self.root, self.home):
            for path in folder.rglob("*"):
                stat = path.lstat()
                found[str(path)] = (stat.st_size, stat.st_mtime_ns)
        return found


def variable_table() -> dict[str, Variable]:
    """The rows of ours in ALCF/variables.txt."""
    return read_table(ROOT / "ALCF").ours


def processes_with(marker: str) -> list[int]:
    """Ids of the processes whose command line or environment holds `marker`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            seen = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if marker.encode() in seen and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found
