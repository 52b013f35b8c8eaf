"""Flags that act with another one only, or without it; else each would be ignored, and is refused.

    check_companions(config)     # raises UserError
    idle(values)                 # the fields of those that cannot act; values: by field

What a flag needs of numbers or of the machine is checks.py's subject. A flag that the launcher
gives in every run (--min-lr, --eval-interval), or in each that goes on (--lr-decay-iters), cannot
be here: nobody has asked for it. A run of before may have been told a flag that is refused today:
it is not taken over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from longseq.config.arguments import GROUPS, Config
from longseq.config.flags import Flag, flags_of
from longseq.config.optimizers import OPTIMIZERS
from longseq.errors import UserError

Values = Mapping[str, Any]
Needs = tuple[Callable[[Values], Any], str]  # whether it acts; when it does, and what to do


def _with(name: str) -> str:
    return f"with {name} only: give that too"


def _has_moments(values: Values) -> bool:
    name = values["optimizer"]
    return name not in OPTIMIZERS or OPTIMIZERS[name].adam  # a later release's run has others


ROTARY = ("rope_theta", "rotary_percent")
NEEDS: dict[str, Needs] = {
    **dict.fromkeys(
        ROTARY,
        (
            lambda values: values["use_rotary_position_embeddings"],
            _with("--use-rotary-position-embeddings (USE_ROTARY=1)"),
        ),
    ),
    **dict.fromkeys(
        ("ds_sequence_parallel_fpdt_chunk_size", "ds_sequence_parallel_fpdt_offloading"),
        (lambda values: values["ds_sequence_parallel_fpdt"], _with("--ds-sequence-parallel-fpdt")),
    ),
    **dict.fromkeys(
        ("adam_beta1", "adam_beta2", "adam_eps"), (_has_moments, _with("--optimizer adam or muon"))
    ),
    **dict.fromkeys(
        ("reset_position_ids", "reset_attention_mask"),  # inner end tokens are for --eod-mask-loss
        (
            lambda values: not values["no_cross_document"],
            "on samples of several documents only: drop --no-cross-document",
        ),
    ),
    "split": (
        lambda values: not (values["valid_records"] and values["test_records"]),
        "where --valid-records and --test-records do not name all that is held out: drop one of"
        " these",
    ),
}
OF_A_RUN: dict[str, Needs] = {
    **dict.fromkeys(
        ("save_interval", "keep_last"),
        (lambda values: values["save"], _with("--save, the folder of the checkpoints,")),
    ),
    **dict.fromkeys(
        ("hang_timeout", "tensorboard_dir", "wandb_project"),
        (lambda values: values["run_dir"], _with("--run-dir, the run's folder,")),
    ),
}


def idle(values: Values) -> set[str]:
    """The fields of those that cannot act, whatever their value; of a run's own files none."""
    return {field for field, (acts, _) in NEEDS.items() if not acts(values)}


def check_companions(config: Config) -> None:
    """Raise UserError for the first flag that is given without what it acts with."""
    values, needs = config.values, NEEDS | OF_A_RUN
    for item in (item for cls in GROUPS for item in flags_of(cls) if item.field in needs):
        acts, when = needs[item.field]
        value = values[item.field]
        if value != item.default and not acts(values):
            raise UserError(f"{_given(item, value)} acts {when}, or leave it out")


def _given(item: Flag, value: Any) -> str:
    number = f"{value:g}" if item.kind is float else value
    return item.name if item.kind is bool else f"{item.name} {number}"
