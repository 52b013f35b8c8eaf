"""`longseq check`: everything that can go wrong before a rank starts goes wrong here.

    longseq check --world-size N [--dry-run [--any-layout]] ARGUMENTS… [-- COMMAND]

Checks the trainer's arguments, prepares the data when it is a FASTA file, makes the run's folder
and writes the DeepSpeed configuration and the command, which repeats the run, into it. With
`--dry-run` it prints that configuration and touches nothing; `--any-layout` leaves out what a
search for the layout replaces.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any

from longseq.attention.limits import KERNELS
from longseq.config.arguments import GROUPS, UPSTREAM, Config
from longseq.config.checks import make_config
from longseq.config.flags import Parser, add_flags, read_flags, whole
from longseq.config.kernels import note, this_machine
from longseq.config.optimizers import OPTIMIZERS
from longseq.config.shape_checks import on_one_rank
from longseq.data.request import look_at_data
from longseq.engine import nvme
from longseq.engine.ds_config import deepspeed_settings
from longseq.errors import EXIT_DONE, UserError
from longseq.host.machine import Machine, in_environment, without_packages
from longseq.reports.format import size
from longseq.run.folder import claim_run_folder, write_command
from longseq.run.resumed import find_before

DS_CONFIG = "ds_config.json"
LEAST_FILE = 64 << 20  # bytes that logs, MPI's and NCCL's shared memory must be allowed for a file
LEAST_OPEN = 128  # files that a rank, or its launcher, must be allowed to have open at once


CheckRequest = Callable[[Config, int, Callable[[str], None]], None]


def add_arguments(parser: Parser, check_request: CheckRequest) -> None:
    """The verb's own options, and every flag of the trainer.

    check_request: looks at the checkpoints that are asked for; gets the size of the vocabulary too,
    0 before the data were looked at, and what to warn through.
    """
    parser.usage = "%(prog)s [--flag VALUE ...] [-- COMMAND]"
    parser.add_argument("--world-size", default="1", metavar="N", help="number of ranks (1)")
    parser.add_argument(
        "--dry-run", action="store_true", help="print DeepSpeed's configuration, touch nothing"
    )
    parser.add_argument(
        "--any-layout", action="store_true", help="with --dry-run: whatever the ranks share out"
    )
    parser.epilog = (
        "COMMAND, with its arguments, is what the run's command.sh is to repeat;"
        " ./ALCF/train-gpt3.sh, which calls this, gives itself."
    )
    add_flags(parser, GROUPS)
    parser.set_defaults(run_verb=prepare_run, check_request=check_request, files=files_of)


def prepare_run(options: argparse.Namespace) -> int:
    """Check what was asked for and prepare what the ranks will find; raises UserError."""
    world, dry_run = whole(options.world_size), options.dry_run
    if not world:
        raise UserError(f"--world-size {options.world_size!r} is not a number of ranks")
    if options.any_layout and not dry_run:
        raise UserError("--any-layout: a run has one: give --dry-run too, or leave it out")
    machine = this_machine()
    if dry_run and not in_environment():  # another Python, whose packages say nothing
        machine = without_packages(machine)
    parts = read_flags(GROUPS, options)
    if options.any_layout:
        parts, world = on_one_rank(parts), 1
    config = make_config(parts, world, machine)
    _check_request(options, config, 0)
    if config.run.trainer != UPSTREAM:  # whose kernels are others
        _tell_attention(config, machine, load=not dry_run)
    files = options.files(config, 0)  # now: preparing data may take minutes
    look_at_data(config.data)
    if dry_run:
        _tell_request(config, not options.any_layout)
        _tell_batch(config)
        _tell_differences(config)
        print(files.pop(DS_CONFIG), end="")
        for name, text in files.items():
            print(f"# {name}\n{text}", end="")
        return EXIT_DONE
    _check_open_files()
    _check_file_size(config)
    vocabulary = _check_data(config)
    _check_request(options, config, vocabulary)
    _check_nvme(config)
    if config.run.run_dir:
        files = options.files(config, vocabulary)
        _make_folder(Path(config.run.run_dir), files, options.behind)
    return EXIT_DONE


def _check_request(options: argparse.Namespace, config: Config, vocabulary: int) -> None:
    """Of a checkpoint that is passed over the ranks warn, who look closer; where none will, we."""
    said: list[str] = []
    ranks_follow = False
    try:
        options.check_request(config, vocabulary, said.append)
        ranks_follow = not options.dry_run
    finally:
        for text in () if ranks_follow else said:
            print(f"longseq: warning: {text}", file=sys.stderr)


def _tell_attention(config: Config, machine: Machine, load: bool) -> None:
    """Say which kernel was chosen; load one that is a package, to see that it loads."""
    name = config.memory.kernel
    told = note(config, machine)
    if told:
        print(on_terminal(told, len("attention ")), file=sys.stderr)
    if load and machine.capability is not None and name in KERNELS and KERNELS[name].package:
        from longseq.attention.kernel import kernel

        kernel(name)


def on_terminal(text: str, indent: int) -> str:
    """A sentence for standard error: on a terminal wrapped between words, indented from the second
    line on.
    """
    if not sys.stderr.isatty():
        return text
    width = max(40, os.get_terminal_size(sys.stderr.fileno()).columns or 80)
    return fill(text, width, subsequent_indent=" " * indent, break_on_hyphens=False)


def _tell_request(config: Config, layout: bool) -> None:
    """What is trained, in the words of a run's opening: the last of a repeated flag has won."""
    net = config.network
    print(f"network   {net}", file=sys.stderr)
    if layout:
        print(f"layout    {config.layout}", file=sys.stderr)
        batch = f"{config.global_batch_size} x {net.seq_length:,} tokens"
        print(f"batch     {batch}", file=sys.stderr)


