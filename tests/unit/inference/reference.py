"""transformers' Llama with the weights of one of our networks: shares no code with it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from longseq.model.gpt import GPT

transformers = pytest.importorskip("transformers")


@lru_cache(maxsize=2)
def llama(model: GPT) -> nn.Module:
    """The network of trained_run.LLAMA; rows of the tables that only pad are left out."""
    ours = {name: p.detach() for name, p in model.named_parameters()}
    size = model.head.vocabulary
    config = transformers.LlamaConfig(
        vocab_size=size,
        hidden_size=64,
        num_hidden_layers=len(model.layers),
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    theirs: nn.Module = transformers.LlamaForCausalLM(config)
    named = {
        "model.embed_tokens.weight": ours["tokens.weight"][:size],
        "model.norm.weight": ours["norm.weight"],
        "lm_head.weight": ours["head.weight"][:size],
    }
    for n in range(len(model.layers)):
        named |= _layer(ours, f"layers.{n}", f"model.layers.{n}")
    theirs.load_state_dict(named)
    return theirs.eval()


def _layer(ours: dict[str, Tensor], us: str, them: str) -> dict[str, Tensor]:
    q, k, v = ours[f"{us}.attention.qkv.weight"].split((64, 16, 16))
    gate, up = ours[f"{us}.mlp.up.weight"].chunk(2)
    return {
        f"{them}.input_layernorm.weight": ours[f"{us}.attention_norm.weight"],
        f"{them}.post_attention_layernorm.weight": ours[f"{us}.mlp_norm.weight"],
        f"{them}.self_attn.q_proj.weight": q,
        f"{them}.self_attn.k_proj.weight": k,
        f"{them}.self_attn.v_proj.weight": v,
        f"{them}.self_attn.o_proj.weight": ours[f"{us}.attention.projection.weight"],
        f"{them}.mlp.gate_proj.weight": gate,
        f"{them}.mlp.up_proj.weight": up,
        f"{them}.mlp.down_proj.weight": ours[f"{us}.mlp.down.weight"],
    }


@torch.no_grad()
def log_likelihoods(model: GPT, stream: list[int]) -> np.ndarray[Any, Any]:
    """log p of each token of `stream` but the first, given those before it, [n - 1]."""
    tokens = torch.tensor([stream])
    logits = llama(model)(tokens[:, :-1]).logits[0].double()
    each = logits.log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]
    return np.asarray(each.numpy())
