"""`./longseq.sh VERB …`: what can be done without starting ranks. A verb is a row of VERBS.

A row names the function that gives argparse the verb's arguments and, as `run_verb`, what to call
with them. It is imported when its verb is called, so that none waits for another's libraries.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from longseq.config.flags import Parser, unknown
from longseq.errors import EXIT_DONE, EXIT_NO_ROOM, UserError
from longseq.host.atomic_files import NO_ROOM, no_name, reason

BEHIND = ("check", "plan", "simulate", "bench")  # take a command, or the trainer's words, after --
EXIT_INTERRUPTED = 130
# By task, as --help lists them
TASKS: dict[str, dict[str, tuple[str, str]]] = {
    "data": {
        "prepare": (
            "longseq.data.commands:add_prepare",
            "turn sequence files, tables and text into tokens",
        ),
        "data": (
            "longseq.data.looking:add_data",
            "inspect prepared data, verify them, turn them back into sequences",
        ),
    },
    "before a run": {
        "check": (
            "longseq.upstream.request:add_arguments",
            "check what a run is given, and prepare its data",
        ),
        "plan": (
            "longseq.planning.command:add_arguments",
            "how much memory a run needs, how fast it is, and what would fit",
        ),
        "simulate": (
            "longseq.planning.simulate.command:add_arguments",
            "count what one rank of a run of any size holds and sends, without its memory",
        ),
        "doctor": (
            "longseq.doctor.command:add_arguments",
            "check every host of this job, or measure this machine",
        ),
        "bench": (
            "longseq.bench.command:add_arguments",
            "measure speed by length, or the longest sequence",
        ),
    },
    "runs": {
        "status": ("longseq.reports.live.status:add_arguments", "list jobs, chains and runs"),
        "watch": ("longseq.reports.live.watch:add_arguments", "follow a run or a job"),
        "report": (
            "longseq.reports.command:add_arguments",
            "make a page of each run, and a table that compares them",
        ),
        "sync": ("longseq.run.sync:add_arguments", "send offline runs to Weights & Biases"),
        "checkpoint": (
            "longseq.checkpoint.command:add_arguments",
            "inspect checkpoints, verify them, copy or average their weights",
        ),
    },
    "what was trained": {
        "score": (
            "longseq.inference.score:add_arguments",
            "how likely a network finds sequences, tokens or variants",
        ),
        "generate": (
            "longseq.inference.generation.generate:add_arguments",
            "sequences that a network makes up",
        ),
        "embed": (
            "longseq.inference.embedding.embed:add_arguments",
            "what a network makes of sequences, as vectors",
        ),
        "evaluate": (
            "longseq.inference.evaluation.evaluate:add_arguments",
            "what a network has learned, beside what knows nothing of it",
        ),
    },
    "other programs' models": {
        "export": ("longseq.huggingface.command:add_export", "write a model for transformers"),
        "import": (
            "longseq.huggingface.command:add_import",
            "take over a model of transformers, to train it further",
        ),
        "convert": (
            "longseq.upstream.convert:add_arguments",
            "take over a checkpoint of Megatron-DeepSpeed",
        ),
    },
    "these commands": {
        "flags": ("longseq.reports.flag_table:add_arguments", "list the trainer's arguments"),
        "completion": (
            "longseq.reports.completion:add_arguments",
            "print what lets bash or zsh complete all of this",
        ),
    },
}
VERBS = {name: row for rows in TASKS.values() for name, row in rows.items()}


class AllVerbs(Parser):
    """Its help lists the verbs by task."""

    def format_help(self) -> str:
        lines = {
            action.dest: action
            for verbs in self._actions
            if isinstance(verbs, argparse._SubParsersAction)
            for action in verbs._choices_actions
        }
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        for task, rows in TASKS.items():
            formatter.start_section(task)
            formatter.add_arguments([lines[name] for name in rows])
            formatter.end_section()
        formatter.add_text(f"{self.prog} VERB --help explains one.")
        return formatter.format_help()


def called() -> str:
    """How the verbs were called: by the environment's program, or the way that works anywhere."""
    return "longseq" if Path(sys.argv[0]).name == "longseq" else "./longseq.sh"


def make_parser(verb: str | None) -> tuple[Parser, Parser]:
    """The parser of all verbs, and that of `verb`, with the arguments of that one alone.

    None: with the arguments of all, which takes seconds of imports.
    """
    parser = AllVerbs(prog=called(), description="What can be done without starting ranks.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    found: Parser = parser
    for name, (where, text) in VERBS.items():
        one = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:])
        if verb in (name, None):
            module, function = where.split(":")
            getattr(import_module(module), function)(one)
            found = one
    return parser, found


def run_verb(words: Sequence[str]) -> int:
    """Run the verb that `words` begin with; returns its exit code, raises UserError."""
    at = list(words).index("--") if "--" in words else len(words)
    if not words[0].startswith("-") and words[0] not in VERBS:
        raise UserError(f"unknown verb {words[0]!r}: use one of {', '.join(VERBS)}")
    parser, verb = make_parser(words[0])
    options, rest = parser.parse_known_args(words[:at])
    if rest:
        raise UserError(unknown(rest, verb, words[:at]))
    options.behind = list(words[at + 1 :])
    if options.behind and words[0] not in BEHIND:
        raise UserError(f"-- {options.behind[0]}: {words[0]} takes nothing after --: leave it out")
    options.all_verbs = lambda: make_parser(None)[0]  # what a shell completes
    code: int = options.run_verb(options)
    return code


def _go_where_it_was_typed() -> None:
    """Ranks start in the tree (ALCF/use.sh); names mean what they meant where they were typed."""
    if folder := os.environ.pop("LONGSEQ_FROM", ""):
        try:
            os.chdir(folder)
        except OSError as error:
            raise UserError(
                f"{folder} cannot be entered on {os.uname().nodename} ({error.strerror}): start"
                " from a folder that all hosts have"
            ) from None


def _tell(error: UserError) -> None:
    """One line; a rank's is for ALCF/use.sh to show."""
    if "RANK" in os.environ:
        from longseq.run.safety.abort import report

        report(error.exit_code, f"longseq: {error}")
    else:
        print(f"longseq: {error}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code is 2 for the user's mistakes, after one line on stderr."""
    try:
        _go_where_it_was_typed()
        code = run_verb(list(sys.argv[1:] if argv is None else argv) or ["--help"])
        sys.stdout.flush()
        return code
    except UserError as error:
        _tell(error)
        return error.exit_code
    except KeyboardInterrupt as stop:
        if str(stop):  # something was begun
            print(f"longseq: {stop}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except OSError as error:
        if mistake := no_name(error):
            _tell(mistake)
            return mistake.exit_code
        if error.errno not in NO_ROOM:
            raise
        print(f"longseq: {error.filename or 'standard output'}: {reason(error)}", file=sys.stderr)
        with contextlib.suppress(OSError):  # Python flushes it once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NO_ROOM


if __name__ == "__main__":
    sys.exit(main())
