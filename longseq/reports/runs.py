"""A run read back from its folder: what was measured, and how it was set up."""

from __future__ import annotations

import functools
import itertools
import json
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from longseq.errors import EXIT_DONE, EXIT_NO_ROOM, EXIT_STOPPED_EARLY, UserError

SUMMARY = "summary.json"
END = "end"  # the phase of a rank (run/safety/watch.py) that is done with all, its exit excepted
RUNNING, DONE, STOPPED, FAILED = "running", "done", "stopped early", "failed"  # its status
LAST = 20  # iterations that a run's training loss is the mean of: one batch's says little
AFTER = "loss_after_"  # keys of losses by place: the most tokens before
WARM_UP = 2  # first iterations, slower than the rest, are left out of typical speeds


@dataclass(frozen=True)
class RunRecord:
    """`metrics` as in metrics.jsonl; `summary` is empty where the run did not end.

    history: of the runs that this one goes on from, up to where each was left; earlier: what is to
    be said of them. lost: lines of metrics.jsonl that are damaged.
    """

    folder: Path
    metrics: list[dict[str, Any]]
    summary: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    earlier: list[str] = field(default_factory=list)
    lost: int = 0
    _columns: dict[tuple[str, bool], tuple[list[int], list[float]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def column(self, key: str, own: bool = False) -> tuple[list[int], list[float]]:
        """Iterations and values of a metric, where it was measured; own: by this run alone.

        Kept, as a page asks for most of them again and again, of a run that may be long.
        """
        if (key, own) not in self._columns:
            records = self.metrics if own else self.history + self.metrics
            known = [m for m in records if finite(m.get(key))]
            found = [m["iteration"] for m in known], [float(m[key]) for m in known]
            self._columns[key, own] = found
        return self._columns[key, own]

    def last(self, key: str, own: bool = False) -> float | None:
        """The latest value of a metric."""
        records = itertools.chain(reversed(self.metrics), () if own else reversed(self.history))
        return next((float(m[key]) for m in records if finite(m.get(key))), None)

    def typical(self, key: str) -> float | None:
        """The median of a metric over this run's iterations after the first ones."""
        values = self.column(key, own=True)[1]
        return statistics.median(values[WARM_UP:] or values) if values else None

    def training_loss(self) -> tuple[float | None, int]:
        """The mean over the last iterations, and over how many."""
        losses = recent(record.get("lm_loss") for record in self.history + self.metrics)
        return (statistics.fmean(losses) if losses else None), len(losses)

    def by_place(self) -> dict[int, list[tuple[int, float]]]:
        """Of the first, the middle and the last validation: iteration → (tokens before at most,
        loss), rising.
        """
        found = {}
        for record in self.history + self.metrics:
            places = [
                (int(key[len(AFTER) :]), float(value))
                for key, value in record.items()
                if key.startswith(AFTER)
                and re.fullmatch(AFTER + "[0-9]{1,15}", key)
                and finite(value)
            ]
            if places:
                found[record["iteration"]] = sorted(places)
        some = sorted(found)
        return {at: found[at] for at in [some[0], some[len(some) // 2], some[-1]]} if some else {}

    def marks(self) -> list[tuple[str, float]]:
        """Losses to hold this one's against, in nats a token: (whose, how much), highest first."""
        found: list[tuple[str, Any]] = [("unigram", self.summary.get("unigram_loss"))]
        markov = self.summary.get("markov_losses")
        if isinstance(markov, dict):
            found += [(f"Markov, order {n}", v) for n, v in markov.items()]
        return [(printable(name), float(v)) for name, v in found if finite(v)]

    def events(self) -> list[tuple[int, str]]:
        """What was done about a spike or a loss that is no number: (iteration, what)."""
        records = self.history + self.metrics
        return [(m["iteration"], m["event"]) for m in records if isinstance(m.get("event"), str)]

    @property
    def bases(self) -> int | None:
        """Letters of a token; None where tokens are of text, or it is not known."""
        bases = self.summary.get("bases_a_token")
        return bases if isinstance(bases, int) and bases > 0 else None

    @property
    def status(self) -> str:
        """How the run ended; one that says it runs may have been killed."""
        status = self.summary.get("status", "")
        return "running, or killed" if status == RUNNING else str(status)

    def seconds(self) -> float:
        """Time that this run spent in iterations."""
        return sum(self.column("iteration_time", own=True)[1])


def read_run(folder: Path) -> RunRecord:
    """Read a run's folder; raises UserError where there is nothing to report."""
    path = folder / "metrics.jsonl"
    try:
        metrics, lost = read_metrics(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name the folder of a run") from None
    if not metrics:
        raise UserError(f"{path} holds no iteration yet")
    summary = read_summary(folder)
    history, earlier = _history(summary, metrics[0]["iteration"])
    return RunRecord(
        folder.absolute(),
        metrics,
        summary,
        read_json(folder / "environment.json"),
        _text(folder / "command.sh"),
        history,
        earlier,
        lost,
    )


def read_summary(folder: Path) -> dict[str, Any]:
    """What a run says of itself; of one whose ranks were killed before they could say how it ended,
    or said so for a lost connection, what its ranks' notes (run/safety/abort.py) and its launcher
    (ALCF/running.sh) say; of one whose summary found no room, or was moved, rank 0's last sign of
    life.
    """
    summary, log = read_json(folder / SUMMARY), folder / "log"
    failed = summary.get("status", "") == FAILED
    if not failed and summary.get("status", "") != RUNNING and (folder / SUMMARY).exists():
        return summary
    notes = [note for path in log.glob("failed-*.txt") if (note := _note(path))]
    said = _text(log / "exit-code").strip()
    if notes and not (failed and min(notes)[0]):  # a consequence is none where there is a cause
        _, _, code, reason = min(notes)
    elif said == str(EXIT_NO_ROOM) and not failed:  # nor for a rank's reason
        code, reason = EXIT_NO_ROOM, "no room on its disk"
    elif said.isdecimal() and not failed:
        code, reason = int(said), f"exit code {said}, and no rank said why: {log}/rank*.out"
    elif not (said or failed) and (log / "exit-code").exists():  # its one line found no room
        code, reason = EXIT_NO_ROOM, f"no room on its disk: {log}/exit-code is empty"
    elif not failed and (beat := read_json(log / "beat-0.json")).get("phase") == END:
        total, step = nested(summary, "settings", "training", "train_iters"), beat.get("step")
        done = isinstance(total, int) and isinstance(step, int) and step >= total
        return summary | {"status": DONE if done else STOPPED}
    else:
        return summary
    ends = {EXIT_DONE: DONE, EXIT_STOPPED_EARLY: STOPPED}
    if code in ends:
        return summary | {"status": ends[code]}
    return summary | {"status": FAILED, "reason": reason}


def _note(path: Path) -> tuple[bool, float, int, str] | None:
    """Why a rank ended: whether that follows from another's end, when, its code, the reason."""
    when, _, code, follows, *text = [*_text(path).splitlines(), "", "", "", ""]
    text = [line for line in text if line.strip()]
    try:
        reason = text[-1 if text[0].lstrip().startswith("Traceback") else 0]
        return follows == "1", float(when), int(code), reason.removeprefix("longseq: ")
    except (ValueError, IndexError):  # not whole yet
        return None


def _history(summary: dict[str, Any], first: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Records before iteration `first`, of the runs that --load goes back to, and what they are."""
    records: list[dict[str, Any]] = []
    said: list[str] = []
    seen: set[Path] = set()
    while first > 1:
        load = nested(summary, "settings", "run", "load")
        folder = run_of(Path(str(summary.get("directory", "")), str(load))) if load else None
        try:
            if folder is None or folder in seen:
                raise FileNotFoundError
            found = read_metrics(folder / "metrics.jsonl")[0]
        except OSError:
            said.append(f"iterations before {first}: the run they are of is not there")
            break
        seen.add(folder)
        before = [record for record in found if record["iteration"] < first]
        if not before:
            summary = read_json(folder / SUMMARY)
            continue
        said.append(f"iterations {before[0]['iteration']} to {first - 1}: {folder.name}")
        records[:0] = before
        first, summary = before[0]["iteration"], read_json(folder / SUMMARY)
    return records, said[::-1]


def recent(losses: Iterable[Any]) -> list[float]:
    """Those whose mean is the training loss, wherever it is told: of the last LAST iterations of
    the training as a whole, runs before (losses_before) included, in which it was a number and
    labels counted: else it is 0, which says nothing.
    """
    return [float(value) for value in losses if finite(value) and value][-LAST:]


@functools.cache
def losses_before(load: str, directory: str, first: int) -> tuple[float, ...]:
    """For `recent`, of the iterations before `first`: of the runs that --load, as it is named in
    `directory`, goes back to.
    """
    summary = {"directory": directory, "settings": {"run": {"load": load}}}
    return tuple(recent(r.get("lm_loss") for r in _history(summary, first)[0]))


def run_of(load: Path) -> Path | None:
    """The folder of the run that wrote the checkpoints in `load`, which may be a link to them."""
    for path in (load.resolve(), load.absolute()):  # the other where a run's own are links
        for folder in (path, *list(path.parents)[:2]):
            if (folder / SUMMARY).is_file():
                return folder
    return None


def nested(tree: Any, *keys: str) -> Any:
    """What a file says under these keys; None where it does not."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def read_metrics(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records of a metrics.jsonl, and how many lines are none; the last one, cut short by a
    kill, is not counted.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    records = [parse_record(line) for line in lines]
    lost = sum(record is None for record in records[:-1])
    return [record for record in records if record is not None], lost


def parse_record(line: str) -> dict[str, Any] | None:
    """A line of metrics.jsonl, or None where it is not one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    iteration = record.get("iteration") if isinstance(record, dict) else None
    return record if type(iteration) is int and 0 <= iteration < 2**53 else None


def printable(text: str) -> str:
    """Without characters that a picture cannot show, or must not hold."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def finite(value: Any) -> TypeGuard[float]:
    """Whether this, of a file, is a number to draw and to reckon with."""
    return isinstance(value, (int, float)) and type(value) is not bool and abs(value) < 1e300


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of a run; empty where there is none, or it is damaged."""
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
