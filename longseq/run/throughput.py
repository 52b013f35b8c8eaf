"""How much arithmetic a step is, counted in the two ways that people compare.

`megatron_flops` is Megatron-DeepSpeed's figure, Eq. 3 of arXiv:2104.04473. It counts the whole
square of the attention, though half of it is masked, and counts recomputed work as work (`Again`
says how much is): use it to compare with published tables. `model_flops` is what the network itself
needs, whichever way it is computed: only the causal half, of each document by itself where
attention stops at document boundaries, and nothing twice. Use it to compare layouts, kernels and
machines. Both count a multiply-add as two operations and leave out what is not a matrix product
(norms, rotary embedding, softmax, optimizer). All results are FLOPs per step over all ranks;
`vocabulary` is the data's, and the head is counted as computed, with its padding.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from longseq.config.arguments import Network

BACKWARD_AND_FORWARD = 3  # a backward pass is two products for each one of the forward pass


def _layer_linear_flops(net: Network) -> int:
    """One token forward through the linear maps of one layer."""
    keys_and_values = 2 * net.head_size * net.key_value_heads
    attention = 2 * net.hidden_size * (2 * net.hidden_size + keys_and_values)
    feed_forward = 2 * net.hidden_size * net.ffn_size * (3 if net.swiglu else 2)
    return attention + feed_forward


def _head_flops(net: Network, vocabulary: int) -> int:
    """One token forward through the language-model head."""
    return 2 * net.hidden_size * net.padded_vocabulary(vocabulary)


@dataclass(frozen=True)
class Again:
    """The parts of all layers whose linear maps, and whose attention, backward makes again; a layer
    counts once, also where its group is made again before it.
    """

    linear: float = 0.0
    attention: float = 0.0


def again(recompute: str, part: float = 1.0) -> Again:
    """What is made again where `part` of all layers are recomputed: full, outside-attention, or of
    every layer attention's own products (selective); pointwise makes no product again.
    """
    found = {
        "full": Again(part, part),
        "outside-attention": Again(part, 0.0),
        "selective": Again(0.0, 1.0),
    }
    return found.get(recompute, Again())


def megatron_flops(
    net: Network, vocabulary: int, batch: int, seq_length: int, more: Again
) -> float:
    """FLOPs of one step of `batch` samples as Megatron-DeepSpeed reports them.

    For a plain GPT (ffn = 4h, as many key-value heads as heads) this is Eq. 3 to the last digit:
    24·f·B·s·l·h²·(1 + s/6h + V/16lh) with f = 4 under full recomputation and 3 without. Eq. 3
    scales its head term with f too (6·B·s·h·V at f = 4), and so do we: by what is made again of
    layers as a whole.
    """
    tokens = batch * seq_length
    linear = (3 + more.linear) * _layer_linear_flops(net)
    attention = (3 + more.attention) * 4 * net.hidden_size * seq_length
    head = (3 + min(more.linear, more.attention)) * 3 / 4 * _head_flops(net, vocabulary)
    return tokens * (net.num_layers * (linear + attention) + head)


def document_lengths(boundaries: Sequence[int], seq_length: int) -> list[int]:
    """Lengths of the documents of one sample from the positions where they end (the last may be
    left out).
    """
    ends = sorted({end for end in boundaries if 0 < end < seq_length} | {seq_length})
    return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def model_flops(
    net: Network,
    vocabulary: int,
    batch: int,
    seq_length: int,
    documents: Iterable[int] | None = None,
) -> float:
    """FLOPs that one step of `batch` samples of `seq_length` tokens needs: causal, nothing
    computed twice.

    `documents` are the lengths of all documents of all samples of the step, where attention does
    not cross their boundaries; None means one document a sample. Attention to half of the square
    is counted for each.
    """
    lengths = [seq_length] * batch if documents is None else list(documents)
    if sum(lengths) != batch * seq_length:
        raise ValueError(
            f"documents of {sum(lengths)} tokens, but the step has {batch * seq_length}"
        )
    linear = net.num_layers * _layer_linear_flops(net) + _head_flops(net, vocabulary)
    attention = net.num_layers * 4 * net.hidden_size * sum(n * n / 2 for n in lengths)
    return BACKWARD_AND_FORWARD * (batch * seq_length * linear + attention)


@dataclass(frozen=True)
class Rates:
    """Speeds of one step; the field names are the keys of metrics.jsonl. TFLOPS are per rank."""

    samples_per_sec: float
    tokens_per_sec: float
    tflops: float
    model_tflops: float


def rates(
    net: Network,
    vocabulary: int,
    *,
    batch: int,
    seq_length: int,
    ranks: int,
    more: Again,
    seconds: float,
    documents: Iterable[int] | None = None,
) -> Rates:
    """Speeds of a step that took `seconds` for a global batch of `batch` samples on `ranks` ranks;
    more: what backward made again.
    """
    per_rank = 1e12 * ranks * seconds
    return Rates(
        samples_per_sec=batch / seconds,
        tokens_per_sec=batch * seq_length / seconds,
        tflops=megatron_flops(net, vocabulary, batch, seq_length, more) / per_rank,
        model_tflops=model_flops(net, vocabulary, batch, seq_length, documents) / per_rank,
    )
