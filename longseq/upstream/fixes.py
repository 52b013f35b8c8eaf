"""The corrected behaviour, in the place of what Megatron-DeepSpeed does wrong (UPSTREAM_FIXES=1).

    correct(main)                     # its modules are imported; its model is not yet built
    sum_gradients(model, group)       # built, where the sequence is split; before DeepSpeed has it

Each function is one fault of faults.py, and says what it puts in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from importlib import import_module
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor]  # cos and sin of the angles, [s, 1, 1, d]


def correct(main: Any, vocabulary: int, on_gpu: bool) -> None:
    """Correct its modules; `main` is its pretrain_gpt.py, imported."""
    transformer = import_module("megatron.model.transformer")
    rotate_by_position(transformer)
    one_gelu(transformer)
    tables_for_the_pipeline(main)
    slice_once(main)
    count_tokens_only(vocabulary)
    count_once()
    if not on_gpu:
        decay_decoupled(import_module("megatron.optimizer"))


def rotate_by_position(transformer: Any) -> None:
    """Queries and keys are both turned by (cos, sin); it reads the pair as (queries', keys')."""
    shipped = transformer.ParallelAttention.forward

    @wraps(shipped)
    def forward(self: Any, *args: Any, rotary_pos_emb: Any = None, **more: Any) -> Any:
        if rotary_pos_emb is not None and not self.enable_ds_sequence_parallel:
            rotary_pos_emb = (rotary_pos_emb, rotary_pos_emb)
        return shipped(self, *args, rotary_pos_emb=rotary_pos_emb, **more)

    transformer.ParallelAttention.forward = forward
    transformer.apply_rotary_pos_emb = rotated


def rotated(x: Tensor, pair: Pair) -> Tensor:
    """x [s, b, heads, d] with its first channels turned, in halves, as many as `pair` has."""
    cos, sin = (part[: len(x)].to(x.dtype) for part in pair)
    turning, rest = x.split((cos.shape[-1], x.shape[-1] - cos.shape[-1]), -1)
    left, right = turning.chunk(2, -1)
    turned = turning * cos + torch.cat((-right, left), -1) * sin
    return torch.cat((turned, rest), -1)


def one_gelu(transformer: Any) -> None:
    """GELU in the tanh form, as in its kernel that adds a bias; without one it takes erf."""
    shipped = transformer.ParallelMLP.__init__

    @wraps(shipped)
    def build(self: Any, *args: Any, **more: Any) -> None:
        shipped(self, *args, **more)
        if self.activation_func is F.gelu and not self.bias_gelu_fusion:
            self.activation_func = partial(F.gelu, approximate="tanh")

    transformer.ParallelMLP.__init__ = build


def tables_for_the_pipeline(main: Any) -> None:
    """The pair that pipeline stages share; it calls `.to` of a list."""
    module = import_module("megatron.model.rotary_pos_embedding")

    def update_rotary_pos_emb(length: int) -> None:
        args = main.get_args()
        size = int(args.kv_channels * args.rotary_percent)
        args.rotary_pos_emb = tuple(module.RotaryEmbedding(size, theta=args.rope_theta)(length))

    main.update_rotary_pos_emb = update_rotary_pos_emb


def slice_once(main: Any) -> None:
    """The embedding gives each rank its part of the sequence; its batch has done so before."""
    shipped = main.get_batch

    @wraps(shipped)
    def get_batch(iterator: Any) -> Any:
        args = main.get_args()
        split, args.sequence_parallel = args.sequence_parallel, False
        try:
            return shipped(iterator)
        finally:
            args.sequence_parallel = split

    main.get_batch = get_batch


def count_tokens_only(vocabulary: int) -> None:
    """Rows that pad the vocabulary take no part in the softmax."""
    tensor_parallel: Any = import_module("megatron.core.tensor_parallel")
    sequence_parallel: Any = import_module("megatron.core.sequence_parallel")
    state = import_module("megatron.core.parallel_state")

    def without_padding(losses: Callable[..., Tensor], rows_before: Callable[[int], int]) -> Any:
        @wraps(losses)
        def of_tokens(logits: Tensor, *rest: Any) -> Tensor:
            width = logits.shape[-1]
            tokens = vocabulary - rows_before(width)
            if tokens < width:
                logits = logits.clone()
                logits[..., max(tokens, 0) :] = torch.finfo(logits.dtype).min
            return losses(logits, *rest)

        return of_tokens

    tensor_parallel.vocab_parallel_cross_entropy = without_padding(
        tensor_parallel.vocab_parallel_cross_entropy,
        lambda width: width * state.get_tensor_model_parallel_rank(),
    )
    sequence_parallel.vocab_sequence_parallel_cross_entropy = without_padding(
        sequence_parallel.vocab_sequence_parallel_cross_entropy, lambda width: 0
    )


def decay_decoupled(optimizer: Any) -> None:
    """AdamW, as apex' Adam is on GPUs; elsewhere it takes torch's Adam, which decays gradients."""
    optimizer.Adam = torch.optim.AdamW


def count_once() -> None:
    """The norm of a pipeline's gradients in fp32. DeepSpeed's counts a table that two stages share
    twice, and norms of the first stage alone.
    """
    engine: Any = import_module("deepspeed.runtime.engine")
    shipped = engine.clip_grad_norm_

    def clip_grad_norm_(parameters: Any, max_norm: float, mpu: Any) -> Tensor:
        if not hasattr(mpu, "get_slice_parallel_rank"):  # no pipeline
            norm: Tensor = shipped(parameters, max_norm, mpu=mpu)
            return norm
        held = [p for p in parameters if p.grad is not None]
        squares = [p.grad.square().sum() for p in held if _counts(p, mpu)]
        total = torch.stack(squares).sum()
        dist.all_reduce(total, group=mpu.get_model_parallel_group())
        norm = total.sqrt()
        for parameter in held:
            parameter.grad.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm

    engine.clip_grad_norm_ = clip_grad_norm_


def _counts(parameter: Any, mpu: Any) -> bool:
    """Is this rank the one that counts it?"""
    shared = getattr(parameter, "tensor_model_parallel", False)
    first = not getattr(parameter, "ds_pipe_replicated", False)
    return first and (shared or mpu.get_slice_parallel_rank() == 0)


def whole_gradients(engine: Any, size: int) -> None:
    """At ZeRO stage 3 DeepSpeed takes the mean over the `size` ranks that share a sequence, and
    at the other stages the sum, which its loss is made for.
    """
    shipped = engine.backward
    engine.backward = lambda loss, *args, **more: shipped(loss * size, *args, **more)


def sum_gradients(model: nn.Module, group: Any) -> None:
    """Gradients of norms and biases that work on a part of the sequence are sums over the ranks
    that hold the other parts. Its own marks on such parameters are missing on torch's LayerNorm.
    """

    def summed(gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient, group=group)
        return gradient

    for module in model.modules():
        is_norm = "norm" in type(module).__name__.lower()
        for parameter in module.parameters(recurse=False):
            if is_norm or getattr(parameter, "sequence_parallel", False):
                parameter.register_hook(summed)
