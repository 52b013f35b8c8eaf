"""What a shell completes is what there is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from longseq.__main__ import VERBS, main

COMPLETE = r"""
source "$1"
COMP_WORDS=("${@:3}") COMP_CWORD=$(($# - 3))
COMPREPLY=()
"$2" "$3" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>/dev/null
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "bash"
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: said.extend(map(str, words)))
        assert main(["completion", "bash"]) == 0
    path.write_text("\n".join(said))
    return path


def completed(script: Path, function: str, *words: str) -> set[str]:
    command = ["bash", "-c", COMPLETE, "bash", str(script), function, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return set(done.stdout.split())


def test_bash_completes_verbs_arguments_and_variables(script: Path) -> None:
    verbs = "_shtab_longseq_sh"
    assert set(VERBS) <= completed(script, verbs, "./longseq.sh", "")
    found = completed(script, verbs, "./longseq.sh", "bench", "--l")
    assert {"--lengths", "--layouts", "--longest"} <= found
    trains = ("_longseq_script", "./ALCF/train-gpt3.sh")
    assert completed(script, *trains, "--list") == {"--list-models", "--list-variables"}
    assert "--swiglu" in completed(script, *trains, "--", "--s")
    assert completed(script, *trains, "--", "--on-spike", "s") == {"skip", "stop"}
    assert completed(script, "_longseq_variable", "SEQ") == {"SEQ_LEN="}
    assert completed(script, "_longseq_variable", "ls") == set()


def test_zsh_reads_its_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["completion", "zsh"]) == 0
    text = capsys.readouterr().out
    assert text.count("compdef") >= 2
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n"], input=text, text=True, check=True)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 2
    assert "fish" in capsys.readouterr().err
