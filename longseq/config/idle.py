"""Flags that cannot act beside the others that are given: refused, and not taken over from a run.

    idle(values)["rope_theta"]      # why, where it cannot act; values: those of the flags by field

A run of before may have been told such a flag, when it was accepted in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from longseq.config.arguments import GROUPS, Config
from longseq.config.flags import flags_of
from longseq.config.optimizers import OPTIMIZERS
from longseq.errors import UserError

ROTARY = ("rotary_percent", "rope_theta")
ADAM = ("adam_beta1", "adam_beta2", "adam_eps")


def idle(values: Mapping[str, Any]) -> dict[str, str]:
    """The fields of flags that cannot act, whatever their value, and why."""
    found: dict[str, str] = {}
    if not values["use_rotary_position_embeddings"]:
        found |= dict.fromkeys(ROTARY, "needs --use-rotary-position-embeddings (USE_ROTARY=1)")
    name = values["optimizer"]
    if name in OPTIMIZERS and not OPTIMIZERS[name].adam:  # a later release's run has others
        found |= dict.fromkeys(ADAM, f"is Adam's, and --optimizer {name} has none of it")
    return found


def check_idle(config: Config) -> None:
    """Raise UserError for the first flag that is given and cannot act."""
    values = {key: value for part in asdict(config).values() for key, value in part.items()}
    reasons = idle(values)
    for item in (item for group in GROUPS for item in flags_of(group)):
        value = values[item.field]
        if item.field in reasons and value != item.default:
            raise UserError(
                f"{item.name} {value:g} {reasons[item.field]}: leave it out, or give"
                f" {item.default:g}"
            )
