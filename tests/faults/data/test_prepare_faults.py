"""`longseq prepare` killed, out of room or starved: nothing half-written opens, the next run is
clean.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from longseq.__main__ import main
from longseq.data.datasets import check_data
from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.prepare.tasks import FileEnd
from longseq.data.prepare.writing.output import Output
from longseq.data.sources.inputs import expand
from longseq.errors import EXIT_NO_ROOM, UserError
from longseq.host.atomic_files import unfinished
from tests.full_disk import room_for

OLD, NEW = ">a\nACGTACGT\n", ">b\nGGGGCCCCTTTT\n>c\nACG\n"


def command(source: Path, prefix: Path, *words: str) -> list[str]:
    return [
        sys.executable, "-m", "longseq", "prepare", str(source), "--output", str(prefix), *words,
    ]  # fmt: skip


def run_until(stop_at: int, names: list[str], prefix: Path, settings: Settings) -> bool:
    """Prepare in a child that dies at the n-th flush or rename; whether it got that far."""
    child = os.fork()
    if child == 0:
        left = [stop_at]

        def dying(real: Callable[..., None]) -> Callable[..., None]:
            def call(*words: object, **named: object) -> None:
                if not left[0]:
                    os._exit(137)
                left[0] -= 1
                real(*words, **named)

            return call

        for name in ("fsync", "replace", "unlink"):
            setattr(os, name, dying(getattr(os, name)))
        prepare(expand(names), str(prefix), settings, True, quiet)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 137


def test_killed_at_every_stage(tmp_path: Path) -> None:
    """Old data, new data, or nothing that opens; and then a run that works."""
    source, prefix = tmp_path / "x.fa", tmp_path / "folder" / "out"
    kinds = set()
    for stage in range(100):
        source.write_text(OLD)
        prepare(expand([str(source)]), str(prefix), Settings(), True, quiet)
        old = (tmp_path / "folder" / "out.bin").read_bytes()
        source.write_text(NEW)
        settings = Settings(Recipe(reverse_complement=True))
        killed = run_until(stage, [str(source)], prefix, settings)
        if not (tmp_path / "folder" / "out.idx").exists():
            kinds.add("nothing")
            with pytest.raises(UserError):
                check_data(str(prefix))
        else:
            check_data(str(prefix))
            is_old = (tmp_path / "folder" / "out.bin").read_bytes() == old
            kinds.add("old" if is_old else "new")
        if not killed:
            break
    assert kinds == {"old", "nothing", "new"}
    prepare(expand([str(source)]), str(prefix), Settings(), True, quiet)
    assert not list((tmp_path / "folder").glob("*unfinished*"))
    assert check_data(str(prefix)) == 16


def several_files(folder: Path) -> list[str]:
    """Short records and long ones, both before and after a letter that makes a file bad."""
    rng = random.Random(1)
    names = []
    for name, lengths in (("a", [30, 200, 40]), ("bad", [50, 300]), ("c", [7, 500, 60, 8, 90])):
        records = [f">{name}{n}\n{''.join(rng.choices('ACGTN', k=n))}\n" for n in lengths]
        records += [">x\nAC!\n"] if name == "bad" else []
        names.append(str(folder / f"{name}.fa"))
        Path(names[-1]).write_text("".join(records))
    return names


def test_killed_anywhere_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same bytes as without the kill, wherever it came, also where a file is left out."""
    monkeypatch.setattr("longseq.data.prepare.writing.output.SAVE_EVERY", -1.0)
    names = several_files(tmp_path)
    recipe = Recipe("codon", reverse_complement=True, unknown_weight=0.5, ambiguous="split")
    settings = Settings(recipe, group_by="file", chunk_bytes=64, skip_bad=True)
    (tmp_path / "whole").mkdir()
    prepare(expand(names), str(tmp_path / "whole" / "out"), settings, False, quiet)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    stage, went_on = 0, set()
    while run_until(stage, names, tmp_path / "d" / "out", settings):
        prepare(expand(names), str(tmp_path / "d" / "out"), settings, True, quiet, print)
        assert {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()} == expected
        went_on.add(capsys.readouterr().out)
        stage += 7  # each save takes nine calls
    assert len(went_on) > 6


