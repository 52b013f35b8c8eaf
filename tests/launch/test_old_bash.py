"""Login nodes have bash 4.2: nothing newer may be in the scripts that run there.

The text is searched for what later versions brought, and for arrays that may be empty, which up
to 4.3 count as unset under `set -u`. Then dry runs are made by a copy of the scripts that means to
this bash what they mean to 4.2; with OLD_BASH=/path/of/an/old/bash they are made by that one, and
if it is 4.2 the copy's meaning is held against it. 4.2.45 and 4.4.0, built from their sources, have
passed; so have five files of tests/launch with one of them in place of /usr/bin/bash, by
`unshare -m bash -c "mount --bind /path/of/it /usr/bin/bash; python -m pytest ..."`: test_own_job,
test_hosts, test_sourcing, test_binding, test_machines.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.launch.shell import ROOT, Tree, clean_env

SCRIPTS = sorted([*(ROOT / "ALCF").rglob("*.sh"), ROOT / "install.sh", ROOT / "tests/run.sh"])
NEWER = {
    "4.3: declare -g NAME=(...): a local in 4.2": r"\b(declare|typeset)\s+-\w*g\w*\s+\w+=\(",
    "4.3: namerefs": r"\b(local|declare|typeset)\s+-\w*n\b",
    "4.3: wait -n": r"\bwait\s+-n\b",
    "4.3: unset of a negative index, [[ -v a[i] ]]": r"-v\s+\w+\[",
    "4.4: ${x@Q}": r"\$\{\w+(\[[^]]*\])?@[A-Za-z]\}",
    "4.4: local -": r"\blocal\s+-\s*$",
    "4.4: mapfile -d": r"\b(mapfile|readarray)\s+(-\w+\s+)*-\w*d\b",
    "5.0: EPOCHSECONDS": r"\bEPOCH(SECONDS|REALTIME)\b",
    "5.1: SRANDOM": r"\bSRANDOM\b",
    "5.1: wait -p": r"\bwait\s+-\w*p\b",
    "5.3: ${ command; }": r"\$\{\s",
}
# Arrays that hold something wherever they are expanded
FULL = set(
    """LONGSEQ_VARIABLES LONGSEQ_OTHERS LONGSEQ_LIKELY words LONGSEQ_MODELS LONGSEQ_ARGS
    LONGSEQ_NOTES LONGSEQ_COMMAND LONGSEQ_LAUNCHER LONGSEQ_SETTINGS LONGSEQ_HOSTS LONGSEQ_ALLOCATION
    LONGSEQ_REQUEST LONGSEQ_QUEUES LONGSEQ_NCCL_LIBRARIES LONGSEQ_BIND all hosts names queues
    LONGSEQ_REMOVAL LONGSEQ_ON_EACH idle
    ranges environment missing pids clean gpus lines candidates entries known olds repeat good
    source scripts summary failed extra ops check platforms others pass_on
    LONGSEQ_FAILED ids counts positional""".split()
)
EXPANDED = re.compile(r'(?<!\+)"\$\{(\w+)\[@\]|\$\{(\w+)\[\*\](?![-+:])')


def code(path: Path) -> str:
    """The text without comments."""
    return re.sub(r"(?m)(^|\s)#.*$", r"\1", path.read_text())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_nothing_newer_than_4_2(path: Path) -> None:
    text = code(path)
    for what, pattern in NEWER.items():
        assert not re.search(pattern, text, re.MULTILINE), what


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_arrays_that_may_be_empty_are_guarded(path: Path) -> None:
    found = {name for names in EXPANDED.findall(code(path)) for name in names if name}
    assert found - FULL == set()


def test_the_search_finds_what_it_looks_for() -> None:
    bad = {
        "4.3: declare -g NAME=(...): a local in 4.2": "declare -gA VALUE=()",
        "4.3: namerefs": "local -n x=y",
        "4.4: ${x@Q}": 'echo "${x@Q}"',
        "4.4: mapfile -d": "mapfile -t -d '' x",
        "5.0: EPOCHSECONDS": "echo $EPOCHSECONDS",
    }
    for what, text in bad.items():
        assert re.search(NEWER[what], text, re.MULTILINE), what
    text = 'x "${a[@]}" ${b[@]+"${b[@]}"} " ${c[*]} " "${d[*]-}"'
    assert EXPANDED.findall(text) == [("a", ""), ("", "c")]


# ---------------------------------------------------------------- what 4.2 makes of it

OLD_BASH = os.environ.get("OLD_BASH", "")


def as_4_2(text: str) -> str:
    """A script that means to this bash what `text` means to bash 4.2."""
    # The name is known outside, but what is assigned to it goes to a local
    text = re.sub(r"\bdeclare -g(\w+) (\w+)=\(", r"declare -g\1 \2; local -\1 \2=(", text)
    text = re.sub(r"\$\{(\w+)\[\*\]\}", r"${\1[*]?unbound variable}", text)
    return re.sub(r'(?<!\+)"\$\{(\w+)\[@\]\}"', r'"${\1[@]?unbound variable}"', text)


MEANINGS = {
    "f() { declare -gA x=([a]=1); echo ${x[a]}; }; f; echo ${x[a]-none}": "1\nnone",
    "f() { declare -gA x; x=([a]=1); }; f; echo ${x[a]}": "1",
    'a=(); echo "${a[@]}"; echo on': "",
    'a=(); echo "${a[*]}"; echo on': "",
    'a=(); echo ${a[@]+"${a[@]}"}on': "on",
    "f() { local -A x=(); x[k]=2; echo ${x[k]}${x[l]:-}; }; f": "2",
    'a=(); echo "${#a[@]}"': "0",
    "printf -v t '%(%Y)T' -1; [[ $t == 20* ]] && echo yes": "yes",
    "x=ab; echo ${x^^} ${x: -1}": "AB b",
}


def said_of(bash: str) -> str:
    return subprocess.run([bash, "--version"], capture_output=True, text=True).stdout


@pytest.mark.parametrize(("script", "printed"), MEANINGS.items())
def test_the_copys_meaning_is_that_of_4_2(script: str, printed: str) -> None:
    for bash, text in (("/bin/bash", as_4_2(script)), (OLD_BASH, script)):
        if bash == "/bin/bash" or (bash and " 4.2." in said_of(bash)):
            command = [bash, "-uc", text]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.stdout.strip() == printed, (bash, done.stderr)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    folder = tmp_path_factory.mktemp("old")
    tree = Tree(folder / "tree", folder)
    for path in [*(tree.root / "ALCF").rglob("*.sh"), tree.root / "install.sh"]:
        if not OLD_BASH and path.name != "rank.sh":
            path.write_text(as_4_2(path.read_text()))
    return tree


@pytest.mark.parametrize(
    ("program", "env"),
    [
        ("ALCF/train-gpt3.sh", {"USE_FLASH_ATTN_V2": "0", "GRADIENT_ACCUMULATION_STEPS": "2"}),
        (
            "ALCF/train-gpt3.sh",
            {"NGPUS": "8", "MPSIZE": "2", "OFFLOAD_DEVICE": "cpu", "ZERO_STAGE": "1"},
        ),
        ("ALCF/submit.sh", {"MACHINE": "polaris", "QUEUE": "debug", "PROJECT": "p"}),
        ("ALCF/submit.sh", {"MACHINE": "slurm", "NGPU_PER_HOST": "2", "DS_ACCELERATOR": "cpu"}),
        ("install.sh", {}),
    ],
)
def test_the_scripts_run_in_4_2(old: Tree, program: str, env: dict[str, str]) -> None:
    words = ["--dry-run"] if program == "install.sh" else []
    full = clean_env(
        old.home, {"DRY_RUN": "1", "SEQ_LEN": "4k", "MODEL_SIZE_KEY": "GPT125M", **env}
    )
    done = subprocess.run(
        [OLD_BASH or "/bin/bash", str(old.root / program), *words],
        env=full,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = {"train-gpt3.sh": "--seq-length 4096", "submit.sh": "export SEQ_LEN=4k"}
    assert expected.get(Path(program).name, "             would be made") in done.stdout
