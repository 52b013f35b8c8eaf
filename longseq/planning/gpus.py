"""GPUs by name, and nodes by the machine's profile: the facts that a plan stands on, each once.

    gpu = gpu_named("a100-40")
    node = node_of("polaris")           # from ALCF/machines/polaris.sh
    node = Node(gpu, gpus=8, network=200, host_gib=1024)

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

import subprocess
from dataclasses import dataclass
from pathlib import Path

from longseq.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ROOT / "ALCF" / "machines"
FACTS = (
    "LONGSEQ_GPU",
    "LONGSEQ_GPUS_PER_HOST",
    "LONGSEQ_NODE_NETWORK",
    "LONGSEQ_HOST_GIB",
    "LONGSEQ_FILES",
)


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
SAME = {"a100": "a100-40", "v100": "v100-32", "h100-80": "h100"}


def gpu_named(name: str) -> Gpu:
    """The GPU of a name, upper case or not; raises UserError with those there are."""
    lower = name.lower()
    found = GPUS.get(SAME.get(lower, lower))
    if found is None:
        raise UserError(f"--gpu {name!r} is not known: use one of {', '.join(GPUS)}")
    return found


@dataclass(frozen=True)
class Node:
    """A host: so many of a GPU, GB/s of all its network cards together, GiB of memory; `files`:
    GB/s that the machine's file system takes from all hosts together, 0 where nobody has said.
    """

    gpu: Gpu
    gpus: int
    network: float
    host_gib: float
    files: float = 0.0

    def bus(self, ranks: int, stride: int = 1) -> float:
        """Bytes a second that each of `ranks` ranks, `stride` apart, passes to the next of them.

        Inside a node it is the GPUs' link. A ring over nodes crosses each node's border once, at
        the share of its network cards that falls to the ranks it has of the group.
        """
        here = max(1, self.gpus // stride)
        link = self.gpu.link * 1e9
        if ranks <= here:
            return link
        return min(link, self.network * 1e9 * here / self.gpus)

    def swap(self, ranks: int, stride: int = 1) -> float:
        """The same of an all-to-all: what leaves the node does so at this GPU's share alone."""
        here = max(1, self.gpus // stride)
        link = self.gpu.link * 1e9
        if ranks <= here:
            return link
        outside = 1 - here / ranks
        return min(link, self.network * 1e9 / self.gpus / outside)


def usual_node(gpu: Gpu, gpus: int = 0) -> Node:
    """The maker's node, or one with `gpus` of them."""
    count = gpus or gpu.per_node
    return Node(gpu, count, gpu.network * count, gpu.host_gib * count / gpu.per_node)


def machines() -> list[str]:
    """The machines that have a profile with facts about their GPUs."""
    return [
        path.stem for path in sorted(PROFILES.glob("*.sh")) if "LONGSEQ_GPU=" in path.read_text()
    ]


def node_of(machine: str) -> Node:
    """The node of a machine, from its profile; raises UserError where that has no GPU."""
    known = machines()
    if machine not in known:
        raise UserError(f"--machine {machine!r} is not known: use one of {', '.join(known)}")
    values = " ".join(f'"${{{name}-}}"' for name in FACTS)
    script = f'source "$1"; longseq_profile_facts; printf "%s\\n" {values}'
    command = ["bash", "-c", script, "bash", str(PROFILES / f"{machine}.sh")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    gpu, gpus, *rest = done.stdout.split()
    return Node(gpu_named(gpu), int(gpus), *map(float, rest))
