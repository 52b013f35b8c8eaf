"""docs/flags.md: every argument of the trainer, as longseq.config.arguments declares them."""

from __future__ import annotations

import argparse
import sys

from longseq.config.arguments import GROUPS
from longseq.config.flags import Flag, Parser, flags_of, parse, subject
from longseq.errors import EXIT_DONE

HEAD = """# Arguments of the trainer

`ALCF/train-gpt3.sh` makes them from the environment; more go after `--`, and the last one wins.
Those of Megatron-DeepSpeed that are none here are answered by what to give instead
([upstream.md](upstream.md)). Written by `./longseq.sh flags > docs/flags.md`.
"""


def add_arguments(parser: Parser) -> None:
    """None."""
    parser.set_defaults(run_verb=flags)


def flags(_options: argparse.Namespace) -> int:
    """On a terminal as wide as it is, else docs/flags.md."""
    if sys.stdout.isatty():
        parse(GROUPS, ["--help"])
    print(flag_table())
    return EXIT_DONE


def flag_table() -> str:
    """Markdown with a table for each group of flags."""
    parts = [HEAD]
    for group in GROUPS:
        parts += [f"## {subject(group)}", "| flag | default | meaning |", "|---|---|---|"]
        parts += [_row(item) for item in flags_of(group)]
        parts.append("")
    return "\n".join(parts).rstrip()


def _row(item: Flag) -> str:
    default = "off" if item.kind is bool else str(item.default) or "none"
    choices = f" ({', '.join(item.choices)})" if item.choices else ""
    return f"| `{item.name}` | {default} | {item.help}{choices} |"
