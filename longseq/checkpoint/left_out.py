"""Samples that a run never trains on again, because a batch of them made it go back.

    left_out = read_left_out(folder, ...)     # RUN/checkpoints/left-out.json; empty where none is
    left_out = left_out.meant({""}, data)     # those whose samples are told by the checkpoint
    left_out = left_out.with_batch(batch)
    left_out.write(folder)
    left_out.next_sample(consumed, 8, 1024, data)   # where the next batch of 8 samples may begin

They lie beside the checkpoints, not in one: a run that is killed right after it went back loads a
checkpoint that was written before. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from longseq.errors import UserError
from longseq.host.atomic_files import reason, replace_file

NAME = "left-out.json"


@dataclass(frozen=True)
class LeftOut:
    """One batch: the numbers of its samples in the order of training, first to last.

    seq_length, data: of these samples; at another length, or where the hash of
    `data.numbering.numbering` is another, the same numbers are other tokens. "": those of the
    checkpoints beside. Before there was that hash, it was that of the data alone. checkpoint: the
    iteration that the run went back to. why: what was wrong with the batch, for people.
    """

    first: int
    last: int
    seq_length: int
    checkpoint: int
    why: str
    data: str = ""

    def is_of(self, seq_length: int, data: str) -> bool:
        """Whether these numbers mean the same tokens at this length, of these samples."""
        return (self.seq_length, self.data) == (seq_length, data)


@dataclass(frozen=True)
class AllLeftOut:
    """All batches that were left out, in the order in which they were met."""

    batches: tuple[LeftOut, ...] = ()

    def with_batch(self, batch: LeftOut) -> AllLeftOut:
        return AllLeftOut((*self.batches, batch))

    def next_sample(self, consumed: int, size: int, seq_length: int, data: str) -> int:
        """The first sample from `consumed` on at which a batch of `size` holds none of them."""
        for batch in sorted(self.batches, key=lambda one: one.first):
            meets = batch.first < consumed + size and consumed <= batch.last
            if meets and batch.is_of(seq_length, data):
                consumed = batch.last + 1
        return consumed

    def meant(self, hashes: Collection[str], data: str) -> AllLeftOut:
        """With `data` in place of what only the checkpoints beside can tell the meaning of."""
        return AllLeftOut(
            tuple(replace(one, data=data) if one.data in hashes else one for one in self.batches)
        )

    def idle(self, consumed: int, seq_length: int, data: str) -> list[LeftOut]:
        """Those to come that do not act, as their numbers mean other samples here."""
        return [
            one for one in self.batches if one.last >= consumed and not one.is_of(seq_length, data)
        ]

    def back_at(self, checkpoint: int) -> list[LeftOut]:
        """Those after which the run went back to this iteration."""
        return [batch for batch in self.batches if batch.checkpoint == checkpoint]

    def write(self, folder: Path) -> None:
        """Keep them in a folder of checkpoints; raises OSError."""
        if self.batches:
            text = json.dumps([asdict(batch) for batch in self.batches], indent=1)
            replace_file(folder / NAME, text + "\n")
        else:
            (folder / NAME).unlink(missing_ok=True)


def read_left_out(*folders: Path) -> AllLeftOut:
    """What `write` has kept in any of them; raises UserError where that cannot be read."""
    # A run goes on from what another has, before the one that was named; or both are one folder
    return AllLeftOut(tuple(dict.fromkeys(one for path in folders for one in _read(path / NAME))))


def _read(path: Path) -> list[LeftOut]:
    try:
        found = [LeftOut(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
        for one in found:
            numbers = (one.first, one.last, one.seq_length, one.checkpoint)
            wrong = any(type(n) is not int or n < 0 for n in numbers)
            if wrong or one.last < one.first or not isinstance(one.data, str):
                raise ValueError(f"{one} is no batch")
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, RecursionError) as error:
        what = reason(error) if isinstance(error, OSError) else str(error)
        raise UserError(
            f"{path} cannot be read ({what}): without it batches that were left out would be"
            " trained on; write it anew, or remove it if that may be"
        ) from None
    return found
