"""The checkpoint of made.py as two tensor-parallel ranks save it, in either order of its rows.

    files("zero-3-replicas", groups=2, by_head=True)     # mp_rank_00… and mp_rank_01…

How a rank's pieces lie is written here once more, and shares nothing with longseq/upstream.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tests.unit.upstream.converting import made as its
from tests.unit.upstream.converting.made import Files, Made

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
