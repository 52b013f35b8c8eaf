"""A GPU's host and the GPU are two places to a simulation, though both are torch's meta device."""

from __future__ import annotations

import torch

from longseq.planning.simulate.trace import Trace
from longseq.planning.simulate.world import host_apart

META, SIZE = torch.device("meta"), 1024


def test_what_is_made_of_host_memory_is_where_torch_would_make_it() -> None:
    with Trace(on_gpu=True) as trace, host_apart(trace.is_on_host):
        here = torch.empty(SIZE, device=META)
        there = torch.empty(SIZE)
        assert (here.device.type, there.device.type) == ("meta", "cpu")
        on_host = [
            there.clone(),
            there.to(torch.float64),
            torch.full((SIZE,), 0.0, device=there.device),
            here.to("cpu"),
            here.to(there.device, torch.float64),
        ]
        on_gpu = [
            there.to("meta"),
            there.to(here.device, non_blocking=True),
            there.to(device=META, dtype=torch.float64),
            here.to(torch.float64),
            there.to("meta") + here,
        ]
        assert all(trace.is_on_host(x) for x in on_host)
        assert not any(trace.is_on_host(x) for x in on_gpu)
        assert here.to("meta") is here  # is there: no copy, as on a GPU
        storages = {x.untyped_storage()._cdata for x in (here, there, *on_host, *on_gpu)}
        assert len(storages) == 12
    assert torch.empty(1).to("cpu").device == torch.device("cpu")  # as ever, when it is over
