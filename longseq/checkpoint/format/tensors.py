"""Reading tensors out of a checkpoint, on any layout, no more of them than is asked for.

    with open_checkpoint(path) as checkpoint:
        checkpoint.manifest                                    # what it is
        checkpoint.tensor("weight/norm.weight")                # whole, fp32
        checkpoint.tensor("weight/tokens.weight", rows=slice(0, 8))

The manifest's hashes are not looked at: `verify` (folder.py) does that for all files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from longseq.checkpoint.format.boxes import Box, as_matrix
from longseq.checkpoint.format.manifest import Damaged, Manifest, check_names, read_manifest
from longseq.checkpoint.format.tensor_files import RANDOM, read_header
from longseq.host.atomic_files import tick

Stored = tuple[Box, str, str]  # where in the tensor, the file, the record's name in it


class Tensors:
    """The tensors of one checkpoint."""

    def __init__(self, path: Path, manifest: Manifest, stack: ExitStack) -> None:
        self.path, self.manifest = path, manifest
        self._stack = stack
        self._open: dict[str, Any] = {}
        self._stored: dict[str, list[Stored]] = {}

    def look_in(self, names: Iterable[str], wanted: dict[str, list[Box]] | None = None) -> None:
        """Learn what is in these files; of `wanted` tensors only the boxes that meet theirs."""
        for name in names:
            for record in read_header(self.path / name):
                found = _placed(record.key, record.shape)
                if found is None:
                    continue
                tensor, box = found
                others = wanted.get(tensor, []) if wanted is not None else [box]
                if any(box.meet(other) for other in others):
                    self._stored.setdefault(tensor, []).append((box, name, record.key))

    def files(self) -> list[str]:
        """The files that hold tensors."""
        return sorted(name for name in self.manifest.files if name.endswith(".safetensors"))

    def has(self, tensor: str, box: Box) -> bool:
        """Whether all of a box is in the files looked into."""
        met = [box.meet(stored) for stored, _, _ in self._stored.get(tensor, [])]
        return sum(common.size for common in met if common) == box.size

    def read(self, tensor: str, box: Box, into: Tensor) -> None:
        """Fill `into`, as many numbers as the box has, in the order of its rows."""
        if not self.has(tensor, box):
            raise Damaged(f"a part of {tensor} is in none of the files")
        target = into.view(box.rows, box.columns)
        for stored, name, key in self._stored[tensor]:
            common = box.meet(stored)
            if common is not None:
                rows, columns = common.within(stored)
                numbers = self._part(name, key, rows, columns)
                target[common.within(box)].copy_(numbers)
                tick()

    def tensor(self, name: str, rows: slice | None = None) -> Tensor:
        """A tensor of the manifest, fp32, or the rows of it that the slice names."""
        shape = self.manifest.tensors[name]
        height, width = as_matrix(shape)
        start, stop, _ = (rows or slice(None)).indices(height)
        numbers = torch.empty((stop - start) * width)
        self.read(name, Box(start, 0, stop - start, width), numbers)
        return numbers.view(stop - start, *shape[1:]) if shape else numbers.view(())

    def _part(self, name: str, key: str, rows: slice, columns: slice) -> Tensor:
        """Rows and columns of a record seen as a matrix, [rows, columns]."""
        stored = self._file(name).get_slice(key)
        if len(stored.get_shape()) == 2:
            part: Tensor = stored[rows, columns]
            return part
        whole: Tensor = stored[rows]
        return whole.view(len(whole), -1)[:, columns]

    def random_states(self, name: str) -> bytes:
        """What a rank's file holds of its random generators, JSON."""
        return bytes(self._file(name).get_tensor(RANDOM).tolist())

    def _file(self, name: str) -> Any:
        try:
            if name not in self._open:
                opened = safe_open(str(self.path / name), "pt")
                self._open[name] = self._stack.enter_context(opened)
        except (OSError, SafetensorError) as error:
            raise Damaged(f"{name} cannot be read: {error}") from None
        return self._open[name]


def _placed(key: str, shape: tuple[int, ...]) -> tuple[str, Box] | None:
    """The tensor of a record, and which rectangle of it that is.

    Records are "kind/name@row:column" as ranks write them, "kind/name" or, of weights, "name" where
    a tensor is whole (weights.py).
    """
    if "@" not in key:
        whole = Box(0, 0, *as_matrix(shape))
        return (key if "/" in key else f"weight/{key}"), whole
    tensor, _, corner = key.rpartition("@")
    row, _, column = corner.partition(":")
    if not (row.isdecimal() and column.isdecimal() and len(shape) == 2):
        return None
    return tensor, Box(int(row), int(column), *shape)


@contextmanager
def open_tensors(path: Path, manifest: Manifest) -> Iterator[Tensors]:
    """The tensors of a checkpoint whose manifest was read; nothing is looked into yet."""
    with ExitStack() as stack:
        yield Tensors(path, manifest, stack)


@contextmanager
def open_checkpoint(path: Path) -> Iterator[Tensors]:
    """A checkpoint to read from; raises Damaged where names or sizes of files are wrong."""
    manifest = read_manifest(path)
    check_names(path, manifest)
    with open_tensors(path, manifest) as tensors:
        tensors.look_in(tensors.files())
        yield tensors
