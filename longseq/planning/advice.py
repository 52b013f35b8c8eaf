"""What `longseq plan --suggest` and `--longest` print: the line to type, and why others lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longseq.errors import UserError
from longseq.planning.plan import GIB, HOST_USABLE, as_json
from longseq.planning.search import Way, pareto
from longseq.planning.show import reason_of, save_picture
from longseq.planning.speed import PARTS
from longseq.planning.ways import Request
from longseq.reports.format import counted

RUNNERS_UP = 8
STEP = 0.8  # a way is listed where it is shorter than the one before by a fifth at least


def suggestion(request: Request, found: Sequence[Way], refused: dict[str, int]) -> str:
    """The best way as a line to type, then the best of each other layout and why it lost."""
    if not found:
        raise UserError(_all_refused("--suggest", refused))
    best = found[0]
    lines = [*_head(request, best), ""]
    if best.plan.fits == "no":
        lines[0] = f"nothing fits {best.tokens:,} tokens; the nearest lacks {lacking(best)}"
    lines.append("why others lost, the best of each layout:")
    for way in _one_of_each(found)[1 : RUNNERS_UP + 1]:
        lines += [f"  {way.choice}", f"    {why_lost(way, best)}"]
    for reason, count in sorted(refused.items(), key=lambda item: -item[1])[:3]:
        lines.append(f"  refused on {counted(count, 'layout')}: {reason}")
    return "\n".join(lines)


def _all_refused(name: str, refused: dict[str, int]) -> str:
    reason = max(refused, key=lambda reason: refused[reason], default="no layout is left")
    return f"{name}: every layout is refused; most often: {reason}"


def _head(request: Request, way: Way) -> list[str]:
    speed, plan = way.plan.speed, way.plan
    verdict = {"yes": "fits", "close": "too close to say", "no": "does not fit"}[plan.fits]
    return [
        f"{verdict}: {plan.peak_gib:.1f} of {plan.available / GIB:.1f} GiB, host"
        f" {plan.host_gib_per_node:,.0f} of {request.node.host_gib:,.0f} GiB a node",
        f"{way.choice}",
        f"{speed['tokens_per_second']:,.0f} tokens a second, {speed['model_tflops']:.0f} TFLOPS"
        f" a GPU (causal), {plan.step_seconds:.3g} s a step",
        "",
        way.choice.line(request, way.tokens),
    ]


def lacking(way: Way) -> str:
    """How much memory a way that does not fit is short of, where, and for what."""
    plan, node = way.plan, way.plan.node
    assert node
    host = plan.host_gib_per_node - HOST_USABLE * node.host_gib
    gpu = (plan.need.total - plan.available) / GIB
    if plan.first_to_break.startswith("host"):
        return f"{host:.0f} GiB a node of {plan.first_to_break}"
    return f"{gpu:.1f} GiB of {plan.first_to_break}"


def _one_of_each(found: Sequence[Way]) -> list[Way]:
    """The first way of each layout."""
    seen = dict[tuple[int, int, int], Way]()
    for way in found:
        choice = way.choice
        seen.setdefault((choice.tp, choice.ulysses, choice.ring), way)
    return list(seen.values())


def why_lost(way: Way, best: Way) -> str:
    """Why `way` is not the best: it does not fit, or what it spends its time on."""
    if way.plan.fits != "yes" and best.plan.fits == "yes":
        return f"{reason_of(way.plan)}"
    if way.plan.fits == "no":
        return f"lacks {lacking(way)}"
    mine, theirs = (
        {name: size / (w.speed * w.plan.times.seconds) for name, size in w.plan.times.parts.items()}
        for w in (way, best)
        if w.plan.times
    )
    worst = max(mine, key=lambda name: mine[name] - theirs[name])
    slower = best.speed / way.speed - 1
    if slower < 0.005:
        return (
            "as fast, with more memory" if way.plan.need.total > best.plan.need.total else "as fast"
        )
    return f"{slower:.0%} slower: more time in {PARTS[worst]}"


def lengths(request: Request, found: Sequence[Way], refused: dict[str, int]) -> str:
    """The longest sequence with the line to type, then shorter ones that are faster."""
    if refused:
        raise UserError(_all_refused("--longest", refused))
    if not found:
        raise UserError(
            f"--longest: not even the shortest sequence fits on {request.ranks} GPUs: give more"
            " (--gpus), or a smaller network"
        )
    best = found[0]
    lines = [f"longest: {best.tokens:,} tokens", *_head(request, best), ""]
    lines.append("shorter and faster:")
    last = best.tokens
    for way in pareto(found)[1:]:
        if way.tokens <= STEP * last:
            last = way.tokens
            lines.append(f"{way.tokens:>12,} tokens, {way.speed:,.0f} a second\n    {way.choice}")
    return "\n".join(lines)


def numbers(request: Request, found: Sequence[Way]) -> list[dict[str, Any]]:
    """Ways for --json: each with its line, its length and its plan."""
    return [
        {"tokens": way.tokens, "line": way.choice.line(request, way.tokens), **as_json(way.plan)}
        for way in found
    ]


def draw_lengths(found: Sequence[Way], path: Path) -> None:
    """Length against speed: every way a point, those that none beats on both a line."""
    from matplotlib import pyplot

    from longseq.reports.plots import BLUE, GREY, STYLE

    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
        axes.scatter([w.tokens for w in found], [w.speed for w in found], color=GREY, s=12)
        best = pareto(found)
        axes.plot([w.tokens for w in best], [w.speed for w in best], "o-", color=BLUE)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("longest sequence, tokens")
        axes.set_ylabel("tokens a second there, all GPUs")
        save_picture(figure, path)
        pyplot.close(figure)
