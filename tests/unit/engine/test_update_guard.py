"""Which weights count as finite: those that there are, at stage 3 the rank's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from longseq.engine.update_guard import are_finite


def holds(*parameters: Any) -> Any:
    network = nn.Module()
    network.parameters = lambda recurse=True: iter(parameters)  # type: ignore[method-assign]
    return network


def sliced(values: Sequence[float], whole: int) -> Any:
    """A parameter of `whole` numbers of which this rank has `values`, as DeepSpeed marks it."""
    parameter: Any = nn.Parameter(torch.empty(0))
    parameter.ds_tensor, parameter.ds_numel = torch.tensor(values), whole
    parameter.ds_process_group = None
    return parameter


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("worst", "finite"), [(1e18, True), (1e30, False), (torch.inf, False), (torch.nan, False)]
)
def test_of_whole_weights(dtype: torch.dtype, worst: float, finite: bool) -> None:
    weights = [torch.ones(3, dtype=dtype), torch.tensor([1.0, worst], dtype=dtype), torch.empty(0)]
    assert are_finite(holds(*map(nn.Parameter, weights))) is finite
    assert are_finite(holds())


@pytest.mark.parametrize("worst", [torch.inf, torch.nan])
def test_a_slices_padding_is_nobodys(worst: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """5 numbers over 2 ranks are 3 and 2; over 4 they are 2, 2, 1 and none."""
    for rank, values, finite in (
        (0, [1.0, 2.0, worst], False),
        (1, [1.0, 2.0, worst], True),
        (1, [1.0, worst, 0.0], False),
        (2, [1.0, worst], True),
        (3, [worst, worst], True),
    ):
        monkeypatch.setattr(dist, "get_rank", lambda group, rank=rank: rank)
        assert are_finite(holds(sliced(values, 5))) is finite
        assert are_finite(holds(sliced(values, 5), nn.Parameter(torch.tensor(torch.nan)))) is False


def test_what_lies_in_a_file_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "get_rank", lambda group: 0)
    parameter = sliced([], 5)
    assert are_finite(holds(parameter))
    assert isinstance(parameter.ds_tensor, Tensor)
