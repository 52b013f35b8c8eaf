"""Its arguments → our network; what means something else than ours is refused by its name.

args = filled(first["args"], path)     # with what an older version did not have yet
network_of(args, path)
turns_by_angles(args)                  # are its rotary positions ours, as shipped?
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from longseq.config.arguments import Network
from longseq.config.flags import given_flags, parse
from longseq.errors import UserError

CORRECTED = "longseq_corrected"  # an argument that runs of ours add: with UPSTREAM_FIXES=1?
NEEDED = (
    "num_layers hidden_size num_attention_heads ffn_hidden_size seq_length max_position_embeddings"
    " layernorm_epsilon make_vocab_size_divisible_by tensor_model_parallel_size"
    " no_pipeline_parallel consumed_train_samples"
).split()
LATER: dict[str, Any] = {  # what came in later versions, as those before it were
    "zero_stage": 0,
    "normalization": "layernorm",
    "swiglu": False,
    "add_bias_linear": True,
    "untie_embeddings_and_output_weights": False,
    "add_position_embedding": True,
    "use_rotary_position_embeddings": False,
    "rotary_percent": 1.0,
    "rope_theta": 10000,
    "bias_gelu_fusion": True,
    "openai_gelu": False,
    "optimizer": "adam",
    "ds_sequence_parallel_size": 1,
    "force_ds_sequence_parallel": False,
}
# What has the same name and meaning here
SAME = (
    "num_layers hidden_size num_attention_heads ffn_hidden_size seq_length max_position_embeddings"
    " normalization layernorm_epsilon swiglu untie_embeddings_and_output_weights"
    " use_rotary_position_embeddings rotary_percent rope_theta make_vocab_size_divisible_by"
).split()
# Arguments under which its network is another function than ours, and the values that ours has
OURS: dict[str, Callable[[Any, Network], bool]] = {
    "squared_relu": lambda value, _: not value,
    "apply_layernorm_1p": lambda value, _: not value,
    "apply_residual_connection_post_layernorm": lambda value, _: not value,
    "retro_add_retriever": lambda value, _: not value,
    "num_experts_switch": lambda value, _: not value,
    "num_experts": lambda value, _: value in (None, 1, [1]),
    "kv_channels": lambda value, net: value in (None, net.head_size),
    # It lays grouped heads out otherwise, and computes them wrongly
    "num_key_value_heads": lambda value, net: value in (None, net.num_attention_heads),
    "add_position_embedding": lambda value, net: value or net.use_rotary_position_embeddings,
}


def filled(args: Namespace, path: Path) -> Namespace:
    """The same, with LATER; raises UserError where it lacks what no version does without."""
    if missing := [name for name in NEEDED if name not in args]:
        raise UserError(f"{path}: its args do not say {', '.join(missing)}")
    full = Namespace(**{**LATER, **vars(args)})
    if type(full.tensor_model_parallel_size) is not int or full.tensor_model_parallel_size < 1:
        size = full.tensor_model_parallel_size
        raise UserError(f"{path}: tensor_model_parallel_size {size!r} is no number of ranks")
    return full


def network_of(args: Namespace, path: Path) -> Network:
    """Our network for its (filled) arguments."""
    said = {name: getattr(args, name) for name in SAME}
    said["disable_bias_linear"] = not args.add_bias_linear
    net: Network
    try:
        (net,) = parse((Network,), given_flags(Network, said))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    for name, is_ours in OURS.items():
        if name in args and not is_ours(value := getattr(args, name), net):
            raise UserError(f"{path} was trained with {name}={value}, which our network has not")
    ranks = args.tensor_model_parallel_size
    for name in ("num_attention_heads", "ffn_hidden_size"):
        if (value := getattr(net, name)) % ranks:
            raise UserError(f"{path}: {name}={value} does not divide by its {ranks} ranks")
    step = net.make_vocab_size_divisible_by * ranks
    return replace(net, make_vocab_size_divisible_by=step)


def turns_by_angles(args: Namespace) -> bool:
    """Are queries and keys turned as here also as shipped? So it is on its Ulysses path alone."""
    return bool(
        not args.use_rotary_position_embeddings
        or args.ds_sequence_parallel_size > 1
        or args.force_ds_sequence_parallel
    )


def gelu_is_exact(args: Namespace) -> bool:
    """Is its GELU the exact one? Ours, like its fused one, is the tanh form, which our runs of it
    put in. Older ones did not, and do not have CORRECTED among their arguments.
    """
    fused = args.bias_gelu_fusion and args.add_bias_linear
    return not (args.swiglu or args.openai_gelu or fused or getattr(args, CORRECTED, False))
