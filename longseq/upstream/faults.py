"""What Megatron-DeepSpeed (checkout.COMMIT) computes wrongly, and which of it a run meets.

for line in warnings_for(config): print(line)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from longseq.config.arguments import Config


@dataclass(frozen=True)
class Fault:
    """`as_shipped` says what it does, `corrected` what UPSTREAM_FIXES=1 puts in its place."""

    as_shipped: str
    corrected: str
    meets: Callable[[Config], bool]


def _rotary(config: Config) -> bool:
    return config.network.use_rotary_position_embeddings and config.layout.ulysses == 1


def _split(config: Config) -> bool:
    return config.layout.sequence_parallel


def _padded(config: Config) -> bool:
    return config.network.make_vocab_size_divisible_by > 1


def _without_biases(config: Config) -> bool:
    return config.network.disable_bias_linear and not config.network.swiglu


def _piped_in_fp32(config: Config) -> bool:
    train = config.training
    return config.layout.pp > 1 and train.dtype == "fp32" and train.zero_stage == 0


FAULTS = (
    Fault(
        "off the Ulysses path queries and keys are rotated by cos(m·theta), not by m·theta",
        "rotary positions turn queries and keys by their angle",
        _rotary,
    ),
    Fault(
        "without biases its GELU is the exact form (erf), not the tanh form as with them",
        "GELU is the tanh form, without biases as with them",
        _without_biases,
    ),
    Fault(
        "sequence parallelism slices the sequence twice, in the batch and in the embedding",
        "sequence parallelism slices the sequence once",
        _split,
    ),
    Fault(
        "gradients of norms are not summed over the ranks that split the sequence, which drift"
        " apart",
        "gradients of norms are summed over the ranks that split the sequence",
        _split,
    ),
    Fault(
        "the rows that pad the vocabulary take part in the softmax",
        "the softmax is over the tokens that there are",
        _padded,
    ),
    Fault(
        "DeepSpeed's norm of a pipeline's gradients in fp32 counts the table that two stages share"
        " twice, and norms of the first stage alone",
        "the norm of a pipeline's gradients counts each of them once",
        _piped_in_fp32,
    ),
    Fault(
        "at ZeRO stage 3 its Ulysses divides gradients by the ranks that share a sequence",
        "gradients of Ulysses at ZeRO stage 3 are whole",
        lambda config: config.layout.ulysses > 1 and config.training.zero_stage == 3,
    ),
    Fault(
        "on a CPU its Adam decays gradients, not weights",
        "Adam decays weights, as on GPUs",
        lambda config: config.training.device == "cpu" and config.training.weight_decay > 0,
    ),
    Fault(
        "its schedule of learning rates is one iteration behind: the first update has rate 0",
        "the schedule of learning rates is ours, from the first update on",
        lambda config: (
            config.training.warmup_iters > 0 or config.training.lr_decay_style != "constant"
        ),
    ),
    Fault(
        "its network starts from other values on each layout",
        "its network starts from our first values, the same on each layout",
        lambda config: not config.run.load,
    ),
)


def lines_for(config: Config) -> list[str]:
    """A line for each fault that this run meets, and what is done about it."""
    met = [fault for fault in FAULTS if fault.meets(config)]
    if config.run.as_shipped:
        return [f"as shipped (UPSTREAM_FIXES=0): {fault.as_shipped}" for fault in met]
    return [f"corrected (UPSTREAM_FIXES=1): {fault.corrected}" for fault in met]
