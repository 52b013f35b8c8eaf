"""A plan for people: a table on the terminal, a picture of the memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import fill
from typing import Any

from longseq.errors import UserError
from longseq.host.atomic_files import reason, unwritable
from longseq.memory.need import KINDS
from longseq.planning.plan import GIB, SPREAD, Plan
from longseq.planning.speed import PARTS
from longseq.reports.format import counted, duration

VERDICTS = {"yes": "fits", "close": "too close to say", "no": "does not fit"}
EVERY = 1.0  # seconds between two words of progress
PICTURES = (".svg", ".png", ".pdf")
# Of areas, told apart without colour
HATCHES = ("", "///", "...", "\\\\\\", "---", "xxx", "++", "|||", "oo", "**")
# Of kinds, in their order: neighbours differ in lightness too
COLOURS = (
    "#2f6fdb #8fb4f0 #e07a1f #f5c38d #2a9d6e #9fd8bd #7a5cc4 #c9bbea #6b7280 #c9d1d9"
    " #b5403c #edae49 #e3a6a4"
).split()
NAMED, WIDTH = 48, 80  # columns: of a row before its bar, and in all


def table(plan: Plan, width: int = WIDTH) -> str:
    """The whole plan, at most `width` columns wide, and at most WIDTH."""
    width = max(50, min(width, WIDTH))
    bar = width - NAMED
    lines = [*_verdict(plan), "", *_layout(plan), "", *_memory(plan, bar)]
    if plan.times:
        lines += ["", *_speed(plan, bar)]
    else:
        lines += [
            "",
            "speed       not planned for a CPU: --gpu NAME or --machine NAME plans for one",
        ]
    return "\n".join(fill(line, width, subsequent_indent=" " * 12) for line in lines)


def reason_of(plan: Plan) -> str:
    """The verdict and what breaks first, in a line."""
    return f"{VERDICTS[plan.fits]}: {plan.first_to_break}"


def _verdict(plan: Plan) -> list[str]:
    peak, there = plan.peak_gib, plan.available / GIB
    first = "breaks first" if plan.fits == "no" else "would break first"
    return [
        f"{VERDICTS[plan.fits]}: {peak:.1f} of {there:.1f} GiB",
        f"{first}: {plan.first_to_break}",
    ]


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.2f} million"


def _layout(plan: Plan) -> list[str]:
    job, net = plan.job, plan.job.network
    axes = f"tp {job.tp} x ulysses {job.ulysses} x ring {job.ring} x dp {job.dp}"
    ranks = counted(job.ranks, "rank")
    where = f"{job.ranks} x {plan.node.gpu.title}" if plan.node else f"{ranks} of this CPU"
    return [
        f"network     {_count(plan.parameters)} parameters, {net.seq_length:,} tokens",
        f"layout      {where} = {axes}",
        f"            ZeRO stage {job.zero}, {job.dtype}, {job.micro_batches} x micro batch"
        f" {job.micro_batch}",
        f"backward    {plan.policy.describe()}",
        _checkpoint(plan),
    ]


def _checkpoint(plan: Plan) -> str:
    rate, limit = plan.checkpoint_rate
    size, seconds = plan.checkpoint_bytes / GIB, plan.checkpoint_seconds
    return f"checkpoint  {size:.1f} GiB, {seconds:.3g} s at {rate / 1e9:.3g} GB/s ({limit})"


def _memory(plan: Plan, bar: int) -> list[str]:
    by_kind = {kind: size for kind, size in plan.by_kind.items() if size > 0.005}
    most = max([plan.available / GIB, *by_kind.values()])
    lines = [f"memory of a rank, GiB, in {plan.need.moment}"]
    for kind, size in sorted(by_kind.items(), key=lambda item: -item[1]):
        part = "#" * round(bar * size / most)
        lines.append(f"{size:8.2f}  {KINDS[kind]:<37} {part}".rstrip())
    if plan.node:
        there = plan.node.host_gib
        lines.append(f"host memory of a node: {plan.host_gib_per_node:,.0f} of {there:,.0f} GiB")
    return lines


def _speed(plan: Plan, bar: int) -> list[str]:
    assert plan.times
    seconds, speed = plan.times.seconds, plan.speed
    low, high = (seconds * factor for factor in (1 - SPREAD, 1 + SPREAD))
    lines = [
        f"a step      {seconds:.3g} s ({low:.3g} to {high:.3g});"
        f" {speed['tokens_per_second'] * 86400 / 1e9:.3g} billion tokens a day",
        f"a GPU       {speed['tflops']:.0f} TFLOPS as Megatron counts, {speed['model_tflops']:.0f}"
        " causal and nothing twice",
    ]
    parts = sorted(plan.times.parts.items(), key=lambda item: -item[1])
    for name, size in parts:
        if size > 0.005 * seconds:
            part = "#" * round(bar * size / seconds)
            lines.append(f"{size:8.3g}  s {PARTS[name]:<35} {part}".rstrip())
    sent = {axis: size / GIB for axis, size in plan.times.sent.items() if size}
    if sent:
        texts = (f"{axis} {size:.3g}" for axis, size in sent.items())
        lines.append("GiB a rank sends in a step: " + ", ".join(texts))
    return lines


def progress(what: str) -> Callable[[int, int], None]:
    """`tell(done, of)` for what takes long: on a terminal how far it is and the time that is left;
    elsewhere nothing.
    """
    began = said = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal said
        now = time.monotonic()
        if done < of and (not done or now - said < EVERY):
            return
        text = ""
        if done < of:
            left = duration((now - began) / done * (of - done))
            text = f"{what}: {done} of {of} layouts, about {left} left"
        if text or said != began:  # the last one wipes the line away
            print(f"\r{text:60}\r", end="", file=sys.stderr, flush=True)
        said = now

    return tell if sys.stderr.isatty() else lambda _done, _of: None


def picture_path(name: str | None) -> Path | None:
    """Where --picture goes, if one is wanted; refused before the work."""
    if name is None:
        return None
    path = Path(name)
    if path.suffix not in PICTURES:
        raise UserError(f"--picture {name}: give a name that ends in {', '.join(PICTURES)}")
    if not path.parent.is_dir():
        raise UserError(f"--picture {name}: there is no folder {path.parent}")
    return path


def draw(plan: Plan, path: Path) -> None:
    """Memory of a rank by kind as a bar beside what there is."""
    from matplotlib import pyplot

    from longseq.reports.plots import INK, STYLE

    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(5.8, 2.4), layout="constrained")
        left = 0.0
        for number, (kind, size) in enumerate(plan.by_kind.items()):
            if size > 0.005:
                how: Any = {"color": COLOURS[number % len(COLOURS)], "edgecolor": "white"}
                how["hatch"] = HATCHES[len(axes.patches) % len(HATCHES)]
                axes.barh(0, size, left=left, label=f"{KINDS[kind]} {size:.1f}", **how)
                left += size
        axes.axvline(plan.available / GIB, color=INK, linestyle="--")
        axes.set_yticks([])
        axes.set_xlabel("GiB of a rank; dashed: available")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        save_picture(figure, path)
        pyplot.close(figure)


def save_picture(figure: Any, path: Path, **more: Any) -> None:
    """Write what --picture asked for; more: of matplotlib."""
    try:
        figure.savefig(path, **more)
    except OSError as error:
        raise unwritable(f"--picture {path} cannot be written: {reason(error)}", error) from None
