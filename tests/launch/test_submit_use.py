"""submit.sh --use: a trained network asked in a job; what is refused, what the job then runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from longseq.__main__ import main
from tests.launch.planned import wait_for_job
from tests.launch.shell import ROOT, Tree, traced, write_script
from tests.launch.test_machines import compare, dry_run
from tests.launch.test_submit import Site
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

RECORDS = ">a\n" + "ACGTTGCA" * 30 + "\n>b\nGATTACA\n"
SHADOW = "raise SystemExit('a module of the folder where it was typed')\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that must not come to install anything."""
    folder = tmp_path_factory.mktemp("never")
    tree = Tree(folder / "tree", folder)
    write_script(tree.root / "install.sh", "#!/bin/sh\nexit 9\n")
    return tree.root


def test_the_request_is_the_one_that_was_reviewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    env = {"MACHINE": "polaris", "MODEL_SIZE_KEY": "", "SEQ_LEN": "", "PLAN": "", "SP_TYPE": "ds"}
    words = "-q debug -n 2 -t 1:00:00 -A myproject --use -- score RUN genome.fa --output s.tsv"
    compare("submit-use-polaris.txt", dry_run(tmp_path, env, "submit.sh", *words.split()))


def test_slurm_says_nothing_before_the_end(tmp_path: Path) -> None:
    """A training saves when it is told; a verb would only end sooner."""
    env = {"MACHINE": "slurm", "MODEL_SIZE_KEY": "", "SEQ_LEN": "", "PLAN": ""}
    text = dry_run(tmp_path, env, "submit.sh", *"-n 2 --use -- evaluate RUN".split())
    assert "--nodes=2" in text
    assert "--signal" not in text
    assert "--no-kill" not in text


