"""score, generate, embed, evaluate in the hands of a user who errs: one line, and no half files."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longseq.__main__ import main
from tests.full_disk import room_for
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

ROOT = Path(__file__).resolve().parents[3]
FILES = {
    "ok.fa": ">a\nACGTACGT\n>b\nGGGTTT\n",
    "long.fa": ">a\n" + "ACGTTGCA" * 30 + "\n",
    "one.fa": ">a\nA\n",
    "mid.fa": ">a\nACGT\n>b\n>c\nAC\n",
    "protein.fa": ">a\nMKVLE*\n",
    "tab.fa": ">chr1\tlength=4\nACGT\n",
    "empty.fa": "",
    "blank.fa": "\n\n",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, one of codons, and files."""
    folder = tmp_path_factory.mktemp("made")
    write_run(make_model(LLAMA), folder / "run")
    write_run(make_model(LLAMA, "codon"), folder / "codons", "codon")
    (folder / "norun/checkpoints/step-7.tmp").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


MISTAKES = [
    ("score norun ok.fa", "norun: it holds no checkpoint"),
    ("score run mid.fa", "mid.fa: record b is empty: leave it out"),
    ("score run protein.fa", "record a: letter 4 is no nucleotide, but 'L': mend the record\n"),
    ("score codons one.fa", "one.fa: record a has fewer letters (1) than a token of codon (3)"),
    ("score run ok.fa -- more.fa", "-- more.fa: score takes nothing after --: leave it out"),
    (
        "score run ok.fa --output s.tsv --per-position ./s.tsv",
        "--per-position s.tsv would replace s.tsv, which --output writes: name another",
    ),
    (
        "generate run ok.fa --output ./ok.fa --max-new-tokens 4",
        "--output ok.fa would replace ok.fa, which is an input: name another",
    ),
    ("embed run long.fa --output e.npy", "the network sees 96 at once: give --window 96"),
    ("evaluate run ok.fa --json .json/", "--json .json: end it in one of .json"),
    *((f"{verb} run empty.fa", "empty.fa is empty") for verb in ("score", "evaluate", "generate")),
    ("embed run blank.fa --output e.npy", "blank.fa is not FASTA"),
]


LOST = [  # what is written would take the place of
    ("evaluate run data --json data.json", "data.json, which is an input"),
    ("evaluate run data --json ./copy/../data.json", "data.json, which is an input (data.json)"),
    ("evaluate run --json other.json", "a file of the prepared data other"),
    ("evaluate run s.json --json s.json", "s.json, which is an input"),
    ("evaluate run @list --json s.json", "s.json, which is an input"),
    ("evaluate run ok.fa --train data --json data.json", "data.json, which is an input"),
    ("evaluate run ok.fa --json run/summary.json", "run/summary.json, which is RUN's"),
    (
        "evaluate run ok.fa --json run/checkpoints/step-7/e.json",
        "among the files of the checkpoint",
    ),
    ("score run data --output data.records.tsv", "data.records.tsv, which is an input"),
    ("score run ok.fa --output link.tsv", "link.tsv, which is an input (ok.fa)"),
    ("score run ok.fa --output hard.tsv", "hard.tsv, which is an input (ok.fa)"),
    ("score run ok.fa --per-position other.documents.tsv", "a file of the prepared data other"),
    ("score run ok.fa --variants v.tsv --output v.tsv", "v.tsv, which is an input"),
    ("embed run ok.fa --output data.npy", "write data.records.tsv, a file of the prepared data"),
    ("embed run ok.fa --output mine.npy", "mine.records.tsv, which is no table that embed wrote"),
    ("generate run copy --output copy/x.fa", "copy/x.fa, which is an input"),
]


