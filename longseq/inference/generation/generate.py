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
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from longseq.checkpoint.trained import Trained, find_trained
from longseq.config.arguments import Layout
from longseq.config.flags import Parser
from longseq.data.tokenizers.base import Tokenizer
from longseq.errors import EXIT_DONE, UserError
from longseq.inference.flags import add_computing, read_computing
from longseq.inference.generation.cache import Cache
from longseq.inference.generation.sampling import Sampling
from longseq.inference.network import Ready, make_ready
from longseq.inference.progress import progress
from longseq.inference.ranks import on_ranks, warner
from longseq.inference.sequences import Reader, Weighing
from longseq.inference.tables import check_output, written_aside
from longseq.model.dropout import mix
from longseq.parallel.agreement import Ranks

LINE = 70


def add_arguments(parser: Parser) -> None:
    """The arguments of `longseq generate`."""
    add_computing(parser)
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="FASTA, …, whose records are prompts")
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


@dataclass
class Made:
    """One sequence as it grows: its prompt, its tokens, and why it ended ("": it has not)."""

    name: str
    prompt: np.ndarray
    generator: torch.Generator
    tokens: list[int] = field(default_factory=list)
    ended: str = ""


def generate(options: argparse.Namespace) -> int:
    """`longseq generate`: returns the exit code, raises UserError."""
    layout, computing = read_computing(options)
    _check(options, layout)
    check_output("--output", options.output, (".fa", ".fasta", ".fna"))

    def work(device: torch.device, ranks: Ranks) -> int:
        trained = find_trained(options.run, warner(ranks), ranks)
        stops = _stops(trained.tokenizer, options.stop)
        end = trained.tokenizer.end_of_document
        never = (end,) if options.no_end else ()
        sampling = Sampling(options.temperature, options.top_k, options.top_p, never)
        prompts = list(_prompts(trained, options, warner(ranks)))
        ready = make_ready(trained, layout, computing, device, ranks)
        _check_room(ready, prompts, options.max_new_tokens)
        total = len(prompts) * options.max_new_tokens
        with (
            _opened(options.output, ranks) as write,
            progress("generating", total, ranks.rank) as advance,
        ):
            rows, done = ready.config.training.micro_batch_size, 0
            for start in range(0, len(prompts), rows):
                batch = prompts[start : start + rows]
                for step in grow(ready, batch, sampling, stops, options.max_new_tokens):
                    made = done * options.max_new_tokens + step * len(batch)
                    advance(made, f"{done:,} sequences")
                done += len(batch)
                write("".join(_fasta(trained, one, options) for one in batch))
        return EXIT_DONE

    return on_ranks(computing, work)


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
    if layout.sequence_ranks > 1 or layout.sequence_parallel:
        raise UserError(
            "generate makes one token at a time, which no ranks can split: use"
            " --tensor-model-parallel-size alone"
        )


def _stops(tokenizer: Tokenizer, names: list[str]) -> dict[int, str]:
    """Tokens that end a sequence, by id."""
    places = {name: place for place, name in enumerate(tokenizer.names())}
    for name in names:
        if name not in places:
            raise UserError(f"--stop {name}: {tokenizer.specification} has no such token")
    return {places[name]: name for name in names} | {tokenizer.end_of_document: "end"}


def _prompts(
    trained: Trained, options: argparse.Namespace, warn: Callable[[str], None]
) -> Iterator[Made]:
    """One for each sample of each prompt; from nothing where there is no prompt."""
    reader = Reader(trained, options.files, Weighing())
    found = [reader.encode("--prompt", f"prompt-{n}", text.encode())
             for n, text in enumerate(options.prompt, 1)]  # fmt: skip
    given = [(one.name, one.tokens) for one in [*reader, *found]]
    if reader.left_out:
        warn(f"{reader.left_out:,} letters behind the last whole token of a prompt are not used")
    for number, (name, tokens) in enumerate(given or [("made", np.zeros(0, np.int64))]):
        for sample in range(options.samples):
            seed = mix(options.seed, number, sample)
            generator = torch.Generator().manual_seed(seed)
            yield Made(f"{name}/{sample + 1}", tokens, generator)


def _check_room(ready: Ready, prompts: list[Made], new: int) -> None:
    longest = max(prompts, key=lambda one: len(one.prompt))
    if len(longest.prompt) + new > ready.length:
        raise UserError(
            f"--max-new-tokens {new} after a prompt of {len(longest.prompt):,} tokens"
            f" ({longest.name}) is more than the {ready.length:,} that the network sees at once:"
            " make fewer, or with rotary positions give --seq-length"
        )


def grow(
    ready: Ready, batch: list[Made], sampling: Sampling, stops: dict[int, str], count: int
) -> Iterator[int]:
    """Let the sequences of a batch grow by up to `count` tokens; yields how many have been."""
    begin = ready.trained.tokenizer.end_of_document
    lengths = torch.tensor([1 + len(one.prompt) for one in batch], device=ready.device)
    prompts = torch.zeros(len(batch), int(lengths.max()), dtype=torch.int64)
    for row, one in zip(prompts, batch, strict=True):
        row[: 1 + len(one.prompt)] = torch.tensor([begin, *one.prompt.tolist()])
    cache = Cache(ready.model, len(batch), int(lengths.max()) + count)
    hidden = cache.prefill(prompts.to(ready.device), lengths)
    for number in range(1, count + 1):
        logits = ready.model.head.logits(hidden)[0]
        tokens = sampling.next(logits, [one.generator for one in batch])
        for one, token in zip(batch, tokens.tolist(), strict=True):
            if not one.ended:
                one.tokens.append(token)
                one.ended = stops.get(token, "")
        yield number
        if all(one.ended for one in batch):
            return
        if number < count:
            hidden = cache.step(tokens.to(ready.device))


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


def _fasta(trained: Trained, one: Made, options: argparse.Namespace) -> str:
    tokens, end = one.tokens, trained.tokenizer.end_of_document
    if tokens and tokens[-1] == end:
        tokens = tokens[:-1]
    shown = [*one.prompt.tolist(), *tokens] if options.with_prompt else tokens
    text = trained.tokenizer.decode(np.array(shown, dtype=np.int64))
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
    lines = [text[start : start + LINE] for start in range(0, len(text), LINE)]
    return "\n".join([header, *lines]) + "\n"
