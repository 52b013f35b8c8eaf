"""What a shell completes is what there is."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from longseq.__main__ import VERBS, main
from longseq.host.variables import FOLDER
from longseq.reports.completion import ON_RANKS, OPTIONS

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


LABEL = re.compile(r"^        (--?[a-z][-\w| ]*)\)", re.MULTILINE)  # of the first case in a loop


@pytest.mark.parametrize("name", OPTIONS)
def test_scripts_complete_what_they_take(name: str) -> None:
    text = (FOLDER / name).read_text()
    loop = text[text.index("while (($#))") : text.index("\ndone")]
    taken = {word for label in LABEL.findall(loop) for word in label.split(" | ")}
    offered = set(OPTIONS[name].split())
    assert offered - {"--"} == taken - {"-h"}
    assert ("--" in offered) == ("        --) " in loop)


def test_scripts_complete_what_verbs_take(script: Path) -> None:
    text = (FOLDER / "verb.sh").read_text()
    assert f"        {' | '.join(ON_RANKS)}) ;;" in text
    complete = functools.partial(completed, script, "_longseq_script")
    assert complete("./ALCF/use.sh", "") == {*ON_RANKS, "--help"}
    assert "--output" in complete("./ALCF/use.sh", "score", "outputs/RUN", "--o")
    assert complete("./ALCF/bench.sh", "--l") == {"--lengths", "--layouts", "--longest", "--list"}
    assert "--swiglu" in complete("./ALCF/bench.sh", "--longest", "--", "--s")
    submit = functools.partial(complete, "./ALCF/submit.sh")
    assert submit("--") >= {"--bench", "--use", "--chain"}
    assert submit("-n", "2", "--bench", "--", "--lon") == {"--longest"}
    assert submit("--use", "--", "s") == {"score"}
    assert submit("--use", "--", "score", "R", "--outp") == {"--output"}
    assert "--swiglu" in submit("--", "--sw")


def test_zsh_reads_its_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["completion", "zsh"]) == 0
    text = capsys.readouterr().out
    assert text.count("compdef") >= 2
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n"], input=text, text=True, check=True)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 2
    assert "fish" in capsys.readouterr().err
