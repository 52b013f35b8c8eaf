"""A checkpoint → a folder that transformers loads: weights in shards, config.json, tokenizer.

    export(trained, Path("exported"), dtype="fp32", shard_bytes=4 << 30)

One tensor is in memory at a time, whatever layout wrote the checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from longseq.checkpoint.format.tensor_files import Record, header, in_shards, write
from longseq.checkpoint.format.tensors import Tensors, open_checkpoint
from longseq.checkpoint.trained import Trained
from longseq.checkpoint.weights import cast
from longseq.config.arguments import Network
from longseq.data.tokenizers.base import SequenceTokenizer, Tokenizer
from longseq.data.tokenizers.tagged import untagged
from longseq.errors import UserError
from longseq.huggingface.families.choosing import family_for
from longseq.huggingface.families.family import Family
from longseq.huggingface.families.moves import Move
from longseq.huggingface.tokenizer_file import write_tokenizer_files

DTYPES = {
    "fp32": ("F32", torch.float32, "float32"),
    "bf16": ("BF16", torch.bfloat16, "bfloat16"),
    "fp16": ("F16", torch.float16, "float16"),
}
KIND = "weight/"


@dataclass(frozen=True)
class Exported:
    """What was written: the class that reads it, and the files of weights."""

    architecture: str
    trained: Trained
    shards: Sequence[str]


def export(trained: Trained, folder: Path, dtype: str, shard_bytes: int) -> Exported:
    """Write a checkpoint into `folder`, which is there and empty.

    Raises UserError where no class of transformers is this network.
    """
    net, tokenizer = trained.network, trained.tokenizer
    family = family_for(net)
    config = _config(net, family, tokenizer, dtype)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    if generation := _generation(tokenizer):
        text = json.dumps(generation, indent=1) + "\n"
        (folder / "generation_config.json").write_text(text)
    write_tokenizer_files(tokenizer, folder, net.seq_length)
    moves = family.moves(net, trained.manifest.vocabulary)
    with open_checkpoint(trained.path) as checkpoint:
        shards = _write_shards(checkpoint, moves, folder, dtype, shard_bytes)
    return Exported(family.architecture, trained, shards)


def _config(net: Network, family: Family, tokenizer: Tokenizer, dtype: str) -> dict[str, Any]:
    return {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.end_of_document,
        "eos_token_id": tokenizer.end_of_document,
        "tie_word_embeddings": not net.untie_embeddings_and_output_weights,
        "initializer_range": net.init_method_std,
        "torch_dtype": DTYPES[dtype][2],
        **family.config(net),
    }


def _generation(tokenizer: Tokenizer) -> dict[str, Any]:
    """What transformers' generate shall never draw, as ours does not: tokens that stand for no
    letters of a sequence. Empty where there are none, or where text is more than sequences.
    """
    inner, end = untagged(tokenizer), tokenizer.end_of_document
    if not (isinstance(inner, SequenceTokenizer) or getattr(inner, "nucleotides", False)):
        return {}
    never = sorted(set(tokenizer.no_letters()) - {end})
    ends = {"bos_token_id": end, "eos_token_id": end}
    return {**ends, "suppress_tokens": never} if never else {}


def _write_shards(
    checkpoint: Tensors, moves: Sequence[Move], folder: Path, dtype: str, shard_bytes: int
) -> list[str]:
    sized = _sized(checkpoint, moves, DTYPES[dtype][0])
    shards = in_shards(sized, lambda one: sum(record.bytes for record in one[1]), shard_bytes)
    names = [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    if len(names) == 1:
        names = ["model.safetensors"]
    places: dict[str, str] = {}
    for name, shard in zip(names, shards, strict=True):
        records = [record for _, found in shard for record in found]
        write(folder / name, _chunks(checkpoint, shard, records, DTYPES[dtype][1]))
        places |= {record.key: name for record in records}
    if len(names) > 1:
        total = sum(record.bytes for shard in shards for _, found in shard for record in found)
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    return names


Sized = tuple[Move, list[Record]]


def _sized(checkpoint: Tensors, moves: Iterable[Move], dtype: str) -> list[Sized]:
    """Each move with the tensors that come out of it: shapes without numbers."""
    sized = []
    for move in moves:
        shapes = [checkpoint.manifest.tensors.get(KIND + name) for name in move.ours]
        if missing := [n for n, shape in zip(move.ours, shapes, strict=True) if shape is None]:
            raise UserError(f"{checkpoint.path} holds no {missing[0]}")
        empty = [torch.empty(shape, device="meta") for shape in shapes if shape is not None]
        out = zip(move.theirs, move.out(empty), strict=True)
        sized.append((move, [Record(name, dtype, tuple(one.shape)) for name, one in out]))
    return sized


def _chunks(
    checkpoint: Tensors, shard: Sequence[Sized], records: Sequence[Record], dtype: torch.dtype
) -> Iterator[memoryview | bytes]:
    yield header(records, {"format": "pt"})
    for move, _ in shard:
        tensors = move.out([checkpoint.tensor(KIND + name) for name in move.ours])
        for tensor, name in zip(tensors, move.theirs, strict=True):
            numbers = cast(tensor, dtype, name).contiguous().flatten()
            yield numbers.view(torch.uint8).numpy().data
