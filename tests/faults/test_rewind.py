"""--on-spike rewind: who met a poisoned batch equals who never saw it, to the last digit.

The reference is a Trainer that is driven by hand past the batch: no policy, no checkpoint.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from longseq.checkpoint.format.folder import find_latest
from longseq.checkpoint.left_out import AllLeftOut, LeftOut, read_left_out
from longseq.checkpoint.run_checkpoints import RunCheckpoints
from longseq.config.checks import parse_config
from longseq.errors import EXIT_FAILED, BadNumbers, UserError
from longseq.reports.runs import read_summary
from tests.faults.rewind_worker import LAYOUTS
from tests.parallel.ranks import run_ranks
from tests.unit.checkpoint.test_checkpoint_folder import flip, write_checkpoint

WORKER = Path(__file__).with_name("rewind_worker.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rewind")


@pytest.fixture(scope="module")
def found(folder: Path) -> Any:
    return run_ranks(2, WORKER, str(folder))


@pytest.mark.parametrize("name", LAYOUTS)
def test_as_if_the_batch_had_never_been(found: Any, name: str) -> None:
    without, rewound = found[name]
    assert list(rewound) == [str(number) for number in range(1, 11)]
    assert rewound == without


def test_keeping_the_weights_would_be_noticed(found: Any) -> None:
    assert found["careless"] != found["zero-3"][0]
    assert found["careless"].keys() == found["zero-3"][0].keys()


def test_a_run_that_goes_on_leaves_it_out_too(found: Any, folder: Path) -> None:
    """It stops at a spike, had it met one; and hands the list on to its own folder."""
    assert found["resumed"] == {i: found["zero-3"][0][i] for i in ("7", "8", "9", "10")}
    kept = read_left_out(folder / "resumed" / "kept")
    assert kept == read_left_out(folder / "zero-3" / "kept")
    assert [(one.first, one.last, one.checkpoint) for one in kept.batches] == [(28, 31, 6)]


def test_the_end_tells_the_loss_of_the_whole_training(found: Any) -> None:
    """Neither of what was undone, nor of this run's iterations alone where it goes on."""
    losses = found["zero-3"][0].values()
    mean = f"{sum(losses) / len(losses):.4f} "
    for said in found["told"]:
        assert said.startswith(mean)
        assert said.endswith(", mean of 10 iterations")


def test_a_run_that_goes_on_leaves_out_as_the_whole_one(found: Any) -> None:
    """What losses are compared with is in the checkpoint: its first batches are judged by it."""
    whole, resumed, _ = found["skipped"]
    assert resumed["losses"] == {i: whole["losses"][i] for i in map(str, range(13, 25))}
    assert resumed["events"] == {i: e for i, e in whole["events"].items() if int(i) > 12}
    assert set(whole["events"]) & {"13", "14", "15", "16"}  # else nothing was tried


def test_what_is_left_out_is_written_down_and_said(found: Any) -> None:
    whole, _, told = found["skipped"]
    number, said = next(iter(whole["events"].items()))
    last = 4 * int(number) - 1
    batch = f"in iteration {number}, samples {last - 3} to {last};"
    assert f"{batch} its update was left out" in said
    assert f"warning: {said}" in told


def test_it_is_written_down(found: Any) -> None:
    """At the iteration that comes after the checkpoint; what was undone lies aside."""
    ((number, said),) = found["events"].items()
    assert number == "7"
    assert said.endswith(
        "median 2.043 of the last 4 in iteration 8, samples 28 to 31; went back to iteration 6, and"
        " on without them"
    )
    assert list(found["abandoned"]) == ["7", "8"]


def test_the_last_saves_figures_are_in_the_last_line(found: Any) -> None:
    last = found["last"]
    assert last["iteration"] == last["checkpoint_iteration"] == 10
    assert last["checkpoint_bytes_per_sec"] == pytest.approx(
        last["checkpoint_bytes"] / last["checkpoint_seconds"]
    )


def test_no_saves_figures_are_lost(found: Any) -> None:
    """The one before the last ends when the last record is written already."""
    assert found["saves"] == [3, 6, 9, 10]


def test_it_has_an_end(found: Any, folder: Path) -> None:
    assert found["endless"] == (
        "the loss is nan in iteration 8, samples 36 to 39; the training went back to iteration 6"
        f" 2 times already; the newest checkpoint is {folder}/endless/kept/step-6"
    )


