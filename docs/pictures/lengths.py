"""Draws the published longest sequences of 2023 beside what is planned: docs/pictures/longest.svg.

    python docs/pictures/lengths.py

Prints the rows of docs/plan.md's table too, each with the line to type. A100 GPUs of 40 GB in
ThetaGPU's nodes, networks of 64 and 80 layers, hidden 6144, 64 heads.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]
matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "longseq"

import matplotlib.pyplot as plt  # noqa: E402

from benchmarks.anchors.published import COLUMNS  # noqa: E402
from benchmarks.predicted import longest as planned_like  # noqa: E402
from benchmarks.predicted import run_of  # noqa: E402
from longseq.config.arguments import GROUPS  # noqa: E402
from longseq.config.flags import parse  # noqa: E402
from longseq.planning.gpus import node_of  # noqa: E402
from longseq.planning.search import Request, Way, longest  # noqa: E402

HERE = Path(__file__).parent
GPUS = (32, 64, 128)
NETWORKS = {"25B": 64, "33B": 80}
SYSTEMS = ("Megatron-DeepSpeed old", "Megatron-LM", "Megatron-DeepSpeed new")
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


def main() -> None:
    figure, plots = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    for axes, (name, layers) in zip(plots, NETWORKS.items(), strict=True):
        bars: dict[str, list[float]] = {"longseq, planned": []}
        for gpus, published in zip(GPUS, PUBLISHED[name], strict=True):
            request, way = ours(layers, gpus)
            bars["longseq, planned"].append(way.tokens / 1000)
            cells = []
            for system, value in zip(SYSTEMS, published, strict=True):
                planned = like(system, layers, gpus)
                bars.setdefault(f"{system}, published", []).append(value)
                bars.setdefault(f"{system}, planned", []).append(planned)
                cells.append(f"{value} / {planned:.0f}")
            print(f"| {name} on {gpus} | {' | '.join(cells)} | {way.tokens:,} |")
            print(f"    {way.choice.line(request, way.tokens)}")
        for number, (label, values) in enumerate(sorted(bars.items())):
            places = [at + 0.11 * number for at in range(len(GPUS))]
            axes.bar(places, values, 0.1, label=label, color=plt.colormaps["tab20"](number))
        axes.set_yscale("log")
        axes.set_xticks([at + 0.33 for at in range(len(GPUS))], [str(n) for n in GPUS])
        axes.set_xlabel(f"A100 40 GB GPUs, {name}")
    plots[0].set_ylabel("longest, thousands of tokens")
    figure.legend(*plots[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(HERE / "longest.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
