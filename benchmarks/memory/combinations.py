"""ZeRO stage x offload x precision x axis: each cell four numbers, or the sentence of the refusal.

Every case trains the genome for ten steps on two ranks with one thread each (4 layers, hidden 256,
128 tokens) and is compared with one fp32 rank at stage 0. A cell is
    largest difference of the losses / largest |1 - ratio| of the gradient norms /
    growth of resident memory of a rank in MiB / tokens a second over the single rank's
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from itertools import product

from benchmarks.start import RING, SPLIT, ULYSSES, Found, Job, network, run, run_all
from benchmarks.table import Table
from tests.parallel.ranks import ROOT

AXES = {"tp2": SPLIT[:2], "tp2+SP": SPLIT, "ulysses2": ULYSSES, "ring2": RING, "dp2": ()}
OFFLOADS = {
    "none": (),
    "optimizer cpu": ("--cpu-optimizer",),
    "optimizer, parameters cpu": ("--cpu-optimizer", "--remote-device", "cpu"),
    "optimizer nvme": ("--nvme-optimizer",),
    "optimizer, parameters nvme": ("--nvme-optimizer", "--remote-device", "nvme"),
}
PRECISIONS = {"fp32": (), "bf16": ("--bf16",), "fp16": ("--fp16",)}
GENOME = str(ROOT / "data" / "NC_001416.1.fa")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--nvme-path", default=str(ROOT / "outputs" / "nvme"))
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--stages", nargs="+", default=list("0123"))


def job(*flags: str) -> Job:
    """Ten steps of the genome, the first two not timed."""
    rate = "--lr 1e-4 --lr-decay-style constant --global-batch-size 2 --data-path".split()
    return Job(network(128, *rate, GENOME, *flags), steps=8, warm=2, short=0, genome=True)


def cell(found: Found, base: Found, refusals: list[str]) -> str:
    """Four numbers, or the number of a refusal below the table."""
    if found.refused:
        if found.refused not in refusals:
            refusals.append(found.refused)
        return f"refused ({refusals.index(found.refused) + 1})"
    loss = max(abs(a - b) for a, b in zip(found.losses, base.losses, strict=True))
    norm = max(abs(a / b - 1) for a, b in zip(found.norms, base.norms, strict=True))
    grown, speed = 1024 * found.grown_gib, base.seconds / found.seconds
    return f"{loss:.1e} / {norm:.1e} / {grown:.0f} / {speed:.2f}"


def main(options: Namespace) -> None:
    base = run(1, job())
    jobs: dict[str, dict[str, Job]] = {axis: {} for axis in options.axes}
    rows = list(product(options.stages, OFFLOADS, PRECISIONS))
    for stage, offload, precision in rows:
        disk = ("--nvme-path", options.nvme_path) if "nvme" in offload else ()
        flags = "--zero-stage", stage, *OFFLOADS[offload], *disk, *PRECISIONS[precision]
        for axis in options.axes:
            jobs[axis][f"{stage} {offload} {precision}"] = job(*flags, *AXES[axis])
    results = {}
    for axis in options.axes:
        print(f"{axis}: {len(rows)} cases …", flush=True)
        results[axis] = run_all(2, jobs[axis])
    refusals: list[str] = []
    table = Table(
        ("stage", ""),
        ("offload", "<26"),
        ("precision", "<9"),
        *((axis, "<34") for axis in options.axes),
    )
    for stage, offload, precision in rows:
        name = f"{stage} {offload} {precision}"
        cells = [cell(results[axis][name], base, refusals) for axis in options.axes]
        table.row(stage, offload, precision, *cells)
    print(f"\nOne fp32 rank at stage 0 grows by {1024 * base.grown_gib:.0f} MiB.")
    for number, sentence in enumerate(refusals, 1):
        print(f"\n({number}) {sentence}")
