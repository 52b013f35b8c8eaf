"""`longseq plan`: what a run would need, from the argument list that trains it; starts nothing.

longseq plan --gpu a100-40 --gpus 32 -- --num-layers 64 …
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from longseq.config.arguments import GROUPS, Data, Training
from longseq.config.checks import make_config
from longseq.config.flags import Parser, parse, whole
from longseq.config.shape_checks import on_one_rank
from longseq.errors import EXIT_DONE, UserError
from longseq.host.machine import Machine, gpu_capability
from longseq.planning.advice import draw_lengths, lengths, numbers, suggestion
from longseq.planning.gpus import GPUS, Node, gpu_named, machines, node_of, usual_node
from longseq.planning.plan import GIB, REFUSED, Plan, as_json, make_plan
from longseq.planning.search import longest, suggest
from longseq.planning.show import draw, picture_path, progress, reason_of, table
from longseq.planning.systems import SYSTEMS, Known, system_named
from longseq.planning.ways import Request

NUCLEOTIDES = 16  # letters and EOD: known without numpy, on a login node with nothing installed


def add_arguments(parser: Parser) -> None:
    """The verb's own options; the trainer's flags come behind --."""
    parser.usage = "%(prog)s --gpu NAME [...] -- ARGUMENT ..."
    parser.add_argument("--gpu", metavar="NAME", help=f"one of {', '.join(GPUS)}")
    parser.add_argument("--machine", metavar="NAME", help=f"one of {', '.join(machines())}")
    parser.add_argument("--gpus", metavar="N", help="ranks (the product of the axes given)")
    parser.add_argument("--gpus-per-node", metavar="M", help="GPUs of a node (the maker's own)")
    parser.add_argument(
        "--vocab-size", metavar="N", help="tokens of the vocabulary (those of the data)"
    )
    parser.add_argument(
        "--like", metavar="SYSTEM", help=f"as another system does it: {', '.join(SYSTEMS)}"
    )
    parser.add_argument("--suggest", action="store_true", help="the fastest way that fits")
    parser.add_argument("--longest", action="store_true", help="the longest sequence that fits")
    parser.add_argument(
        "--with",
        metavar="WORDS",
        dest="typed",
        default="",
        help="what the line that they print begins with",
    )
    parser.add_argument(
        "--check", action="store_true", help="one line; refuse a run that needs far too much"
    )
    parser.add_argument("--json", action="store_true", help="the plan in numbers (docs/plan.md)")
    parser.add_argument("--picture", metavar="FILE", help="memory by kind: .svg, .png or .pdf")
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="the trainer's, behind --")
    parser.set_defaults(run_verb=run)


def run(options: argparse.Namespace) -> int:
    """Plan one run and print it; raises UserError."""
    if options.arguments:
        raise UserError(f"{options.arguments[0]!r}: the trainer's arguments go behind --")
    refuse_model_key(options.behind)
    node, picture = _node(options), picture_path(options.picture)
    if options.suggest or options.longest:
        return advise(options, node, picture)
    known = system_named(options.like) if options.like else None
    ranks = count("--gpus", options.gpus)
    try:
        found = plan_of(options.behind, node, ranks, options.vocab_size, known)
    except ImportError as error:
        if options.check:  # before anything is installed: what needs it looks again
            print(f"longseq: note: the plan was not looked at, as {error.name} is not here yet")
            return EXIT_DONE
        raise UserError(f"plan needs {error.name}, which ./install.sh installs") from None
    if options.check:
        print(f"longseq: {checked(found)}")
        return EXIT_DONE
    if picture:
        draw(found, picture)
    if options.json:
        print(json.dumps(as_json(found), indent=2))
    else:
        print(table(found, shutil.get_terminal_size().columns))
    return EXIT_DONE


def refuse_model_key(argv: list[str], environ: Mapping[str, str] = os.environ) -> None:
    """A network that the user has named for the launcher, where the default would be planned."""
    key = environ.get("MODEL_SIZE_KEY")
    if key and not any(word.partition("=")[0] == "--num-layers" for word in argv):
        raise UserError(
            f"MODEL_SIZE_KEY={key} is read by ./ALCF/train-gpt3.sh: PLAN=1, PLAN=suggest or"
            " PLAN=longest plans it there; here give --num-layers, --hidden-size and"
            " --num-attention-heads"
        )


def checked(plan: Plan) -> str:
    """One line; raises UserError where more is needed than any estimate is wrong by."""
    peak, there = plan.peak_gib, plan.available / GIB
    text = f"{peak:.1f} of {there:.1f} GiB a GPU by the plan"
    if plan.fullness > REFUSED:
        raise UserError(
            f"{text}: {reason_of(plan)}: PLAN=1 shows it, ./longseq.sh plan --suggest says what"
            " would fit, PLAN=0 goes on all the same"
        )
    if plan.fits != "yes":
        return f"warning: {text}: {reason_of(plan)}: PLAN=1 shows it"
    days = plan.speed["tokens_per_second"] * 86400 / 1e9 if plan.speed else 0
    return f"fits: {text}" + (f", {days:.3g} billion tokens a day" if days else "")


def advise(options: argparse.Namespace, node: Node | None, picture: Path | None) -> int:
    """Search, and print what was found; raises UserError."""
    name = "--suggest" if options.suggest else "--longest"
    if options.suggest and options.longest:
        raise UserError("--suggest and --longest exclude each other: give one")
    if node is None or not options.gpus:
        missing = "--gpu NAME or --machine NAME" if node is None else "--gpus N"
        raise UserError(f"{name} needs {missing}")
    if options.like:
        raise UserError(f"{name} is of this trainer: leave --like {options.like} out")
    if options.suggest and picture:
        raise UserError("--picture with --suggest shows nothing: give --longest, or neither")
    groups = parse(GROUPS, options.behind, "longseq plan --")
    _check_gpu(groups[3], node)
    ranks = count("--gpus", options.gpus)
    vocabulary = count("--vocab-size", options.vocab_size) or vocabulary_of(groups[4])
    request = Request(groups, ranks, node, vocabulary, options.typed)
    tell = progress(name)
    found, refused = (suggest if options.suggest else longest)(request, tell)
    if not found:  # because of what no layout mends?
        make_config(on_one_rank(groups), 1, request.machine)
    if options.suggest:
        text = suggestion(request, found, refused)
    else:
        text = lengths(request, found, refused)
        if picture:
            draw_lengths(found, picture)
    print(json.dumps(numbers(request, found[:20]), indent=2) if options.json else text)
    return EXIT_DONE


def plan_of(
    argv: list[str],
    node: Node | None,
    ranks: int,
    vocab_size: str | None,
    known: Known | None = None,
) -> Plan:
    """The plan of the trainer's arguments on so many ranks; 0: as many as their axes make."""
    groups = parse(GROUPS, argv, "longseq plan --")
    _check_gpu(groups[3], node)
    machine = Machine(node.gpu.capability if node else None)
    config = make_config(groups, ranks or groups[1].model_ranks, machine)
    vocabulary = count("--vocab-size", vocab_size) or vocabulary_of(config.data)
    available = 0.0 if node else _share(config.layout.world_size)
    return make_plan(config, vocabulary, node, known, available)


