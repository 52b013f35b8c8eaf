"""The command that trains on from what was converted: with its network, data and length.

command(Path("converted"), "codons", "", theirs)
# LOAD=converted SEQ_LEN=128 DATA_PATH=codons TRAIN_ITERS=300 ./ALCF/train-gpt3.sh -- …
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from longseq.config.network import Network, training_command


def command(
    output: Path, data_path: str, tokenizer_type: str, net: Network, iteration: int, args: Namespace
) -> str:
    """With the tokenizer where the data do not say it."""
    variables = {"DATA_PATH": data_path, "TRAIN_ITERS": str(_last(iteration, args))}
    more = ["--tokenizer-type", tokenizer_type] if tokenizer_type else []
    return training_command(net, str(output), variables, more)


def _last(iteration: int, args: Namespace) -> int:
    """Its own last iteration; twice as many as were trained where it has reached that."""
    planned = vars(args).get("train_iters")
    if type(planned) is int and planned > iteration:
        return planned
    return max(2 * iteration, 1)
