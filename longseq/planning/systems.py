"""Other training systems, for `longseq plan --like NAME` and for published tables.

    known = SYSTEMS["alst"]
    known.system.logit, known.sequence_parallel

A row says which tensors a system keeps (memory/system.py) and what it does where nothing is said.
Sources are papers and the systems' own code; docs/plan.md has the table of how near they come.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from longseq.errors import UserError
from longseq.memory.job import Job
from longseq.memory.system import System

GB = 1e9
FUSED_SOFTMAX = 16384  # keys of Megatron's fused softmax; beyond them torch's own runs, in fp32


@dataclass(frozen=True)
class Known:
    """A system and its habits.

    sequence_parallel: splits the sequence over tensor-parallel ranks. recompute, zero: where
    nothing is said. flash: its kernel writes no scores. always: what else it does; longest: and for
    its longest sequence. tp, sequence: where no layout is said its ranks are tensor parallel, or
    share the sequence. grid: published lengths are multiples of so many tokens.
    """

    system: System
    sequence_parallel: bool = False
    recompute: str = "none"
    zero: int = 0
    flash: bool = True
    always: dict[str, Any] = field(default_factory=dict)
    longest: dict[str, Any] = field(default_factory=dict)
    tp: bool = False
    sequence: bool = False
    grid: int = 1000

    def job(self, job: Job) -> Job:
        """`job` as this system does it: without what it has not."""
        split = self.sequence_parallel and job.tp > 1
        return replace(
            job, sequence_parallel=split, flash=self.flash, tile=0, copied=0, **self.always
        )

    def for_length(self, tokens: float) -> System:
        """The system at a length: Megatron's scores are in fp32 beyond its fused softmax.

        Then there are scores and probabilities, in half and in fp32, and what dropout leaves: 14
        bytes; before, 5 (arXiv 2205.05198, section 4.1).
        """
        fused = self.flash or tokens <= FUSED_SOFTMAX
        return self.system if fused else replace(self.system, scores=14)


# Megatron's fp16 optimizer keeps gradients in fp32 beside those in half. Sequence parallelism holds
# four hidden states of all tokens at once: what is gathered in forward and in backward, and two
# sums before they are scattered (megatron/core/tensor_parallel/layers.py, mappings.py).
_MEGATRON = System(
    "megatron-lm",
    "Megatron-LM",
    "arXiv 2205.05198; NVIDIA/Megatron-LM",
    gradients=4,
    update=0,
    context=2 * GB,
    logit=10,  # half, fp32, and the gradient in fp32 (cross_entropy.py)
    tiles_mlp=False,
    outer=10,
    mlp=10,
    whole=4,
    kept=34 / 32,  # with dropout masks
)
V1 = 0.6  # flash-attn 1's speed, and that of the Triton kernels of its day (attention/limits.py)
_DEEPSPEED = replace(_MEGATRON, gradients=6, kept=1, slack=0.03, attention=V1)
# Hugging Face's layers as they are written: norms keep the input and the product in fp32
_HF = System(
    "hf",
    "Hugging Face's layers, DeepSpeed ZeRO-3",
    "arXiv 2506.13996; snowflakedb/ArcticTraining; transformers' modeling_llama.py",
    gathered=1e9,  # stage3_max_live_parameters of DeepSpeed
    context=2 * GB,
    logit=14,  # half, fp32, once more for the shift, its gradient
    tiles_mlp=False,
    outer=7,
    inner=4,
    keys=7,
    traffic=1.6,
)
_TITAN = System(
    "torchtitan",
    "torchtitan",
    "pytorch/torchtitan",
    weights=4,
    gradients=4,
    optimizer=8,
    update=0,
    slack=0.08,  # reserved over allocated
    logit=12,
    tiles_mlp=False,
    outer=6,
    mlp=6,
    whole=4,
    selective=0.4,  # every second matrix product is kept
    traffic=1.2,
)

SYSTEMS = {
    "megatron-deepspeed-2023-old": Known(
        replace(_DEEPSPEED, name="megatron-deepspeed-2023-old", title="Megatron-DeepSpeed, old"),
        zero=1,
        always={"optimizer_at": "cpu"},
        longest={"recompute": "full"},
        tp=True,
    ),
    "megatron-deepspeed-2023-new": Known(
        replace(_DEEPSPEED, name="megatron-deepspeed-2023-new", title="Megatron-DeepSpeed, new"),
        sequence_parallel=True,
        recompute="full",
        tp=True,
        grid=64000,
    ),
    "megatron-lm": Known(
        _MEGATRON,
        sequence_parallel=True,
        flash=False,
        longest={"recompute": "full"},
        tp=True,
    ),
    "megatron-core": Known(
        replace(
            _MEGATRON, name="megatron-core", title="Megatron-core with TransformerEngine", kept=1
        ),
        sequence_parallel=True,
        zero=1,
    ),
    # Gradients are summed in half precision. Attention is cuDNN's; TransformerEngine gives a ring's
    # blocks two streams in turn, so that what one leaves idle the next one takes
    "nemo": Known(
        replace(_MEGATRON, name="nemo", title="NeMo", kept=1, gradients=2, attention=1.7, ring=1),
        sequence_parallel=True,
        zero=1,
    ),
    "torchtitan": Known(_TITAN, sequence_parallel=True, zero=3),
    "llm-foundry": Known(
        replace(
            _TITAN,
            name="llm-foundry",
            title="llm-foundry",
            source="mosaicml/llm-foundry",
            logit=8,
            slack=0.03,
            traffic=1,
            attention=V1,  # of May 2023 (its sweep.sh), before flash-attn 2
        ),
        zero=3,
    ),
    "hf-trl": Known(replace(_HF, name="hf-trl", title="TRL", logit=12), zero=3, recompute="full"),
    "hf": Known(_HF, zero=3, recompute="full"),
    "alst": Known(
        replace(_HF, name="alst", title="ALST", logit=0, tiles_mlp=True),
        zero=3,
        recompute="full",
    ),
    "ulysses-2023": Known(
        replace(_DEEPSPEED, name="ulysses-2023", title="DeepSpeed-Ulysses", gathered=1e9),
        sequence=True,
        zero=3,
        recompute="full",
    ),
    "fpdt": Known(
        replace(
            _HF,
            name="fpdt",
            title="FPDT",
            source="arXiv 2408.16978",
            logit=0,
            tiles_mlp=True,
            beside=1,
        ),
        sequence=True,
        zero=3,
        recompute="full",
        longest={"chunk": 65536, "chunks_at": "cpu", "inputs_at": "cpu"},
    ),
    "upipe": Known(  # attention a few heads at a time
        replace(
            _HF,
            name="upipe",
            title="UPipe",
            source="arXiv 2602.21196",
            logit=0,
            tiles_mlp=True,
            inner=1,
            keys=2,
        ),
        sequence=True,
        zero=3,
        recompute="full",
    ),
    "usp": Known(
        replace(_HF, name="usp", title="USP", source="arXiv 2405.07719", logit=0),
        sequence=True,
        zero=3,
        recompute="full",
    ),
    "ring-attention": Known(
        replace(_HF, name="ring-attention", title="ring attention", source="arXiv 2310.01889"),
        zero=3,
        recompute="full",
    ),
}


def system_named(name: str) -> Known:
    """The system of a name; raises UserError with those there are."""
    if name not in SYSTEMS:
        raise UserError(f"--like {name!r} is not known: use one of {', '.join(SYSTEMS)}")
    return SYSTEMS[name]