def test_a_job_scores_what_was_meant_where_it_was_typed(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the code of the submission, whatever lies in that folder."""
    here = tmp_path / "my genomes"
    (here / "longseq").mkdir(parents=True)
    (here / "longseq/__init__.py").write_text(SHADOW)
    (here / "g.fa").write_text(RECORDS)
    run = write_run(make_model(LLAMA), here / "run")
    (site.state / "hold").touch()
    words = "-t 10m --use -- score run g.fa --window 64 --output ../scores.tsv"
    site.cwd = here
    job = site.job(*words.split())
    assert job.name.startswith("score_")
    (site.tree.root / "longseq/inference/score.py").write_text("raise SystemExit('edited')\n")
    (site.state / "hold").unlink()
    said = wait_for_job(job, 1)
    assert "longseq: job ends with exit code 0" in said
    assert main(["score", str(run), str(here / "g.fa"), "--window", "64"]) == 0
    assert (tmp_path / "scores.tsv").read_text() == capsys.readouterr().out
    assert [path.name for path in job.iterdir() if path.is_dir()] == ["tree"]


def test_what_a_job_is_given_and_how_it_ends(site: Site, tmp_path: Path) -> None:
    """Nothing that was counted on the login node; the exit code of the verb."""
    script = """#!/bin/bash
echo "use $* in $PWD: ${NGPUS-no}/${NGPU_PER_HOST-no} ranks, ${DATA_PATH-no} data, $QUEUE $SP_TYPE"
exit 7
"""
    run = write_run(make_model(LLAMA), tmp_path / "run")
    (tmp_path / "g.fa").write_text(RECORDS)
    write_script(site.tree.root / "ALCF/use.sh", script)
    words = ("--use", "--", "embed", str(run), "g.fa", "--output", "a b.npy")
    site.cwd = tmp_path
    job = site.job(*words, NGPU_PER_HOST="", SP_TYPE="ds")
    said = wait_for_job(job, 1)
    line = f"use embed {run} g.fa --output a b.npy in {tmp_path}: no/no ranks, no data, q ds"
    assert line in said.splitlines()
    assert "longseq: job ends with exit code 7" in said.splitlines()
    assert json.loads(next(site.state.glob("*.job")).read_text())["queue"] == "q"


def test_a_folder_that_is_gone_is_one_line(site: Site, tmp_path: Path) -> None:
    run = write_run(make_model(LLAMA), tmp_path / "run")
    (tmp_path / "gone").mkdir()
    (site.state / "hold").touch()
    words = ("--use", "--", "generate", str(run), "--output", "a.fa", "--max-new-tokens", "9")
    site.cwd = tmp_path / "gone"
    job = site.job(*words)
    (tmp_path / "gone").rmdir()
    (site.state / "hold").unlink()
    said = wait_for_job(job, 1)
    assert f"longseq: {tmp_path}/gone, where this job was submitted, cannot be entered on" in said
    assert said.endswith("longseq: job ends with exit code 2\n")


def test_what_the_network_cannot_do_is_refused_before_the_queue(site: Site, tmp_path: Path) -> None:
    """By the verb itself, which looks at the checkpoint, with the ranks that the job would have."""
    run = write_run(make_model(LLAMA), tmp_path / "run")
    (tmp_path / "g.fa").write_text(RECORDS)
    words = ("--use", "--", "score", str(run), "g.fa", "--output", "s.tsv")
    site.cwd = tmp_path
    done = site.submit(*words, NGPU_PER_HOST="3")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("longseq: --num-attention-heads 8 ")
    assert site.jobs() == []
    assert not (site.tree.root / "outputs").exists()


@pytest.mark.parametrize(
    ("env", "words", "said"),
    [
        ({}, "--use", "no verb: give one of score, generate, embed, evaluate"),
        ({}, "--use -- scor RUN g.fa", "scor: give one of score"),
        ({}, "--use score RUN g.fa", "score RUN g.fa: give -q QUEUE"),
        ({}, "--use --bench -- score RUN", "--bench and --use exclude each other"),
        ({}, "--chain 2 --use -- score RUN", "--chain 2 with --use"),
        ({}, "--use -- score RUN -", "standard input (-) does not reach the ranks"),
        ({}, "--use -- score RUN g.fa", "score in a job: give --output FILE"),
        ({"SEQ_LEN": "4k"}, "--use -- evaluate RUN", "SEQ_LEN=4k is of training"),
        ({"PLAN": "1"}, "--use -- evaluate RUN", "PLAN=1 is of training"),
        ({"SPARE_NODES": "1"}, "--use -- evaluate RUN", "SPARE_NODES=1 is of training"),
        ({"LOAD": "RUN"}, "--use -- evaluate RUN", "LOAD=RUN is of training"),
        ({"SEQLEN": "4k"}, "--use -- evaluate RUN", "did you mean SEQ_LEN?"),
        ({"HOSTFILE": "h"}, "--use -- evaluate RUN", "HOSTFILE=h: a job's hosts come from"),
        ({"DTYPE": "fp16"}, "--use -- evaluate RUN", "DTYPE=fp16 is for training"),
        ({"MPSIZE": "3"}, "--use -- evaluate RUN", "cannot be shared out as MPSIZE 3"),
        ({}, "--use -- evaluate RUN", "no finished environment yet: ./install.sh makes it"),
    ],
)
def test_what_makes_no_job_is_refused(
    never: Path, tmp_path: Path, env: dict[str, str], words: str, said: str
) -> None:
    write_script(tmp_path / "bin/qsub", "#!/bin/sh\necho submitted\n")
    full = {"PATH": f"{tmp_path}/bin:{Path(sys.executable).parent}:/usr/bin:/bin"}
    full |= {"HOME": str(tmp_path), "MACHINE": "polaris", "SITE_MODULES": "0", **traced()}
    result = subprocess.run(
        [str(never / "ALCF/submit.sh"), *"-A p -q debug".split(), *words.split()],
        env=full | {"OUTPUT_DIR": str(tmp_path / "out")} | env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
