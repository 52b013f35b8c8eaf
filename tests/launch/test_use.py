"""./ALCF/use.sh: a verb on all ranks gives what it gives alone, and a mistake is one line."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from longseq.__main__ import main
from tests.launch.cluster import Cluster, why_not
from tests.launch.shell import Result, Tree, processes_with, write_script
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

T = TypeVar("T")


def use(tree: Tree, *words: str, enter: Sequence[str] = (), **env: str) -> Result:
    _, full = tree.command(**env)
    command = [*enter, str(tree.root / "ALCF/use.sh"), *words]
    return subprocess.run(
        command, env=full, cwd=tree.root, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A run, and a FASTA file whose first record is longer than a window."""
    fasta = tmp_path / "a.fa"
    fasta.write_text(">a\n" + "ACGTTGCA" * 30 + "\n>b\nGATTACA\n")
    return str(write_run(make_model(LLAMA), tmp_path / "run")), str(fasta)


def test_two_ranks_score_as_one(
    tree: Tree, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    tree.environment()
    words = ["score", *files, "--window", "64"]
    assert main(words) == 0
    alone = capsys.readouterr().out
    done = use(tree, *words, SP_TYPE="ds")
    same_scores(done, alone)
    assert list((tree.root / "outputs").iterdir()) == []
    wrong = use(tree, "score", files[0], "nowhere.fa", SP_TYPE="ds")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert "nowhere.fa: no such file or folder" in wrong.stderr


def same_scores(done: Result, alone: str) -> None:
    assert done.returncode == 0, done.stderr
    found = [line.split("\t") for line in done.stdout.splitlines()]
    expected = [line.split("\t") for line in alone.splitlines()]
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert float(ours[3]) == pytest.approx(float(theirs[3]), abs=1e-5 * int(theirs[2]))


def test_two_hosts_score_as_one(
    tree: Tree, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their launcher is given a file of hosts."""
    if reason := why_not():
        pytest.skip(reason)
    tree.environment("workstation")
    words = ["score", *files, "--window", "64"]
    assert main(words) == 0
    (tmp_path / "nodes").write_text("alpha\nbeta\n")
    env = {"HOSTFILE": str(tmp_path / "nodes"), "NGPU_PER_HOST": "1", "SP_TYPE": "ds"}
    with Cluster(tmp_path / "hosts", ["alpha", "beta"]) as cluster:
        env |= {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": cluster.ssh}
        done = use(tree, *words, enter=cluster.enter("alpha"), **env)
    same_scores(done, capsys.readouterr().out)
    assert list((tree.root / "outputs").iterdir()) == []


def test_an_address_that_is_none_leaves_no_folder(tree: Tree, files: tuple[str, str]) -> None:
    tree.environment()
    done = use(tree, "score", *files, MASTER_ADDR="no.such.host.invalid")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "MASTER_ADDR=no.such.host.invalid has no address here" in done.stderr
    assert not list(tree.root.glob("outputs/*"))


def test_a_dry_run_that_nobody_can_read(tree: Tree) -> None:
    command, env = [str(tree.root / "ALCF/use.sh"), "score", "RUN"], tree.command(DRY_RUN="1")[1]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, env=env, stdout=full, stderr=subprocess.PIPE, text=True)
    said = "longseq: standard output cannot be written: it is closed or full\n"
    assert (done.returncode, done.stderr) == (73, said)


def test_a_mistake_that_every_rank_finds_at_once_is_one_line(
    tree: Tree, files: tuple[str, str], tmp_path: Path
) -> None:
    """What nobody looks for before there are ranks, as it takes reading a genome."""
    tree.environment()
    head = "##fileformat=VCFv4.2\n##contig=<ID=b>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (tmp_path / "v.vcf").write_text(f"{head}b\t1\t.\tA\tC\t.\t.\t.\n")
    done = use(tree, "score", *files, "--variants", str(tmp_path / "v.vcf"), SP_TYPE="ds")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "v.vcf: b:1 has REF A and" in done.stderr
    assert list((tree.root / "outputs").iterdir()) == []


def test_a_mistake_in_a_name_starts_no_rank(tree: Tree, files: tuple[str, str]) -> None:
    tree.environment()
    done = use(tree, "score", *files, "--output", "no/a.tsv", SP_TYPE="ds")
    assert done.returncode == 2
    assert done.stderr == "longseq: --output no/a.tsv: there is no folder no: make it first\n"
    assert not list(tree.root.glob("outputs/*"))


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (
            {"NGPUS": "3"},
            "--num-attention-heads 8 does not divide by --tensor-model-parallel-size 3: use a size"
            " that divides it (MPSIZE, 1 for none), and data parallelism",
        ),
        ({"NGPUS": "9", "SP_TYPE": "ds"}, "use 8 or fewer, and --context-parallel-size (ring)"),
    ],
)
def test_a_layout_that_cannot_be_starts_no_rank(
    env: dict[str, str], said: str, tree: Tree, files: tuple[str, str]
) -> None:
    """The ranks, and a launcher, would say it among other things."""
    launcher = tree.environment() / "bin/mpiexec"
    launcher.unlink()
    write_script(launcher, "#!/bin/sh\necho started >&2\nexit 1\n")
    done = use(tree, "score", *files, "--window", "64", **env)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = [text for text in done.stderr.splitlines() if " core(s), so each" not in text]
    assert said in line
    assert not list(tree.root.glob("outputs/*"))


def test_told_to_stop_it_leaves_nothing(tree: Tree, files: tuple[str, str]) -> None:
    """By SIGUSR1, which Open MPI's ranks get for a Ctrl-C too; its output has been begun."""
    tree.environment()
    endless, out = tree.home / "endless.fa", tree.home / "s.tsv"
    os.mkfifo(endless)
    out.write_text("older")
    command = [
        str(tree.root / "ALCF/use.sh"),
        "score",
        files[0],
        str(endless),
        "--output",
        str(out),
    ]
    env = tree.command(NGPUS="1")[1]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as script:
        writing = when(lambda: opened(endless))
        when(lambda: list(tree.home.glob("s.tsv.aside-*")))
        script.send_signal(signal.SIGUSR1)
        code = script.wait(60)
        os.close(writing)
        assert script.stderr is not None
        said = script.stderr.read()
    assert (code, said) == (75, "longseq: stopped before it was done: nothing is written\n")
    assert sorted(path.name for path in tree.home.iterdir()) == ["endless.fa", "s.tsv"]
    assert out.read_text() == "older"
    assert list((tree.root / "outputs").iterdir()) == []


def test_ranks_end_with_the_script_that_started_them(tree: Tree, files: tuple[str, str]) -> None:
    """Killed, it can tell them nothing: they wait for a file that never comes."""
    tree.environment()
    endless = tree.home / "endless.fa"
    os.mkfifo(endless)
    command = [str(tree.root / "ALCF/use.sh"), "score", files[0], str(endless)]
    script = subprocess.Popen(command, env=tree.command()[1], cwd=tree.root)
    writing = when(lambda: opened(endless))
    script.kill()
    script.wait()
    assert when(lambda: not processes_with(str(endless)))
    os.close(writing)


def opened(fifo: Path) -> int | None:
    """The end to write to, once a rank has opened the other one; then that rank waits."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def when(found: Callable[[], T | None]) -> T:
    """What is found, as soon as it is."""
    end = time.monotonic() + 100
    while time.monotonic() < end:
        if here := found():
            return here
        time.sleep(0.1)
    raise AssertionError("waited for 100 seconds")


def test_the_command_has_the_layout_and_the_kernel(tree: Tree) -> None:
    given = {"NGPUS": "4", "SPSIZE": "2", "DTYPE": "bf16", "USE_FLASH_ATTN": "sdpa", "DRY_RUN": "1"}
    before = tree.listing()
    done = use(tree, "embed", "RUN", "a.fa", "--output", "a b.npy", **given)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.replace("\\\n", "").split())
    layout = (
        "--tensor-model-parallel-size 2 --ds-sequence-parallel-size 2 --context-parallel-size 1"
    )
    assert f"-m longseq embed --device cpu {layout} --use-flash-attn-sdpa" in text
    assert "--sequence-parallel --bf16 RUN a.fa --output a\\ b.npy" in text
    assert " -n 4 " in text
    assert tree.listing() == before


@pytest.mark.parametrize(
    ("env", "split"),
    [({}, False), ({"MPSIZE": "2"}, False), ({"SP_TYPE": "megatron"}, False),
     ({"USE_SEQUENCE_PARALLEL": "1"}, True)],
)  # fmt: skip
def test_generate_splits_no_sequence_unasked(
    tree: Tree, files: tuple[str, str], env: dict[str, str], split: bool
) -> None:
    """Who asks for it is told how to leave it out."""
    words = ["generate", files[0], "--max-new-tokens", "9", "--output", str(tree.root / "m.fa")]
    done = use(tree, *words, DRY_RUN="1", NGPUS="2", **env)
    assert done.returncode == 0, done.stderr
    assert "--tensor-model-parallel-size 2" in " ".join(done.stdout.replace("\\\n", "").split())
    assert ("--sequence-parallel" in done.stdout) == split
    tree.environment()
    done = use(tree, *words, "--dry-run", NGPUS="2", **env)
    if split:
        assert done.returncode == 2
        assert "--sequence-parallel: generate" in done.stderr
        assert "leave it out (USE_SEQUENCE_PARALLEL=0)" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        ([], {}, "no verb: give one of score, generate, embed, evaluate"),
        (["scor"], {}, "scor: give one of score"),
        (["score", "RUN"], {"TRAIN_ITERS": "4"}, "TRAIN_ITERS=4 is of training and says nothing"),
        (
            ["score", "RUN"],
            {"TRAIN_ITERS": "4", "MODEL_SIZE_KEY": "GPT7B", "LR": "1e-3", "SP_TYPE": "ds"},
            "MODEL_SIZE_KEY=GPT7B, TRAIN_ITERS=4, LR=1e-3 are of training and say nothing to"
            " ./ALCF/use.sh: unset all of it for this command: env -u MODEL_SIZE_KEY"
            " -u TRAIN_ITERS -u LR ./ALCF/use.sh ...",
        ),
        (["score", "RUN"], {"DTYPE": "fp16"}, "DTYPE=fp16 is for training: give fp32 or bf16"),
        (["score", "RUN"], {"MPSIZE": "3"}, "2 ranks (NGPUS) cannot be shared out"),
        (["score", "RUN"], {}, "there is no finished environment yet: ./install.sh makes it"),
    ],
)
def test_a_mistake_is_one_line(
    tree: Tree, words: list[str], env: dict[str, str], said: str
) -> None:
    done = use(tree, *words, **env)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_profile_may_hold_what_only_a_submission_obeys(tree: Tree) -> None:
    done = use(tree, "score", "RUN", "a.fa", QUEUE="debug", PROJECT="mine", DRY_RUN="1")
    assert done.returncode == 0
    (line,) = (line for line in done.stderr.splitlines() if "submit.sh" in line)
    assert line.endswith("what only ./ALCF/submit.sh obeys does not act: QUEUE, PROJECT")


def test_it_explains_itself(tree: Tree) -> None:
    assert use(tree, "--help").stdout.startswith("Asks a trained network on all ranks")
