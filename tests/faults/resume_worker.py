"""Run under mpiexec: trainings one after the other; the argument is a JSON list of their flags."""

from __future__ import annotations

import json
import os
import sys
import warnings
from unittest import mock

import torch

from longseq.config.checks import parse_config
from longseq.engine.distributed import start_distributed, stop_distributed
from longseq.run.safety.stopping import Stopper
from longseq.run.safety.watch import Watch
from longseq.training.loop import train


def main() -> None:
    warnings.simplefilter("ignore")
    start_distributed(torch.device("cpu"))
    with mock.patch("longseq.training.announcer.write_page"):  # takes longer than a training
        codes = [
            train(parse_config(argv, int(os.environ["WORLD_SIZE"])), Watch(Stopper()))
            for argv in json.loads(sys.argv[1])
        ]
    stop_distributed()
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
