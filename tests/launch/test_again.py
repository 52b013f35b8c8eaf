"""A host fails: the run goes on in the same job, on the hosts that are left (ALCF/again.sh)."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.launch.cluster import Cluster, why_not
from tests.launch.planned import wait_until
from tests.launch.shell import Result, Tree

HOSTS = ["alpha", "beta", "gamma"]
NETWORK = """--num-layers 2 --hidden-size 128 --num-attention-heads 4 --seq-length 256
--max-position-embeddings 256 --eval-iters 0 --train-iters 6 --save-interval 2
--hang-timeout 20""".split()

# Rank 1 ends as the n-th word of the file in WANDB_NOTES says at the n-th start: 0, or an exit code
# that it reports, or a file: it says there that its host is dead, and is killed
STUB = """
import os, pathlib, sys
from longseq.run.safety.abort import report
run = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1])
plan = pathlib.Path(os.environ["WANDB_NOTES"])
word = plan.read_text().split()[len(list(run.parent.glob("*/hosts.txt"))) - 1]
if word.startswith("/") and os.environ["RANK"] == "1":
    pathlib.Path(word).write_text("dead")
    os.kill(os.getpid(), 9)
code = int(word) if word.isdecimal() else 0
if code and os.environ["RANK"] == "1":
    report(code, "rank 1 has stopped")
sys.exit(code)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    folder = tmp_path_factory.mktemp("again")
    (folder / "home").mkdir()
    made = Tree(folder / "tree", folder / "home")
    made.environment("workstation")
    return made


@contextmanager
def three(folder: Path) -> Iterator[Cluster]:
    if reason := why_not():
        pytest.skip(reason)
    (folder / "nodes").write_text("".join(f"{name}\n" for name in HOSTS))
    with Cluster(folder, HOSTS) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with three(tmp_path_factory.mktemp("hosts")) as cluster:
        yield cluster


@pytest.fixture
def mortals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Hosts of one test alone, of which one will be dead."""
    with three(tmp_path_factory.mktemp("mortals")) as cluster:
        yield cluster


def variables(hosts: Cluster) -> dict[str, str]:
    env = {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": hosts.ssh, "PREFLIGHT": "0"}
    env |= {"HOSTFILE": str(hosts.folder / "nodes"), "NGPU_PER_HOST": "1"}
    return env | {"MPSIZE": "1", "OMP_NUM_THREADS": "1"}


def runs_in(outputs: Path) -> list[Path]:
    """The runs' folders, the oldest first."""
    return sorted(outputs.glob("*"), key=lambda run: (run / "command.sh").stat().st_mtime)


# ---------------------------------------------------------------- a real training


def losses(run: Path) -> dict[int, float]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {record["iteration"]: record["lm_loss"] for record in records}


def test_a_run_goes_on_without_a_host_that_dies(
    tree: Tree, mortals: Cluster, tmp_path: Path
) -> None:
    """Three hosts of one rank, then two: the losses are those of one rank that nothing befell.

    Nobody gets a last word of the host that dies, and its connections stay open.
    """
    once, twice = tmp_path / "once", tmp_path / "twice"
    words = ["--", *NETWORK]
    command, whole = tree.command(*words, NGPUS="1", GLOBAL_BATCH="6", OUTPUT_DIR=str(once))
    whole["OMP_NUM_THREADS"] = "1"
    with subprocess.Popen(command, env=whole, cwd=tree.root, stdout=subprocess.DEVNULL) as alone:
        command, full = tree.command(*words, **variables(mortals), OUTPUT_DIR=str(twice))
        with open(tmp_path / "said", "w") as said:
            script = subprocess.Popen(
                [*mortals.enter("alpha"), *command],
                env=full,
                cwd=tree.root,
                stdout=said,
                stderr=said,
            )
            wait_until(lambda: [*twice.glob("*/checkpoints/step-2/manifest.json")], "no save", 300)
            mortals.freeze("beta")
            code = script.wait(300)
    text = (tmp_path / "said").read_text()
    assert code == 0, text[-6000:]
    assert alone.returncode == 0
    first, second = runs_in(twice)
    assert (second / "hosts.txt").read_text().split() == ["alpha", "gamma"]
    expected = losses(*once.glob("*"))
    assert len(expected) == 6
    for run in (first, second):
        assert all(abs(loss - expected[i]) <= 1e-6 for i, loss in losses(run).items())
    assert {*losses(first), *losses(second)} == set(expected)
    pattern = r"restart 1 of 2 on 2 host\(s\), without beta: rank 1 \(process \d+\) on beta has st"
    assert re.search("longseq: " + pattern, text)
    assert re.match(pattern, json.loads((second / "environment.json").read_text())["restart"])
    record = json.loads((second / "metrics.jsonl").read_text().splitlines()[0])
    assert re.match(pattern, record["event"])
    assert re.search("WARNING longseq: " + pattern, (second / "log/rank0.log").read_text())


# ---------------------------------------------------------------- when it does, and when not


def planned(
    tree: Tree, hosts: Cluster, tmp_path: Path, plan: str, *words: str, **env: str
) -> Result:
    (tmp_path / "plan").write_text(plan)
    there = {"WANDB_NOTES": str(tmp_path / "plan"), "OUTPUT_DIR": str(tmp_path / "out")}
    command, full = tree.command(*words, **(variables(hosts) | there | env))
    return subprocess.run(
        [*hosts.enter("alpha"), *command], env=full, cwd=tree.root, capture_output=True, text=True
    )


