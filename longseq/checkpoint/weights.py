"""Whole weights out of checkpoints: of one, or the mean of several; one slab of rows at a time.

    write_weights([(path, manifest)], Path("weights"), "bf16", shard_bytes=4 << 30)

Writes `model-00001-of-00002.safetensors` and so on, with an index, as Hugging Face names them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from longseq.checkpoint.fit import same_network
from longseq.checkpoint.format.boxes import as_matrix
from longseq.checkpoint.format.manifest import Manifest
from longseq.checkpoint.format.tensor_files import Record, header, write
from longseq.checkpoint.format.tensors import Tensors, open_checkpoint
from longseq.errors import UserError
from longseq.host.atomic_files import reason

DTYPES = {"fp32": ("F32", torch.float32), "bf16": ("BF16", torch.bfloat16)}
DTYPES["fp16"] = ("F16", torch.float16)
SLAB = 1 << 26  # bytes of fp32 that are in memory at once, for each checkpoint
KIND = "weight/"


def write_weights(
    chosen: Sequence[tuple[Path, Manifest]], output: Path, dtype: str, shard_bytes: int
) -> list[Path]:
    """Write the mean weights of the checkpoints into the new folder `output`; gives the files.

    Raises UserError where their networks differ, or the folder is there.
    """
    first_path, first = chosen[0]
    for path, manifest in chosen[1:]:
        same_network(path, manifest, first_path, first)
    try:
        output.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--output {output}: {reason(error)}: name a new folder") from None
    names = [name for name in first.tensors if name.startswith(KIND)]
    name_of, numbers = DTYPES[dtype]
    records = [Record(name.removeprefix(KIND), name_of, first.tensors[name]) for name in names]
    shards = _shards(records, shard_bytes)
    files: list[Path] = []
    index: dict[str, str] = {}
    with ExitStack() as stack:
        opened = [stack.enter_context(open_checkpoint(path)) for path, _ in chosen]
        for number, shard in enumerate(shards, 1):
            path = output / f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            write(path, _chunks(opened, shard, numbers))
            index |= {record.key: path.name for record in shard}
            files.append(path)
    total = sum(record.bytes for record in records)
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1)
    (output / "model.safetensors.index.json").write_text(text + "\n")
    return files


def _shards(records: Sequence[Record], shard_bytes: int) -> list[list[Record]]:
    shards: list[list[Record]] = [[]]
    size = 0
    for record in records:
        if shards[-1] and size + record.bytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(record)
        size += record.bytes
    return shards


def _chunks(
    opened: Sequence[Tensors], shard: Sequence[Record], dtype: torch.dtype
) -> Iterator[memoryview | bytes]:
    yield header(shard, {"format": "pt"})
    for record in shard:
        height, width = as_matrix(record.shape)
        rows = max(1, SLAB // (4 * max(width, 1)))
        for start in range(0, height, rows):
            slab = slice(start, min(start + rows, height))
            mean = _mean([one.tensor(KIND + record.key, slab) for one in opened]).to(dtype)
            yield mean.flatten().contiguous().view(torch.uint8).numpy().data


def _mean(parts: Sequence[Tensor]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    total = parts[0].double()
    for part in parts[1:]:
        total += part
    return (total / len(parts)).float()
