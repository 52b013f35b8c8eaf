"""A run as a training leaves one, made without a training: the weights of a network in a folder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from longseq.attention.kernel import kernel
from longseq.checkpoint.fit import network
from longseq.checkpoint.format.boxes import as_matrix
from longseq.checkpoint.format.folder import commit
from longseq.checkpoint.format.manifest import Manifest, describe, list_files
from longseq.config.checks import parse_config
from longseq.data.tokenizers.base import Tokenizer
from longseq.data.tokenizers.registry import tokenizer_from, write_tokenizer
from longseq.engine.network.initialize import initialize
from longseq.model.gpt import GPT

ROTARY = "--use-rotary-position-embeddings"
LLAMA = (
    f"{ROTARY} --normalization rmsnorm --swiglu --disable-bias-linear --num-key-value-heads 2"
    " --untie-embeddings-and-output-weights --ffn-hidden-size 192"
)
LEARNED = ""


def made(tokenizer: str | Tokenizer) -> Tokenizer:
    return tokenizer_from(tokenizer) if isinstance(tokenizer, str) else tokenizer


def make_model(flags: str, tokenizer: str | Tokenizer = "nucleotide", length: int = 96) -> GPT:
    """A small network whose biases and norms are away from 0 and 1, where a mistake could hide."""
    common = "--num-layers 2 --hidden-size 64 --num-attention-heads 8 --init-method-std 0.2"
    config = parse_config([*common.split(), *flags.split(), "--seq-length", str(length)], 1)
    vocabulary = made(tokenizer).vocab_size
    with torch.device("meta"):
        model = GPT(config.network, vocabulary, kernel("sdpa"), 1234)
    initialize(model, config.network, 1234, torch.device("cpu"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                generator = torch.Generator().manual_seed(len(name))
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def write_run(model: GPT, folder: Path, tokenizer: str | Tokenizer = "nucleotide") -> Path:
    """`folder` with checkpoints/step-7 of `model`, in the file format's own library."""
    checkpoints = folder / "checkpoints"
    aside = checkpoints / "step-7.tmp"
    aside.mkdir(parents=True)
    known = made(tokenizer)
    write_tokenizer(known, aside)
    named = {name: p.detach() for name, p in model.named_parameters()}
    save_file(
        {f"weight/{name}@0:0": p.reshape(as_matrix(p.shape)) for name, p in named.items()},
        aside / "rank-00000.safetensors",
    )
    manifest = Manifest(
        {"iteration": 7, "consumed_samples": 7, "consumed_tokens": 7},
        network(model.net),
        "adam",
        known.vocab_size,
        known.specification,
        {"seq_length": model.net.seq_length},
        {},
        tensors={f"weight/{name}": tuple(p.shape) for name, p in named.items()},
        files={name: describe(aside / name) for name in list_files(aside)},
    )
    commit(checkpoints, 7, manifest)
    return folder
