"""A checkpoint of Megatron-DeepSpeed: all of its tensors, whole, by our names.

    theirs = Theirs(Path("outputs/RUN/checkpoints"))
    tensors = theirs.tensors(vocabulary)           # "weight/layers.0.mlp.up.bias" → the tensor
    theirs.network, theirs.progress, theirs.steps

What is missing, of another shape or not finite is refused before anything is written.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longseq.config.network import position_block
from longseq.errors import UserError
from longseq.upstream.converting.meaning import filled, network_of
from longseq.upstream.converting.optimizer import WEIGHT, Kept, beside, counted, groups, parted
from longseq.upstream.converting.pickles import read_file
from longseq.upstream.converting.place import step_of
from longseq.upstream.converting.rows import as_here, order_of
from longseq.upstream.names import POSITIONS, cut, join, our_name, shapes, split_dim

RANK_FILE = re.compile(r"mp_rank_(\d+)_model_states\.pt\Z")
LAYER_FILE = re.compile(r"layer_(\d+)-model_(\d+)-model_states\.pt\Z")
PART_FILE = re.compile(r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_(\d+)_optim_states\.pt\Z")
Pieces = dict[str, dict[int, Tensor]]  # our name → tensor-parallel rank → its piece


class Theirs:
    """The newest checkpoint in a folder of its, or the one that is named.

    order: of the rows of queries, keys and values; what is given counts before what its args tell.
    steps: Adam's own count, None without its moments. rounded: are the weights, for want of those
    in fp32, what 16 bits keep of them? Both are known when the tensors have been read.
    """

    def __init__(self, source: Path, order: str = "") -> None:
        self.folder = step_of(source)
        self.ranks = {int(match[1]): path for match, path in self._files(RANK_FILE)}
        if 0 not in self.ranks:
            raise UserError(_at_stage_3(self.folder))
        self.parts = {  # of what its optimizer keeps, by rank and replica
            (int(match[2]), int(match[1])): path for match, path in self._files(PART_FILE)
        }
        path = self.ranks[0]
        first = read_file(path)
        args = first.get("args")
        if not isinstance(args, Namespace):
            raise UserError(f"{path} does not say what it was trained with: it has no args")
        self.args = filled(args, path)
        if self.args.zero_stage == 3:
            raise UserError(_at_stage_3(self.folder))
        self.order = order_of(first, self.args, path, order)
        self.network = network_of(self.args, path, self.order)
        self.progress = _progress(first, self.args, path)
        self.tp: int = self.args.tensor_model_parallel_size
        self.piped: bool = not self.args.no_pipeline_parallel
        if not self.piped and (lost := [n for n in range(self.tp) if n not in self.ranks]):
            name = f"mp_rank_{lost[0]:02}_model_states.pt"
            raise UserError(f"{self.folder} lacks {name} of its {self.tp} tensor-parallel ranks")
        self.steps: float | None = None
        self.rounded = False

    def _files(self, kind: re.Pattern[str]) -> list[tuple[re.Match[str], Path]]:
        """The files whose names are of a kind, and their names' numbers, in their order."""
        found = [(kind.match(path.name), path) for path in self.folder.glob("*")]
        ours = [(match, path) for match, path in found if match]
        return sorted(ours, key=lambda one: [int(number) for number in one[0].groups()])

    def tensors(self, vocabulary: int) -> dict[str, Tensor]:
        """All of them by their names in a checkpoint of ours; positions in blocks."""
        found: dict[str, Pieces] = {}
        for kind, name, rank, tensor in self._layers() if self.piped else self._modules():
            found.setdefault(kind, {}).setdefault(name, {})[rank] = tensor
        wanted = shapes(self.network, vocabulary)
        whole: dict[str, Tensor] = {}
        for kind, pieces in found.items():
            self._check_names(kind, pieces, wanted)
            for name, by_rank in pieces.items():
                self._check(kind, name, by_rank, wanted[name], vocabulary)
                mine = [self._piece(name, by_rank[rank]) for rank in range(self.tp)]
                tensor = join(mine, name, self.network)
                whole.update(_in_blocks(kind, name, tensor))
        self.rounded = any(
            tensor.dtype.itemsize < 4 for name, tensor in whole.items() if name.startswith(WEIGHT)
        )
        return whole

    def _piece(self, name: str, piece: Tensor) -> Tensor:
        return as_here(piece, self.order, self.network, self.tp) if ".qkv." in name else piece

    def _layers(self) -> Iterator[tuple[str, str, int, Tensor]]:
        """Kind, name, rank and piece from the files of a pipeline, one a layer and rank."""
        for match, path in self._files(LAYER_FILE):
            for name, tensor in read_file(path).items():
                if isinstance(tensor, Tensor):
                    ours = _ours(f"{int(match[1])}.{name}", path, piped=True)
                    yield WEIGHT, ours, int(match[2]), tensor

    def _modules(self) -> Iterator[tuple[str, str, int, Tensor]]:
        """The same from one file a rank; weights once more where they are kept in fp32."""
        for rank, path in self.ranks.items():
            file = read_file(path)
            if (at := file.get("iteration")) != self.progress["iteration"]:
                raise UserError(
                    f"{path} is of iteration {at}, and {self.ranks[0].name} beside it of"
                    f" {self.progress['iteration']}: they are of two checkpoints"
                )
            if not isinstance(module := file.get("module"), Mapping):
                raise UserError(f"{path} holds no weights: it has no module")
            weights = dict(_flat(module))
            ours = {name: _ours(name, path) for name in weights}
            yield from ((WEIGHT, ours[name], rank, tensor) for name, tensor in weights.items())
            if kept := self._kept(rank, file):
                if rank and kept.steps != self.steps:
                    raise UserError(
                        f"{kept.path}: its Adam has taken {counted(kept.steps)} steps, and that of"
                        f" rank 0 {counted(self.steps)}: they are of two iterations"
                    )
                self.steps = kept.steps
                for kind, name, tensor in kept.by_name(groups(file, weights, path), weights):
                    yield kind, ours[name], rank, tensor

    def _kept(self, rank: int, file: Mapping[str, Any]) -> Kept | None:
        """What its optimizer keeps of a rank's parameters."""
        adam = self.args.optimizer == "adam"
        if self.parts:
            return parted({path: read_file(path) for path in self._parts_of(rank, file)}, adam)
        optimizer = file.get("optimizer")
        return beside(optimizer, self.ranks[rank], adam) if optimizer else None

    def _parts_of(self, rank: int, file: Mapping[str, Any]) -> list[Path]:
        """The files of a rank's parts, one a replica; none may be lost."""
        replicas = file.get("dp_world_size")
        known = replicas if type(replicas) is int else 0
        count = max(known, 1 + max(replica for _, replica in self.parts))
        if lost := [n for n in range(count) if (rank, n) not in self.parts]:
            before = next(iter(self.parts.values())).name.partition("zero_pp")[0]
            name = f"{before}zero_pp_rank_{lost[0]}_mp_rank_{rank:02}_optim_states.pt"
            raise UserError(
                f"{self.folder} lacks {name}, one of {count} parts of what that rank's optimizer"
                " keeps: bring it back, or take all of these files away for the weights alone"
            )
        return [self.parts[rank, replica] for replica in range(count)]

    def _check_names(self, kind: str, pieces: Pieces, wanted: Mapping[str, Tensor]) -> None:
        layers = self.network.num_layers
        if missing := [name for name in wanted if name not in pieces]:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UserError(f"{self.folder} lacks {kind}/{missing[0]}{more} of {layers} layers")
        if more_than := [name for name in pieces if name not in wanted]:
            raise UserError(
                f"{self.folder} has {kind}/{more_than[0]}, which its args' network of {layers}"
                " layers has not"
            )

    def _check(
        self, kind: str, name: str, by_rank: Mapping[int, Tensor], whole: Tensor, vocabulary: int
    ) -> None:
        if sorted(by_rank) != list(range(self.tp)):
            raise UserError(f"{self.folder}: {kind}/{name} is not there of every rank")
        for rank, piece in by_rank.items():
            shape = tuple(cut(whole, name, self.network, rank, self.tp).shape)
            if tuple(piece.shape) != shape:
                raise UserError(
                    f"{self.folder}: {kind}/{name} of rank {rank} has shape {tuple(piece.shape)},"
                    f" and {shape} by its args and the data's {vocabulary} tokens"
                )
            if not torch.isfinite(piece).all():
                raise UserError(f"{self.folder}: {kind}/{name} of rank {rank} is not finite")
        if kind == WEIGHT and split_dim(name) is not None and whole.ndim > 1:
            self._check_no_copies(name, by_rank)

    def _check_no_copies(self, name: str, by_rank: Mapping[int, Tensor]) -> None:
        """Trained parts of a matrix are never the same on two ranks."""
        seen: dict[tuple[float, ...], int] = {}
        for rank, piece in by_rank.items():
            numbers = piece.detach().flatten()
            earlier = seen.setdefault(tuple(numbers[:64].tolist()), rank)
            same = earlier != rank and torch.equal(piece, by_rank[earlier])
            if same and (numbers != numbers[0]).any():
                raise UserError(
                    f"{self.folder}: {WEIGHT}/{name} is the same on its ranks {earlier} and {rank}:"
                    " a file of one is a copy of the other's"
                )


