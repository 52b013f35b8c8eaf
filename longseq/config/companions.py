"""Flags that act together with another one only; without it each would be ignored, and is refused.

    check_companions(config)     # raises UserError

What a flag needs of numbers or of the machine is checks.py's subject. A flag that the launcher
gives in every run (--min-lr, --eval-interval) cannot be here: nobody has asked for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from longseq.config.arguments import GROUPS, Config
from longseq.config.flags import Flag, flags_of
from longseq.errors import UserError

Acts = Callable[[Config], Any]


def _rotary(config: Config) -> bool:
    return config.network.use_rotary_position_embeddings


def _in_chunks(config: Config) -> bool:
    return config.memory.ds_sequence_parallel_fpdt


def _has_moments(config: Config) -> bool:
    return config.training.optimizer in ("adam", "muon")


def _saves(config: Config) -> str:
    return config.run.save


def _has_folder(config: Config) -> str:
    return config.run.run_dir


ROTARY = (_rotary, "--use-rotary-position-embeddings (USE_ROTARY=1)")
CHUNKS = (_in_chunks, "--ds-sequence-parallel-fpdt")
MOMENTS = (_has_moments, "--optimizer adam or muon")
SAVED = (_saves, "--save, the folder of the checkpoints,")
FOLDER = (_has_folder, "--run-dir, the run's folder,")
# Field → whether it acts in a run, and with what it would
NEEDS: dict[str, tuple[Acts, str]] = {
    "rope_theta": ROTARY,
    "rotary_percent": ROTARY,
    "ds_sequence_parallel_fpdt_chunk_size": CHUNKS,
    "ds_sequence_parallel_fpdt_offloading": CHUNKS,
    "adam_beta1": MOMENTS,
    "adam_beta2": MOMENTS,
    "adam_eps": MOMENTS,
    "save_interval": SAVED,
    "keep_last": SAVED,
    "hang_timeout": FOLDER,
    "tensorboard_dir": FOLDER,
    "wandb_project": FOLDER,
}


def check_companions(config: Config) -> None:
    """Raise UserError for the first flag that is given without what it acts with."""
    parts = (config.network, config.layout, config.memory, config.training, config.data, config.run)
    for cls, part in zip(GROUPS, parts, strict=True):
        for item in flags_of(cls):
            value = getattr(part, item.field)
            acts, needed = NEEDS.get(item.field, (None, ""))
            if acts is not None and value != item.default and not acts(config):
                raise UserError(
                    f"{_given(item, value)} acts with {needed} only: give that too, or leave it out"
                )


def _given(item: Flag, value: Any) -> str:
    number = f"{value:g}" if item.kind is float else value
    return item.name if item.kind is bool else f"{item.name} {number}"
