"""`longseq bench`: speed by length, or the longest sequence, of layouts, networks and kernels.

longseq bench --lengths 512 2k 8k --layouts tp ulysses ring --ranks 2
longseq bench --longest --ranks 1 2 4 --memory 2 --output outputs/longest
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from longseq.config.flags import Parser, whole
from longseq.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED_EARLY, UserError
from longseq.host.machine import gpu_capability
from longseq.reports.format import duration
from longseq.run.safety.stopping import end_time

LENGTHS = ("512", "1k", "2k", "4k", "8k", "16k", "32k", "64k")
# What each case sets itself, and the option that says it to the bench
SWEPT = {"MODEL_SIZE_KEY": "--networks", "USE_FLASH_ATTN": "--kernels", "NGPUS": "--ranks",
         "SP_TYPE": "--layouts", "MPSIZE": "--layouts", "SPSIZE": "--layouts",
         "RINGSIZE": "--layouts", "SEQ_LEN": "--lengths", "TRAIN_ITERS": "--steps", "LOAD": "",
         "DRY_RUN": "--list", "OUTPUT_DIR": "--output"}  # fmt: skip
OFF = ("0", "off", "false", "no")  # an older spelling that asks for nothing
OF_SUBMISSION = {"DRY_RUN", "OUTPUT_DIR"}  # submit.sh, which lists the cases, obeys these
LONGEST = 1 << 24  # tokens; where a search ends by itself
FOR_TABLES = 120.0  # seconds kept back at a job's end; of a short one a fifth


def add_arguments(parser: Parser) -> None:
    """What is tried, how, and where it is kept."""
    add = parser.add_argument
    add("--lengths", nargs="+", default=LENGTHS, metavar="TOKENS",
        help=f"as 512 or 64k ({LENGTHS[0]}, and doubled up to {LENGTHS[-1]})")  # fmt: skip
    add("--layouts", nargs="+", default=("tp", "ulysses", "ring"), metavar="AXIS",
        help="tp, ulysses, ring, dp, or products as tp2xring (tp ulysses ring)")  # fmt: skip
    add("--ranks", nargs="+", default=(), metavar="N", help="numbers of ranks (all there are)")
    add("--networks", nargs="+", default=("GPT_SMALL",), metavar="KEY",
        help="of ./ALCF/train-gpt3.sh --list-models (GPT_SMALL)")  # fmt: skip
    add("--kernels", nargs="+", default=("1",), metavar="NAME",
        help="values of USE_FLASH_ATTN (1: the best there is here)")  # fmt: skip
    add("--steps", default="3", metavar="N", help="steps that count, after one that does not (3)")
    add("--longest", action="store_true", help="search the longest sequence, from the first length")
    add(
        "--memory", default="0", metavar="GIB", help="what a rank on a CPU may take (what there is)"
    )
    add("--timeout", default="10m", metavar="TIME", help="for one case (10m)")
    add("--within", default="", metavar="TIME",
        help="for all: the rest is left for another call (what is left of a job)")  # fmt: skip
    add("--again", nargs="+", default=(), metavar="OUTCOME",
        help="run these again: failed, refused, timed-out")  # fmt: skip
    add("--list", action="store_true", help="print the cases and run none")
    add("--no-published", action="store_true", help="leave out what others published")
    add("--output", type=Path, default=Path("outputs/bench"), metavar="FOLDER",
        help="results and pictures (outputs/bench); the same one goes on")  # fmt: skip
    parser.prog = os.environ.get("LONGSEQ_SCRIPT") or parser.prog
    parser.usage = "%(prog)s [OPTION ...] [-- ARGUMENT ...]"
    parser.epilog = (
        "ARGUMENT: of the trainer (docs/flags.md), for every case. docs/bench.md has more."
    )
    parser.set_defaults(run_verb=bench)


def bench(options: argparse.Namespace) -> int:
    """Run what is not known yet, then show all of it; 75 where time or somebody ended it, 1 where
    no case could be measured.
    """
    from longseq.bench.case import all_cases, in_order, read_layout

    there = os.environ.get("LONGSEQ_RANKS", "2")  # from ALCF/bench.sh
    ranks = [count("--ranks", text) for text in options.ranks or (there,)]
    layouts = [read_layout(name, n) for n in ranks for name in options.layouts]
    usable = [layout for layout in layouts if layout]
    lengths = sorted({read_tokens(text) for text in options.lengths})
    if options.longest:
        lengths = lengths[:1]
    cases = in_order(all_cases(options.networks, options.kernels, usable, lengths))
    if not cases:
        raise UserError("no layout of --layouts shares out --ranks and --lengths: give others")
    if options.list:
        refuse_swept(OF_SUBMISSION)
        for case in cases:
            print(case.name)
        return EXIT_DONE
    from longseq.bench.kept import OK, Kept
    from longseq.bench.running import How, run_case
    from longseq.bench.sweep import Clock, sweep

    how = How(
        options.output,
        count("--steps", options.steps),
        memory(options.memory),
        options.behind,
    )
    request = common(how)
    clock = Clock(seconds("--timeout", options.timeout), within(options.within))
    if clock.within:
        say(f"{duration(clock.within)} for all of it")

    def run(case: Any, most: float) -> Any:
        return run_case(case, how, most)

    for number in (signal.SIGTERM, signal.SIGUSR1):  # a job's end, and Slurm's notice of it
        signal.signal(number, signal.default_int_handler)
    with Kept(how.folder, request) as kept:
        again = {text.replace("-", " ") for text in options.again}
        before = kept.found
        kept.found = {k: one for k, one in before.items() if one.outcome not in again}
        try:
            work = _search if options.longest else sweep
            whole = work(cases, kept, run, clock, say)
            ended = False
        except KeyboardInterrupt:
            whole, ended = False, True
        kept.found = before | kept.found  # what no time was left for stays as it was
        signal.signal(signal.SIGUSR1, lambda *_: None)  # what is left after a notice is theirs
        try:
            _show(options, kept, cases, None if ended else clock)
        except KeyboardInterrupt:  # the same command draws what is missing
            whole = False
    if not whole:
        say("not all of it: the same command goes on")
        return EXIT_STOPPED_EARLY
    if not any(one.outcome == OK for one in _own(kept, cases)):
        say(f"no case was measured; what each said: {how.folder / 'log'}")
        return EXIT_FAILED
    return EXIT_DONE


def _search(cases: Sequence[Any], kept: Any, run: Any, clock: Any, say: Any) -> bool:
    from longseq.bench.kept import TIMED_OUT
    from longseq.bench.longest import find_longest
    from longseq.bench.sweep import told

    def try_one(case: Any) -> Any:
        if case.key in kept.found:
            return kept.found[case.key]
        if clock.left <= 0:
            return None
        say(case.name)
        result = run(case, min(clock.case, clock.left))
        if result is None:
            raise KeyboardInterrupt
        if result.outcome == TIMED_OUT and clock.left <= 0:
            return None
        kept.add(result)
        say(f"    {told(result)}")
        return result

    return all(find_longest(case, LONGEST, try_one) for case in cases)


def _own(kept: Any, cases: Sequence[Any]) -> list[Any]:
    """The results of these cases' curves."""
    series = {(case.network, case.kernel, case.layout.name, case.layout.ranks) for case in cases}
    return [
        one
        for one in kept.found.values()
        if (one.network, one.kernel, one.layout, one.ranks) in series
    ]