def _tell_batch(config: Config) -> None:
    """DeepSpeed counts the ranks that share a sequence as if each had samples of its own."""
    shared = config.layout.sequence_ranks
    if shared > 1:
        print(
            f"batch     DeepSpeed's train_batch_size {config.global_batch_size * shared} is the"
            f" global batch {config.global_batch_size} x {shared} ranks that share each sequence",
            file=sys.stderr,
        )


def _tell_differences(config: Config) -> None:
    """From the run that --load goes on from; a training says it in its opening."""
    before = find_before(Path(config.run.load)) if config.run.load else None
    for line in before.differences(config) if before else ():
        print(f"load      {line}", file=sys.stderr)


def files_of(config: Config, _vocabulary: int = 0) -> dict[str, str]:
    """What the ranks find in the run's folder: names and texts."""
    return {DS_CONFIG: json.dumps(_settings(config), indent=2) + "\n"}


def _settings(config: Config) -> dict[str, Any]:
    """DeepSpeed's settings; the file in the run's folder is what they are written to, not read."""
    train, run = config.training, config.run
    if run.run_dir and train.deepspeed_config == str(Path(run.run_dir) / DS_CONFIG):
        config = replace(config, training=replace(train, deepspeed_config=""))
    return deepspeed_settings(config)


def _check_data(config: Config) -> int:
    """Prepare a FASTA file; check what is prepared: damage is found before the ranks start.

    Gives the size of the vocabulary.
    """
    from longseq.data.datasets import check_data, open_datasets
    from longseq.data.held_out import refuse_empty, split_datasets

    if not config.data.data_path:
        raise UserError("--data-path is missing: name a FASTA file or a prepared prefix")
    vocabulary = check_data(config.data.data_path, config.data.tokenizer_type)
    datasets = open_datasets(config.data.data_path, config.data.tokenizer_type)
    cuts = list(zip(datasets, split_datasets(datasets, config.data), strict=True))
    refuse_empty(cuts, config.data, validates=config.run.eval_iters > 0)
    return vocabulary


def _check_open_files() -> None:
    """With too few a launcher stands still, or finds no network; trackers and pages are lost."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= most < LEAST_OPEN:  # without a limit it is below 0
        raise UserError(
            f"ulimit -n: a process may have {most} files open here, and a rank or its launcher has"
            f" up to {LEAST_OPEN}: `ulimit -n 1024`"
        )


def _check_file_size(config: Config) -> None:
    """A rank that meets this limit ends by a signal, or its launcher stays without a word."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    parameters = config.network.parameter_count(config.network.padded_vocabulary(1))
    each = OPTIMIZERS[config.training.optimizer].saved * parameters // config.layout.world_size
    if most == resource.RLIM_INFINITY or most >= max(LEAST_FILE, each):
        return
    need = f"logs and MPI's shared memory need up to {size(LEAST_FILE)}"
    if most >= LEAST_FILE:
        need = f"a rank's part of a checkpoint has {size(each)}"
    raise UserError(
        f"ulimit -f: a file may have {size(most)} here, and {need}: `ulimit -f unlimited`"
    )


def _check_nvme(config: Config) -> None:
    """The disk of this host, and the operator that all ranks load: built now, or every rank would
    start building it.
    """
    if nvme.wanted(config):
        parameters = config.network.parameter_count(config.network.padded_vocabulary(1))
        kept = nvme.bytes_kept(config, parameters) // config.layout.world_size
        print(f"longseq: {nvme.check_disk(Path(config.training.nvme_path), kept)} by each rank")
        nvme.build_operator()


def _make_folder(wanted: Path, files: dict[str, str], command: list[str]) -> None:
    folder = claim_run_folder(wanted, files)
    if command:
        try:
            write_command(folder, command)
        except UserError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
