"""What a simulation found: a table, JSON, and a picture of memory over the step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from longseq.config.arguments import Config
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.planning.show import HATCHES, save_picture
from longseq.planning.simulate.kinds import KINDS
from longseq.planning.simulate.rank import Simulation
from longseq.planning.simulate.trace import Moment
from longseq.reports.format import counted, short

GIB = 2**30
POINTS = 240  # of the picture: of more neighbours the highest is drawn
COLOURS = "#2f6fdb #8fb4f0 #7a5cc4 #9aa3af #2a9d6e #e07a1f #d1495b #edae49 #c9d1d9".split()


def table(
    found: Simulation,
    config: Config,
    vocabulary: int,
    policy: RecomputePolicy,
    seconds: float,
) -> str:
    """Memory by kind, where the peak stands, messages by axis, arithmetic."""
    net, peak = config.network, found.peak
    on = "a GPU" if config.training.device != "cpu" else "a CPU"
    lines = [
        f"one step of rank 0, simulated in {seconds:.0f} s ({found.operations:,} operations)",
        f"  network     {net.num_layers} layers, hidden {net.hidden_size},"
        f" vocabulary {vocabulary:,}, {net.seq_length:,} tokens",
        f"  layout      {config.layout}, ZeRO stage {config.training.zero_stage}",
        f"  memory      {policy.describe()}",
        f"  device      tiles and kernels as on {on}",
    ]
    if found.standing_in:
        lines.append(f"  layers      {found.standing_in} are like one that was run, and stand in")
    lines += ["", f"{'peak memory':<24}{peak.total / GIB:>10.2f} GiB"]
    lines += [f"  {name:<22}{size / GIB:>10.2f}" for name, size in _shares(peak)]
    lines.append(f"  stands in {peak.phase}, at {peak.line or 'the update'}")
    if found.host_bytes:
        lines.append(f"{'host memory of a rank':<24}{found.host_bytes / GIB:>10.2f} GiB")
    if found.messages:
        lines += ["", f"{'messages of a step':<32}{'calls':>10}{'GiB sent':>12}"]
    for (axis, kind), count in sorted(found.messages.items()):
        name = f"  {axis}: {kind.replace('_', ' ')}"
        lines.append(f"{name:<32}{count.calls:>10,}{count.bytes / GIB:>12.3f}")
    lines += ["", f"{'arithmetic of a step':<32}{short(sum(found.flops.values())):>10}FLOP"]
    lines += [f"  {name:<30}{short(count):>10}" for name, count in found.flops.items()]
    return "\n".join(lines)


def _shares(moment: Moment) -> Iterator[tuple[str, int]]:
    return ((k, b) for k, b in zip(KINDS, moment.by_kind, strict=True) if b)


def as_json(
    found: Simulation, config: Config, vocabulary: int, policy: RecomputePolicy
) -> dict[str, Any]:
    """The keys that docs/simulate.md lists."""
    return {
        "peak_gib": found.peak.total / GIB,
        "by_kind": {name: size / GIB for name, size in zip(KINDS, found.peak.by_kind, strict=True)},
        "peak_phase": found.peak.phase,
        "peak_line": found.peak.line,
        "host_gib_per_rank": found.host_bytes / GIB,
        "messages": [
            {"axis": axis, "kind": kind, "calls": count.calls, "bytes": count.bytes}
            for (axis, kind), count in sorted(found.messages.items())
        ],
        "flops": dict(found.flops),
        "ranks": config.layout.world_size,
        "layout": config.layout.axes,
        "vocabulary": vocabulary,
        "recompute": policy.recompute,
        "tile": policy.tile,
        "layers_standing_in": found.standing_in,
        "operations": found.operations,
    }


def highest(moments: Sequence[Moment], points: int = POINTS) -> list[Moment]:
    """At most about `points` moments: of equal runs of neighbours the one with most memory."""
    size = -(-len(moments) // points) if moments else 1
    runs = (moments[start : start + size] for start in range(0, len(moments), size))
    return [max(run, key=lambda moment: moment.total) for run in runs]


def draw(found: Simulation, config: Config, path: Path) -> None:
    """Memory over the step by kind, its phases, and where the peak stands."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from longseq.reports.plots import FAINT, INK, STYLE

    some = highest(found.moments)
    used = [i for i, _ in enumerate(KINDS) if max(m.by_kind[i] for m in some)]
    with rc_context(STYLE):
        figure = Figure(figsize=(5.8, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.margins(x=0)
        areas = axes.stackplot(
            [m.at for m in some],
            [[m.by_kind[i] / GIB for m in some] for i in used],
            labels=[KINDS[i] for i in used],
            colors=[COLOURS[i] for i in used],
            edgecolor="white",
            linewidth=0,
        )
        for area, i in zip(areas, used, strict=True):
            area.set_hatch(HATCHES[i])
        top = found.peak.total / GIB
        axes.set_ylim(0, 1.25 * top)
        for at, phase in found.phases:
            if phase in ("forward", "backward", "update"):
                axes.axvline(at, color=FAINT, linewidth=0.8)
                late = at > 0.85 * found.moments[-1].at  # its name would leave the picture
                name = f"{phase} " if late else f" {phase}"
                axes.text(at, 1.23 * top, name, color=INK, va="top", ha="right" if late else "left")
        axes.plot([found.peak.at], [top], "o", color=INK, markersize=5)
        axes.annotate(
            f"{top:.2f} GiB at {found.peak.line}",
            (found.peak.at, top),
            xytext=(0, 8),
            textcoords="offset points",
            fontsize=8,
            ha="right" if found.peak.at > found.moments[-1].at / 2 else "left",
        )
        axes.set_ylabel("GiB of a rank")
        axes.set_xlabel("PyTorch operations since the step began (not time)")
        axes.set_title(
            f"one step of {config.network.num_layers} layers, {config.network.seq_length:,} tokens,"
            f" {counted(config.layout.world_size, 'rank')}",
            fontsize=10,
        )
        axes.xaxis.set_major_formatter("{x:,.0f}")
        figure.legend(loc="outside lower center", ncols=4, fontsize=8)
        save_picture(figure, path, facecolor="white", metadata=_dateless(path))


def _dateless(path: Path) -> dict[str, None]:
    """So that the same simulation draws the same file."""
    return (
        {} if path.suffix == ".png" else {"CreationDate" if path.suffix == ".pdf" else "Date": None}
    )