def _show(options: argparse.Namespace, kept: Any, cases: Sequence[Any], clock: Any) -> None:
    """Tables on the terminal, and all files; then the pictures again with what is planned for
    2023's runs, which takes a while: none of it without `clock`, whose time it counts in.
    """
    from longseq.bench import published
    from longseq.bench.pictures import draw, panels_of, write_page
    from longseq.bench.tables import reach_table, show, speed_table, write_tables

    results = _own(kept, cases)
    if not results:
        return
    limit = float(kept.request["memory_gib"])
    table = reach_table(results, limit) if options.longest else speed_table(results)
    show(table)
    for path in write_tables(kept.folder, list(kept.found.values())):
        print(path, flush=True)

    def pictures() -> list[Path]:
        planned = None
        if not options.no_published:
            planned = published.known(kept.folder, options.longest)
        panels = panels_of(results, options.longest, planned, limit)
        drawn = draw(kept.folder, options.longest, panels)
        return [*drawn, write_page(kept.folder, panels, [table], kept.request)]

    for path in pictures():
        print(path, flush=True)
    if options.no_published or clock is None:
        return
    if published.plan_missing(kept.folder, options.longest, say, lambda: clock.left):
        pictures()


def say(text: str) -> None:
    """A line about the bench itself."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def refuse_swept(but: Collection[str] = ()) -> None:
    """Raise UserError for a variable that every case sets otherwise, by any name of it."""
    from longseq.host.variables import read_table

    for name, row in read_table().ours.items():
        kind, _, main = row.type.partition(" ")
        main = main.partition("=")[0] if kind in ("same", "older") else name
        value = os.environ.get(name, "")
        if main not in SWEPT or name in but or not value or (kind == "older" and value in OFF):
            continue
        instead = f" and give {SWEPT[main]}" if SWEPT[main] else ""
        raise UserError(f"{name}={value}: a bench sets it itself; unset it{instead}")


def common(how: Any) -> dict[str, Any]:
    """What all results of a folder have in common; raises UserError for what is swept."""
    from longseq.host.variables import read_table
    from longseq.run.environment import cpu_model, git_state, gpus

    refuse_swept()
    table = read_table()
    ours = {name: os.environ[name] for name in table.ours if os.environ.get(name)}
    left_out = [
        name
        for name in ours
        if table.is_secret(name, ours[name]) or table.ours[name].marks & {"aside", "once"}
    ]
    commit = git_state()
    return {
        "longseq": commit["id"][:12] if commit else None,
        "steps": how.steps,
        "memory_gib": how.memory_gib,
        "arguments": list(how.extra),
        "variables": {name: value for name, value in ours.items() if name not in left_out},
        "machine": machine(cpu_model(), os.cpu_count() or 1, gpus()),
    }


def machine(cpu: str, cores: int, gpus: Sequence[str]) -> list[str]:
    """Kinds and counts: a job gets another node each time. gpus: name, memory, driver of each."""
    kinds = Counter(line.rpartition(",")[0] for line in gpus)
    return [f"{cores} x {cpu}", *(f"{count} x {kind}" for kind, count in sorted(kinds.items()))]


def memory(text: str) -> float:
    """GiB of --memory; 0: what there is."""
    try:
        gib = float(text)
    except ValueError:
        gib = -1
    if not 0 <= gib < 1e6:
        raise UserError(f"--memory {text!r} is not a number of GiB")
    if gib and gpu_capability() is not None and os.environ.get("DS_ACCELERATOR") != "cpu":
        raise UserError("--memory is for ranks on a CPU: a GPU has what it has; leave it out")
    return gib


def within(text: str, environ: Mapping[str, str] = os.environ) -> float:
    """Seconds for all cases: those of --within, or less, where the job ends before; 0: any."""
    asked = seconds("--within", text) if text else 0.0
    end = end_time(environ)
    if end is None:
        return asked
    left = end - time.time()
    left = max(left - min(FOR_TABLES, left / 5), 0.001)
    return min(asked, left) if asked else left


def count(flag: str, text: str) -> int:
    """A whole number from 1."""
    if not (number := whole(text)):
        raise UserError(f"{flag} {text!r} is not a whole number from 1")
    return number


def read_tokens(text: str) -> int:
    """2048, 128k or 1m."""
    match = re.fullmatch(r"([1-9]\d{0,8})([kKmM]?)", text)
    if not match:
        raise UserError(f"--lengths {text}: give a number of tokens such as 2048, 128k or 1m")
    return int(match[1]) * {"": 1, "k": 1024, "m": 1024**2}[match[2].lower()]


def seconds(flag: str, text: str) -> float:
    """Of 90, 90s, 30m or 6h."""
    match = re.fullmatch(r"(\d{1,6})([smh]?)", text)
    if not match or not int(match[1]):
        raise UserError(f"{flag} {text!r}: give a time such as 90s, 30m or 6h")
    return int(match[1]) * {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}[match[2]]