def test_to_stop_is_said_with_where_to_go_on_from(found: Any, folder: Path) -> None:
    """One line, not a traceback: it is what was asked for."""
    assert issubclass(BadNumbers, UserError)
    assert BadNumbers.exit_code == EXIT_FAILED
    assert found["stopped"].endswith(
        "of the last 4 in iteration 8, samples 28 to 31; its update was left out, and training"
        f" stops; the newest checkpoint is {folder}/stopped/kept/step-6"
    )
    reason = read_summary(folder / "stopped")["reason"]
    assert reason == found["stopped"]


BATCH = LeftOut(28, 31, 64, 6, "why")


def test_where_the_next_batch_begins() -> None:
    others = [LeftOut(first, first + 3, 64, 6, "", "a") for first in (36, 32)]
    kept = AllLeftOut((others[0], replace(BATCH, data="a"), others[1]))
    for consumed, size, expected in ((24, 4, 24), (28, 4, 40), (24, 8, 40), (40, 4, 40)):
        assert kept.next_sample(consumed, size, 64, "a") == expected
        assert kept.next_sample(consumed, size, 128, "a") == consumed  # other tokens


def test_of_other_samples_nothing_is_left_out() -> None:
    """Those of the checkpoint beside are what it says."""
    kept = AllLeftOut((replace(BATCH, data="a"), LeftOut(40, 43, 64, 6, ""))).meant({""}, "a")
    for data, places in (("a", (32, 44)), ("b", (28, 40))):
        assert tuple(kept.next_sample(at, 4, 64, data) for at in (28, 40)) == places
    assert (kept.idle(0, 64, "a"), kept.idle(0, 64, "b")) == ([], list(kept.batches))
    assert kept.idle(32, 64, "b") == list(kept.batches[1:])
    assert kept.idle(0, 128, "a") == list(kept.batches)


def test_of_two_runs_each_batch_is_left_out_once(tmp_path: Path) -> None:
    """The checkpoint is of a run before the one that LOAD names, or of that one itself."""
    first, second = tmp_path / "1", tmp_path / "2"
    later = replace(BATCH, first=40, last=43)
    for folder, batches in ((first, (BATCH,)), (second, (BATCH, later))):
        folder.mkdir()
        AllLeftOut(batches).write(folder)
    assert read_left_out(second, first) == AllLeftOut((BATCH, later))
    layout = {"seq_length": 64}
    manifest = SimpleNamespace(
        data={}, layout=layout, optimizer="adam", progress={"consumed_samples": 0}
    )
    run: Any = SimpleNamespace(
        config=parse_config(["--load", str(second), "--seq-length", "64"], 1),
        contents={"sha256": "a"},
        notes=[],
        _restore=lambda *_: (first / "step-4", manifest),
        _from_first=lambda act: act(),
    )
    RunCheckpoints.load(run, print)
    assert [one.first for one in run.left_out.batches] == [BATCH.first, 40]
    assert read_left_out(first / "step-4", first) == AllLeftOut((BATCH,))


def test_where_the_checkpoint_to_go_back_to_is_damaged_one_beside_is_offered(
    tmp_path: Path,
) -> None:
    """It is another run's, and so for the user to choose."""
    for step in (9, 10):
        write_checkpoint(tmp_path, step)
    flip(tmp_path / "step-10" / "state" / "a.pt", 77)
    run: Any = SimpleNamespace(
        newest=None,
        loaded=tmp_path / "step-10",
        _restore=lambda place, warn, asked: find_latest(place, warn, asked=asked),
    )
    with pytest.raises(BadNumbers) as raised:
        RunCheckpoints.go_back(run, lambda _: None)
    said = str(raised.value)
    assert said.startswith(f"--on-spike rewind: checkpoint {tmp_path}/step-10 is damaged: ")
    assert said.endswith(
        f": step-9: give LOAD={tmp_path}/step-9; the run itself has no whole one to go back to"
    )


@pytest.mark.parametrize(
    "text", ["{", "[1]", '[{"first": 1}]', "[" * 9999, str([asdict(BATCH) | {"last": 3}])]
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    assert read_left_out(tmp_path) == AllLeftOut()
    AllLeftOut((BATCH,)).write(tmp_path)
    assert read_left_out(tmp_path) == AllLeftOut((BATCH,))
    (tmp_path / "left-out.json").write_text(text.replace("'", '"'))
    with pytest.raises(UserError, match=r"left-out\.json cannot be read"):
        read_left_out(tmp_path)
