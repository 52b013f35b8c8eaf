"""Which network a checkpoint is of: what means nothing in it is not compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from longseq.checkpoint.fit import check_fit, network, same_network
from longseq.checkpoint.format.manifest import Manifest
from longseq.config.checks import parse_config
from longseq.config.network import Network
from longseq.errors import UserError


def manifest(net: Network) -> Manifest:
    return Manifest({"iteration": 1}, network(net), "adam", 16, "nucleotide", {}, {})


@pytest.mark.parametrize("rotary", [True, False])
def test_the_base_of_rotary_frequencies_counts_where_there_are_some(rotary: bool) -> None:
    flags = ["--use-rotary-position-embeddings"] if rotary else []
    config = parse_config(flags, 1)
    path, now = Path("step-1"), manifest(config.network)
    before = manifest(replace(config.network, rope_theta=5e5))
    check_fit(path, now, config)
    if rotary:
        with pytest.raises(UserError, match="rope_theta=500000"):
            check_fit(path, before, config)
        with pytest.raises(UserError, match="differ in rope_theta"):
            same_network(path, before, path, now)
    else:
        check_fit(path, before, config)
        same_network(path, before, path, now)
