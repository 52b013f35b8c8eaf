"""What a pattern means does not hang on the user's language: Turkish and Azeri have a dotless i."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.shell import ROOT, Result, Tree, clean_env
from tests.launch.test_variables import PLAIN, SECRET

Bash = Callable[..., Result]
LETTERS = "[[ iI =~ ^[A-Za-z]+$ ]] && x=i && [[ ${x^^} == I ]]"  # what those languages do not hold


@pytest.fixture(scope="module", params=["tr_TR", "az_AZ"])
def language(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The environment of a user of that language, whose locale is made here."""
    folder, name = tmp_path_factory.mktemp("locale"), f"{request.param}.UTF-8"
    if not (make := shutil.which("localedef", path="/usr/bin")):
        pytest.skip("no localedef")
    words = [make, "--no-archive", "-c", "-i", request.param, "-f", "UTF-8", str(folder / name)]
    subprocess.run(words, capture_output=True, check=False)
    env = {"LOCPATH": str(folder), "LC_ALL": name, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["/bin/bash", "-c", LETTERS], env=env, capture_output=True, check=False)
    if done.returncode == 0 or done.stderr:
        pytest.skip(f"{name} cannot be made here")
    return env | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}


def test_names_with_an_i_are_names(bash: Bash, language: dict[str, str], tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("nid000001\n")
    script = 'longseq_find_machine; longseq_find_hosts; echo "$LONGSEQ_MACHINE ${LONGSEQ_HOSTS[*]}"'
    found = bash(script, MACHINE="workstation", HOSTFILE=str(hosts), **language)
    assert (found.stdout, found.stderr) == ("workstation nid000001\n", "")
    nodes = bash(script, SLURM_JOB_NODELIST="nid[000001-000002]", **language)
    assert nodes.stdout == "workstation nid000001 nid000002\n"


def test_keys_with_an_i_are_keys(bash: Bash, language: dict[str, str]) -> None:
    script = 'for name; do longseq_is_secret "$name" "${!name}" && echo "$name"; done; :'
    given = SECRET | PLAIN
    assert set(bash(script, *given, **given, **language).stdout.split()) == set(SECRET)


def test_a_job_of_that_language_is_submitted(language: dict[str, str], tmp_path: Path) -> None:
    env = {"MACHINE": "slurm", "DS_ACCELERATOR": "cpu", "PROJECT": "bioinfo", "QUEUE": "high"}
    done = subprocess.run(
        [str(ROOT / "ALCF/submit.sh"), "--dry-run", "-n", "1"],
        env=clean_env(tmp_path, env | language),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "-A bioinfo" in done.stdout


def test_what_a_person_sources_leaves_the_shells_language(
    tree: Tree, language: dict[str, str]
) -> None:
    tree.environment()
    script = f"source '{tree.root}/ALCF/setup.sh' && echo $LC_ALL && ! {{ {LETTERS}; }}"
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        env=clean_env(tree.home, language | {"MACHINE": "workstation"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{language['LC_ALL']}\n"), done.stderr


def test_an_old_glibc_without_our_locale(tree: Tree, language: dict[str, str]) -> None:
    """There it is C, in which Python takes UTF-8 all the same."""
    setup = tree.root / "ALCF/setup.sh"
    setup.write_text(setup.read_text().replace("C.UTF-8; }", "C.NO-SUCH; }"))
    show = "import os, sys; print(os.environ['LC_ALL'], sys.getfilesystemencoding(), sys.argv[1])"
    done = tree.bash(f'python -c "{show}" Viren/ü', **language)
    assert (done.stdout, done.stderr) == ("C utf-8 Viren/ü\n", "")
