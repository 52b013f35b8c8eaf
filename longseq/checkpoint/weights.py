"""A checkpoint in whole tensors, of one or the mean of several, which other programs read too.

    write_whole([(path, manifest)], Path("folder"), "bf16", 4 << 30, tell)

`folder` holds `model-00001-of-00002.safetensors` and so on with an index, as Hugging Face names
them, and the optimizer's state likewise as `optimizer-…`; with its manifest it is a checkpoint that
--load takes. One slab of rows of one tensor is in memory at a time. The mean of several is of
weights only: moments belong to the weights that they were measured at.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from longseq.checkpoint.fit import same_network
from longseq.checkpoint.format.boxes import as_matrix
from longseq.checkpoint.format.manifest import Damaged, Entry, Manifest, describe
from longseq.checkpoint.format.tensor_files import Record, header, in_shards, write
from longseq.checkpoint.format.tensors import Tensors, open_checkpoint
from longseq.checkpoint.trained import same_tokenizer
from longseq.errors import UserError
from longseq.host.atomic_files import new_folder, replace_file

DTYPES = {"fp32": ("F32", torch.float32), "bf16": ("BF16", torch.bfloat16)}
DTYPES["fp16"] = ("F16", torch.float16)
SLAB = 1 << 26  # bytes of fp32 that are in memory at once, for each checkpoint
KIND = "weight/"
INDEX = ".safetensors.index.json"

Chosen = Sequence[tuple[Path, Manifest]]
Tell = Callable[[int, int], None]  # bytes read so far, and of all


def write_whole(
    chosen: Chosen, output: Path, dtype: str, shard_bytes: int, tell: Tell, with_state: bool = True
) -> Manifest:
    """Write the checkpoint, or the mean of several, as the new folder `output`; its manifest.

    dtype: of the weights; the optimizer's state, which only one checkpoint keeps, stays fp32.
    Raises UserError where their networks or tokens differ, a number is too large for dtype, or the
    folder is there or cannot be written.
    """
    first_path, first = chosen[0]
    for path, manifest in chosen[1:]:
        same_network(path, manifest, first_path, first)
        same_tokenizer(path, manifest, first_path, first)
    if output.exists():
        raise UserError(f"--output {output}: it is there already: name a new folder")
    try:
        with new_folder(output, "--output") as aside:
            newest_path, newest = max(chosen, key=lambda one: one[1].progress["iteration"])
            whole = _described(newest, with_state and len(chosen) == 1)
            records = _records(whole, DTYPES[dtype][0])
            _copy_tokenizer(newest_path, newest, aside)
            with ExitStack() as stack:
                opened = [stack.enter_context(open_checkpoint(path)) for path, _ in chosen]
                files = _write_tensors(aside, opened, records, shard_bytes, tell)
            _write_about(aside, chosen, newest)
            others = [path for path in aside.iterdir() if path.name not in files]
            files |= {path.name: describe(path) for path in others}
            whole = replace(whole, files=dict(sorted(files.items())))
            whole.write(aside)
    except Damaged as damage:
        raise UserError(f"a checkpoint is damaged: {damage}") from None
    return whole


def _copy_tokenizer(source: Path, manifest: Manifest, folder: Path) -> None:
    """vocabulary.json and whatever a tokenizer of text is made from: all but tensors."""
    for name in manifest.files:
        if not name.endswith((".safetensors", INDEX)):
            shutil.copyfile(source / name, folder / name)


def _described(source: Manifest, with_state: bool) -> Manifest:
    """No layout wrote it, so that nobody takes random states from it."""
    layout = {"seq_length": source.layout["seq_length"]}
    if with_state:
        return replace(source, layout=layout)
    weights = {name: shape for name, shape in source.tensors.items() if name.startswith(KIND)}
    return replace(source, layout=layout, optimizer="", numbers={}, spikes={}, tensors=weights)


def _records(manifest: Manifest, dtype: str) -> dict[str, list[Record]]:
    """The records of each family of files; weights have their parameters' names."""
    found: dict[str, list[Record]] = {"model": [], "optimizer": []}
    for name, shape in manifest.tensors.items():
        if name.startswith(KIND):
            found["model"].append(Record(name.removeprefix(KIND), dtype, shape))
        else:
            found["optimizer"].append(Record(name, "F32", shape))
    return found


def _write_tensors(
    folder: Path,
    opened: Sequence[Tensors],
    records: dict[str, list[Record]],
    shard_bytes: int,
    tell: Tell,
) -> dict[str, Entry]:
    files: dict[str, Entry] = {}
    total = sum(record.bytes for family in records.values() for record in family)
    done = 0
    for family, of_family in records.items():
        shards = in_shards(of_family, lambda record: record.bytes, shard_bytes) if of_family else []
        index: dict[str, str] = {}
        for number, shard in enumerate(shards, 1):
            name = f"{family}-{number:05d}-of-{len(shards):05d}.safetensors"
            files[name] = write(folder / name, _chunks(opened, shard))
            index |= dict.fromkeys((record.key for record in shard), name)
            done += sum(record.bytes for record in shard)
            tell(done, total)
        if shards:
            size = sum(record.bytes for record in of_family)
            text = json.dumps({"metadata": {"total_size": size}, "weight_map": index}, indent=1)
            replace_file(folder / f"{family}{INDEX}", text + "\n")
    return files


def _write_about(folder: Path, chosen: Chosen, newest: Manifest) -> None:
    about = {
        "network": dict(newest.network),
        "vocabulary": newest.vocabulary,
        "tokenizer": newest.tokenizer,
        "checkpoints": [str(path) for path, _ in chosen],
    }
    replace_file(folder / "network.json", json.dumps(about, indent=1) + "\n")


def _chunks(opened: Sequence[Tensors], shard: Sequence[Record]) -> Iterator[memoryview | bytes]:
    yield header(shard, {"format": "pt"})
    dtypes = dict(DTYPES.values())
    for record in shard:
        name = record.key if "/" in record.key else KIND + record.key
        height, width = as_matrix(record.shape)
        rows = max(1, SLAB // (4 * max(width, 1)))
        for start in range(0, height, rows):
            slab = slice(start, min(start + rows, height))
            mean = _mean([one.tensor(name, slab) for one in opened])
            mean = cast(mean, dtypes[record.dtype], record.key)
            yield mean.flatten().contiguous().view(torch.uint8).numpy().data


def cast(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """The numbers of a checkpoint, all finite, as `dtype`; raises UserError where fp16 has none so
    large.
    """
    numbers = tensor.to(dtype)
    if dtype == torch.float16 and not numbers.isfinite().all():
        raise UserError(
            f"--dtype fp16: {name} holds a number above {torch.finfo(dtype).max:.0f}, the largest"
            " there: choose bf16 or fp32"
        )
    return numbers


def _mean(parts: Sequence[Tensor]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    total = parts[0].double()
    for part in parts[1:]:
        total += part
    return (total / len(parts)).float()
