"""Its arguments → our network; what means something else than ours is refused by its name.

args = filled(first["args"], path)     # with what an older version did not have yet
network_of(args, path, order)
other_rotary(args)                     # by what it turned, as shipped, where not as here
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
from longseq.upstream.converting.orders import BY_HEAD
from longseq.upstream.converting.rows import since_fpdt

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
    # Where they lie by kind: it computes grouped heads wrongly
    "num_key_value_heads": lambda value, net: value in (None, net.key_value_heads),
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


def network_of(args: Namespace, path: Path, order: str) -> Network:
    """Our network for its (filled) arguments and the order of its rows (rows.py)."""
    said = {name: getattr(args, name) for name in SAME}
    if order == BY_HEAD and (groups := vars(args).get("num_key_value_heads")):
        said["num_key_value_heads"] = 0 if groups == args.num_attention_heads else groups
    said["disable_bias_linear"] = not args.add_bias_linear
    net: Network
    try:
        (net,) = parse((Network,), given_flags(Network, said))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    for name, is_ours in OURS.items():
        if name in args and not is_ours(value := getattr(args, name), net):
            raise UserError(f"{path} was trained with {name}={value}, which our network has not")
    if net.num_attention_heads % net.key_value_heads:
        heads, groups = net.num_attention_heads, net.key_value_heads
        raise UserError(f"{path}: num_key_value_heads={groups} does not divide its {heads} heads")
    ranks = args.tensor_model_parallel_size
    for name in ("num_attention_heads", "key_value_heads", "ffn_hidden_size"):
        if (value := getattr(net, name)) % ranks:
            raise UserError(f"{path}: {name}={value} does not divide by its {ranks} ranks")
    step = net.make_vocab_size_divisible_by * ranks
    return replace(net, make_vocab_size_divisible_by=step)


def other_rotary(args: Namespace) -> str:
    """By what its version, as shipped, turned queries and keys, where not by m·theta; else "".

    Since FPDT all but its Ulysses path took the cosines of angles for angles. Before, its Ulysses
    ranks counted positions from 0 each, and DeepSpeed put the frequencies with the weights into 16
    bits: of heads of 64 in bf16 angles are up to 0.5 off at 256 tokens, 7 at 2,048. A pipeline kept
    them in fp32, since August 2023, when the Ulysses came.
    """
    said = vars(args)
    if not args.use_rotary_position_embeddings:
        return ""
    ranks = said.get("ds_sequence_parallel_size", 1)
    if since_fpdt(args):
        return "" if ranks > 1 or said.get("force_ds_sequence_parallel") else "cos(m·theta)"
    if ranks > 1:
        return f"positions that began at 0 on each of its {ranks} Ulysses ranks"
    in_fp32 = not args.no_pipeline_parallel and "ds_sequence_parallel_size" in said
    kind = next((name for name in ("bf16", "fp16") if said.get(name)), "")
    return "" if in_fp32 or not kind else f"angles that {kind} had rounded"


def gelu_is_exact(args: Namespace) -> bool:
    """Is its GELU the exact one? Ours, like its fused one, is the tanh form, which our runs of it
    put in. Older ones did not, and do not have CORRECTED among their arguments.
    """
    fused = args.bias_gelu_fusion and args.add_bias_linear
    return not (args.swiglu or args.openai_gelu or fused or getattr(args, CORRECTED, False))
