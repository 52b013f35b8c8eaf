"""GPUs by name, and nodes by the machine's profile: what a plan stands on (rates: host/gpus.py).

gpu = gpu_named("a100-40")
node = node_of("polaris")           # from ALCF/machines/polaris.sh
node = Node(gpu, gpus=8, network=200, host_gib=1024)
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from longseq.errors import UserError
from longseq.host.gpus import GPUS as GPUS
from longseq.host.gpus import Gpu as Gpu

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ROOT / "ALCF" / "machines"
FACTS = (
    "LONGSEQ_GPU",
    "LONGSEQ_GPUS_PER_HOST",
    "LONGSEQ_NODE_NETWORK",
    "LONGSEQ_HOST_GIB",
    "LONGSEQ_FILES",
)


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
