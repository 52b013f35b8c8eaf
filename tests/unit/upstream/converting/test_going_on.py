"""The command that `longseq convert` prints last is taken by the launcher, and goes on from what
was written.
"""

from __future__ import annotations

import shlex
import subprocess
from argparse import Namespace
from pathlib import Path

import pytest

from longseq.__main__ import main
from longseq.config.arguments import Network
from longseq.upstream.converting.going_on import command
from tests.launch.shell import ROOT, clean_env
from tests.unit.upstream.converting import made as its


@pytest.mark.parametrize("rotary", [False, True], ids=["learned", "rotary"])
def test_the_command_is_accepted(
    rotary: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The dry run checks network, data and iterations against the checkpoint."""
    made = its.Made()
    if rotary:
        del made.kinds["weight"][f"{its.EMBEDDING}position_embeddings.weight"]
        made.args.use_rotary_position_embeddings, made.args.rotary_percent = True, 0.5
    folder, output = its.write(tmp_path / "its", {its.FIRST: made.file()}), tmp_path / "it's ours"
    words = ["convert", str(folder), "--output", str(output), "--data-path", str(its.GENOME)]
    assert main(words) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    more = {"DRY_RUN": "1", "PLAN": "0", "NGPUS": "1", "OUTPUT_DIR": "/runs"}
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=ROOT,
        env=clean_env(tmp_path, more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.partition("--load ")[2].splitlines()[0]
    assert shlex.split(loaded.removesuffix("\\")) == [str(output)]


def test_what_the_launcher_has_defaults_for_is_given() -> None:
    """Those of a GPU are another network and length than those of a CPU."""
    line = command(Path("a"), "b c", "codon", Network(seq_length=2048), 3, Namespace(train_iters=9))
    variables, flags = line.split(" ./ALCF/train-gpt3.sh -- ")
    assert variables == "LOAD=a SEQ_LEN=2048 DATA_PATH='b c' TRAIN_ITERS=9 USE_ROTARY=0"
    assert flags == (
        "--num-layers 4 --hidden-size 256 --num-attention-heads 8 --tokenizer-type codon"
    )


@pytest.mark.parametrize(("planned", "last"), [(9, 9), (5, 10), (None, 10)])
def test_it_has_iterations_left(planned: int | None, last: int) -> None:
    line = command(Path("a"), "b", "", Network(), 5, Namespace(train_iters=planned))
    assert f" TRAIN_ITERS={last} " in line
