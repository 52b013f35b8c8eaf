"""Whether the numbers of samples, with which a run goes on, mean what they did before.

    now = of_all(numbering(…), ranks)                      # UserError where ranks have others
    found = compare(manifest.data, now, before, config)    # now: of data.numbering.numbering
    found.meaning, found.notes                             # a hash, and lines for the opening
    found.read(left_out)                                   # batches whose meaning that tells

A manifest of before there was an `order` says of the samples only which data they are of; the rest
is what the run that wrote it was set to, where its summary is still there. Else it is not known:
nothing is said of samples then, and batches that were left out do not act.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longseq.checkpoint.left_out import AllLeftOut
from longseq.config.arguments import Config
from longseq.data.numbering import CUTTING, FLAGS, PART
from longseq.errors import UserError
from longseq.parallel.agreement import Ranks
from longseq.reports.format import counted
from longseq.run.resumed import Before

UNKNOWN = "not known"  # no hash: batches with it never act
OTHERS = "samples are others from here on, and some come twice or never"


@dataclass(frozen=True)
class Compared:
    """meaning: a hash of what the numbers meant before. told_by: what stands for it in
    left-out.json.
    """

    meaning: str
    told_by: frozenset[str]
    notes: tuple[str, ...] = ()

    def read(self, left_out: AllLeftOut) -> AllLeftOut:
        """The batches, each with the hash of what its numbers mean, or UNKNOWN."""
        return left_out.meant(self.told_by, self.meaning)


def of_all(now: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
    """What the numbers mean on this rank, where it is the same on all: each opens the data itself,
    and they may be prepared again while the ranks start.
    """
    found = ranks.gather(now["sha256"])
    if other := [rank for rank, one in enumerate(found) if one != found[0]]:
        names = ", ".join(one["name"] for one in now["sets"])
        raise UserError(
            f"--data-path {names} (DATA_PATH): rank {other[0]} has opened other data than rank 0:"
            " start again once nothing writes them, and with the same files on every host"
        )
    return now


def compare(
    then: Mapping[str, Any], now: Mapping[str, Any], before: Before | None, config: Config
) -> Compared:
    """then: what the checkpoint says of its data; before: the run that wrote it, if it is there."""
    if not then:
        return Compared(UNKNOWN, frozenset({""}))
    new = "order" in then
    told_by = frozenset({""} if new else {"", then["sha256"]})
    if then["files" if new else "sha256"] != now["files"]:
        return Compared(then["sha256"], told_by, (_other_data(then, now),))
    if new:
        other = {key for key, value in now["order"].items() if then["order"].get(key) != value}
    elif before is None:
        return Compared(UNKNOWN, told_by)
    else:
        other = _set_otherwise(before.values, config.values)
    if not other:
        return Compared(now["sha256"], told_by)
    return Compared(then["sha256"], told_by, (_other_order(other),))


def idle(left_out: AllLeftOut, consumed: int, seq_length: int, data: str) -> list[str]:
    """What to say of batches to come that are not left out, though left-out.json has them."""
    found = left_out.idle(consumed, seq_length, data)
    unknown = sum(one.data == UNKNOWN for one in found)
    said = []
    if len(found) > unknown:
        said.append(f"{_batches(len(found) - unknown)} of other samples")
    if unknown:
        said.append(
            f"{_batches(unknown)} of before its seed and split were noted, and no summary.json of"
            " that run tells them"
        )
    return [f"left-out.json: {one}: not left out here" for one in said]


def _batches(count: int) -> str:
    return f"{count} {'batch' if count == 1 else 'batches'}"


def _set_otherwise(before: Mapping[str, Any], now: Mapping[str, Any]) -> set[str]:
    """Fields of `order` that another setting changes, as far as settings tell."""
    other = {name for name in ("seed", *FLAGS) if before[name] != now[name]}
    return other | ({PART} if any(before[name] != now[name] for name in CUTTING) else set())


def _other_order(fields: set[str]) -> str:
    names = [f"--{name.replace('_', '-')}" for name in ("seed", *FLAGS) if name in fields]
    text = "; validation may hold tokens that were trained on" if PART in fields else ""
    names += ["part of the data for training"] if PART in fields else []
    return f"another {' and '.join(names)}: {OTHERS}{text}"


def _other_data(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return f"other data: {_in_words(now)}; before, {_in_words(then)}: {OTHERS}"


def _in_words(data: Mapping[str, Any]) -> str:
    """The data sets of a manifest; of equally long ones the hashes tell them apart."""
    return " + ".join(
        f"{one['tokens']:,} tokens in {counted(one['documents'], 'document')} ({one['sha256'][:8]})"
        for one in data["sets"]
    )
