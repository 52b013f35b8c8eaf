"""Run under mpiexec: the most bytes of parameters that a rank holds while a model is built.

Prints as JSON, for ZeRO stages 3 and 0: bytes of the network, and each rank's peak.
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
from longseq.engine.distributed import start_distributed, stop_distributed
from longseq.training.trainer import Trainer


def held() -> int:
    """Bytes in storages of all living tensors that were made since `gc.freeze`."""
    storages = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(storages.values())


def build(flags: list[str]) -> dict[str, Any]:
    """Bytes of the network, and the most that each rank holds of it while it is built."""
    gc.collect()
    gc.freeze()  # what is there already is not looked at again
    peaks: list[int] = []
    usual = vars(engine)["initialized_parameters"]

    def watched(*arguments: Any) -> Iterator[nn.Parameter]:
        for parameter in usual(*arguments):
            peaks.append(held())
            yield parameter

    vars(engine)["initialized_parameters"] = watched
    with Trainer(parse_config(flags, dist.get_world_size()), vocabulary=16) as trainer:
        whole = sum(4 * getattr(p, "ds_numel", p.numel()) for p in trainer.model.parameters())
        found = trainer.ranks.gather(max(peaks))
    vars(engine)["initialized_parameters"] = usual
    return {"whole": whole, "held": found, "parameters": len(peaks)}


def main() -> None:
    warnings.simplefilter("ignore")
    os.environ.setdefault("LOCAL_SIZE", os.environ["WORLD_SIZE"])
    start_distributed(torch.device("cpu"))
    found = {stage: build([*sys.argv[1:], "--zero-stage", stage]) for stage in ("3", "0")}
    if dist.get_rank() == 0:
        print(json.dumps(found), flush=True)
    stop_distributed()


if __name__ == "__main__":
    main()
