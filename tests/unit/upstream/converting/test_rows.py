"""Queries, keys and values that lay head by head, as they did before December 2024, come over as
the same numbers would that lie as since then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longseq.errors import UserError
from longseq.upstream.converting.theirs import Theirs
from tests.unit.upstream.converting import made as its
from tests.unit.upstream.converting.made import FIRST, Files, Made, write

HEADS, SIZE, RANKS = 4, 2, 2
FORMS: dict[str, Callable[[Made], Files]] = {
    "fp32": its.fp32,
    "bf16": its.bf16,
    "fp16-fused": its.fp16_fused,
    "zero-3-replicas": lambda made: its.zero(made, 3),
    "pipeline": its.pipeline,
}


def network(groups: int) -> Made:
    """Four heads of 2; its queries, keys and values one kind after the other."""
    made = Made()
    vars(made.args).update(num_attention_heads=HEADS, kv_channels=SIZE, num_key_value_heads=groups)
    for values in made.kinds.values():
        for name in values:
            if "query_key_value" in name:
                values[name] = values[name][: (HEADS + 2 * groups) * SIZE].clone()
    return made


def rows(rank: int, groups: int, by_head: bool) -> list[int]:
    """Which rows of all of them rank `rank` of two holds, in its order."""

    def head(first: int) -> list[int]:
        return list(range(first, first + SIZE))

    keys, values = HEADS * SIZE, (HEADS + groups) * SIZE
    held = range(rank * groups // RANKS, (rank + 1) * groups // RANKS)
    kinds: tuple[list[int], list[int], list[int]] = ([], [], [])
    mixed = []
    for group in held:
        queries = [
            row
            for n in range(HEADS // groups)
            for row in head((group * (HEADS // groups) + n) * SIZE)
        ]
        one = (queries, head(keys + group * SIZE), head(values + group * SIZE))
        for kind, more in zip(kinds, one, strict=True):
            kind += more
        mixed += [row for part in one for row in part]
    return mixed if by_head else [row for kind in kinds for row in kind]


def piece(name: str, whole: Tensor, rank: int, groups: int, by_head: bool) -> Tensor:
    if "query_key_value" in name:
        return whole[rows(rank, groups, by_head)]
    if "word_embeddings" in name or "dense_h_to_4h" in name:
        return whole.chunk(RANKS, 0)[rank].clone()
    if name.endswith(("attention.dense.weight", "4h_to_h.weight")):
        return whole.chunk(RANKS, 1)[rank].clone()
    return whole.clone()


def files(form: str, groups: int, by_head: bool) -> Files:
    """Of two tensor-parallel ranks."""
    found: Files = {}
    for rank in range(RANKS):
        made = network(groups)
        made.args.tensor_model_parallel_size = RANKS
        made.args.make_vocab_size_divisible_by = 16
        if by_head:
            del made.args.ds_sequence_parallel_fpdt
        for values in made.kinds.values():
            for name, whole in values.items():
                values[name] = piece(name, whole, rank, groups, by_head)
        for name, content in FORMS[form](made).items():
            mine = name.replace("mp_rank_00", f"mp_rank_{rank:02}")
            found[mine.replace("-model_00", f"-model_{rank:02}")] = content
    return found


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
