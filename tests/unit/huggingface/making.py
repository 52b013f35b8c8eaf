"""Small networks and checkpoints of them, without an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from longseq.attention.kernel import kernel
from longseq.checkpoint.fit import network
from longseq.checkpoint.format.boxes import as_matrix
from longseq.checkpoint.format.manifest import PROGRESS, Manifest, describe, list_files
from longseq.checkpoint.format.tensor_files import Record, header, write
from longseq.config.arguments import Network
from longseq.data.tokenizers.base import Tokenizer
from longseq.data.tokenizers.registry import tokenizer_from, write_tokenizer
from longseq.model.gpt import GPT

SMALL: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "seq_length": 48,
}
ROTARY = {**SMALL, "use_rotary_position_embeddings": True}
LLAMA = {**ROTARY, "normalization": "rmsnorm", "swiglu": True}


def make_model(net: Network, vocabulary: int) -> GPT:
    """A network with random numbers in every parameter, biases and norms too."""
    torch.manual_seed(5)
    model = GPT(net, vocabulary, kernel("sdpa"), 1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def write_checkpoint(model: GPT, tokenizer: str | Tokenizer, folder: Path) -> None:
    """The model as a checkpoint of one rank, without an engine."""
    folder.mkdir(parents=True)
    found = {name: parameter.detach() for name, parameter in model.named_parameters()}
    records = [Record(f"weight/{name}@0:0", "F32", as_matrix(t.shape)) for name, t in found.items()]
    chunks = [t.contiguous().flatten().view(torch.uint8).numpy().data for t in found.values()]
    write(folder / "rank-00000.safetensors", [header(records), *chunks])
    tokens = tokenizer_from(tokenizer) if isinstance(tokenizer, str) else tokenizer
    write_tokenizer(tokens, folder)
    Manifest(
        progress=dict.fromkeys(PROGRESS, 7),
        network=network(model.net),
        optimizer="adam",
        vocabulary=tokens.vocab_size,
        tokenizer=tokens.specification,
        layout={"seq_length": model.net.seq_length},
        versions={"torch": "2"},
        tensors={f"weight/{name}": tuple(t.shape) for name, t in found.items()},
        files={name: describe(folder / name) for name in list_files(folder)},
    ).write(folder)
