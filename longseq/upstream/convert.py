"""`longseq convert`: a checkpoint of Megatron-DeepSpeed → one of ours, to go on from.

    longseq convert outputs/RUN --output FOLDER

Weights of any layout of its ranks and stages, the position in the data, and Adam's moments where
they are in the same files (fp32, ZeRO stage 0, no pipeline). Its files are pickles: of their
classes only those of plain tensors are made, so that one that was made to harm does not.
"""

from __future__ import annotations

import argparse
import pickle
import re
import shlex
import types
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from longseq.checkpoint.fit import network
from longseq.checkpoint.format.boxes import as_matrix
from longseq.checkpoint.format.manifest import Manifest, describe, list_files
from longseq.checkpoint.format.tensor_files import Record, header, write
from longseq.checkpoint.state.share import file_name
from longseq.config.arguments import Network
from longseq.config.flags import Parser, given_flags
from longseq.config.network import position_block
from longseq.data.datasets import open_datasets
from longseq.data.tokenizers.base import Tokenizer
from longseq.data.tokenizers.registry import write_tokenizer
from longseq.errors import EXIT_DONE, UserError
from longseq.host.atomic_files import new_folder
from longseq.reports.runs import SUMMARY, nested, read_json, run_of
from longseq.run.environment import package_versions
from longseq.upstream.arguments import is_theirs
from longseq.upstream.names import POSITIONS, join, our_name

RANK_FILE = re.compile(r"mp_rank_(\d+)_model_states\.pt\Z")
LAYER_FILE = re.compile(r"layer_(\d+)-model_(\d+)-model_states\.pt\Z")
KINDS = ("weight", "exp_avg", "exp_avg_sq")
Pieces = dict[str, dict[int, Tensor]]  # our name → tensor-parallel rank → its piece


def add_arguments(parser: Parser) -> None:
    parser.add_argument("source", type=Path, metavar="RUN", help="its run, or its checkpoints")
    parser.add_argument("--output", type=Path, required=True, help="a new folder: a checkpoint")
    parser.add_argument("--data-path", default="", help="its data, where its run does not say them")
    parser.set_defaults(run_verb=_convert)


def _convert(options: argparse.Namespace) -> int:
    inner = options.source / "checkpoints"
    source = inner if inner.is_dir() else options.source
    tokenizer = _tokenizer(source, options.data_path)
    theirs = Theirs(source)
    with new_folder(options.output, "--output") as aside:
        manifest = write_checkpoint(theirs, tokenizer, aside)
    kept = "with Adam's moments" if manifest.optimizer else "weights alone: Adam begins anew"
    print(f"{options.output}: iteration {manifest.progress['iteration']}, {kept}")
    flags = shlex.join(given_flags(Network, asdict(theirs.network)))
    print(f"LOAD={shlex.quote(str(options.output))} ./ALCF/train-gpt3.sh -- {flags}")
    return EXIT_DONE


def _tokenizer(source: Path, data_path: str) -> Tokenizer:
    kind, run = "", run_of(source)
    if not data_path and run:
        data = nested(read_json(run / SUMMARY), "settings", "data") or {}
        data_path, kind = data.get("data_path", ""), data.get("tokenizer_type", "")
    if not data_path:
        raise UserError(f"{source}: no run says which tokens these are: give --data-path")
    return open_datasets(data_path, kind)[0].tokenizer


class _Nothing(dict[Any, Any]):
    """In the place of an object of any other class; keeps nothing of it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """It has none."""

    def append(self, item: Any) -> None:
        """It keeps none."""

    def extend(self, items: Any) -> None:
        """It keeps none."""


class _Careful(pickle.Unpickler):
    """Makes tensors, plain containers and argparse's Namespace, and _Nothing of all else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("argparse", "Namespace"):
            return Namespace
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return torch._utils._rebuild_tensor_v2
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return _Nothing


def _load(file: IO[bytes], **how: Any) -> Any:
    """pickle.load, as torch calls it for a file that is no zip."""
    return _Careful(file, **how).load()


def read_file(path: Path) -> dict[str, Any]:
    """One of its files, without running what is in it; raises UserError where it is damaged."""
    module = types.SimpleNamespace(Unpickler=_Careful, load=_load, __name__="careful")
    try:
        found = torch.load(path, "cpu", pickle_module=module, weights_only=False)
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(f"{path} cannot be read: {type(error).__name__}: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is no file of a checkpoint of Megatron-DeepSpeed")
    return found


