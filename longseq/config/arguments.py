"""The argument list as frozen dataclasses; longseq.config.checks.parse_config makes them from argv.

Standard library only: the login node checks a run with it before any rank starts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from longseq.config.flags import flag
from longseq.config.memory import Memory as Memory
from longseq.config.network import Network as Network
from longseq.config.optimizers import OPTIMIZERS

UPSTREAM = "megatron-deepspeed"  # the second trainer
LONGEST_EXCHANGE = 1800.0  # seconds of waiting for other ranks, after which torch ends all of them


def part(fraction: float, iterations: int) -> float:
    """Iterations of a part of all, as Megatron counts: 0.25 of 9 are 2.25. A whole number where
    floats alone miss it, as in 0.29 of 100.
    """
    found = fraction * iterations
    return round(found) if abs(found - round(found)) < 1e-6 else found


@dataclass(frozen=True)
class Layout:
    """How ranks share the work: world = tp x ulysses x ring x dp."""

    tensor_model_parallel_size: int = flag(1, "ranks that share each layer's weights", low=1)
    pipeline_model_parallel_size: int = flag(
        1, "pipeline stages; only 1, or with --trainer megatron-deepspeed", low=1
    )
    ds_sequence_parallel_size: int = flag(1, "Ulysses: sequence swapped for heads", low=1)
    context_parallel_size: int = flag(1, "ring attention: keys and values go round", low=1)
    sequence_parallel: bool = flag(False, "split the sequence over the tensor-parallel ranks")
    world_size: int = 1

    @property
    def tp(self) -> int:
        return self.tensor_model_parallel_size

    @property
    def pp(self) -> int:
        return self.pipeline_model_parallel_size

    @property
    def ulysses(self) -> int:
        return self.ds_sequence_parallel_size

    @property
    def ring(self) -> int:
        return self.context_parallel_size

    @property
    def sequence_ranks(self) -> int:
        """Ranks that share a sample's tokens outside tensor parallelism."""
        return self.ulysses * self.ring

    @property
    def model_ranks(self) -> int:
        """Ranks that work on the same samples; the others are data parallel."""
        return self.tp * self.sequence_ranks * self.pp

    @property
    def dp(self) -> int:
        return self.world_size // self.model_ranks

    @property
    def axes(self) -> dict[str, int]:
        """The size of each axis, the one that varies fastest with the rank first."""
        return {"tp": self.tp, "ulysses": self.ulysses, "ring": self.ring, "dp": self.dp}

    @property
    def tokens_split(self) -> int:
        """How many ranks a sample's tokens are split over between layers."""
        return self.sequence_ranks * (self.tp if self.sequence_parallel else 1)

    @property
    def sequence_parts(self) -> int:
        """What a sample's length must divide by: each rank's share, and a ring's are pairs."""
        return self.tokens_split * (2 if self.ring > 1 else 1)

    def __str__(self) -> str:
        sizes = {name: str(size) for name, size in self.axes.items()}
        if self.sequence_parallel:
            sizes["tp"] += " with sequence parallel"
        if self.pp > 1:
            sizes["pipeline"] = str(self.pp)
        return f"{self.ranks} = {' x '.join(map(' '.join, sizes.items()))}"

    @property
    def ranks(self) -> str:
        """How many there are, in words."""
        return f"{self.world_size} rank{'' if self.world_size == 1 else 's'}"


@dataclass(frozen=True)
class Training:
    """Batch, optimizer, schedule and precision."""

    micro_batch_size: int = flag(1, "samples a rank works on at once", low=1)
    global_batch_size: int = flag(0, "samples an iteration; 0: micro batch x dp", low=0)
    train_iters: int = flag(100, "iterations of the whole training", low=1)
    optimizer: str = flag("adam", "optimizer (adam is AdamW)", choices=tuple(OPTIMIZERS))
    lr: float = flag(1.5e-4, "peak learning rate", low=0)
    min_lr: float = flag(0.0, "learning rate at the end of the decay", low=0)
    lr_decay_style: str = flag(
        "cosine", "decay after the warm-up", choices=("cosine", "linear", "constant")
    )
    lr_decay_iters: int = flag(0, "iterations of the schedule; 0: --train-iters", low=0)
    lr_warmup_fraction: float = flag(0.0, "warm-up, as a part of the schedule", low=0, high=1)
    lr_warmup_iters: int = flag(0, "warm-up in iterations", low=0)
    weight_decay: float = flag(0.01, "decoupled decay of matrices", low=0)
    adam_beta1: float = flag(0.9, "Adam's first moment", low=0, below=1)
    adam_beta2: float = flag(0.999, "Adam's second moment", low=0, below=1)
    adam_eps: float = flag(1e-8, "Adam's epsilon", low=1e-30, high=1)
    clip_grad: float = flag(1.0, "largest gradient norm; 0: no clipping", low=0)
    on_spike: str = flag(
        "warn",
        "what is done about a loss far above those before it, or one that is no finite number:"
        " warn (the latter stops), leave out the update (skip), go back to the last checkpoint and"
        " leave out the batch (rewind), or stop",
        choices=("warn", "skip", "rewind", "stop"),
    )
    spike_factor: float = flag(
        2.0, "a loss this many times the median of the last ones is a spike", low=1.001
    )
    spike_window: int = flag(50, "iterations of that median", low=2)
    seed: int = flag(1234, "seed of weights, data order and dropout", low=0, high=2**31 - 1)
    bf16: bool = flag(False, "bfloat16 with fp32 master weights")
    fp16: bool = flag(False, "float16 with loss scaling (GPU)")
    device: str = flag("auto", "where to compute", choices=("auto", "cpu", "cuda", "xpu"))
    compile: str = flag(
        "auto",
        "compile what layers do around attention by torch.compile: auto does on GPUs below ZeRO"
        " stage 3",
        choices=("auto", "on", "off"),
    )
    deterministic_mode: bool = flag(
        False, "a run repeats bit for bit on GPUs too, where kernels would add in any order"
    )
    zero_stage: int = flag(0, "DeepSpeed ZeRO stage", low=0, high=3)
    cpu_optimizer: bool = flag(False, "optimizer state and step in host memory")
    nvme_optimizer: bool = flag(False, "optimizer state in files, its step on the host (stage 3)")
    remote_device: str = flag(
        "none", "where ZeRO stage 3 keeps parameters", choices=("none", "cpu", "nvme")
    )
    nvme_path: str = flag("", "folder on a fast local disk for what is offloaded to NVMe")
    deepspeed_overrides: str = flag("", "JSON file of DeepSpeed settings that replace ours")
    deepspeed_config: str = flag("", "DeepSpeed's JSON file", name="--deepspeed_config")

    @property
    def dtype(self) -> str:
        return "bf16" if self.bf16 else "fp16" if self.fp16 else "fp32"

    @property
    def offload_optimizer(self) -> str:
        """Where the optimizer's state lies: none (beside the weights), cpu or nvme."""
        return "nvme" if self.nvme_optimizer else "cpu" if self.cpu_optimizer else "none"

    @property
    def decay_iters(self) -> int:
        return self.lr_decay_iters or self.train_iters

    @property
    def warmup_iters(self) -> float:
        return self.lr_warmup_iters or part(self.lr_warmup_fraction, self.decay_iters)


