"""Draws the published longest sequences of 2023 beside what is planned: docs/pictures/longest.svg.

    python docs/pictures/lengths.py
    python docs/pictures/lengths.py --check     # are picture and tables what is planned now?

Prints the rows of docs/plan.md's two tables of 2023 too, each longest with the line to type. A100
GPUs of 40 GB in ThetaGPU's nodes, networks of 64 and 80 layers, hidden 6144, 64 heads.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from benchmarks.anchors.published import COLUMNS, fits  # noqa: E402
from benchmarks.predicted import Run, run_of, speed  # noqa: E402
from benchmarks.predicted import longest as planned_like  # noqa: E402
from longseq.config.arguments import GROUPS  # noqa: E402
from longseq.config.flags import parse  # noqa: E402
from longseq.planning.gpus import node_of  # noqa: E402
from longseq.planning.search import Way, planned, suggest, very_longest  # noqa: E402
from longseq.planning.ways import Choice, Request  # noqa: E402
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


K = 1024
LENGTHS = tuple(n * K for n in (2, 4, 8, 16, 32, 64, 128, 256))
TFLOPS: dict[
    str, dict[int, float | None]
] = {  # of 25B on 32 GPUs, tensor parallel; None: no memory
    "Megatron-DeepSpeed, old": dict.fromkeys(LENGTHS) | {2 * K: 25, 4 * K: 28},
    "Megatron-DeepSpeed, new": dict(zip(LENGTHS, (68, 80, 86, 92, 100, 106, 119, 94), strict=True)),
}


def like(system: str, layers: int, gpus: int, tokens: int = 0) -> Run:
    """A run of another system: of its longest sequence, or of so many tokens, tensor parallel."""
    row = dict.fromkeys(COLUMNS, "") | {
        "system": system, "layers": str(layers), "hidden": "6144", "heads": "64",
        "seq_len": str(tokens or 32000), "gpus": str(gpus), "gpu": "A100", "gpu_mem_gb": "40",
        "result_kind": "max_seq",
    }  # fmt: skip
    if tokens:
        row |= {"tp": str(gpus), "precision": "fp16", "note": "gbs 2", "result_kind": "throughput"}
        if "new" in system:
            row |= {"recompute": "full", "attn": "flash"}
    return run_of(row)


def asked(layers: int, gpus: int, tokens: int = 0) -> Request:
    """This trainer's run, whose layout is to be found; tokens: of a sample."""
    more = ["--seq-length", str(tokens)] if tokens else []
    groups = parse(GROUPS, [*FLAGS.split(), str(layers), *more])
    return Request(groups, gpus, node_of("thetagpu"), 50304)


def ours(layers: int, gpus: int) -> tuple[Request, Way]:
    """The longest that is planned for this trainer."""
    request = asked(layers, gpus)
    way = very_longest(request)
    assert way is not None, "some length fits"
    return request, way


def tflops(tokens: int) -> tuple[float | None, float]:
    """A GPU's of 25B on 32, planned for this trainer: as in 2023 (tensor parallel 32, layers
    recomputed; None: out of memory), and at the layout that is the fastest.
    """
    request = asked(64, 32, tokens)
    old = planned(request, Choice(tp=32, recompute="full"))
    best = suggest(request)[0][0]
    return old.plan.speed["tflops"] if old.plan.fits == "yes" else None, best.plan.speed["tflops"]


def speed_rows(lengths: tuple[int, ...] = LENGTHS) -> Iterator[str]:
    """The rows of docs/plan.md's second table."""
    for name, published in TFLOPS.items():
        cells = []
        for tokens in lengths:
            run = like(name.replace(",", ""), 64, 32, tokens)
            value = speed(run, "TFLOPS/GPU (hw)") if fits(run) else None
            cells.append(f"{_cell(published[tokens])} / {_cell(value)}")
        yield f"| {name} | {' | '.join(cells)} |"
    both = [tflops(tokens) for tokens in lengths]
    for number, what in enumerate(("tensor parallel 32", "best layout")):
        yield f"| longseq, planned, {what} | {' | '.join(_cell(one[number]) for one in both)} |"


def _cell(value: float | None) -> str:
    return "OOM" if value is None else f"{value:.0f}"


Lines = dict[tuple[str, str], list[float]]  # (system, published or planned) → thousands of tokens


def lines_of(name: str, layers: int) -> tuple[Lines, list[str], list[str]]:
    """What is drawn of a network, by number of GPUs; its rows of the table; the lines to type."""
    found: Lines = {}
    rows, typed = [], []
    for gpus, published in zip(GPUS, PUBLISHED[name], strict=True):
        request, way = ours(layers, gpus)
        cells = []
        for system, value in zip(SYSTEMS, published, strict=True):
            planned = planned_like(like(system, layers, gpus), "k tokens")
            found.setdefault((system, "published"), []).append(value)
            found.setdefault((system, "planned"), []).append(planned)
            cells.append(f"{value} / {planned:.0f}")
        found.setdefault(("longseq", "planned"), []).append(way.tokens / 1000)
        rows.append(f"| {name} on {gpus} | {' | '.join(cells)} | {way.tokens:,} |")
        typed.append(way.choice.line(request, way.tokens))
    return found, rows, typed


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
        figure.savefig(
            path, facecolor="white", metadata={"Date": None, "Description": what_it_shows(networks)}
        )


def what_it_shows(networks: dict[str, Lines]) -> str:
    """The numbers of the picture, which it carries so that --check can compare them."""
    return "; ".join(
        f"{name} {system} {kind}: {' '.join(f'{one:.6g}' for one in values)}"
        for name, lines in networks.items()
        for (system, kind), values in lines.items()
    )


def stale(rows: list[str], networks: dict[str, Lines]) -> list[str]:
    """What the page or the picture does not say as it is planned now."""
    page = (HERE.parent / "plan.md").read_text(encoding="utf-8").splitlines()
    picture = (HERE / "longest.svg").read_text(encoding="utf-8")
    found = [f"docs/plan.md has no row {row}" for row in rows if row not in page]
    if what_it_shows(networks) not in picture:
        found.append("docs/pictures/longest.svg shows other numbers: draw it anew")
    return found


def main(words: list[str]) -> int:
    networks, rows, typed = {}, [], []
    for name, layers in NETWORKS.items():
        networks[name], some, lines = lines_of(name, layers)
        rows += some
        typed += lines
    rows += speed_rows()
    if words == ["--check"]:
        found = stale(rows, networks)
        print("\n".join(found) or "picture and tables are as planned")
        return 1 if found else 0
    print("\n".join([*rows, *typed]))
    draw(networks, HERE / "longest.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