def hosts_of(tmp_path: Path) -> list[list[str]]:
    return [(run / "hosts.txt").read_text().split() for run in runs_in(tmp_path / "out")]


@pytest.fixture(scope="module")
def stub(tree: Tree) -> Tree:
    tree.trainer(STUB)
    return tree


def test_a_host_that_was_not_used_takes_its_place(
    stub: Tree, hosts: Cluster, tmp_path: Path
) -> None:
    env = {"NHOSTS": "2", "GLOBAL_BATCH": "12"}
    done = planned(stub, hosts, tmp_path, "69 0", **env)
    assert done.returncode == 0, done.stderr
    assert hosts_of(tmp_path) == [["alpha", "beta"], ["alpha", "gamma"]]
    assert "without beta: rank 1 has stopped; it goes on from the beginning" in done.stderr
    assert done.stderr.count("GPT_SMALL (the default on a CPU; MODEL_SIZE_KEY chooses") == 2
    for run in runs_in(tmp_path / "out"):  # to be repeated where the default is another
        assert "\nexport MODEL_SIZE_KEY=GPT_SMALL\n" in (run / "command.sh").read_text()


def test_a_restart_within_the_second_has_a_folder_of_its_own(stub: Tree) -> None:
    first, again = stub.bash(
        "declare -A LONGSEQ_VALUE=([SEED]=1 [SEQ_LEN]=8 [MODEL_SIZE_KEY]=A) LONGSEQ_LAYOUT=tp1\n"
        "for LONGSEQ_RESTARTED in '' 1; do longseq_name_run; echo \"$LONGSEQ_RUN\"; done"
    ).stdout.split()
    assert (first.endswith("_r1"), again.endswith("_r1")) == (False, True)


def test_a_number_of_times(stub: Tree, hosts: Cluster, tmp_path: Path) -> None:
    """Three hosts, then two, of which one fails as well."""
    done = planned(stub, hosts, tmp_path, "69 69 0", RESTARTS="1", GLOBAL_BATCH="12")
    assert done.returncode == 69, done.stderr
    assert hosts_of(tmp_path) == [HOSTS, ["alpha", "gamma"]]


@pytest.mark.parametrize(
    ("plan", "words", "env", "says"),
    [
        ("1 0", [], {}, ""),  # the program's own
        ("2 0", [], {}, ""),
        ("69 0", [], {"RESTARTS": "0"}, ""),
        (
            "69 0",
            [],
            {"GLOBAL_BATCH": "9", "MICRO_BATCH": "3"},
            "host(s) that are left: GLOBAL_BATCH",
        ),
        ("69 0", [], {"WALLTIME": "2m"}, "too little of the job is left"),
        ("69 0", ["--save", "/tmp/nowhere"], {}, "without that host, as --save is given"),
    ],
)
def test_when_it_does_not_go_on(
    stub: Tree,
    hosts: Cluster,
    tmp_path: Path,
    plan: str,
    words: list[str],
    env: dict[str, str],
    says: str,
) -> None:
    done = planned(stub, hosts, tmp_path, plan, "--", *words, **env)
    assert done.returncode == int(plan.split()[0]), done.stderr
    assert hosts_of(tmp_path) == [HOSTS]
    assert says in done.stderr
    assert "restart" not in done.stderr


def test_a_host_that_dies_in_the_last_minutes_is_named_and_remembered(
    stub: Tree, mortals: Cluster, tmp_path: Path
) -> None:
    """A minute or more for the look is left, and less than what going on is worth."""
    (tmp_path / "job").mkdir()
    plan = str(mortals.folder / "pid.beta")
    env = {"WALLTIME": "4m", "PREFLIGHT": "1", "LONGSEQ_JOB": str(tmp_path / "job")}
    done = planned(stub, mortals, tmp_path, plan, **env)
    assert done.returncode == 69, done.stderr
    assert hosts_of(tmp_path) == [HOSTS]
    assert re.search(r"\nbeta +BAD  does not answer", done.stderr)
    assert "longseq: too little of the job is left to go on without a host" in done.stderr
    remembered = (tmp_path / "job/bad-hosts.txt").read_text()
    assert remembered == "beta after a run that failed\n"


@pytest.mark.parametrize(
    ("left", "seconds"), [("", "62"), ("300", "62"), ("105", "60"), ("104", "none"), ("-5", "none")]
)
def test_the_look_fits_into_what_is_left(
    bash: Callable[..., Result], tmp_path: Path, left: str, seconds: str
) -> None:
    """Of the job; 45 s of it are for what comes after."""
    script = """left=$2; longseq_time_left() { REPLY=$left; }
        longseq_probe() { echo "$2" >>"$LONGSEQ_RUN/asked"; }; longseq_judge() { return 1; }
        declare -A LONGSEQ_VALUE=([PREFLIGHT]=1 [PREFLIGHT_SECONDS]=)
        LONGSEQ_HOSTS=(alpha beta) LONGSEQ_DEVICE=cpu LONGSEQ_RUN=$1
        longseq_find_failed 137; cat "$1/asked" 2>/dev/null || echo none"""
    done = bash(script, str(tmp_path), left)
    assert done.stdout.split() == [seconds], done.stderr
    assert ("too little of the job is left to ask" in done.stderr) == (seconds == "none")
