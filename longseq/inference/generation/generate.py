"""`longseq generate`: sequences that a trained network makes up, after prompts or from nothing.

    longseq generate RUN --max-new-tokens 500 --samples 8 --seed 1 > made.fa
    longseq generate RUN prompts.fa --prompt ATGACC --temperature 0.8 --top-p 0.95 --output made.fa

The token that ends a document stands before each prompt, as before a document in training.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longseq.checkpoint.trained import Trained, find_trained
from longseq.config.arguments import Config, Layout
from longseq.config.flags import Parser
from longseq.data.indexed.format import Tokens
from longseq.data.tokenizers.base import SequenceTokenizer, Tokenizer
from longseq.data.tokenizers.letters import INVALID, LETTERS, code_table
from longseq.data.tokenizers.tagged import untagged
from longseq.errors import UserError
from longseq.inference.flags import add_computing, network_config, read_computing
from longseq.inference.generation.fasta import body, no_letters, told_apart
from longseq.inference.outputs import Output, check_outputs
from longseq.inference.progress import progress
from longseq.inference.ranks import on_ranks, warner
from longseq.inference.score import add_files, readers
from longseq.inference.tables import written_aside
from longseq.parallel.agreement import Ranks
from longseq.reports.format import counted

if TYPE_CHECKING:
    import torch

    from longseq.inference.generation.growing import Made
    from longseq.inference.network import Ready


def add_arguments(parser: Parser) -> None:
    """The arguments of `longseq generate`."""
    add_computing(parser)
    add = parser.add_argument
    add_files(parser, "*", "FASTA, …, whose records are prompts")
    add("--prompt", action="append", default=[], metavar="TEXT", help="a prompt; may be repeated")
    add("--max-new-tokens", type=int, default=200, metavar="N", help="tokens of a sequence (200)")
    add("--samples", type=int, default=1, metavar="N", help="sequences for each prompt (1)")
    add("--temperature", type=float, default=1.0, metavar="T", help="0: the likeliest token (1)")
    add("--top-k", type=int, default=0, metavar="K", help="only the K likeliest; 0: all (0)")
    add(
        "--top-p", type=float, default=1.0, metavar="P",
        help="only the likeliest that have this probability together (1)",
    )  # fmt: skip
    add("--seed", type=int, default=1234, metavar="N", help="of the drawing (1234)")
    add(
        "--stop", action="append", default=[], metavar="TOKEN",
        help="a token that ends a sequence, such as TAA; the one that ends documents always does",
    )  # fmt: skip
    add("--no-end", action="store_true", help="never draw the token that ends documents")
    add("--with-prompt", action="store_true", help="write the prompt before what follows it")
    add("--output", type=Path, metavar="FILE", help="a .fa or .fasta; else on the screen")
    parser.set_defaults(run_verb=generate)


@dataclass(frozen=True)
class Prompt:
    """What a sequence begins with; it is the prompt's n-th and that one's s-th sample."""

    name: str
    tokens: Tokens
    number: int
    sample: int


@dataclass(frozen=True)
class Asked:
    """What is to be made. stops: tokens that end a sequence, with their names; silent: those that
    are no letters of one, of which only stops are drawn.
    """

    trained: Trained
    config: Config
    prompts: list[Prompt]
    stops: dict[int, str]
    silent: frozenset[int]


def generate(options: argparse.Namespace) -> int:
    """`longseq generate`: returns the exit code, raises UserError."""
    layout, computing = read_computing(options)
    _check(options, layout)
    output = Output("--output", options.output, (".fa", ".fasta", ".fna"))
    check_outputs(options.run, options.files, output)

    def look(ranks: Ranks) -> Asked:
        trained = find_trained(options.run, warner(ranks), ranks, hashes=not computing.dry_run)
        config = network_config(trained, layout, computing, ranks.size)
        stops = _stops(trained.tokenizer, options.stop)
        prompts = list(_prompts(trained, options, warner(ranks)))
        _check_room(config.network.seq_length, prompts, options.max_new_tokens)
        return Asked(trained, config, prompts, stops, no_letters(trained.tokenizer))

    def work(asked: Asked, device: torch.device, ranks: Ranks) -> None:
        _make(asked, options, device, ranks)

    return on_ranks(computing, look, work)


def _make(asked: Asked, options: argparse.Namespace, device: torch.device, ranks: Ranks) -> None:
    from longseq.inference.forward import shared
    from longseq.inference.generation.growing import Made, grow
    from longseq.inference.generation.sampling import Sampling
    from longseq.inference.network import make_ready

    ready = make_ready(asked.trained, asked.config, device, ranks)
    ends = {asked.trained.tokenizer.end_of_document}
    may_end = asked.stops.keys() - (ends if options.no_end else set())
    never = tuple(sorted(asked.silent - may_end))
    sampling = Sampling(options.temperature, options.top_k, options.top_p, never)
    new, prompts = options.max_new_tokens, asked.prompts
    rows = min(asked.config.training.micro_batch_size, -(-len(prompts) // ready.mesh.dp.size))
    done = replaced = empty = 0
    with (
        _opened(options.output, ranks) as write,
        progress("generating", len(prompts) * new, ranks.rank) as advance,
    ):

        def make(ready: Ready, some: list[Prompt]) -> list[tuple[str, int]]:  # on one rank
            batch = [
                Made.drawn(one.name, one.tokens, options.seed, one.number, one.sample)
                for one in some
            ]
            for step in grow(ready, batch, sampling, asked.stops, new):
                advance(done * new + step * len(batch), counted(done, "sequence"))
            return [_fasta(asked, one, options) for one in batch]

        batches = (prompts[start : start + rows] for start in range(0, len(prompts), rows))
        for batch, (made,) in shared(ready, batches, make):
            done += len(batch)
            for text, strange in made:
                write(text)
                replaced += strange
                empty += text.count("\n") == 1
    if replaced:
        warner(ranks)(f"FASTA cannot hold {replaced:,} characters of prompts: each is written ?")
    if empty:
        warner(ranks)(
            f"{counted(empty, 'sequence')} came out empty, which score refuses: their first token"
            " ended them; --no-end lets none end so"
        )


def _check(options: argparse.Namespace, layout: Layout) -> None:
    for name, low, high in (
        ("max_new_tokens", 1, None), ("samples", 1, None), ("temperature", 0, None),
        ("top_k", 0, None), ("top_p", 0, 1), ("seed", 0, 2**63 - 1),
    ):  # fmt: skip
        value = getattr(options, name)
        good = value >= low and (high is None or value <= high) and value != float("inf")
        if not good or (name == "top_p" and value == 0):
            least = "above 0" if name == "top_p" else f"{low} or more"
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} {value}: give {least}" + (f", at most {high}" if high else ""))
    if options.temperature == 0 and (options.top_k or options.top_p != 1 or options.samples > 1):
        raise UserError(
            "--temperature 0 takes the likeliest token, and --top-k, --top-p or --samples would not"
            " act: leave them out"
        )
    tensor = "use --tensor-model-parallel-size (MPSIZE) alone"
    for asked, name, remedy in (
        (layout.ulysses > 1, f"--ds-sequence-parallel-size {layout.ulysses}", tensor),
        (layout.ring > 1, f"--context-parallel-size {layout.ring}", tensor),
        (layout.sequence_parallel, "--sequence-parallel", "leave it out (USE_SEQUENCE_PARALLEL=0)"),
    ):
        if asked:
            raise UserError(
                f"{name}: generate makes one token at a time, which no ranks can split: {remedy}"
            )


def _stops(tokenizer: Tokenizer, names: list[str]) -> dict[int, str]:
    """Tokens that end a sequence, by id; of nucleotides written as prompts may be, taa or UAA."""
    places = {name: place for place, name in enumerate(tokenizer.names())}
    inner, found = untagged(tokenizer), {}
    of_letters = isinstance(inner, SequenceTokenizer) or getattr(inner, "nucleotides", False)
    for name in names:
        codes = name.encode().translate(code_table())
        read = name if INVALID in codes or not of_letters else "".join(LETTERS[n] for n in codes)
        token = name if name in places else read
        if token not in places:
            raise UserError(f"--stop {name}: {tokenizer.specification} has no such token")
        found[places[token]] = token
    return found | {tokenizer.end_of_document: "end"}


def _prompts(
    trained: Trained, options: argparse.Namespace, warn: Callable[[str], None]
) -> Iterator[Prompt]:
    """One for each sample of each prompt; from nothing where there is no prompt."""
    (reader,) = readers(trained, options, options.files)
    found = [reader.typed("--prompt", f"prompt-{n}", text)
             for n, text in enumerate(options.prompt, 1)]  # fmt: skip
    given = [(one.name, one.tokens) for one in [*reader, *found]]
    if said := reader.said_of_unknown():
        warn(said)
    if reader.left_out:
        said = counted(reader.left_out, "letter", "is", "are")
        warn(f"{said} not used: behind the last whole token of a prompt")
    names = told_apart([name for name, _ in given])
    if renamed := sum(new != old for new, (old, _) in zip(names, given, strict=True)):
        said = counted(renamed, "prompt", "is", "are")
        warn(f"{said} named like one before: -2, -3, … stands behind the name")
    each = [(name, tokens) for name, (_, tokens) in zip(names, given, strict=True)]
    for number, (name, tokens) in enumerate(each or [("made", np.zeros(0, np.int64))]):
        for sample in range(options.samples):
            yield Prompt(f"{name}/{sample + 1}", tokens, number, sample)


def _check_room(length: int, prompts: list[Prompt], new: int) -> None:
    longest = max(prompts, key=lambda one: len(one.tokens))
    if len(longest.tokens) + new > length:
        raise UserError(
            f"--max-new-tokens {new} after a prompt of {len(longest.tokens):,} tokens"
            f" ({longest.name}) is more than the {length:,} that the network sees at once:"
            " make fewer, or with rotary positions give --seq-length"
        )


@contextmanager
def _opened(path: Path | None, ranks: Ranks) -> Iterator[Callable[[str], object]]:
    """What takes text: the screen, a file, or nothing on the ranks that do not write."""
    if ranks.rank:
        yield lambda _text: None
    elif path is None:
        yield sys.stdout.write
    else:
        with written_aside(path) as aside, aside.open("w", encoding="utf-8") as file:
            yield file.write


def _fasta(asked: Asked, one: Made, options: argparse.Namespace) -> tuple[str, int]:
    """A record, and how many of its characters are replaced."""
    tokens, trained = one.tokens, asked.trained
    if tokens and tokens[-1] in asked.silent:  # which ended it
        tokens = tokens[:-1]
    shown = [*one.prompt.tolist(), *tokens] if options.with_prompt else tokens
    text, replaced = body(trained.tokenizer, np.array(shown, dtype=np.int64))
    settings = {
        "checkpoint": trained.name,
        "prompt": len(one.prompt),
        "tokens": len(tokens),
        "ended": one.ended or "length",
        "temperature": f"{options.temperature:g}",
        "top_k": options.top_k,
        "top_p": f"{options.top_p:g}",
        "seed": options.seed,
    }
    header = " ".join([f">{one.name}", *(f"{name}={value}" for name, value in settings.items())])
    return f"{header}\n{text}", replaced
