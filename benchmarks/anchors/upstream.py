"""Peak memory of one step of upstream Megatron-DeepSpeed, from a checkout, on CPU ranks, bf16.

    MEGATRON_DEEPSPEED_DIR=… mpiexec -n 2 sh ALCF/rank.sh python -m benchmarks upstream [OPTIONS]

Its own model, arguments and training step: two tensor-parallel ranks, layers recomputed, ZeRO
stage 1. What no longer imports beside today's torch and DeepSpeed is replaced by empty modules, and
flash-attn by torch's flash kernel, so that no mask and no s² is made, as on its GPUs. Its two ways
to split the sequence do not serve: Megatron's slices it twice, and Ulysses calls an older
DeepSpeed. Rank 0 prints each rank's GiB; exit code 3 if one went over --gib.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import json
import os
import sys
import tempfile
import threading
import types
import warnings
from argparse import ArgumentParser, Namespace
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from benchmarks.anchors.plain import watch
from benchmarks.start import rank
from longseq.host.host_memory import peak_resident_gib

GONE = ("torchvision", "six", "transformers", "deepspeed.compression.compress", "flash_attn")
FLAGS = """--num-layers 4 --hidden-size 256 --num-attention-heads 8 --micro-batch-size 1
--global-batch-size 1 --train-iters 1 --lr 1e-3 --bf16 --use-rotary-position-embeddings
--hidden-dropout 0 --attention-dropout 0 --no-pipeline-parallel --deepspeed --zero-stage 1
--deepspeed-activation-checkpointing --checkpoint-activations --no-masked-softmax-fusion
--no-bias-gelu-fusion --no-bias-dropout-fusion --no-gradient-accumulation-fusion --use-flash-attn-v2
--tokenizer-type NullTokenizer --distributed-backend gloo --tensor-model-parallel-size 2""".split()
SETTINGS = {
    "train_batch_size": 1,
    "train_micro_batch_size_per_gpu": 1,
    "bf16": {"enabled": True},
    "zero_optimization": {"stage": 1},
    "gradient_clipping": 1.0,
}


def flash(q: Tensor, k: Tensor, v: Tensor, *lengths: Any, causal: bool, **_: Any) -> Tensor:
    """flash-attn's call for one sequence, [s, heads, d] in and out."""
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)[0].transpose(0, 1)


class Empty(types.ModuleType):
    """A module in which every name is a class."""

    __version__ = "0"
    flash_attn_varlen_func = staticmethod(flash)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Gone(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for each name in GONE."""

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith(GONE):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing in it."""


def step(tokens: int, vocabulary: int) -> None:
    """One step of upstream's own trainer on random tokens."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(SETTINGS, file)
        file.flush()
        lengths = ["--seq-length", str(tokens), "--max-position-embeddings", str(tokens)]
        words = [*lengths, "--vocab-size", str(vocabulary - 1), "--deepspeed_config", file.name]
        sys.argv = ["pretrain_gpt.py", *FLAGS, *words]
        from megatron import get_args
        from megatron.arguments import core_transformer_config_from_args
        from megatron.core.enums import ModelType
        from megatron.data import dataset_utils
        from megatron.initialize import initialize_megatron
        from megatron.model import transformer
        from megatron.training import setup_model_and_optimizer, train_step

        dataset_utils.compile_helper = lambda: None  # of a data set that is not read
        vars(transformer)["FlashAttentionBuilder"] = None  # of a kernel for GPUs
        initialize_megatron()
        upstream = importlib.import_module("pretrain_gpt")  # its folder comes before ours

        get_args().deepspeed_config_dict = None
        kind = ModelType.encoder_or_decoder
        made = setup_model_and_optimizer(upstream.model_provider, kind)
    sample = iter([{"text": torch.randint(0, vocabulary - 1, (1, tokens + 1))}])
    config = core_transformer_config_from_args(get_args())
    train_step(upstream.forward_step, sample, *made, config)


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=50304)
    parser.add_argument("--gib", type=float, default=8.0)


def main(options: Namespace) -> None:
    warnings.simplefilter("ignore")
    os.environ["LOCAL_SIZE"] = os.environ["WORLD_SIZE"]
    sys.meta_path.insert(0, Gone())
    sys.path[:0] = [os.environ["MEGATRON_DEEPSPEED_DIR"]]
    threading.Thread(target=watch, args=(options.gib,), daemon=True).start()
    step(options.tokens, options.vocabulary)
    peaks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(peaks, peak_resident_gib())
    if rank() == 0:
        print(json.dumps(peaks))
        sys.stdout.flush()
    dist.barrier()
    os._exit(0)
