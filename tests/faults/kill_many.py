"""Kill something at random moments, many times; each time the next run must work as if nothing had
happened. Slow, so the suite kills once (test_killed_offload.py); this is for a machine left alone:

    python tests/faults/kill_many.py collective [20]    a run of two ranks, anywhere in it
    python tests/faults/kill_many.py offload [20] DISK  the same, weights and optimizer in files
    python tests/faults/kill_many.py build [20]         the C++ build of the operator for files
    python tests/faults/kill_many.py install [20]       ./install.sh in its C++ build

Prints a line a kill, and ends with 1 at the first that left something behind. Of installations,
each must come to its C++ build, where it is killed as the one before; the last one must end well.
KILL_WITHIN: the latest moment, seconds after the start (of the C++ build); 20 unless given.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from longseq.engine import nvme  # noqa: E402
from tests.parallel.ranks import (  # noqa: E402
    MPIEXEC,
    left_in_shared_memory,
    operator_folder,
    rank_environ,
    shared_files,
)

FLAGS = (
    "--num-layers 4 --hidden-size 256 --num-attention-heads 4 --seq-length 64 --eval-iters 0"
    " --use-rotary-position-embeddings --use-flash-attn-sdpa --lr 1e-3 --device cpu --train-iters"
).split()
FILES = "--zero-stage 3 --nvme-optimizer --remote-device nvme --nvme-path".split()


def start(iterations: int, flags: list[str]) -> subprocess.Popen[str]:
    """Two ranks of the real trainer, in a process group of their own."""
    env = rank_environ(TORCH_EXTENSIONS_DIR=operator_folder())
    data = ["--data-path", str(ROOT / "data" / "NC_001416.1.fa")]
    ranks = [MPIEXEC, "-n", "2", "sh", str(ROOT / "ALCF/rank.sh"), sys.executable]
    command = [*ranks, str(ROOT / "pretrain_gpt.py"), *FLAGS, str(iterations), *data, *flags]
    return subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def members(group: int) -> list[int]:
    """Living processes of a process group's session (launchers give their ranks other groups)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to all of it at once, as a node that loses power."""
    while alive := members(process.pid):
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
    process.communicate()


def killed_run(
    moment: float,
    flags: list[str],
    disk: Path | None,
    begun: Callable[[], bool] = lambda: True,
) -> str:
    """What is wrong after a run was killed, `moment` seconds after it has `begun`, or ""."""
    before = shared_files()
    process = start(100_000, flags)
    while not begun() and process.poll() is None:
        time.sleep(0.1)
    time.sleep(moment)
    if process.poll() is not None:
        return "it ended by itself: " + process.communicate()[0][-500:]
    kill(process)
    again = start(2, flags)
    try:
        text = again.communicate(timeout=240)[0]
    except subprocess.TimeoutExpired:
        kill(again)
        return "the next run does nothing for four minutes"
    if again.returncode:
        return f"the next run ended with {again.returncode}: {text[-1000:]}"
    left = [*left_in_shared_memory(before, "deepspeed")]
    left += [p.name for p in disk.glob(f"{nvme.PREFIX}*")] if disk else []
    return f"left behind: {left}" if left else ""


def killed_build(moment: float, folder: Path) -> str:
    """What is wrong after the operator's build was killed and asked for again."""
    env = os.environ | {"TORCH_EXTENSIONS_DIR": str(folder), "DS_ACCELERATOR": "cpu"}
    code = "from longseq.engine.nvme import build_operator; build_operator()"
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(moment)
    kill(process)
    stale = list(folder.glob("*/lock"))
    again = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1200)
    if again.returncode:
        return f"the next build ended with {again.returncode}: {again.stderr[-1000:]}"
    shutil.rmtree(folder)
    return "" if not list(folder.glob("*/lock")) else f"lock left, as before: {stale}"


def copy_of_the_tree(folder: Path) -> Path:
    """The repository as a new user has it."""
    left_out = shutil.ignore_patterns("venvs", "outputs", ".git", "*cache*")
    return Path(shutil.copytree(ROOT, folder / "longseq", ignore=left_out))


def at_its_build(tree: Path, began: float) -> bool:
    """Whether the installation that began then has come to DeepSpeed's C++ ops."""
    logs = [path for path in tree.glob("venvs/*/*/install.log") if path.stat().st_mtime > began]
    return any("==== DeepSpeed and its C++ ops" in path.read_text() for path in logs)


def killed_install(moment: float, tree: Path) -> str:
    """What kept an installation from its C++ build, where it is killed; "" if nothing."""
    began = time.time()
    process = subprocess.Popen(
        [str(tree / "install.sh")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while not at_its_build(tree, began):
        time.sleep(0.2)
        if process.poll() is not None:
            return f"it ended by itself: {process.communicate()[0][-1000:]}"
        if time.time() - began > 1200:
            kill(process)
            return "20 minutes, and not at its C++ build"
    time.sleep(moment)
    if process.poll() is not None:
        return f"it ended by itself: {process.communicate()[0][-1000:]}"
    kill(process)
    return ""


def kill_installs(count: int, longest: float, parent: str | None) -> int:
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        tree = copy_of_the_tree(Path(folder))
        for number in range(1, count + 1):
            moment = random.uniform(0.2, longest)
            problem = killed_install(moment, tree)
            print(f"install {number}: killed {moment:.1f} s into its build: {problem}", flush=True)
            if problem:
                return 1
        last = subprocess.run([str(tree / "install.sh")], capture_output=True, text=True)
        print(last.stdout + last.stderr, "ended with", last.returncode)
        return last.returncode


def main() -> int:
    what, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20
    parent = sys.argv[3] if len(sys.argv) > 3 else None
    longest = float(os.environ.get("KILL_WITHIN", "20"))
    if what == "install":
        return kill_installs(count, longest, parent)
    for number in range(1, count + 1):
        moment = random.uniform(0.2, longest)
        folder = Path(tempfile.mkdtemp(dir=parent))
        if what == "build":
            problem = killed_build(moment, folder)
        elif what == "offload":
            problem = killed_run(moment, [*FILES, str(folder)], folder)
        else:
            problem = killed_run(moment, ["--tensor-model-parallel-size", "2"], None)
        shutil.rmtree(folder, ignore_errors=True)
        print(
            f"{what} {number}: killed after {moment:.1f} s: {problem or 'nothing left'}", flush=True
        )
        if problem:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
