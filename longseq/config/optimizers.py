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
    adam: it steps something by Adam's rule. made: bytes that a step makes beside fp32 gradients,
    for each number of the largest matrix; together: of all parameters, as torch's kernels for GPUs
    take them at once.
    """

    whole_matrices: bool = False
    layers_apart: bool = False
    on_host: bool = False
    saved: int = 4
    adam: bool = False
    made: int = 0
    together: bool = False


OPTIMIZERS = {
    "adam": Traits(on_host=True, saved=12, adam=True),
    "sgd": Traits(made=4, together=True),  # gradients with the decay
    "adafactor": Traits(whole_matrices=True, made=4),
    # An fp32 gradient with momentum, two in bf16, and products of theirs
    "muon": Traits(whole_matrices=True, layers_apart=True, saved=8, adam=True, made=9),
}
