"""`longseq checkpoint inspect|verify|convert|average`: look at them, check them, take weights.

inspect and verify need no torch. convert and average check every block first, then read one slab of
one tensor at a time.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from shlex import quote

from longseq.checkpoint.format.folder import steps
from longseq.checkpoint.format.manifest import (
    BLOCK,
    Damaged,
    Manifest,
    blocks_of,
    check_blocks,
    check_names,
    read_manifest,
    tell_others,
)
from longseq.checkpoint.left_out import read_left_out
from longseq.checkpoint.trained import newest
from longseq.config.flags import Parser
from longseq.errors import EXIT_DONE, EXIT_FAILED, UserError
from longseq.reports.format import counted

SOME = 64  # blocks between two lines of progress
WHERE = "a checkpoint, a folder of them, or a run's folder"


def add_arguments(parser: Parser) -> None:
    """The arguments of `longseq checkpoint …`."""
    verbs = parser.add_subparsers(dest="act", metavar="WHAT", required=True)
    inspect = verbs.add_parser("inspect", help="what is in it")
    inspect.add_argument("path", type=Path, metavar="PATH", help=WHERE)
    inspect.add_argument("--tensors", action="store_true", help="every tensor with its shape")
    inspect.set_defaults(run_verb=_inspect)
    verify = verbs.add_parser("verify", help="is it whole, to the last bit? (all of a folder)")
    verify.add_argument("path", type=Path, metavar="PATH", help=WHERE)
    verify.set_defaults(run_verb=_verify)
    for name, count, text in (
        ("convert", 1, "the same one in whole tensors, which --load takes and other programs read"),
        ("average", "+", "the mean of the weights of several, in the same form"),
    ):
        one = verbs.add_parser(name, help=text)
        one.add_argument("paths", type=Path, nargs=count, metavar="PATH", help=WHERE)
        one.add_argument("--output", type=Path, required=True, help="a new folder")
        one.add_argument(
            "--dtype", default="fp32", choices=("fp32", "bf16", "fp16"), help="of the weights"
        )
        one.add_argument("--shard-gib", type=float, default=4.0, metavar="N", help="size of a file")
        one.set_defaults(run_verb=_convert, weights_only=name == "average")
        if name == "convert":
            text = "leave the optimizer's state out: a run that loads it begins with none"
            one.add_argument("--weights-only", action="store_true", help=text)


def _warn(text: str) -> None:
    print(f"longseq: warning: {text}", file=sys.stderr)


def _inspect(options: argparse.Namespace) -> int:
    path, manifest = newest(options.path, _warn, hashes=False)
    sizes = {name: math.prod(shape) for name, shape in manifest.tensors.items()}
    kinds = sorted({name.partition("/")[0] for name in sizes})
    total = sum(entry.size for entry in manifest.files.values())
    weights = sum(size for name, size in sizes.items() if name.startswith("weight/"))
    rows = {
        "checkpoint": path,
        "format": "a rectangle a record, safetensors; nothing to unpickle",
        **{name.replace("_", " "): f"{n:,}" for name, n in manifest.progress.items()},
        "parameters": f"{weights:,}",
        "tensors": f"{len(sizes):,}: {', '.join(kinds)}",
        "files": f"{len(manifest.files):,}, {total / 2**30:.3f} GiB",
        "optimizer": manifest.optimizer or "none: weights only",
        "tokenizer": f"{manifest.tokenizer}, {manifest.vocabulary:,} tokens",
        "data": " + ".join(one["name"] for one in manifest.data.get("sets", ())) or "not known",
        "network": _words(manifest.network),
        "written by": _words(manifest.layout),
        "numbers": _words(manifest.numbers),
        "versions": _words(manifest.versions),
    }
    if batches := read_left_out(path.parent).batches:
        rows["left out"] = "samples " + ", ".join(f"{one.first} to {one.last}" for one in batches)
    for name, value in rows.items():
        print(f"{name:<18}{value}")
    if options.tensors:
        for name in sorted(sizes):
            print(f"{name}  {list(manifest.tensors[name])}")
    return EXIT_DONE


def _words(values: object) -> str:
    assert isinstance(values, dict)
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _verify(options: argparse.Namespace) -> int:
    path: Path = options.path
    if (path / "checkpoints").is_dir():
        path = path / "checkpoints"
    found = steps(path) if path.is_dir() else {}
    code = EXIT_DONE
    for one in [found[step] for step in sorted(found)] or [path]:
        try:
            manifest = read_manifest(one)
            check_names(one, manifest)
            _check_all(one, manifest)
        except Damaged as damage:
            print(f"{one}: damaged: {damage}")
            code = EXIT_FAILED
        except UserError as error:  # another version's: those after it may be damaged
            print(f"longseq: {error}", file=sys.stderr)
            code = code or error.exit_code
    return code


def _check_all(path: Path, manifest: Manifest) -> None:
    blocks, began = blocks_of(manifest), time.monotonic()
    total = sum(entry.size for entry in manifest.files.values())
    for start in range(0, len(blocks), SOME):
        check_blocks(path, manifest, blocks[start : start + SOME])
        _tell_left(path, min((start + SOME) * BLOCK, total), total, began)
    seconds = max(time.monotonic() - began, 1e-9)
    size, others = total / 2**30, tell_others(path, manifest)
    print(
        f"{path}: whole: {counted(len(manifest.files), 'file')}, {size:.3f} GiB,"
        f" {size / seconds:.2f} GiB/s{'; ' * bool(others)}{others}"
    )


def _convert(options: argparse.Namespace) -> int:
    from longseq.checkpoint.weights import write_whole

    if not 0 < options.shard_gib < math.inf:
        raise UserError(f"--shard-gib {options.shard_gib:g}: give a size above 0")
    began, output = time.monotonic(), options.output
    chosen = [newest(path, _warn) for path in options.paths]

    def tell(done: int, total: int) -> None:
        _tell_left(output, done, total, began)

    size = int(options.shard_gib * 2**30)
    manifest = write_whole(chosen, output, options.dtype, size, tell, not options.weights_only)
    state = f" and {manifest.optimizer}'s state" if manifest.optimizer else ""
    names = ", ".join(str(path) for path, _ in chosen)
    mean = "the mean of " if len(chosen) > 1 else ""
    line = f"LOAD={quote(str(output))} goes on from it"
    print(f"{output}: {options.dtype} weights{state} of {mean}{names}; {line}")
    return EXIT_DONE


def _tell_left(what: Path, done: int, total: int, began: float) -> None:
    """How far it is, where somebody looks."""
    if done < total and sys.stderr.isatty():
        left = (time.monotonic() - began) / done * (total - done)
        text = f"{what}: {done / 2**30:.1f} of {total / 2**30:.1f} GiB, {left:.0f} s left"
        print(text, file=sys.stderr)
