"""Which rows torch's compiler for GPUs holds whole: its own short ones, and hidden states."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import sympy  # type: ignore[import-untyped]
from torch._inductor import config
from torch._inductor.runtime.hints import ReductionHint
from torch._inductor.sizevars import SizeVarAllocator
from torch._inductor.virtualized import V

from longseq.engine.network.whole_rows import LONGEST, choices, norm_whole_rows


def held(row: int, hint: ReductionHint = ReductionHint.INNER, together: bool = False) -> bool:
    number = sympy.Integer(row)
    features = SimpleNamespace(get_reduction_hint=lambda: hint, reduction_numel=number, numel=64)
    graph: Any = SimpleNamespace(sizevars=SizeVarAllocator())
    with V.set_graph_handler(graph):
        return bool(choices().should_use_persistent_reduction(features, together))


def test_rows_of_hidden_states_are_held_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [held(row) for row in (512, 1536, LONGEST, LONGEST + 1)] == [True, True, True, False]
    assert not held(1536, ReductionHint.OUTER)  # whose numbers lie far from each other
    assert not held(1536 * 64, together=True)
    monkeypatch.setattr(config.triton, "persistent_reductions", False)
    assert not held(1536)


def test_the_compiler_asks_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "inductor_choices_class", None)
    one, two = (choices().uuid() for _ in range(2))
    assert one == two != ""
    norm_whole_rows()
    assert config.inductor_choices_class is choices
