"""It as a checkpoint of ours: weights of any layout of its ranks and stages, in fp32 where it keeps
them so, the position in the data, and Adam's moments where there is no pipeline.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from longseq.checkpoint.fit import network
from longseq.checkpoint.format.boxes import as_matrix
from longseq.checkpoint.format.manifest import Manifest, describe, list_files
from longseq.checkpoint.format.tensor_files import Record, header, write
from longseq.checkpoint.state.share import file_name
from longseq.data.datasets import open_datasets
from longseq.data.tokenizers.base import Tokenizer
from longseq.data.tokenizers.registry import write_tokenizer
from longseq.errors import EXIT_DONE, UserError
from longseq.host.atomic_files import new_folder
from longseq.reports.runs import SUMMARY, nested, read_json, run_of
from longseq.run.environment import package_versions
from longseq.upstream.converting.going_on import command
from longseq.upstream.converting.meaning import CORRECTED, gelu_is_exact, other_rotary
from longseq.upstream.converting.orders import MEANING
from longseq.upstream.converting.rows import since_fpdt
from longseq.upstream.converting.theirs import Theirs


def convert(options: argparse.Namespace) -> int:
    """Read theirs, write ours, and say what to go on with; raises UserError."""
    inner = options.source / "checkpoints"
    source = inner if inner.is_dir() else options.source
    theirs = Theirs(source, options.qkv_order)
    corrected = _corrected(theirs, run_of(source))
    _check_rotary(theirs, corrected, options.rotary_as_here)
    data_path, kind = _data(source, options.data_path)
    tokenizer = open_datasets(data_path, kind)[0].tokenizer
    _check_tokens(theirs, data_path, tokenizer)
    with new_folder(options.output, "--output") as aside:
        manifest = write_checkpoint(theirs, tokenizer, aside)
    for line in _differences(theirs, corrected, tokenizer.vocab_size):
        print(f"longseq: warning: {line}", file=sys.stderr)
    kept = "with Adam's moments" if manifest.optimizer else "weights alone: Adam begins anew"
    print(f"{options.output}: iteration {manifest.progress['iteration']}, {kept}")
    whose = "as --qkv-order says" if options.qkv_order else "as its args say"
    print(
        f"rows of queries, keys and values were read {MEANING[theirs.order]}, {whose}; go on with"
    )
    at = manifest.progress["iteration"]
    print(command(options.output, data_path, kind, theirs.network, at, theirs.args))
    return EXIT_DONE


def _check_rotary(theirs: Theirs, corrected: bool, as_here: bool) -> None:
    """Raise UserError where rotary positions were others than here, or were not, by the flag."""
    other = "" if corrected else other_rotary(theirs.args)
    if as_here and not other:
        raise UserError(
            f"--rotary-as-here: {theirs.folder} has no other rotary positions: leave it out"
        )
    if other and not as_here:
        where = "as Megatron-DeepSpeed is shipped" if since_fpdt(theirs.args) else "in its version"
        go_on = "TRAINER=megatron-deepspeed with UPSTREAM_FIXES=0"
        raise UserError(
            f"{theirs.folder}: {where}, rotary positions turn by {other}, and nothing says that"
            " these were corrected: here the network would be another function. Go on in"
            f" {go_on if since_fpdt(theirs.args) else 'that version'}, or convert with"
            " --rotary-as-here (docs/upstream.md)"
        )


def _corrected(theirs: Theirs, run: Path | None) -> bool:
    """Did a run of ours with UPSTREAM_FIXES=1 write it? An older one's summary alone says so."""
    said = getattr(theirs.args, CORRECTED, None)
    if said is None and run:
        shipped = nested(read_json(run / SUMMARY), "settings", "run", "as_shipped")
        return shipped is False
    return said is True


def _differences(theirs: Theirs, corrected: bool, vocabulary: int) -> list[str]:
    """What is not the same here, and is little."""
    rows = theirs.network.padded_vocabulary(vocabulary)
    lines = []
    if theirs.rounded:
        lines.append(
            f"{theirs.folder}: the weights are in 16 bits, and none in fp32 could be read beside"
            " them: what Adam had added below that is lost"
        )
    if theirs.args.zero_stage and not (theirs.piped or theirs.parts):
        lines.append(
            f"{theirs.folder}: its args say zero_stage={theirs.args.zero_stage}, and none of its"
            " zero_pp_rank_…_optim_states.pt is there: the weights come alone"
        )
    if not corrected and rows > vocabulary:
        lines.append(
            f"{theirs.folder}: its softmax counted {rows - vocabulary} rows that are no tokens,"
            " ours does not: the loss is lower by what they had"
        )
    if gelu_is_exact(theirs.args):
        lines.append(
            f"{theirs.folder}: its GELU was the exact one, ours is the tanh form: the loss differs"
            " in its last digits"
        )
    return lines


def _data(source: Path, data_path: str) -> tuple[str, str]:
    """--data-path and --tokenizer-type, of its run unless they are given."""
    kind, run = "", run_of(source)
    if not data_path and run:
        data = nested(read_json(run / SUMMARY), "settings", "data") or {}
        data_path, kind = data.get("data_path", ""), data.get("tokenizer_type", "")
    if not data_path:
        raise UserError(f"{source}: no run says which tokens these are: give --data-path")
    return data_path, kind


def _check_tokens(theirs: Theirs, data_path: str, tokenizer: Tokenizer) -> None:
    """Raise UserError where its args say that its tokens were others; rows of padding hide that."""
    args, count = vars(theirs.args), tokenizer.vocab_size
    said, padded = args.get("vocab_size"), args.get("padded_vocab_size")
    wrong = ""
    if type(said) is int and args.get("tokenizer_type") == "NullTokenizer":
        # Its own takes one more, to end documents; runs of ours give all
        counts = (said,) if CORRECTED in args else (said, said + 1)
        wrong = "" if count in counts else f"vocab_size={said}"
    if type(padded) is int and padded != theirs.network.padded_vocabulary(count):
        wrong = wrong or f"padded_vocab_size={padded}"
    if wrong:
        raise UserError(
            f"{theirs.folder}: its args say {wrong}, and --data-path {data_path} has {count} tokens"
            f" ({tokenizer.specification}): give the data that it was trained on"
        )


def write_checkpoint(theirs: Theirs, tokenizer: Tokenizer, folder: Path) -> Manifest:
    """Write it as a checkpoint of ours into `folder`, which is there and empty."""
    tensors = theirs.tensors(tokenizer.vocab_size)
    records = [
        Record(f"{name}@0:0", "F32", as_matrix(tensor.shape)) for name, tensor in tensors.items()
    ]
    chunks = (
        t.float().contiguous().flatten().view(torch.uint8).numpy().data for t in tensors.values()
    )
    write(folder / file_name(0), (chunk for part in ([header(records)], chunks) for chunk in part))
    write_tokenizer(tokenizer, folder)
    manifest = Manifest(
        progress=theirs.progress,
        network=network(theirs.network),
        optimizer="" if theirs.steps is None else "adam",
        vocabulary=tokenizer.vocab_size,
        tokenizer=tokenizer.specification,
        layout={"seq_length": theirs.network.seq_length},
        versions=package_versions(),
        numbers={} if theirs.steps is None else {"step": theirs.steps},
        tensors={name: tuple(tensor.shape) for name, tensor in tensors.items()},
        files={name: describe(folder / name) for name in list_files(folder)},
    )
    manifest.write(folder)
    return manifest
