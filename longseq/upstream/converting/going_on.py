"""The command that trains on from what was converted: with its network, data and length.

command(Path("converted"), "codons", "", theirs)
# LOAD=converted DATA_PATH=codons SEQ_LEN=128 TRAIN_ITERS=300 ./ALCF/train-gpt3.sh -- …
"""

from __future__ import annotations

import shlex
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

from longseq.config.arguments import Network
from longseq.config.flags import given_flags

NAMED = ("num_layers", "hidden_size", "num_attention_heads")  # MODEL_SIZE_KEY gives others
# What variables say
LEFT_OUT = (*NAMED, "seq_length", "max_position_embeddings", "use_rotary_position_embeddings")


def command(
    output: Path, data_path: str, tokenizer_type: str, net: Network, iteration: int, args: Namespace
) -> str:
    """What the launcher sets by itself is given too, as its defaults differ between machines."""
    variables = {
        "LOAD": str(output),
        "DATA_PATH": data_path,
        "SEQ_LEN": str(net.seq_length),
        "TRAIN_ITERS": str(_last(iteration, args)),
    }
    words = [w for name in NAMED for w in (_flag(name), str(getattr(net, name)))]
    if not net.use_rotary_position_embeddings:
        variables["USE_ROTARY"] = "0"
        if net.positions != net.seq_length:
            words += [_flag("max_position_embeddings"), str(net.positions)]
    said = {name: value for name, value in asdict(net).items() if name not in LEFT_OUT}
    words += given_flags(Network, said)
    if tokenizer_type:
        words += ["--tokenizer-type", tokenizer_type]
    before = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    return f"{before} ./ALCF/train-gpt3.sh -- {shlex.join(words)}"


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _last(iteration: int, args: Namespace) -> int:
    """Its own last iteration; twice as many as were trained where it has reached that."""
    planned = vars(args).get("train_iters")
    if type(planned) is int and planned > iteration:
        return planned
    return max(2 * iteration, 1)
