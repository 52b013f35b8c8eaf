"""How much memory each rank may still take, and what is therefore recomputed.

    policy = choose_recompute_policy(config, vocabulary, device, ranks)    # a collective

All ranks come to the same choice, from the least that one of them has.
"""

from __future__ import annotations

import socket

import torch

from longseq.config.arguments import Config
from longseq.host.host_memory import GPUS, available_bytes, own_limit_bytes
from longseq.memory.choosing import choose
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.parallel.agreement import Ranks


def share_bytes(device: torch.device, ranks: Ranks) -> int:
    """What this rank may take: its GPU's free memory, or its share of the host's."""
    hosts = ranks.gather(socket.gethostname())
    if device.type in GPUS:
        return int(getattr(torch, device.type).mem_get_info(device)[0])
    return min(available_bytes() // hosts.count(socket.gethostname()), own_limit_bytes())


def choose_recompute_policy(
    config: Config, vocabulary: int, device: torch.device, ranks: Ranks
) -> RecomputePolicy:
    """What every rank does to need less memory."""
    available = min(ranks.gather(share_bytes(device, ranks)))
    return choose(config, vocabulary, available, device.type)