class Theirs:
    """The newest checkpoint in a folder of its: its arguments, its network, its tensors by ours."""

    def __init__(self, source: Path) -> None:
        if not is_theirs(str(source)):
            raise UserError(f"{source}: no checkpoint of Megatron-DeepSpeed is in it")
        tag = (source / "latest").read_text(encoding="utf-8").strip()
        self.folder = source / Path(tag).name
        self.ranks = {
            int(match[1]): path
            for path in sorted(self.folder.glob("*"))
            if (match := RANK_FILE.match(path.name))
        }
        if 0 not in self.ranks:
            raise UserError(f"{self.folder} has no mp_rank_00_model_states.pt")
        first = read_file(self.ranks[0])
        args, iteration = first.get("args"), first.get("iteration")
        if not isinstance(args, Namespace) or not isinstance(iteration, int):
            raise UserError(f"{self.ranks[0]} does not say what it was trained with")
        self.args, self.iteration = args, iteration
        if self.args.zero_stage == 3:
            raise UserError(
                f"{self.folder} was saved at ZeRO stage 3, where these files hold no weights:"
                " save at stage 0 to 2"
            )
        self.network = _network(self.args)
        self.tp: int = self.args.tensor_model_parallel_size
        self.piped: bool = not self.args.no_pipeline_parallel
        self.has_moments = bool(first.get("optimizer")) and not self.piped

    def pieces(self) -> dict[str, Pieces]:
        """The pieces of all tensors, by kind."""
        found: dict[str, Pieces] = {kind: {} for kind in KINDS}
        for rank, name, tensor in self._layers() if self.piped else self._modules(found):
            found["weight"].setdefault(our_name(name, self.piped), {})[rank] = tensor
        return found

    def _layers(self) -> Iterator[tuple[int, str, Tensor]]:
        """Rank, name and piece from the files of a pipeline, one a layer and rank."""
        for path in sorted(self.folder.glob("layer_*")):
            if match := LAYER_FILE.match(path.name):
                for name, tensor in read_file(path).items():
                    if isinstance(tensor, Tensor):
                        yield int(match[2]), f"{int(match[1])}.{name}", tensor

    def _modules(self, found: dict[str, Pieces]) -> Iterator[tuple[int, str, Tensor]]:
        for rank, path in self.ranks.items():
            file = read_file(path)
            named = list(_flat(file["module"]))
            yield from ((rank, name, tensor) for name, tensor in named)
            if self.has_moments:
                _put_moments(file["optimizer"], [name for name, _ in named], rank, found)

    @property
    def steps(self) -> float:
        """Adam's own count, where moments are kept."""
        state = read_file(self.ranks[0])["optimizer"]["state"]
        return float(state[0]["step"])


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Tensor]]:
    """Full names and tensors of nested dictionaries, in their order."""
    for key, value in tree.items():
        if isinstance(value, Tensor):
            yield before + key, value
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")


def _put_moments(
    optimizer: Mapping[str, Any], names: list[str], rank: int, found: dict[str, Pieces]
) -> None:
    """Its optimizer numbers parameters: matrices first, then norms and biases."""
    state = optimizer["state"]
    plain = [name for name in names if name.endswith(".bias") or "layernorm" in name]
    for number, name in enumerate([*(n for n in names if n not in plain), *plain]):
        for kind in KINDS[1:]:
            found[kind].setdefault(our_name(name), {})[rank] = state[number][kind]


def _network(args: Namespace) -> Network:
    """Our network for its arguments."""
    return Network(
        num_layers=args.num_layers,
        hidden_size=args.hidden_size,
        num_attention_heads=args.num_attention_heads,
        ffn_hidden_size=args.ffn_hidden_size,
        seq_length=args.seq_length,
        max_position_embeddings=args.max_position_embeddings,
        normalization=args.normalization,
        layernorm_epsilon=args.layernorm_epsilon,
        swiglu=args.swiglu,
        disable_bias_linear=not args.add_bias_linear,
        untie_embeddings_and_output_weights=args.untie_embeddings_and_output_weights,
        use_rotary_position_embeddings=args.use_rotary_position_embeddings,
        rotary_percent=args.rotary_percent,
        rope_theta=float(args.rope_theta),
        make_vocab_size_divisible_by=args.make_vocab_size_divisible_by
        * args.tensor_model_parallel_size,
    )


def write_checkpoint(theirs: Theirs, tokenizer: Tokenizer, folder: Path) -> Manifest:
    """Write it as a checkpoint of ours into `folder`, which is there and empty."""
    tensors = dict(_whole(theirs))
    records = [
        Record(f"{name}@0:0", "F32", as_matrix(tensor.shape)) for name, tensor in tensors.items()
    ]
    chunks = (
        t.float().contiguous().flatten().view(torch.uint8).numpy().data for t in tensors.values()
    )
    write(folder / file_name(0), (chunk for part in ([header(records)], chunks) for chunk in part))
    write_tokenizer(tokenizer, folder)
    args = theirs.args
    manifest = Manifest(
        progress={
            "iteration": theirs.iteration,
            "consumed_samples": args.consumed_train_samples,
            "consumed_tokens": args.consumed_train_tokens,
        },
        network=network(theirs.network),
        optimizer="adam" if theirs.has_moments else "",
        vocabulary=tokenizer.vocab_size,
        tokenizer=tokenizer.specification,
        layout={"seq_length": theirs.network.seq_length},
        versions=package_versions(),
        numbers={"step": theirs.steps} if theirs.has_moments else {},
        tensors={name: tuple(tensor.shape) for name, tensor in tensors.items()},
        files={name: describe(folder / name) for name in list_files(folder)},
    )
    manifest.write(folder)
    return manifest


def _whole(theirs: Theirs) -> Iterator[tuple[str, Tensor]]:
    """Our tensors by their names in a checkpoint, whole; positions in blocks."""
    for kind, pieces in theirs.pieces().items():
        for name, by_rank in pieces.items():
            if len(by_rank) != theirs.tp:
                raise UserError(f"{theirs.folder}: {name} is not there of every rank")
            whole = join([by_rank[rank] for rank in range(theirs.tp)], name, theirs.network)
            if name == POSITIONS:
                for number, block in enumerate(whole.split(position_block(len(whole)))):
                    yield f"{kind}/positions.blocks.{number}.weight", block
            else:
                yield f"{kind}/{name}", whole