@pytest.mark.parametrize("late", [True, False])
def test_a_stop_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], late: bool
) -> None:
    """As a bad file does: of the file that was whole, or that there is none."""
    monkeypatch.setattr("longseq.data.prepare.writing.output.SAVE_EVERY", -1.0)
    a, _, c = several_files(tmp_path)
    real, words = Output.write, ["prepare", a, c, "--output", f"{tmp_path}/out"]

    def write(output: Output, task: Any, result: Any) -> None:
        real(output, task, result)
        if isinstance(task, FileEnd) or not late:
            os.kill(os.getpid(), signal.SIGINT)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(Output, "write", write)
        os._exit(main(words))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    kept = f" (what is whole is kept in {tmp_path}/out.unfinished: the same command goes on from"
    none = ", and nothing is kept: the same command starts again\n"
    assert (
        capfd.readouterr().err == f"longseq: stopped{f'{kept} there)' + chr(10) if late else none}"
    )
    assert main(words) == 0
    assert ("goes on with what an earlier call left: " in capfd.readouterr().out) == late


@pytest.mark.parametrize("moved", range(4))
def test_what_cannot_be_moved_to_its_place_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    """As in a shared folder where a file is another user's: no letter is read again."""
    (tmp_path / "x.fa").write_text(NEW)
    (tmp_path / "whole").mkdir()
    inputs, real, left = expand([f"{tmp_path}/x.fa"]), os.replace, [moved]
    prepare(inputs, f"{tmp_path}/whole/out", Settings(), False, quiet)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert len(expected) == 4

    def replace(one: Path, other: Path) -> None:
        if other.parent == tmp_path / "d":
            if not left[0]:
                raise PermissionError(errno.EPERM, "Operation not permitted", one, None, other)
            left[0] -= 1
        real(one, other)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(UserError, match=r"/d/out\..*not permitted.*command goes on"):
            prepare(inputs, f"{tmp_path}/d/out", Settings(), False, quiet)
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["out.unfinished"]
    said: list[str] = []
    prepare(inputs, f"{tmp_path}/d/out", Settings(), False, quiet, said.append)
    assert said == ["goes on with what an earlier call left: 1 file and 2 records"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()} == expected


def test_a_folder_in_the_place_of_a_file_is_refused_first(tmp_path: Path) -> None:
    """The data that were there stay."""
    (tmp_path / "x.fa").write_text(OLD)
    inputs, prefix = expand([f"{tmp_path}/x.fa"]), f"{tmp_path}/out"
    prepare(inputs, prefix, Settings(), False, quiet)
    (tmp_path / "out.weights").mkdir()
    with pytest.raises(UserError, match=r"out\.weights, which is a folder: name another"):
        prepare(inputs, prefix, Settings(), True, quiet)
    assert check_data(prefix) == 16


def test_data_that_are_replaced_leave_nothing(tmp_path: Path) -> None:
    """Weights beside data that have none would be somebody's error later."""
    (tmp_path / "x.fa").write_text(OLD + "acgt\n>c\nAC\n>d\nAC\n")
    folder = tmp_path / "d"
    rich = Settings(Recipe(lower_case_weight=0.5), drop_duplicates="exact", group_by="file")
    prepare(expand([f"{tmp_path}/x.fa"]), f"{folder}/out", rich, False, quiet)
    (folder / "out.report.html").write_text("a user's")
    assert len(list(folder.iterdir())) == 8
    prepare(expand([f"{tmp_path}/x.fa"]), f"{folder}/out", Settings(), True, quiet)
    left = {path.name.removeprefix("out.") for path in folder.iterdir()}
    assert left == {"bin", "idx", "json", "records.tsv", "report.html"}


@pytest.mark.parametrize("code", [EXIT_NO_ROOM, 130])
def test_no_room_or_a_stop_at_the_very_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    """Where all letters are read and some files are finished: the index is the largest of them."""
    monkeypatch.chdir(tmp_path)
    Path("x.fa").write_text(">\nA\n" * 2000)
    words = ["prepare", "x.fa", "--output", "out"]
    with monkeypatch.context() as patch, room_for(36_000):
        if code == 130:
            stopped = Mock(side_effect=KeyboardInterrupt)
            patch.setattr("longseq.data.prepare.writing.finish._write_groups", stopped)
        assert main(words) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "(what is whole is kept in out.unfinished: the same command goes on from there)" in said
    assert main(words) == 0
    assert "1 file and 2,000 records" in capsys.readouterr().out


