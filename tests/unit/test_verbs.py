"""The verbs as a user calls them: help that fits the screen, one line for a mistake, `| head`."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from longseq.__main__ import TASKS, VERBS, main, make_parser
from longseq.config.arguments import GROUPS
from longseq.config.flags import flags_of, parse, subject
from longseq.reports.completion import ON_RANKS

ROOT = Path(__file__).resolve().parents[2]
LISTS = ("files", "inputs", "runs", "paths")


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("words", [[], *([verb] for verb in VERBS), ["data", "inspect"]])
def test_help_fits_the_screen(
    words: list[str],
    columns: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = help_of(words, capsys).splitlines()
    assert lines[0].startswith(f"usage: ./longseq.sh {' '.join(words)}".rstrip())
    assert max(map(len, lines)) <= columns


def test_help_shows_what_a_user_can_say(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No part that only a script calls, no axis that cannot act, the script that was called."""
    text = help_of([], capsys)
    assert all(f"\n{task}:\n" in text for task in TASKS)
    assert re.findall(r"^  (\w+)  ", text, re.MULTILINE) == list(VERBS)
    assert "PART" not in help_of(["doctor"], capsys)
    for verb in ON_RANKS:
        said = help_of([verb], capsys)
        assert "--pipeline-model-parallel-size" not in said
        assert said.index("--device") < said.index("--tensor-model-parallel-size")
        assert said.index("--device") < said.index("--use-flash-attn-v1")
    monkeypatch.setenv("LONGSEQ_SCRIPT", "./ALCF/bench.sh")
    assert help_of(["bench"], capsys).startswith("usage: ./ALCF/bench.sh [OPTION ...]")


def test_arguments_are_known_without_torch() -> None:
    """A shell that starts asks for those of all verbs."""
    code = (
        "import sys, longseq.__main__ as m; m.make_parser(None); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_help_of_the_trainer_has_every_flag_by_subject_with_its_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = help_of(["check"], capsys)
    with pytest.raises(SystemExit):
        parse(GROUPS, ["--help"])
    trainers = capsys.readouterr().out
    for group in GROUPS:
        assert f"\n{subject(group)}:\n" in text
        assert f"\n{subject(group)}:\n" in trainers
        for item in flags_of(group):
            part = " ".join(text.split(f"\n  {item.name}", 1)[1].split("\n  --")[0].split())
            default = "off" if item.kind is bool else str(item.default) or "none"
            assert f"(default {default})" in part


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chekc"], "unknown verb 'chekc': use one of prepare, data"),
        (["report"], "the following arguments are required: RUN: see ./longseq.sh report --help"),
        (["check", "--seqlength", "4"], "unknown argument '--seqlength'; did you mean --seq-len"),
        (["prepare", "x", "--output", "y", "--gene"], "unknown argument '--gene'; did you mean"),
        (["data", "insepct", "x"], "invalid choice: 'insepct'"),
        (["doctor", "--jsno"], "unknown argument '--jsno'; did you mean --json?"),
        (["report", "/no\n\tsuch\x1b[2J"], "/no??such?[2J"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("longseq: ")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "files"),
    [
        ("evaluate R --window 64 a.fa", "a.fa"),
        ("evaluate R a.fa --genes b.fa --json c.json", "a.fa b.fa"),
        ("evaluate --window 64 R a.fa b.fa", "a.fa b.fa"),
        ("evaluate R --window 64", ""),
        ("generate R --seed 3 a.fa", "a.fa"),
        ("generate R --prompt ACG a.fa --no-end b.fa", "a.fa b.fa"),
        ("score R a.fa --window 64 b.fa", "a.fa b.fa"),
        ("embed R --output e.npy a.fa --layer 1 b.fa", "a.fa b.fa"),
        ("prepare a.fa --output x b.fa", "a.fa b.fa"),
        ("report a --csv b", "a b"),
        ("data duplicates a --near 1 b", "a b"),
        ("checkpoint average a --output x b", "a b"),
    ],
)
def test_files_may_stand_behind_and_between_flags(words: str, files: str) -> None:
    options = make_parser(words.split()[0])[0].parse_args(words.split())
    found = next(getattr(options, name) for name in LISTS if hasattr(options, name))
    assert " ".join(map(str, found)) == files


@pytest.mark.parametrize("verb", ["generate", "evaluate", "data report", "status", "watch", "sync"])
def test_a_name_that_no_file_can_have_is_one_line(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asking whether it is there fails already; the limit of a file's name is 255 bytes."""
    name = "/tmp/" + "z" * 256
    assert main([*verb.split(), name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"longseq: {name}")
    assert "File name too long" in err
    assert err.count("\n") == 1


def test_a_folder_that_one_may_not_enter_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root may enter all, so what others are told is put in place of the kernel's answer."""

    def denied(path: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "is_dir", denied)
    assert main(["status", str(tmp_path / "theirs")]) == 2
    said = f"longseq: {tmp_path}/theirs: Permission denied: give another name\n"
    assert capsys.readouterr() == ("", said)


def test_a_reader_that_leaves_is_no_failure() -> None:
    """As under `| head -1`, which closes the pipe before all is written."""
    command = [sys.executable, "-m", "longseq", "flags"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


@pytest.mark.parametrize("words", [[], ["--help"], ["flags", "--help"], ["data", "--help"]])
def test_help_that_finds_no_room_is_a_failure(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "longseq", *words],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
    assert done.returncode == 73
    assert done.stderr.startswith("longseq: standard output: no space left")
    assert done.stderr.count("\n") == 1


def test_the_way_in_works_from_anywhere(tmp_path: Path) -> None:
    """./longseq.sh finds the environment; where there is none it says how to make it."""
    tree = tmp_path / "a tree"
    tree.mkdir()
    for name in ("longseq.sh", "ALCF", "longseq", "constraints.txt", "pyproject.toml"):
        (tree / name).symlink_to(ROOT / name)
    (tree / "longseq.sh").unlink()
    script = tree / "longseq.sh"
    script.write_text((ROOT / "longseq.sh").read_text())
    script.chmod(0o755)

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
        return subprocess.run(
            [str(script), *words],
            env={**env, "MACHINE": "workstation", "PYTHON": sys.executable},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    done = call("--help")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(f"yet: {tree}/install.sh makes it\n")
    version = f"python3.{sys.version_info.minor}"
    venv = tree / "venvs" / "workstation" / version
    (venv / "bin").mkdir(parents=True)
    python = venv / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (venv / "installed-base.txt").write_text("")
    assert call("report", "--help").stdout.startswith("usage: ./longseq.sh report")
    assert call("report", "nowhere").returncode == 2


def test_verbs_quoted_in_documents_exist() -> None:
    """And no document goes round ./longseq.sh, whose way in works from a fresh clone."""
    quoted = 0
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text()
        assert "bin/longseq" not in text, path
        for verb in re.findall(r"\./longseq\.sh (\w+)", text):
            assert verb in VERBS, (path, verb)
            quoted += 1
    assert quoted >= 4
