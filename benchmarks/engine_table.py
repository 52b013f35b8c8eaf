"""ZeRO stage x offload x precision x axis: each cell four numbers, or the sentence of the refusal.

    python benchmarks/engine_table.py [--nvme-path DIR] [--axes tp2,dp2] > table.md

Every case trains the genome for ten steps on two ranks with one thread each (4 layers, hidden 256,
128 tokens) and is compared with one fp32 rank at stage 0. A cell is
    largest difference of the losses / largest |1 - ratio| of the gradient norms /
    growth of resident memory of a rank in MiB / tokens a second over the single rank's
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.two_ranks import start  # noqa: E402

AXES = {
    "tp2": ["--tensor-model-parallel-size", "2"],
    "tp2+SP": ["--tensor-model-parallel-size", "2", "--sequence-parallel"],
    "ulysses2": ["--ds-sequence-parallel-size", "2"],
    "ring2": ["--context-parallel-size", "2"],
    "dp2": [],
}
OFFLOADS = {
    "none": [],
    "optimizer cpu": ["--cpu-optimizer"],
    "optimizer, parameters cpu": ["--cpu-optimizer", "--remote-device", "cpu"],
    "optimizer nvme": ["--nvme-optimizer"],
    "optimizer, parameters nvme": ["--nvme-optimizer", "--remote-device", "nvme"],
}
PRECISIONS: dict[str, list[str]] = {"fp32": [], "bf16": ["--bf16"], "fp16": ["--fp16"]}


def run(ranks: int, cases: dict[str, list[str]]) -> dict[str, Any]:
    """What engine_worker.py says of `cases`."""
    return start(ranks, 1, "engine_worker.py", [json.dumps(cases)])


def cell(found: dict[str, Any], base: dict[str, Any], refusals: list[str]) -> str:
    """Four numbers, or the number of a refusal below the table."""
    if "refused" in found:
        if found["refused"] not in refusals:
            refusals.append(found["refused"])
        return f"refused ({refusals.index(found['refused']) + 1})"
    loss = max(abs(a - b) for a, b in zip(found["losses"], base["losses"], strict=True))
    norm = max(abs(a / b - 1) for a, b in zip(found["norms"], base["norms"], strict=True))
    speed = base["seconds"] / found["seconds"]
    return f"{loss:.1e} / {norm:.1e} / {found['mib']:.0f} / {speed:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nvme-path", default=str(ROOT / "outputs" / "nvme"))
    parser.add_argument("--axes", default=",".join(AXES))
    args = parser.parse_args()
    axes = args.axes.split(",")
    base = run(1, {"base": []})["base"]
    refusals: list[str] = []
    print(
        f"| stage | offload | precision | {' | '.join(axes)} |\n|---|---|---|{'---|' * len(axes)}"
    )
    rows: dict[str, dict[str, list[str]]] = {axis: {} for axis in axes}
    for stage in "0123":
        for offload, offload_flags in OFFLOADS.items():
            disk = ["--nvme-path", args.nvme_path] if "nvme" in offload else []
            for precision, precision_flags in PRECISIONS.items():
                for axis in axes:
                    rows[axis][f"{stage} | {offload} | {precision}"] = [
                        *("--zero-stage", stage),
                        *offload_flags,
                        *disk,
                        *precision_flags,
                        *AXES[axis],
                    ]
    results = {axis: run(2, rows[axis]) for axis in axes}
    for name in rows[axes[0]]:
        cells = [cell(results[axis][name], base, refusals) for axis in axes]
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\nOne fp32 rank at stage 0 grows by {base['mib']:.0f} MiB.")
    for number, sentence in enumerate(refusals, 1):
        print(f"\n({number}) {sentence}")


if __name__ == "__main__":
    main()
