"""The family that fits.

family = family_for(network)             # UserError: what would have to differ
family = family_of(config)               # UserError: a config.json of no class that fits here

Messages about a config.json are of what it holds; who read it says which one it is.
"""

from __future__ import annotations

from longseq.config.arguments import Network
from longseq.errors import UserError
from longseq.huggingface.families import gpt2, gpt_neox, llama, stablelm, starcoder2
from longseq.huggingface.families.family import Config, Family
from longseq.huggingface.families.values import check_values

DEQUANTIZE = "load the model with transformers, call dequantize() and save that"

# The first that fits is taken
FAMILIES: tuple[Family, ...] = (
    gpt_neox.FAMILY,
    llama.FAMILY,
    gpt2.FAMILY,
    starcoder2.FAMILY,
    stablelm.FAMILY,
)


def family_for(net: Network) -> Family:
    """The first class that expresses a network; UserError says by what the nearest fail."""
    missing = [(family, family.missing(net)) for family in FAMILIES]
    least = min(len(flags) for _, flags in missing)
    nearest = [(family, flags) for family, flags in missing if len(flags) == least]
    if least:
        would = "; ".join(
            f"{one.architecture} would be with {', '.join(fl)}" for one, fl in nearest
        )
        raise UserError(
            f"no class of transformers is this network: {would}; its weights alone:"
            " ./longseq.sh checkpoint convert"
        )
    return nearest[0][0]


def family_of(config: Config) -> Family:
    """The class that a config.json names, checked."""
    kind = config.get("model_type")
    for family in FAMILIES:
        if family.model_type == kind:
            if config.get("quantization_config"):
                raise UserError(f"quantization_config: its weights are quantized: {DEQUANTIZE}")
            check_values(config)
            family.check(config)
            return family
    known = ", ".join(family.model_type for family in FAMILIES)
    raise UserError(f"model_type is {kind!r}; known here are {known}")
