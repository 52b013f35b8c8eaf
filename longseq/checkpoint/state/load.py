"""From a checkpoint of any layout into this rank's engine.

    load(state, path, rank=0, same_layout=True)

A rank looks into its own file first and into the others only if that does not hold all it needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from longseq.checkpoint.format.boxes import Box, as_matrix, boxes
from longseq.checkpoint.format.manifest import Damaged, Manifest
from longseq.checkpoint.format.tensors import Tensors, open_tensors
from longseq.checkpoint.state.engine_state import WEIGHT, EngineState, Piece
from longseq.checkpoint.state.random_states import restore_random_states
from longseq.checkpoint.state.share import file_name

TABLES = ("tokens.weight", "head.weight")  # whose last rows may be padding


def load(state: EngineState, path: Path, manifest: Manifest, rank: int, same_layout: bool) -> None:
    """Put a verified checkpoint into the engine; random states only where the layout is the same.

    Of one that holds weights only the optimizer's state stays what it is.

    Raises Damaged where a tensor, or a part of one, is not there, or holds no numbers.
    """
    with open_tensors(path, manifest) as tensors:
        _look(tensors, _needed(state, manifest), file_name(rank))
        for piece, numbers in state.pieces(loading=True, weights_only=not manifest.optimizer):
            if piece.tensor not in manifest.tensors:
                raise Damaged(f"{piece.tensor} is not in it")
            for box, part in _boxes_in(piece, numbers, manifest):
                if part.is_cpu and part.is_contiguous():
                    tensors.read(piece.tensor, box, part)
                else:
                    aside = part.cpu()
                    tensors.read(piece.tensor, box, aside)
                    part.copy_(aside)
                if not torch.stack(part.aminmax()).isfinite().all():  # of those whom we import from
                    raise Damaged(f"{piece.tensor} is not finite")
        state.set_numbers(manifest.numbers)
        if same_layout:
            states = json.loads(tensors.random_states(file_name(rank)))
            restore_random_states(states, state.device)


def _needed(state: EngineState, manifest: Manifest) -> dict[str, list[Box]]:
    """The boxes that this rank will ask for: those of its weights, of every kind of tensor."""
    needed: dict[str, list[Box]] = {}
    kinds = {tensor.partition("/")[0] for tensor in manifest.tensors}
    for piece in state.plan():
        kind_of_piece, _, name = piece.tensor.partition("/")
        for kind in kinds if kind_of_piece == WEIGHT else ():
            shape = manifest.tensors.get(f"{kind}/{name}")
            if shape is None:
                continue
            whole = Box(0, 0, *as_matrix(shape))
            found = boxes(piece.shape, piece.sharding, piece.start, piece.stop)
            alike = shape == piece.shape or _padded(piece, shape)
            common = [box.meet(whole) for box in found] if alike else [whole]
            needed.setdefault(f"{kind}/{name}", []).extend(box for box in common if box)
    return needed


def _look(tensors: Tensors, needed: dict[str, list[Box]], own: str) -> None:
    files = tensors.files()
    if own in files:
        tensors.look_in([own], needed)
        if all(tensors.has(tensor, box) for tensor in needed for box in needed[tensor]):
            return
    tensors.look_in([name for name in files if name != own], needed)


def _boxes_in(piece: Piece, numbers: Tensor, manifest: Manifest) -> Iterator[tuple[Box, Tensor]]:
    """Each box of a piece with its run of numbers; rows that only pad our vocabulary stay ours."""
    shape = manifest.tensors[piece.tensor]
    if shape != piece.shape and not _padded(piece, shape):
        raise Damaged(f"{piece.tensor} has shape {shape} and this network has {piece.shape}")
    at = 0
    for box in boxes(piece.shape, piece.sharding, piece.start, piece.stop):
        common = box.meet(Box(0, 0, *as_matrix(shape)))
        if common is not None:
            yield common, numbers[at : at + common.size]
        at += box.size


def _padded(piece: Piece, shape: tuple[int, ...]) -> bool:
    name = piece.tensor.partition("/")[2]
    return name in TABLES and shape[1:] == piece.shape[1:]
