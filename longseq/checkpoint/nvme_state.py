"""Checkpoints of an optimizer whose state lies in files.

DeepSpeed copies those files into a checkpoint and back, but after that it knows neither the moments
in them nor the count of Adam's steps, and groups too small for a file (norms and biases) keep the
values of a fresh network; it complains of nothing. So the groups are read in one by one and written
as tensors, a file each, and put back in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


@contextmanager
def own_state(engine: Any) -> Iterator[bool]:
    """Keep DeepSpeed from saving or loading the optimizer's part; says if it lies in files."""
    in_files = engine.zero_optimization() and engine.zero_nvme_offload_optimizer()
    if in_files:
        engine.zero_nvme_offload_optimizer = lambda: False
        engine._load_zero_checkpoint = lambda *_, **__: True
    try:
        yield in_files
    finally:
        if in_files:
            del engine.zero_nvme_offload_optimizer, engine._load_zero_checkpoint


@torch.no_grad()
def save_groups(engine: Any, folder: Path, save: Callable[[Any, str], None]) -> None:
    """Write each group of this rank with `save(item, path)`."""
    for number, master, state in _read_in(engine.optimizer):
        save({"master": master.detach(), "state": dict(state)}, str(_file(folder, number)))


@torch.no_grad()
def load_groups(engine: Any, folder: Path) -> None:
    """Read them back, and give the network the weights."""
    optimizer = engine.optimizer
    optimizer._partition_all_parameters()
    for number, master, state in _read_in(optimizer):
        saved = torch.load(_file(folder, number), map_location="cpu", weights_only=True)
        master.copy_(saved["master"])
        for key, value in saved["state"].items():
            if isinstance(state.get(key), torch.Tensor):
                state[key].copy_(value)
            else:
                state[key] = value
        optimizer._reassign_or_swap_out_partitioned_parameters(number)
    optimizer._post_step(set())


def _file(folder: Path, number: int) -> Path:
    return folder / f"group_{number}_rank_{torch.distributed.get_rank()}.pt"


def _read_in(optimizer: Any) -> Iterator[tuple[int, torch.Tensor, dict[str, Any]]]:
    """(number, fp32 weights, Adam's state) of each group, which is in memory meanwhile."""
    for number, master in enumerate(optimizer.fp32_partitioned_groups_flat):
        optimizer._prepare_sub_group(number, set())
        yield number, master, optimizer.optimizer.state[master]
        optimizer._release_sub_group(number, set())
