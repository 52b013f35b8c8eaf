"""Checkpoints that Megatron-DeepSpeed itself would read wrongly are refused before it does."""

from __future__ import annotations

import sys
from argparse import Namespace
from types import ModuleType

import pytest

from longseq.errors import UserError
from longseq.upstream.start import refuse_other_rows


def test_a_checkpoint_with_rows_in_the_old_order_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`megatron` and its module stand for the checkout's, which no test of one process imports."""
    checkpointing = ModuleType("megatron.checkpointing")
    looked_at: list[Namespace] = []
    vars(checkpointing)["check_checkpoint_args"] = looked_at.append
    monkeypatch.setitem(sys.modules, "megatron", ModuleType("megatron"))
    monkeypatch.setitem(sys.modules, "megatron.checkpointing", checkpointing)
    refuse_other_rows("old run")
    check = checkpointing.check_checkpoint_args
    of_now = Namespace(ds_sequence_parallel_fpdt=False)
    check(of_now)
    with pytest.raises(UserError, match=r"--load old run .*before December 2024.* convert"):
        check(Namespace(num_layers=2))
    assert looked_at == [of_now]
