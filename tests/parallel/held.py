"""Run under mpiexec: the most bytes of parameters that a rank holds while a model is built.

Prints {"whole": …, "held": […]} as JSON: bytes of the network, and each rank's peak.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from longseq.config.checks import parse_config
from longseq.engine import engine
from longseq.parallel import mpi
from longseq.parallel.agreement import torch_ranks
from longseq.parallel.mesh import Mesh


def held() -> int:
    """Bytes in storages of all living tensors."""
    storages = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(storages.values())


def main() -> None:
    warnings.simplefilter("ignore")
    os.environ.setdefault("LOCAL_SIZE", os.environ["WORLD_SIZE"])
    cpu = torch.device("cpu")
    engine.start_distributed(cpu)
    config = parse_config(sys.argv[1:], dist.get_world_size())
    mesh = Mesh.create(config.layout)
    before = held()
    peaks = []
    usual = vars(engine)["drawn"]

    def watched(*arguments: Any) -> Iterator[nn.Parameter]:
        for parameter in usual(*arguments):
            peaks.append(held() - before)
            yield parameter

    vars(engine)["drawn"] = watched
    model = engine.build_model(config, mesh, 16, cpu)
    whole = sum(4 * getattr(p, "ds_numel", p.numel()) for p in model.parameters())
    found = torch_ranks().gather(max(peaks))
    if dist.get_rank() == 0:
        print(json.dumps({"whole": whole, "held": found, "parameters": len(peaks)}), flush=True)
    dist.destroy_process_group()
    mpi.finish()


if __name__ == "__main__":
    main()
