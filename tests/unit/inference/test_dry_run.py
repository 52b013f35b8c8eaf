"""--dry-run, by which a login node looks a job over: all that is refused, in a second, no torch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from longseq.__main__ import main
from longseq.config.arguments import Layout
from longseq.config.checks import parse_config
from longseq.errors import UserError
from longseq.inference.flags import Computing, network_config
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

ROOT = Path(__file__).resolve().parents[3]
LOADED = """import sys
from longseq.__main__ import main
code = main(sys.argv[1:])
print(code, "torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that sees 96 tokens, and a record that no network could see at once."""
    found = tmp_path_factory.mktemp("folder")
    write_run(make_model(LLAMA), found / "run")
    (found / "g.fa").write_text(">a\n" + "ACGT" * 100 + "\n")
    return found


@pytest.mark.parametrize(
    "words",
    [
        "score run g.fa --output a.tsv",
        "generate run --max-new-tokens 9 --output a.fa",
        "embed run g.fa --output a.npy",
        "evaluate run g.fa --train g.fa",
    ],
)
def test_nothing_is_computed(
    words: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main([*words.split(), "--dry-run"]) == 0
    assert capsys.readouterr() == ("", "")
    assert sorted(path.name for path in folder.iterdir()) == ["g.fa", "run"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("score nowhere g.fa", "nowhere: no such folder"),
        ("score . g.fa", ".: it holds no checkpoint"),
        ("score run no.fa", "no.fa: no such file or folder"),
        ("score run g.fa --output no/a.tsv", "--output no/a.tsv: there is no folder no"),
        ("score run g.fa --window 97", "--window 97: the network sees 96 tokens at once"),
        ("score run g.fa --variants g.fa", "--variants g.fa cannot be read as VCF"),
        ("score run g.fa --tensor-model-parallel-size 3", "--num-attention-heads 8"),
        ("generate run --stop J", "--stop J: "),
        ("generate run --max-new-tokens 97", "--max-new-tokens 97 after a prompt of 0 tokens"),
        ("embed run g.fa --layer 3 --output a.npy", "--layer 3: run/step-7 has layers 1 to 2"),
        ("evaluate run", "run/held_out.tsv: No such file or directory"),
        ("evaluate run g.fa --train no.fa", "no.fa: no such file or folder"),
    ],
)
def test_what_would_be_refused_is(
    words: str,
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the ranks that the job would have."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LONGSEQ_RANKS", "3")
    assert main([*words.split(), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_no_torch_is_loaded_and_names_are_of_the_folder_that_is_given(folder: Path) -> None:
    words = ["score", "run", "g.fa", "--output", "a.tsv", "--dry-run"]
    command = [sys.executable, "-c", LOADED, *words]
    env = {"LONGSEQ_FROM": str(folder), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False)
    assert done.stdout == "0 False\n", done.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--ffn-hidden-size 100",
            "run's MLP's width, 100, cannot be shared by 8 ranks: use 1 or 2 or 4",
        ),
        ("--seq-length 90", "run's learned positions, 90, cannot be shared by 8 ranks: use 1 or 2"),
        ("--num-attention-heads 4", "--num-attention-heads 4"),
    ],
)
def test_a_trained_networks_widths_are_as_they_are(flags: str, said: str) -> None:
    """No flag of these verbs can change them; what can be changed is named."""
    common = "--hidden-size 64 --num-attention-heads 8 --seq-length 96 --device cpu".split()
    network = parse_config([*common, *flags.split()], 1).network
    layout, computing = Layout(tensor_model_parallel_size=8), Computing(device="cpu")
    trained: Any = SimpleNamespace(network=network, name="run")
    with pytest.raises(UserError, match=re.escape(said)):
        network_config(trained, layout, computing, 8)