@pytest.mark.parametrize(("words", "said"), LOST)
def test_an_output_takes_the_place_of_no_other_file(
    words: str, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By whatever name; nothing is written, and all that was there opens as before."""
    for prefix in ("data", "other"):
        if not Path(f"{prefix}.idx").exists():
            assert main(["prepare", "ok.fa", "--output", prefix]) == 0
    texts = {
        "s.json": '{"id": "a", "text": "ACGT"}\n', "list": "s.json\n", "mine.records.tsv": "name\n",
        "copy/x.fa": ">a\nACGT\n", "run/summary.json": "{}", "v.tsv": "##fileformat=VCFv4.2\n",
    }  # fmt: skip
    Path("copy").mkdir(exist_ok=True)
    for name, text in texts.items():
        Path(name).write_text(text)
    for link, make in (("link.tsv", os.symlink), ("hard.tsv", os.link)):
        Path(link).unlink(missing_ok=True)
        make("ok.fa", link)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.endswith(": name another\n")
    assert error.count("\n") == 1
    after = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert after == before


def test_what_a_verb_wrote_itself_is_replaced(here: Path, tmp_path: Path) -> None:
    """The same command again, in the run's own folder too."""
    path = tmp_path / "e.npy"
    for words in (
        ["embed", "run", "ok.fa", "--output", str(path)],
        ["evaluate", "run", "ok.fa", "--json", "run/evaluation.json"],
    ):
        assert main(words) == 0
        assert main(words) == 0
    (here / "run/evaluation.json").unlink()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["e.npy", "e.records.tsv"]


@pytest.mark.parametrize(("words", "said"), MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    words: str, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(os.listdir(here))
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(os.listdir(here)) == before
    assert (here / "ok.fa").read_text() == FILES["ok.fa"]


@pytest.mark.parametrize("words", ["score run ok.fa", "evaluate run ok.fa --train ok.fa",
    "embed run ok.fa --output e.npy", "generate run --max-new-tokens 9"])  # fmt: skip
def test_weights_that_are_no_numbers_are_said_before_the_work(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a training that diverged; which checkpoint, and the first such weights of it."""
    model = make_model(LLAMA)
    model.layers[1].mlp.down.weight.data[5, 3] = math.nan
    model.norm.weight.data[7] = math.inf
    monkeypatch.chdir(tmp_path)
    write_run(model, Path("run"))
    Path("ok.fa").write_text(FILES["ok.fa"])
    assert main(words.split()) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert "checkpoint run/checkpoints/step-7: layers.1.mlp.down.weight has weights that" in error
    assert error.count("\n") == 1
    assert sorted(os.listdir()) == ["ok.fa", "run"]


def test_an_empty_file_is_told_before_a_network_is_loaded(here: Path) -> None:
    """--dry-run, and so submit.sh, sees it as well."""
    assert main(["score", "run", "empty.fa", "--dry-run"]) == 2


def test_a_folder_that_may_not_be_written_to(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """root may write everywhere, so the system's answer is a stand-in's."""
    monkeypatch.setattr("longseq.inference.outputs.os.access", lambda *_: False)
    assert main(["score", "run", "ok.fa", "--output", "s.tsv"]) == 2
    assert "--output s.tsv: you may not write to the folder ." in capsys.readouterr().err


def test_a_name_ends_at_a_tab(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "run", "tab.fa"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("chr1\t4\t4\t-")


def test_what_was_not_measured_is_not_told(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A gene's gain where none was called; the error of a single loss."""
    words = ["evaluate", "run", "one.fa", "--genes", "--picture", str(tmp_path / "a.svg")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "no whole gene is there" in out
    assert "nats a codon" not in out
    assert "±" not in out


# ---------------------------------------------------------------- ended in the middle


OUTPUTS = [
    ("score run long.fa --window 64 --per-position", "a.tsv"),
    ("score run long.fa --window 64 --per-position", "a.parquet"),
    ("score run long.fa --window 64 --per-position", "a.npy"),
    ("embed run long.fa --window 64 --per-token --output", "a.npy"),
    ("embed run long.fa --window 64 --per-token --output", "a.parquet"),
    ("generate run --max-new-tokens 90 --samples 20 --no-end --output", "a.fa"),
    ("evaluate run long.fa --window 64 --json", "a.json"),
]


@pytest.mark.parametrize(("words", "name"), OUTPUTS)
def test_a_full_disk_is_one_line_and_what_was_there_stays(
    words: str, name: str, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 73, as of all that a full disk ends: the same command may do it later."""
    path = tmp_path / name
    path.write_text("older")
    with room_for(500):
        code = main([*words.split(), str(path)])
    assert code == 73
    error = capsys.readouterr().err
    assert error.startswith(f"longseq: {path} cannot be written: no space left")
    assert error.count("\n") == 1
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert path.read_text() == "older"


@pytest.mark.parametrize("verb", ["score", "evaluate"])
def test_standard_output_may_be_full_too(verb: str, here: Path, tmp_path: Path) -> None:
    """What goes to a file is there before that is found."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "longseq", verb, "run", "ok.fa"]
    command += ["--json", str(figures)] if verb == "evaluate" else []
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert done.returncode == 73
    assert done.stderr.startswith("longseq: standard output: no space left")
    assert done.stderr.count("\n") == 1
    assert figures.exists() == (verb == "evaluate")


# As from a terminal, whatever pytest was started by
TERMINAL = """import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from longseq.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(number: signal.Signals, here: Path, tmp_path: Path) -> None:
    """While it waits for the rest of its input, with its output begun."""
    fifo, out = tmp_path / "endless.fa", tmp_path / "s.tsv"
    os.mkfifo(fifo)
    out.write_text("older")
    command = [sys.executable, "-c", TERMINAL, "score", "run", str(fifo), "--output", str(out)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        writing = os.open(fifo, os.O_WRONLY)
        os.write(writing, b">a\nACGT\n")
        end = time.monotonic() + 60
        while not list(tmp_path.glob("s.tsv.aside-*")):
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(number)
        code = process.wait(60)
        os.close(writing)
        assert process.stderr is not None
        assert process.stderr.read().count("\n") <= 1
    assert code == 128 + number
    assert sorted(one.name for one in tmp_path.iterdir()) == ["endless.fa", "s.tsv"]
    assert out.read_text() == "older"


DEAF_LAUNCHER = """
import signal, threading, time
from longseq.inference import ranks
ranks.told = lambda _: signal.SIGTERM
try:
    with ranks._stopped_by_signals():
        threading.Thread(target=ranks._end_with_starters, daemon=True).start()
        time.sleep(20)
except ranks._Stopped as stopped:
    print(stopped.number)
"""


def test_a_rank_hears_what_its_launcher_cannot() -> None:
    """Open MPI's is deaf to SIGTERM (ALCF/running.sh)."""
    command = [sys.executable, "-c", DEAF_LAUNCHER]
    assert subprocess.check_output(command, cwd=ROOT, text=True) == "15\n"
