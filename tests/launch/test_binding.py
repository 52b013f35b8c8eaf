"""Each rank's CPUs are those near its GPU, by each machine's own table."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from longseq.host.affinity import read_cpus
from tests.launch.shell import Result

# CPUs that are near each GPU, hardware threads included. Sources, read in November 2026:
# Polaris: docs.alcf.anl.gov, "Polaris Device Affinity Information" (GPU 0: 24-31,56-63, …);
# Frontier: docs.olcf.ornl.gov, user guide, "each associated with one of the L3 regions" (hardware
# threads 0-7,64-71: GPU 4, …), and the output of its `srun -c7 --gpu-bind=closest`;
# Perlmutter: sysfs and nvidia-smi topo -m as a user measured (GPU 3: NUMA node 0, 0-15,64-79, …).
# U: no page of the site's was found that says so.
NEAR = {
    "polaris": {3 - n: f"{8 * n}-{8 * n + 7},{32 + 8 * n}-{39 + 8 * n}" for n in range(4)},
    "perlmutter": {3 - n: f"{16 * n}-{16 * n + 15},{64 + 16 * n}-{79 + 16 * n}" for n in range(4)},
    "frontier": {
        gpu: f"{8 * n}-{8 * n + 7},{64 + 8 * n}-{71 + 8 * n}"
        for n, gpu in enumerate((4, 5, 2, 3, 6, 7, 0, 1))
    },
}
NEAR["sirius"] = NEAR["polaris"]  # nodes of the same kind


def bound(machine: str, flags: list[str], rank: int) -> set[int]:
    """CPUs of the N-th rank of a host, as the launcher's own pages describe its flags."""
    size = int(next(f for f in flags if f[:8] in ("--depth=", "--cpus-p")).split("=")[1])
    if machine in (
        "polaris",
        "sirius",
    ):
        # PALS: --cpu-bind depth counts CPUs in their order. The site's page for Aurora prints that
        # of --depth=8: rank 0 has 1-8, rank 1 9-16 (core 0 is not for users there)
        return set(range(rank * size, (rank + 1) * size))
    if machine == "frontier":  # Slurm counts cores, less the first of each L3 region, a thread each
        return set(range(8 * rank + 1, 8 * rank + 1 + size))
    cores = size // 2  # --cpu-bind=cores: both threads of each core
    first = {rank * cores + n for n in range(cores)}
    return first | {cpu + 64 for cpu in first}


@pytest.mark.parametrize("machine", NEAR)
def test_a_ranks_cpus_are_near_its_gpu(bash: Callable[..., Result], machine: str) -> None:
    script = """longseq_find_machine; printf '%s\\n' "$LONGSEQ_GPU_ORDER" "${LONGSEQ_BIND[@]}" """
    order, *flags = bash(script, MACHINE=machine).stdout.split("\n")
    for rank, gpu in enumerate(map(int, order.split(","))):
        assert bound(machine, flags, rank) <= read_cpus(NEAR[machine][gpu]), (rank, gpu)
