"""The optimizers there are, and what each allows; engine/optimizer.py makes them.

A new one is a row here, a function there and, if it has a page to itself, a line in docs.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Traits:
    """whole_matrices: works on matrices that no rank cuts up, so at ZeRO stage 0 without tensor
    parallelism. layers_apart: the layers' matrices are stepped by another rule than the rest.
    on_host: DeepSpeed has one that steps in host memory. saved: bytes a parameter of a checkpoint.
    adam: it steps something by Adam's rule.
    """

    whole_matrices: bool = False
    layers_apart: bool = False
    on_host: bool = False
    saved: int = 4
    adam: bool = False


OPTIMIZERS = {
    "adam": Traits(on_host=True, saved=12, adam=True),
    "sgd": Traits(),
    "adafactor": Traits(whole_matrices=True),
    "muon": Traits(whole_matrices=True, layers_apart=True, saved=8, adam=True),
}