def _check_gpu(train: Training, node: Node | None) -> None:
    if train.bf16 and node and (0, 0) < node.gpu.capability < (8, 0):
        raise UserError(f"--bf16: a {node.gpu.title} has no bf16: give --fp16")


def count(name: str, text: str | None) -> int:
    """A number above 0, or 0 where none was given."""
    if text is None:
        return 0
    if not (number := whole(text)):
        raise UserError(f"{name} {text!r} is not a number above 0")
    return number


def _node(options: argparse.Namespace) -> Node | None:
    """The node that is named; None: the CPU of this host."""
    each = count("--gpus-per-node", options.gpus_per_node)
    if options.machine:
        if options.gpu or each:
            given = "--gpu" if options.gpu else "--gpus-per-node"
            raise UserError(
                f"--machine {options.machine} says what its nodes are: leave {given} out"
            )
        return node_of(options.machine)
    if options.gpu:
        return usual_node(gpu_named(options.gpu), each)
    if each:
        raise UserError(f"--gpus-per-node {each}: of which GPU? give --gpu NAME")
    if gpu_capability() is not None:
        raise UserError(f"--gpu is missing: name this host's, one of {', '.join(GPUS)}")
    return None


def _share(ranks: int) -> float:
    """What each of so many ranks may take of this host's memory."""
    from longseq.host.host_memory import available_bytes

    return available_bytes() / ranks


def vocabulary_of(data: Data) -> int:
    """Tokens of the data's vocabulary; of nucleotides where nothing says what the data are."""
    beside = Path(f"{data.data_path}.json")
    if data.data_path and beside.is_file():
        try:
            return int(json.loads(beside.read_text(encoding="utf-8"))["vocab_size"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"--data-path: {beside} says no vocab_size: give --vocab-size"
            ) from None
    if data.tokenizer_type in ("", "nucleotide"):
        return NUCLEOTIDES
    from longseq.data.tokenizers.registry import tokenizer_from

    return tokenizer_from(data.tokenizer_type, "--tokenizer-type").vocab_size
