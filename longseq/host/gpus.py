"""What GPUs can do, by name: each fact once.

    GPUS["h100"].peak("bf16")                       # FLOP/s
    gpu_of("NVIDIA H100 80GB HBM3, 81559 MiB, 570.86")      # a line of nvidia-smi; or None

Memory is what CUDA offers of it, GiB. Rates are the makers' peaks without sparsity: TFLOP/s by
precision, TB/s of the GPU's memory, GB/s in one direction to the other GPUs of a node. `network` is
GB/s in one direction that a GPU has in the maker's own node (DGX, OCP), for a machine that says
nothing else. Sources, looked up in November 2026 but for the V100's and MI300X's:

    A100     NVIDIA's A100 data sheet (2188504); deviceQuery at upb-pc2: 42,405,855,232 bytes
    H100     NVIDIA's H100 data sheet; glennklockwood.com/garden/processors/h100. 96 GB: HBM2e and
             500 W in place of 700, of which torchtitan's H100 benchmarks were made
    H200     NVIDIA's H200 data sheet; nvidia-smi: 143,771 MiB (docs/gpu.md)
    B200     at 1,000 W, GB200 at 1,200 W: glennklockwood.com/garden/processors/B200
    MI250X   AMD's data sheet; OLCF's Frontier guide: 50 to 100 GB/s between packages
    Max 1550 Intel's Max series overview; ALCF's Aurora overview: 448 of a tile's 512 engines act
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One GPU, or the part of one that a rank has (a GCD of an MI250X, a tile of a Max 1550).

    capability: CUDA's, (0, 0) for others. matmul: the part of the peak that large matrix products
    reach in training: of an H200 as measured in steps of half a second (docs/gpu.md), of others
    from published runs, which last longer and lose more than is counted here. attention: that
    flash-attn 2's kernel reaches with heads of 128 and long sequences: an H200's is measured
    (docs/kernels.md), an H100's is that; an A100's is the paper's (arXiv 2307.08691); those of the
    H100 of 96 GB are an H100's by the clock that 500 W leave it; Blackwell's is taken to be
    Hopper's; those of AMD and Intel nobody has measured here.
    """

    name: str
    title: str
    gib: float
    half: float
    full: float
    fp8: float
    memory_rate: float
    link: float
    network: float
    per_node: int
    host_gib: float
    capability: tuple[int, int] = (0, 0)
    matmul: float = 0.7
    attention: float = 0.5

    def peak(self, dtype: str) -> float:
        """FLOP/s in a precision."""
        rate = {"fp32": self.full, "fp8": self.fp8 or self.half}.get(dtype, self.half)
        return rate * 1e12


# name, title, GiB, TFLOP/s half, single, fp8, TB/s, link GB/s, network GB/s, GPUs a node, host GiB
_ROWS = (
    Gpu("v100-16", "V100 16 GB", 15.8, 125, 15.7, 0, 0.9, 150, 6.25, 8, 512, (7, 0), 0.6, 0.3),
    Gpu("v100-32", "V100 32 GB", 31.7, 125, 15.7, 0, 0.9, 150, 6.25, 8, 512, (7, 0), 0.6, 0.3),
    Gpu("a100-40", "A100 40 GB", 39.4, 312, 19.5, 0, 1.555, 300, 25, 8, 1024, (8, 0), 0.72, 0.6),
    Gpu("a100-80", "A100 80 GB", 79.1, 312, 19.5, 0, 2.039, 300, 25, 8, 2048, (8, 0), 0.72, 0.6),
    Gpu("a800-80", "A800 80 GB", 79.1, 312, 19.5, 0, 2.039, 200, 25, 8, 2048, (8, 0), 0.72, 0.6),
    Gpu("h100", "H100 80 GB", 79.1, 989, 67, 1979, 3.35, 450, 50, 8, 2048, (9, 0), 0.56, 0.34),
    Gpu("h100-96", "H100 96 GB", 95.0, 989, 67, 1979, 2.4, 450, 50, 8, 2048, (9, 0), 0.46, 0.28),
    Gpu("h200", "H200 141 GB", 139.8, 989, 67, 1979, 4.8, 450, 50, 8, 2048, (9, 0), 0.76, 0.34),
    Gpu("b200", "B200 192 GB", 178.3, 2250, 80, 4500, 8.0, 900, 50, 8, 4096, (10, 0), 0.6, 0.34),
    Gpu("gb200", "GB200 192 GB", 184.0, 2500, 80, 5000, 8.0, 900, 50, 4, 960, (10, 0), 0.5, 0.34),
    Gpu("mi250x", "MI250X, one die", 64.0, 191.5, 23.9, 0, 1.6, 50, 12.5, 8, 512, (0, 0), 0.6, 0.3),
    Gpu("mi300x", "MI300X", 191.5, 1307, 163, 2615, 5.3, 448, 50, 8, 2048, (0, 0), 0.5, 0.35),
    Gpu("max1550", "Max 1550, one tile", 64.0, 367, 23, 0, 1.6, 30, 16, 12, 1024, (0, 0), 0.5, 0.3),
)
GPUS = {gpu.name: gpu for gpu in _ROWS}
_OTHERS = re.compile(r"H100 (PCIe|NVL)|H200 NVL|V100.*PCI|MIG")  # slower ones of such names
_NAMES = (  # of nvidia-smi, and the rows it may be
    ("GB200", ("gb200",)),
    ("GH200", ("h100-96",)),
    ("B200", ("b200",)),
    ("H200", ("h200",)),
    ("H100", ("h100", "h100-96")),
    ("A800", ("a800-80",)),
    ("A100", ("a100-40", "a100-80")),
    ("V100", ("v100-16", "v100-32")),
)


def gpu_of(line: str) -> Gpu | None:
    """The row of a GPU as nvidia-smi names it, with its memory in MiB; None where there is none."""
    found = re.fullmatch(r"(.*?), *([0-9]{4,7}) MiB.*", line)
    if found is None or _OTHERS.search(found[1]):
        return None
    gib = int(found[2]) / 1024
    for name, rows in _NAMES:
        if name in found[1]:
            nearest = min((GPUS[row] for row in rows), key=lambda gpu: abs(gpu.gib - gib))
            return nearest if abs(nearest.gib / gib - 1) < 0.1 else None
    return None
