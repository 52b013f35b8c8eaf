"""`longseq simulate`: a step of one rank of a run, without its memory and without other ranks.

longseq simulate --gpus 32 -- --num-layers 64 --tensor-model-parallel-size 32 …
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings

from longseq.config.arguments import GROUPS, Config
from longseq.config.checks import make_config
from longseq.config.flags import Parser, parse
from longseq.errors import EXIT_DONE, UserError
from longseq.host.machine import Machine
from longseq.memory.choosing import choose
from longseq.memory.recompute_policy import RecomputePolicy, asked
from longseq.memory.system import OURS
from longseq.planning.command import count, refuse_model_key, vocabulary_of
from longseq.planning.gpus import GPUS, gpu_named
from longseq.planning.show import picture_path

GIB = 2**30


def add_arguments(parser: Parser) -> None:
    """The verb's own options; the trainer's flags come behind --."""
    parser.usage = "%(prog)s [--gpus N] [...] -- ARGUMENTS"
    parser.add_argument("--gpus", metavar="N", help="ranks (the product of the axes given)")
    parser.add_argument("--vocab-size", metavar="N", help="tokens of the vocabulary (the data's)")
    parser.add_argument(
        "--gpu", metavar="NAME", help=f"choose recomputation by its memory: {', '.join(GPUS)}"
    )
    parser.add_argument("--all", action="store_true", help="run every layer and every tile")
    parser.add_argument("--json", action="store_true", help="in numbers (docs/simulate.md)")
    parser.add_argument(
        "--picture", metavar="FILE", help="memory over the step: .svg, .png or .pdf"
    )
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="the trainer's, behind --")
    parser.set_defaults(run_verb=run)


def run(options: argparse.Namespace) -> int:
    """Simulate and print; raises UserError."""
    if options.arguments:
        raise UserError(f"{options.arguments[0]!r}: the trainer's arguments go behind --")
    refuse_model_key(options.behind)
    config = _config(options.behind, count("--gpus", options.gpus))
    on_gpu = config.training.device != "cpu"
    vocabulary = count("--vocab-size", options.vocab_size) or vocabulary_of(config.data)
    policy = _policy(config, vocabulary, options.gpu)
    picture = picture_path(options.picture)

    from longseq.planning.simulate.rank import check, simulate

    check(config)
    warnings.simplefilter("ignore")  # torch's, about what has no data here
    began = time.monotonic()
    progress = _Progress()
    found = simulate(config, vocabulary, policy, on_gpu, progress.at, thin=not options.all)
    progress.end()

    from longseq.planning.simulate.show import as_json, draw, table

    if picture:
        draw(found, config, picture)
    if options.json:
        print(json.dumps(as_json(found, config, vocabulary, policy), indent=2))
    else:
        print(table(found, config, vocabulary, policy, time.monotonic() - began))
    return EXIT_DONE


def _config(argv: list[str], ranks: int) -> Config:
    """The trainer's arguments, checked; without --device they are those of a run on GPUs."""
    groups = parse(GROUPS, argv, "longseq simulate --")
    if groups[3].device == "auto":
        groups = parse(GROUPS, [*argv, "--device", "cuda"], "longseq simulate --")
    return make_config(groups, ranks or groups[1].model_ranks, Machine())


def _policy(config: Config, vocabulary: int, gpu: str | None) -> RecomputePolicy:
    """What is recomputed: as the flags say, or as training would choose on a GPU of that name."""
    device = config.training.device
    if gpu is None:
        return asked(config, device=device)
    if config.memory.recompute_granularity != "auto" or config.memory.recomputes_layers:
        raise UserError(f"--gpu {gpu}: the flags say what is recomputed: leave it out")
    if device == "cpu":
        raise UserError(f"--gpu {gpu} and --device cpu exclude each other: give one")
    available = gpu_named(gpu).gib * GIB - OURS.context  # as a run's ranks, which have theirs
    return choose(config, vocabulary, available, device)


class _Progress:
    """Layers done of all, and how long the rest will take; on a terminal only."""

    def __init__(self) -> None:
        self.began, self.shown = time.monotonic(), sys.stderr.isatty()

    def at(self, done: int, total: int) -> None:
        if self.shown:
            left = (time.monotonic() - self.began) * (total - done) / done
            text = f"\rsimulating: layer {done} of {total}, {left:.0f} s left \033[K"
            print(text, end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