@dataclass(frozen=True)
class Data:
    """What is trained on."""

    data_path: str = flag("", "prefix of a .bin/.idx pair, a FASTA file, or a .blend of them")
    tokenizer_type: str = flag("", "tokens of a FASTA file; empty: nucleotide, or the data's own")
    split: str = flag("949,50,1", "weights of training, validation and test")
    split_seed: int = flag(1234, "draws what is held out; not --seed, so that runs compare", low=0)
    valid_records: str = flag(
        "", "records or files held out for validation: names with commas between, or @FILE"
    )
    test_records: str = flag("", "records or files held out for the test, in the same way")
    reset_position_ids: bool = flag(False, "positions start again at each document")
    reset_attention_mask: bool = flag(False, "attention ends at document boundaries")
    eod_mask_loss: bool = flag(False, "no loss on predicting from an end-of-document token")
    no_cross_document: bool = flag(False, "samples of one document each, padded")
    sample_overlap: int = flag(0, "tokens a sample repeats of the one before, as context", low=0)
    reverse_complement_prob: float = flag(
        0.0, "chance that a training document is read from its other strand, drawn each epoch",
        low=0, high=1,
    )  # fmt: skip
    curriculum_seq_length: int = flag(
        0, "tokens of the first samples, which then grow to --seq-length; 0: no curriculum", low=0
    )
    curriculum_iters: int = flag(0, "iterations until samples have --seq-length", low=0)
    curriculum_root: int = flag(1, "1: samples grow evenly; 2: fast first, as a root does", low=1)


@dataclass(frozen=True)
class Run:
    """Where things go and how often."""

    trainer: str = flag("longseq", "who trains", choices=("longseq", UPSTREAM))
    megatron_deepspeed_dir: str = flag("", "its checkout (docs/upstream.md)")
    as_shipped: bool = flag(False, "its known faults are left in")
    run_dir: str = flag("", "the run's folder")
    save: str = flag("", "folder of checkpoints")
    load: str = flag("", "folder of checkpoints, or one of them, to go on from")
    save_interval: int = flag(0, "iterations between checkpoints; 0: at the end", low=0)
    keep_last: int = flag(0, "the newest so many checkpoints are kept; 0: all", low=0)
    keep_every: int = flag(
        0, "checkpoints of multiples of so many iterations are kept too; 0: none", low=0
    )
    eval_interval: int = flag(0, "iterations between validations; 0: at the end", low=0)
    eval_iters: int = flag(4, "batches of a validation; 0: none", low=0)
    log_interval: int = flag(1, "iterations between lines of output", low=1)
    hang_timeout: float = flag(
        600.0,
        "seconds after which a rank that has stopped is named, and the run ended",
        low=1,
        high=LONGEST_EXCHANGE,
    )
    profile: bool = flag(False, "trace iterations 3 to 5 of this run into RUN/profile")
    tensorboard_dir: str = flag("", "folder of TensorBoard's files")
    wandb_project: str = flag("", "project in Weights & Biases")


@dataclass(frozen=True)
class Config:
    """A checked run."""

    network: Network
    layout: Layout
    memory: Memory
    training: Training
    data: Data
    run: Run

    @property
    def values(self) -> dict[str, Any]:
        """What every flag was given or has, by its field."""
        parts = (getattr(self, one.name) for one in fields(self))
        return {one.name: getattr(part, one.name) for part in parts for one in fields(part)}

    @property
    def global_batch_size(self) -> int:
        return self.training.global_batch_size or (self.training.micro_batch_size * self.layout.dp)

    @property
    def accumulation(self) -> int:
        """Micro batches that make one step of one data-parallel rank."""
        return self.global_batch_size // (self.training.micro_batch_size * self.layout.dp)

    @property
    def copies(self) -> bool:
        """Whether a checkpoint is copied aside and written beside the training. That of the last
        iteration is waited for, so where it is the only one a copy would be of no use.
        """
        return bool(self.run.save) and 0 < self.run.save_interval < self.training.train_iters


GROUPS: tuple[type, ...] = (Network, Layout, Memory, Training, Data, Run)