def test_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file under way from its start; after a change of what was whole, all of them."""
    monkeypatch.setattr("longseq.data.prepare.writing.output.SAVE_EVERY", -1.0)
    names = several_files(tmp_path)
    said: list[str] = []
    for changed in ("bad.fa", "a.fa"):
        prefix = str(tmp_path / f"without-{changed}" / "out")
        with pytest.raises(UserError, match="same command goes on"):
            prepare(expand(names), prefix, Settings(chunk_bytes=64), False, quiet)
        mended = (tmp_path / changed).read_text().replace("!", "G")
        (tmp_path / changed).write_text(mended + ">more\nACGT\n")
        (tmp_path / "bad.fa").write_text((tmp_path / "bad.fa").read_text().replace("!", "G"))
        prepare(expand(names), prefix, Settings(chunk_bytes=64), False, quiet, said.append)
        fresh = str(tmp_path / "fresh" / changed)
        prepare(expand(names), fresh, Settings(chunk_bytes=64), False, quiet)
        for ending in ("bin", "idx", "records.tsv"):
            assert Path(f"{prefix}.{ending}").read_bytes() == Path(f"{fresh}.{ending}").read_bytes()
        names = several_files(tmp_path)
    assert "goes on" in said[0]
    assert "1 file and 3 records" in said[0]
    assert "starts again" in said[1]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_text(OLD)
    with (
        unfinished(tmp_path / "out", "--output"),
        pytest.raises(UserError, match="another process writes it"),
    ):
        prepare(expand([f"{tmp_path}/x.fa"]), f"{tmp_path}/out", Settings(), False, quiet)


def test_killed_with_workers_leaves_no_process(tmp_path: Path) -> None:
    source, prefix = tmp_path / "x.fa", tmp_path / "out"
    line = "ACGTTGCATC" * 6 + "\n"
    source.write_text("".join(f">{i}\n{line * 3000}" for i in range(40)))
    for _ in range(3):
        child = subprocess.Popen(
            command(source, prefix, "--workers", "2", "--tokenizer", "codon"),
            start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(random.uniform(0.1, 0.9))
        child.kill()
        child.wait()
        until = time.monotonic() + 30
        while alive(child.pid) and time.monotonic() < until:
            time.sleep(0.05)
        assert not alive(child.pid)
        if Path(f"{prefix}.idx").exists():
            check_data(str(prefix))
            Path(f"{prefix}.idx").unlink()
    words = ("--workers", "1", "--overwrite")
    subprocess.run(command(source, prefix, *words), check=True, capture_output=True)
    assert not list(tmp_path.glob("*unfinished*"))
    assert check_data(str(prefix)) == 16


def alive(group: int) -> bool:
    """Whether any process of a session is left, zombies aside."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_no_room(tmp_path: Path) -> None:
    """A limit on file size stands for a full disk: the same error at the same write."""
    source, prefix = tmp_path / "x.fa", tmp_path / "out"
    source.write_text(">a\n" + "ACGT" * 100_000 + "\n")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = subprocess.run(
        command(source, prefix), capture_output=True, text=True, preexec_fn=limit, check=False
    )
    assert done.returncode == EXIT_NO_ROOM
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.fa"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_text(OLD)
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UserError, match="locked"):
        prepare(expand([f"{tmp_path}/x.fa"]), f"{tmp_path}/locked/out", Settings(), False, quiet)


def test_standard_input(tmp_path: Path) -> None:
    done = subprocess.run(
        command(Path("-"), tmp_path / "out"), input=NEW.encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"17 tokens in 2 documents" in done.stdout


def test_memory_is_bounded_on_one_long_line(tmp_path: Path) -> None:
    """A record of 100 million letters on a single line takes far less memory than it is long."""
    source = tmp_path / "x.fa"
    with source.open("w") as file:
        file.write(">one\n")
        for _ in range(100):
            file.write("ACGTTGCATC" * 100_000)
    program = (
        "import sys; from longseq.__main__ import main; code = main(sys.argv[1:]);"
        "status = open('/proc/self/status').read();"
        "print(status.partition('VmHWM:')[2].split()[0]); sys.exit(code)"
    )
    words = command(source, tmp_path / "out", "--workers", "1", "--reverse-complement")
    done = subprocess.run(
        [sys.executable, "-c", program, *words[3:]], capture_output=True, text=True, check=True
    )
    assert "200,000,002 tokens in 2 documents" in done.stdout
    assert int(done.stdout.split()[-1]) < 200_000  # KiB
