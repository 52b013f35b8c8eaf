"""Hugging Face's GPT-NeoX and Llama with our weights give our loss and our gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longseq.attention.kernel import kernel
from longseq.config.checks import parse_config
from longseq.engine.network.initialize import initialize
from longseq.model.gpt import GPT

transformers = pytest.importorskip("transformers")

S, B, VOCABULARY = 96, 2, 128
NEOX = "--use-rotary-position-embeddings --rotary-percent 0.5"
LLAMA = (
    "--use-rotary-position-embeddings --normalization rmsnorm --swiglu --disable-bias-linear"
    " --num-key-value-heads 2 --untie-embeddings-and-output-weights --ffn-hidden-size 192"
)


def our_model(flags: str) -> GPT:
    common = "--num-layers 4 --hidden-size 64 --num-attention-heads 8 --init-method-std 0.2"
    config = parse_config([*common.split(), *flags.split(), "--seq-length", str(S)], 1)
    with torch.device("meta"):
        model = GPT(config.network, VOCABULARY, kernel("sdpa"), 1234)
    initialize(model, config.network, 1234, torch.device("cpu"))
    with torch.no_grad():  # biases and norms away from 0 and 1, where a mistake could hide
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                generator = torch.Generator().manual_seed(len(name))
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def neox() -> nn.Module:
    config = transformers.GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=8,
        intermediate_size=256,
        hidden_act="gelu_pytorch_tanh",
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
        use_parallel_residual=False,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    model: nn.Module = transformers.GPTNeoXForCausalLM(config)
    return model


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    model: nn.Module = transformers.LlamaForCausalLM(config)
    return model


def neox_names(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under GPT-NeoX's names: its fused rows go head by head, ours part by part."""

    def by_head(x: Tensor) -> Tensor:
        return x.unflatten(0, (3, 8, 8)).transpose(0, 1).flatten(0, 2)

    theirs = {"gpt_neox.embed_in.weight": ours["tokens.weight"]}
    for kind in ("weight", "bias"):
        theirs[f"gpt_neox.final_layer_norm.{kind}"] = ours[f"norm.{kind}"]
        for n in range(4):
            us, them = f"layers.{n}", f"gpt_neox.layers.{n}"
            theirs |= {
                f"{them}.input_layernorm.{kind}": ours[f"{us}.attention_norm.{kind}"],
                f"{them}.post_attention_layernorm.{kind}": ours[f"{us}.mlp_norm.{kind}"],
                f"{them}.attention.query_key_value.{kind}": by_head(
                    ours[f"{us}.attention.qkv.{kind}"]
                ),
                f"{them}.attention.dense.{kind}": ours[f"{us}.attention.projection.{kind}"],
                f"{them}.mlp.dense_h_to_4h.{kind}": ours[f"{us}.mlp.up.{kind}"],
                f"{them}.mlp.dense_4h_to_h.{kind}": ours[f"{us}.mlp.down.{kind}"],
            }
    return theirs


def llama_names(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under Llama's names."""
    theirs = {
        "model.embed_tokens.weight": ours["tokens.weight"],
        "model.norm.weight": ours["norm.weight"],
        "lm_head.weight": ours["head.weight"],
    }
    for n in range(4):
        us, them = f"layers.{n}", f"model.layers.{n}"
        q, k, v = ours[f"{us}.attention.qkv.weight"].split((64, 16, 16))
        gate, up = ours[f"{us}.mlp.up.weight"].chunk(2)
        theirs |= {
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
    return theirs


@pytest.mark.parametrize(
    ("flags", "make", "names"), [(NEOX, neox, neox_names), (LLAMA, llama, llama_names)]
)
def test_same_loss_and_gradients(flags: str, make: Any, names: Any) -> None:
    ours, theirs = our_model(flags), make()
    named = names({name: p.detach() for name, p in ours.named_parameters()})
    parameters = dict(theirs.named_parameters())
    assert set(named) == set(parameters)
    with torch.no_grad():
        for name, value in named.items():
            parameters[name].copy_(value)
    tokens = torch.randint(0, VOCABULARY, (B, S + 1), generator=torch.Generator().manual_seed(1))

    weights = torch.full((B, S), 1 / (B * S))
    loss = ours(tokens[:, :-1], tokens[:, 1:], weights, torch.arange(S)[None])
    loss.backward()
    logits = theirs(tokens[:, :-1]).logits
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    expected.backward()

    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
    with torch.no_grad():
        hidden = ours.hidden(tokens[:, :-1], torch.arange(S)[None])
        torch.testing.assert_close(
            ours.head.logits(hidden).transpose(0, 1), logits, rtol=1e-4, atol=1e-4
        )
    each = ours.head.losses(hidden, tokens[:, 1:].t())
    log_likelihood = logits.detach().log_softmax(-1).gather(2, tokens[:, 1:, None])[..., 0]
    torch.testing.assert_close(each.t(), -log_likelihood, rtol=1e-4, atol=1e-4)
    gradients = names({name: p.grad for name, p in ours.named_parameters()})
    for name, gradient in gradients.items():
        reference = parameters[name].grad
        assert reference is not None
        scale = float(reference.abs().max())
        torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=2e-5 * scale, msg=name)
