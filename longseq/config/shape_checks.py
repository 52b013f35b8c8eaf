"""What has to divide by what: ranks, heads, sequence and batch, each with the nearest that fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from longseq.config.arguments import UPSTREAM, Config
from longseq.config.network import position_block
from longseq.errors import UserError


def check_shapes(config: Config) -> None:
    """Raise UserError for the first shape that the ranks cannot share."""
    _layout(config)
    _heads(config)
    _sequence(config)
    _batch(config)


def on_one_rank(parts: Sequence[Any]) -> list[Any]:
    """The flags of a run whose layout is still sought, with one that refuses nothing: what is then
    refused no layout would mend.
    """
    network, layout, memory, training, data, run = parts
    layout = replace(
        layout,
        tensor_model_parallel_size=1,
        sequence_parallel=False,
        ds_sequence_parallel_size=1,
        context_parallel_size=1,
    )
    return [network, layout, memory, replace(training, micro_batch_size=1), data, run]


def _divides(what: str, value: int, by: str, size: int) -> None:
    if value % size:
        below, above = value // size * size, -(-value // size) * size
        use = f"{below} or {above}" if below else f"{above}"
        raise UserError(f"{what} {value} does not divide by {by} {size}: use {use}")


def _layout(config: Config) -> None:
    axes = config.layout
    if axes.pp > 1 and config.run.trainer != UPSTREAM:
        raise UserError(
            f"--pipeline-model-parallel-size {axes.pp}: there is no pipeline; use tensor parallel,"
            f" Ulysses or ring, or ZeRO stage 3, or --trainer {UPSTREAM} (TRAINER), which has one"
        )
    shared = axes.model_ranks
    if axes.world_size % shared:
        sizes = axes.axes | ({"pipeline": axes.pp} if axes.pp > 1 else {})
        product = " x ".join(f"{name} {size}" for name, size in sizes.items() if name != "dp")
        raise UserError(
            f"{axes.ranks} cannot be shared out as {product} = {shared}: the number of"
            f" ranks must be a multiple of {shared}"
        )
    if axes.sequence_parallel and axes.tp == 1:
        raise UserError(
            "--sequence-parallel splits the sequence over tensor-parallel ranks and there is one:"
            " leave it out, or give --tensor-model-parallel-size 2 or more"
        )


def _heads(config: Config) -> None:
    net, axes = config.network, config.layout
    heads, groups = net.num_attention_heads, net.key_value_heads
    _divides("--hidden-size", net.hidden_size, "--num-attention-heads", heads)
    if heads % groups:
        raise UserError(
            f"--num-attention-heads {heads} does not divide by --num-key-value-heads {groups}"
        )
    for name, count in (("--num-attention-heads", heads), ("--num-key-value-heads", groups)):
        if count % axes.tp:
            raise UserError(
                f"{name} {count} does not divide by --tensor-model-parallel-size {axes.tp}:"
                " use a size that divides it (MPSIZE, 1 for none), and data parallelism, Ulysses or"
                " ring for further ranks"
            )
    if heads // axes.tp < axes.ulysses:
        of_these = " of a tensor-parallel rank" if axes.tp > 1 else ""
        raise UserError(
            f"--ds-sequence-parallel-size {axes.ulysses}: Ulysses gives each rank at least one of"
            f" the {heads // axes.tp} query heads{of_these}: use {heads // axes.tp} or fewer, and"
            " --context-parallel-size (ring) for further ranks"
        )
    _divides("--ffn-hidden-size", net.ffn_size, "--tensor-model-parallel-size", axes.tp)
    step = net.make_vocab_size_divisible_by
    _divides("--make-vocab-size-divisible-by", step, "--tensor-model-parallel-size", axes.tp)
    if net.use_rotary_position_embeddings and net.rotary_size < 2:
        raise UserError(
            f"--rotary-percent {net.rotary_percent} of a head of {net.head_size} rotates nothing:"
            f" give at least {2 / net.head_size:g}"
        )
    if 0 < net.max_position_embeddings < net.seq_length:
        raise UserError(
            f"--max-position-embeddings {net.max_position_embeddings} is below --seq-length"
            f" {net.seq_length}: raise it to {net.seq_length} or leave it out"
        )
    if not net.use_rotary_position_embeddings:
        _divides("--max-position-embeddings", net.positions, "tensor parallel", axes.tp)
        block = position_block(net.positions)
        if net.positions > block and block % axes.tp:
            raise UserError(
                f"--tensor-model-parallel-size {axes.tp} does not divide the blocks of {block} rows"
                f" that {net.positions} learned positions are kept in: give"
                " --use-rotary-position-embeddings (USE_ROTARY=1), or a size that divides 960"
            )


def _sequence(config: Config) -> None:
    parts, data = config.layout.sequence_parts, config.data
    name = "the split over sequence-parallel ranks, that is"
    _divides("--seq-length", config.network.seq_length, name, parts)
    first, full = data.curriculum_seq_length, config.network.seq_length
    if not first and (data.curriculum_iters or data.curriculum_root != 1):
        raise UserError(
            "--curriculum-iters and --curriculum-root need --curriculum-seq-length, the length of"
            " the first samples"
        )
    if first:
        if first >= full:
            raise UserError(
                f"--curriculum-seq-length {first} is not below --seq-length {full}: give less, or"
                " leave it out"
            )
        if not data.curriculum_iters:
            raise UserError(
                f"--curriculum-seq-length {first} needs --curriculum-iters, the iterations until"
                " samples have --seq-length"
            )
        if data.curriculum_iters == 1:
            raise UserError(
                f"--curriculum-iters 1: the first samples would have --seq-length {full} already:"
                " give 2 or more, or leave out --curriculum-seq-length"
            )
        if data.curriculum_iters > config.training.train_iters:
            raise UserError(
                f"--curriculum-iters {data.curriculum_iters} is more than --train-iters"
                f" {config.training.train_iters} (TRAIN_ITERS): samples would never have"
                f" --seq-length {full}: give fewer, or train longer"
            )
        _divides("--curriculum-seq-length", first, name, parts)
        if data.no_cross_document:
            raise UserError(
                "--curriculum-seq-length takes the beginnings of samples, and --no-cross-document"
                " would drop the ends of documents with the rest: leave one of them out"
            )


def _batch(config: Config) -> None:
    micro, dp = config.training.micro_batch_size, config.layout.dp
    if config.global_batch_size % (micro * dp):
        raise UserError(
            f"--global-batch-size {config.global_batch_size} is not a multiple of"
            f" --micro-batch-size {micro} x data parallel {dp}: use a multiple of {micro * dp}"
        )
