"""What a training system keeps and holds, where systems differ; OURS is this trainer.

Those of others are in planning/systems.py, each number with its source. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """Bytes are of the GPU, of a parameter in half precision where nothing else is said.

    weights, gradients, optimizer (Adam): between backward and update. update: what the update makes
    beside them. gathered: ZeRO stage 3, parameters that are whole at once.
    context: the driver's and the communication library's own, bytes. slack: what the allocator
    holds and does not use, as a part of all tensors that come and go.
    logit: bytes a logit of all tokens, 0 where logits are made in tiles. tiles_mlp: the MLP of a
    recomputed layer works in tiles. bucket: of a number in the messages that sum gradients.
    Of the layer at work, while it is recomputed and has its gradients, numbers a token: `outer`
    hidden states, `inner` as wide as the query heads, `keys` as the key heads; where its MLP is not
    in tiles, `mlp` hidden states beside all that a layer keeps. whole: hidden states of all tokens
    that sequence parallelism gathers at once. sums: gradients of several micro batches are in fp32.
    room: there is room for all gradients from the beginning, as in Megatron's buffers.
    pieces: tensor parallel ranks exchange a piece a rank, each launched by itself.
    query_sums: `inner` leaves out the fp32 sums that flash attention on a GPU makes of dq.
    beside: the part of q, k, v and output that is on the GPU while their chunks wait on the host.
    scores: bytes a score where attention writes them. kept: the part of a layer's activations that
    is kept where nothing, or only something (selective), is recomputed. turned: queries and keys
    are kept once more after rotary positions.
    products, attention: speed of matrix products and of the attention kernel, over what the GPU's
    row says. traffic: bytes that pointwise work moves, over those of a layer as it is written.
    ring: speed of attention in a ring's blocks, which are put together, over that of one kernel.
    """

    name: str
    title: str
    source: str = ""
    weights: float = 2
    gradients: float = 2
    optimizer: float = 12
    update: float = 4
    gathered: float = 0
    context: float = 0
    slack: float = 0
    logit: float = 0
    tiles_mlp: bool = True
    bucket: float = 2
    sums: bool = False
    room: bool = True
    pieces: bool = False
    query_sums: bool = False
    outer: float = 2
    inner: float = 4
    keys: float = 4
    beside: float = 0
    mlp: float = 2
    whole: float = 0
    scores: float = 5
    kept: float = 1
    selective: float = 1
    turned: bool = True
    products: float = 1
    attention: float = 1
    traffic: float = 1
    ring: float = 0.85  # zhuzilin/ring-flash-attention, README: 0.84 to 0.87 on 8 A100 or H800


# Layer at work: dy and dx; q, k, v, output and their gradients (recomputing/layer.py). context:
# what CUDA, cuBLAS and NCCL take before the first tensor, about a GiB
OURS = System(
    "longseq",
    "this trainer",
    context=1.1 * 2**30,
    slack=0.05,
    bucket=6,
    sums=True,
    query_sums=True,
    room=False,
    pieces=True,
    turned=False,
    gathered=1e9,  # stage3_max_live_parameters of DeepSpeed
)
