"""Draws the published longest sequences of 2023 beside what is planned: docs/pictures/longest.svg.

    python docs/pictures/lengths.py

Prints the rows of docs/plan.md's table too, each with the line to type. A100 GPUs of 40 GB in
ThetaGPU's nodes, networks of 64 and 80 layers, hidden 6144, 64 heads.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from benchmarks.anchors.published import COLUMNS  # noqa: E402
from benchmarks.predicted import longest as planned_like  # noqa: E402
from benchmarks.predicted import run_of  # noqa: E402
from longseq.config.arguments import GROUPS  # noqa: E402
from longseq.config.flags import parse  # noqa: E402
from longseq.planning.gpus import node_of  # noqa: E402
from longseq.planning.search import Request, Way, longest  # noqa: E402
from longseq.reports.plots import BLUE, GREEN, INK, ORANGE, STYLE  # noqa: E402

HERE = Path(__file__).parent
GPUS = (32, 64, 128)
NETWORKS = {"25B": 64, "33B": 80}
SYSTEMS = ("Megatron-DeepSpeed old", "Megatron-LM", "Megatron-DeepSpeed new")
COLOURS = dict(zip((*SYSTEMS, "longseq"), (ORANGE, GREEN, INK, BLUE), strict=True))
MARKERS = dict(zip((*SYSTEMS, "longseq"), "s^Do", strict=True))
# Thousands of tokens, from genslm's examples/long-sequences/README.md
PUBLISHED = {
    "25B": ((36, 26, 192), (42, 48, 448), (42, 52, 512)),
    "33B": ((28, 14, 128), (32, 46, 384), (32, 52, 448)),
}
FLAGS = (
    "--hidden-size 6144 --num-attention-heads 64 --use-rotary-position-embeddings --bf16"
    " --use-flash-attn-v2 --num-layers"
)


def like(system: str, layers: int, gpus: int) -> float:
    """What is planned for another system, thousands of tokens."""
    row = dict.fromkeys(COLUMNS, "") | {
        "system": system, "layers": str(layers), "hidden": "6144", "heads": "64",
        "seq_len": "32000", "gpus": str(gpus), "gpu": "A100", "gpu_mem_gb": "40",
        "result_kind": "max_seq",
    }  # fmt: skip
    return planned_like(run_of(row), "k tokens")


def ours(layers: int, gpus: int) -> tuple[Request, Way]:
    """The longest that is planned for this trainer."""
    groups = parse(GROUPS, [*FLAGS.split(), str(layers)])
    request = Request(groups, gpus, node_of("thetagpu"), 50304)
    return request, longest(request)[0]


Lines = dict[tuple[str, str], list[float]]  # (system, published or planned) → thousands of tokens


def lines_of(name: str, layers: int) -> Lines:
    """What is drawn of a network, by number of GPUs; prints its rows of the table."""
    found: Lines = {}
    for gpus, published in zip(GPUS, PUBLISHED[name], strict=True):
        request, way = ours(layers, gpus)
        cells = []
        for system, value in zip(SYSTEMS, published, strict=True):
            planned = like(system, layers, gpus)
            found.setdefault((system, "published"), []).append(value)
            found.setdefault((system, "planned"), []).append(planned)
            cells.append(f"{value} / {planned:.0f}")
        found.setdefault(("longseq", "planned"), []).append(way.tokens / 1000)
        print(f"| {name} on {gpus} | {' | '.join(cells)} | {way.tokens:,} |")
        print(f"    {way.choice.line(request, way.tokens)}")
    return found


def panel(axes: Axes, lines: Lines) -> None:
    """Points, as the length of a bar on a logarithmic scale would mean nothing."""
    for (system, kind), values in lines.items():
        line, inside = (("-", None), ("--", "white"))[kind == "planned"]
        axes.plot(GPUS, values, line, marker=MARKERS[system], color=COLOURS[system], mfc=inside,
                  markersize=6, label=f"{system}, {kind}")  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(GPUS, [str(n) for n in GPUS])
    axes.set_yticks([10, 100, 1000, 10_000], ["10k", "100k", "1M", "10M"])
    axes.margins(x=0.12)


def draw(networks: dict[str, Lines], path: Path) -> None:
    with rc_context(STYLE | {"svg.hashsalt": "longseq"}):
        figure = Figure(figsize=(5.8, 4.2), layout="constrained")
        panels = figure.subplots(1, len(networks), sharey=True)
        for axes, (name, lines) in zip(panels, networks.items(), strict=True):
            panel(axes, lines)
            axes.set_xlabel(f"A100 of 40 GB, {name}")
        panels[0].set_ylabel("longest sequence, tokens")
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=8)
        figure.savefig(path, facecolor="white", metadata={"Date": None})


def main() -> None:
    networks = {name: lines_of(name, layers) for name, layers in NETWORKS.items()}
    draw(networks, HERE / "longest.svg")


if __name__ == "__main__":
    main()
