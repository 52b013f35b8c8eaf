"""A rank's share of a checkpoint: what it writes, copied aside so that training may go on.

    share = Share(state, random_states(state.device))
    share.copy(memory)                         # the step waits for this only
    entry = share.write(path, memory)          # in a thread; raises NotFinite

Without memory to copy into, `write(path)` takes the numbers from where they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longseq.checkpoint.format import tensor_files
from longseq.checkpoint.format.boxes import boxes
from longseq.checkpoint.format.manifest import Entry
from longseq.checkpoint.format.tensor_files import RANDOM, Record
from longseq.checkpoint.state.engine_state import EngineState


class NotFinite(Exception):
    """What was to be saved holds NaN or infinity."""


def file_name(rank: int) -> str:
    """The file that a rank writes."""
    return f"rank-{rank:05d}.safetensors"


class Share:
    """What one rank writes: one record a box, then its random states."""

    def __init__(self, state: EngineState, random: dict[str, Any]) -> None:
        self.state = state
        self.random = json.dumps(random).encode()
        self.records: list[Record] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        for piece in state.plan():
            if piece.mine:
                self.shapes[piece.tensor] = piece.shape
                for box in boxes(piece.shape, piece.sharding, piece.start, piece.stop):
                    key = f"{piece.tensor}@{box.row}:{box.column}"
                    self.records.append(Record(key, "F32", (box.rows, box.columns)))
        self.bytes = sum(record.bytes for record in self.records)

    def _runs(self) -> Iterator[Tensor]:
        """The numbers of each record, in their order."""
        records = iter(self.records)
        for piece, numbers in self.state.pieces():
            if not piece.mine:
                continue
            done = 0
            while done < len(numbers):
                size = next(records).bytes // 4
                yield numbers[done : done + size].float()
                done += size

    def copy(self, memory: Tensor) -> None:
        """Copy all numbers into `memory`, uint8 of `bytes` or more."""
        at, room = 0, memory.view(torch.float32)
        for numbers in self._runs():
            room[at : at + len(numbers)].copy_(numbers, non_blocking=True)
            at += len(numbers)
        if self.state.device.type != "cpu":  # whose numbers are there at once
            torch.accelerator.synchronize(self.state.device)

    def write(self, path: Path, memory: Tensor | None = None) -> Entry:
        """Write the file, flushed. Raises OSError, and NotFinite naming the tensor."""
        runs = self._runs() if memory is None else self._copied(memory)
        return tensor_files.write(path, self._chunks(runs))

    def _copied(self, memory: Tensor) -> Iterator[Tensor]:
        at, room = 0, memory.view(torch.float32)
        for record in self.records:
            size = record.bytes // 4
            yield room[at : at + size]
            at += size

    def _chunks(self, runs: Iterator[Tensor]) -> Iterator[memoryview | bytes]:
        yield tensor_files.header([*self.records, Record(RANDOM, "U8", (len(self.random),))])
        for record, numbers in zip(self.records, runs, strict=True):
            low, high = numbers.aminmax()
            if not (torch.isfinite(low) and torch.isfinite(high)):
                raise NotFinite(f"{record.key.partition('@')[0]} is not finite")
            yield memoryview(numbers.cpu().contiguous().numpy().data)
        yield self.random
