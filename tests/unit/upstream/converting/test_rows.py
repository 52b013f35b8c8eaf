"""Queries, keys and values that lay head by head, as they did before December 2024, come over as
the same numbers would that lie as since then.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longseq.errors import UserError
from longseq.upstream.converting.theirs import Theirs
from tests.unit.upstream.converting import made as its
from tests.unit.upstream.converting.cut import FORMS, HEADS, files, network
from tests.unit.upstream.converting.made import FIRST, Made, write


def in_our_names(kind: str, wanted: Made) -> Iterator[tuple[str, Tensor]]:
    for number in (0, 1):
        for part in ("weight", "bias"):
            name = f"{its.ENCODER}layers.{number}.self_attention.query_key_value.{part}"
            yield f"{kind}/layers.{number}.attention.qkv.{part}", wanted.kinds[kind][name]


@pytest.mark.parametrize("form", FORMS)
def test_both_orders_are_the_same_network(form: str, tmp_path: Path) -> None:
    """Bit for bit, weights and moments, from two tensor-parallel ranks."""
    new, old = (
        Theirs(write(tmp_path / str(by_head), files(form, HEADS, by_head)))
        for by_head in (False, True)
    )
    assert (new.order, old.order) == ("by-kind", "by-head")
    wanted, found = new.tensors(16), old.tensors(16)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    for kind in {name.partition("/")[0] for name in found}:
        for name, whole in in_our_names(kind, network(HEADS)):
            assert torch.equal(found[name].float(), whole)


@pytest.mark.parametrize("form", FORMS)
def test_grouped_heads_of_then_come_over(form: str, tmp_path: Path) -> None:
    theirs = Theirs(write(tmp_path / "its", files(form, 2, by_head=True)))
    found = theirs.tensors(16)
    assert theirs.network.key_value_heads == 2
    for kind in {name.partition("/")[0] for name in found}:
        for name, whole in in_our_names(kind, network(2)):
            assert torch.equal(found[name].float(), whole)


def test_grouped_heads_since_then_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "its", files("fp32", 2, by_head=False))
    with pytest.raises(UserError, match="was trained with num_key_value_heads=2, which our"):
        Theirs(folder)


@pytest.mark.parametrize("version", [None, 0, 1.0])
def test_what_nothing_tells_is_asked_for(version: Any, tmp_path: Path) -> None:
    made = network(HEADS)
    del made.args.ds_sequence_parallel_fpdt
    folder = write(tmp_path / "its", {FIRST: made.file(checkpoint_version=version)})
    with pytest.raises(UserError, match=rf"{FIRST}: checkpoint_version {version}, .*--qkv-order"):
        Theirs(folder)
    one, other = (Theirs(folder, order).tensors(16) for order in ("by-kind", "by-head"))
    name = "weight/layers.0.attention.qkv.bias"
    assert sorted(one[name].tolist()) == sorted(other[name].tolist())
    assert one[name].tolist() != other[name].tolist()