def _at_stage_3(folder: Path) -> str:
    return (
        f"{folder} was saved at ZeRO stage 3, where these files hold no weights: save at stage 0"
        " to 2"
    )


def _progress(first: Mapping[str, Any], args: Namespace, path: Path) -> dict[str, int]:
    """How far it was; older versions do not count tokens."""
    samples, tokens = args.consumed_train_samples, vars(args).get("consumed_train_tokens")
    if tokens is None and type(samples) is int:
        tokens = samples * args.seq_length
    found = {
        "iteration": first.get("iteration"),
        "consumed_samples": samples,
        "consumed_tokens": tokens,
    }
    for name, value in found.items():
        if type(value) is not int or value < 0:
            raise UserError(f"{path}: {name} {value!r} does not say how far it was")
    return found


def _ours(name: str, path: Path, piped: bool = False) -> str:
    try:
        return our_name(name, piped)
    except KeyError:
        raise UserError(f"{path} holds a tensor {name}, which our network has not") from None


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Tensor]]:
    """Full names and tensors of nested dictionaries, in their order."""
    for key, value in tree.items():
        if isinstance(value, Tensor):
            yield f"{before}{key}", value
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")


def _in_blocks(kind: str, name: str, whole: Tensor) -> Iterator[tuple[str, Tensor]]:
    if name == POSITIONS:
        for number, block in enumerate(whole.split(position_block(len(whole)))):
            yield f"{kind}/positions.blocks.{number}.weight", block
    else:
        yield f"{kind}/{name}", whole
