"""Peak memory of one step of the network in plain PyTorch (plain.py), bf16.

python benchmarks/plain_memory.py TOKENS VOCABULARY GIB [recompute]

Prints the peak resident GiB; exit code 3 if it went over GIB.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from benchmarks.plain import Plain, plain_step  # noqa: E402
from longseq.host.host_memory import peak_resident_gib, resident_gib  # noqa: E402

OVER = 3


def watch(gib: float) -> None:
    """End the process when it takes more than it may."""
    while resident_gib() <= gib:
        time.sleep(0.05)
    os._exit(OVER)


def main() -> None:
    tokens, vocabulary, gib = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    threading.Thread(target=watch, args=(gib,), daemon=True).start()
    model = Plain(4, 256, 8, vocabulary).bfloat16()
    if sys.argv[4:] == ["recompute"]:
        for layer in model.layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    plain_step(model, optimizer, torch.randint(0, vocabulary, (1, tokens + 1)))
    peak = peak_resident_gib()
    print(peak)
    sys.stdout.flush()
    os._exit(OVER if peak > gib else 0)


if __name__ == "__main__":
    main()
