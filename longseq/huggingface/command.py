"""The verbs.

./longseq.sh export RUN --to huggingface FOLDER
./longseq.sh import FOLDER --output CHECKPOINT
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from longseq.checkpoint.format.manifest import Damaged
from longseq.checkpoint.trained import find_trained, prepared_alike
from longseq.config.flags import Parser
from longseq.config.network import training_command
from longseq.errors import EXIT_DONE, UserError
from longseq.host.atomic_files import new_folder
from longseq.parallel.agreement import Ranks
from longseq.reports.format import counted

WHERE = "a checkpoint, a folder of them, or a run's folder"


def add_export(parser: Parser) -> None:
    """The arguments of `export`."""
    parser.add_argument("path", type=Path, metavar="RUN", help=WHERE)
    parser.add_argument("--to", required=True, choices=("huggingface",), help="whose form")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    parser.add_argument("--dtype", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument(
        "--shard-size", default="4GB", metavar="SIZE", help="of a file of weights (default 4GB)"
    )
    parser.set_defaults(run_verb=_export)


def add_import(parser: Parser) -> None:
    """The arguments of `import`."""
    parser.add_argument("source", type=Path, metavar="FOLDER", help="a folder of transformers")
    parser.add_argument("--output", type=Path, required=True, help="a new folder: a checkpoint")
    parser.set_defaults(run_verb=_import)


UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def size_of(text: str) -> int:
    """Bytes of "4GB", "512MiB" or "1000000"; raises UserError."""
    number = text.upper().rstrip("KMGIB")
    unit = text.upper()[len(number) :]
    try:
        size = int(float(number) * (UNITS[unit] if unit else 1))
    except (KeyError, ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise UserError(f"--shard-size {text!r} is no size: write it as 4GB or 500MB")
    return size


def _export(options: argparse.Namespace) -> int:
    from longseq.huggingface.card import card
    from longseq.huggingface.to_folder import export

    size = size_of(options.shard_size)
    trained = find_trained(options.path, _warn, Ranks())
    try:
        with new_folder(options.folder, "FOLDER") as aside:
            done = export(trained, aside, options.dtype, size)
            (aside / "README.md").write_text(card(done, options.dtype), encoding="utf-8")
    except Damaged as damage:
        raise UserError(f"checkpoint {trained.path} is damaged: {damage}") from None
    print(
        f"{options.folder}: {done.architecture}, {counted(len(done.shards), 'file')} of"
        f" {options.dtype}"
    )
    return EXIT_DONE


def _import(options: argparse.Namespace) -> int:
    from longseq.huggingface.from_folder import bring_in

    with new_folder(options.output, "--output") as aside:
        net, tokenizer = bring_in(options.source, aside)
    print(f"{options.output}: weights of {net.parameter_count(tokenizer.vocab_size):,} parameters")
    alike = prepared_alike(tokenizer.specification, options.output)
    print(f"go on training on data prepared with {alike}, with:")
    print(training_command(net, str(options.output)))
    return EXIT_DONE


def _warn(text: str) -> None:
    print(f"longseq: warning: {text}", file=sys.stderr)
