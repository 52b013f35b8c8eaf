"""Simulates what it is asked for, in a process of its own, and prints it as JSON.

The argument is a JSON list of [ranks, flags, thin, vocabulary].
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

from longseq.config.checks import parse_config
from longseq.host.machine import Machine
from longseq.memory.recompute_policy import asked
from longseq.planning.simulate.rank import simulate
from longseq.planning.simulate.show import as_json


def one(ranks: int, flags: str, thin: bool, vocabulary: int) -> dict[str, Any]:
    config = parse_config(flags.split(), ranks, Machine())
    device = config.training.device
    policy = asked(config, device=device)
    found = simulate(config, vocabulary, policy, on_gpu=device == "cuda", thin=thin)
    return as_json(found, config, vocabulary, policy)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps([one(*case) for case in json.loads(sys.argv[1])]))
