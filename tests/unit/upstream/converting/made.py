"""Checkpoints of Megatron-DeepSpeed as it writes them, of a tiny network, and ours read back.

made = Made()                     # random fp32 weights and moments, by its names
made.args.swiglu = True           # anything of it may be changed before
made.write(tmp_path, zero(made, replicas=3))
"""

from __future__ import annotations

from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

GENOME = Path(__file__).parents[4] / "data" / "NC_001416.1.fa"  # 16 tokens
PLACE = "global_step3"
FIRST = "mp_rank_00_model_states.pt"
LAYER = {  # its names: their shapes at width 8, 16 in the MLP
    "input_layernorm.weight": (8,),
    "input_layernorm.bias": (8,),
    "self_attention.query_key_value.weight": (24, 8),
    "self_attention.query_key_value.bias": (24,),
    "self_attention.dense.weight": (8, 8),
    "self_attention.dense.bias": (8,),
    "post_attention_layernorm.weight": (8,),
    "post_attention_layernorm.bias": (8,),
    "mlp.dense_h_to_4h.weight": (16, 8),
    "mlp.dense_h_to_4h.bias": (16,),
    "mlp.dense_4h_to_h.weight": (8, 16),
    "mlp.dense_4h_to_h.bias": (8,),
}
EMBEDDING, ENCODER = "language_model.embedding.", "language_model.encoder."
MATRICES = [
    *(f"{EMBEDDING}{kind}_embeddings.weight" for kind in ("word", "position")),
    *(f"{ENCODER}layers.{n}.{name}" for n in (0, 1) for name, s in LAYER.items() if len(s) == 2),
]
PLAIN = [
    *(f"{ENCODER}layers.{n}.{name}" for n in (0, 1) for name, s in LAYER.items() if len(s) == 1),
    *(f"{ENCODER}final_layernorm.{kind}" for kind in ("weight", "bias")),
]
GROUPS = [MATRICES, PLAIN]
MOMENTS = ("exp_avg", "exp_avg_sq")
Files = dict[str, Any]


class Made:
    """fp32 weights and moments by kind and name, and the arguments that go with them."""

    def __init__(self) -> None:
        shapes: dict[str, tuple[int, ...]] = {
            f"{EMBEDDING}word_embeddings.weight": (32, 8),
            f"{EMBEDDING}position_embeddings.weight": (6, 8),
        }
        shapes |= {f"{ENCODER}layers.{n}.{name}": s for n in (0, 1) for name, s in LAYER.items()}
        shapes |= {f"{ENCODER}final_layernorm.{kind}": (8,) for kind in ("weight", "bias")}
        draw = torch.Generator().manual_seed(5)
        self.kinds = {
            kind: {name: torch.rand(shape, generator=draw) for name, shape in shapes.items()}
            for kind in ("weight", *MOMENTS)
        }
        self.args = Namespace(
            num_layers=2,
            hidden_size=8,
            num_attention_heads=2,
            num_key_value_heads=2,
            kv_channels=4,
            ffn_hidden_size=16,
            seq_length=6,
            max_position_embeddings=6,
            layernorm_epsilon=1e-5,
            make_vocab_size_divisible_by=32,
            tensor_model_parallel_size=1,
            no_pipeline_parallel=True,
            num_experts=[1],
            add_position_embedding=True,
            consumed_train_samples=6,
            consumed_train_tokens=36,
            ds_sequence_parallel_fpdt=False,
            longseq_corrected=True,
        )

    def file(self, dtype: torch.dtype = torch.float32, **more: Any) -> Files:
        """mp_rank_00_model_states.pt, with weights of this type."""
        weights = {name: t.to(dtype) for name, t in self.kinds["weight"].items()}
        of = {
            part: OrderedDict(
                (name.removeprefix(part), t) for name, t in weights.items() if name.startswith(part)
            )
            for part in (EMBEDDING, ENCODER)
        }
        tables = {
            f"{kind}_embeddings": {"weight": t}
            for kind in ("word", "position")
            if (t := of[EMBEDDING].get(f"{kind}_embeddings.weight")) is not None
        }
        module = {"language_model": {"embedding": tables, "encoder": of[ENCODER]}}
        said = {"args": self.args, "iteration": 3, "checkpoint_version": 3.0}
        return {"module": module, **said, "optimizer": None, **more}

    def state(self, steps: Any) -> Files:
        """Of torch's optimizer, which numbers parameters in groups."""
        names = [name for group in GROUPS for name in group]
        numbers = {name: number for number, name in enumerate(names)}
        return {
            "state": {
                n: {"step": steps, **{kind: self.kinds[kind][name] for kind in MOMENTS}}
                for name, n in numbers.items()
            },
            "param_groups": [{"params": [numbers[name] for name in group]} for group in GROUPS],
        }

    def run(self, kind: str, group: Sequence[str]) -> Tensor:
        """A group's numbers, one parameter after the other."""
        return torch.cat([self.kinds[kind][name].flatten() for name in group])


def write(folder: Path, files: Mapping[str, Any]) -> Path:
    """A folder of its checkpoints with one in it."""
    (folder / PLACE).mkdir(parents=True)
    (folder / "latest").write_text(PLACE)
    (folder / "latest_checkpointed_iteration.txt").write_text("3")
    for name, content in files.items():
        torch.save(content, folder / PLACE / name)
    return folder


def fp32(made: Made) -> Files:
    return {FIRST: made.file(optimizer=made.state(torch.tensor(3.0)))}


def fp32_of_apex(made: Made) -> Files:
    """Its Adam counts steps once a group."""
    state = made.state(None)
    for one in state["state"].values():
        del one["step"]
    for group in state["param_groups"]:
        group["step"] = 3
    return {FIRST: made.file(optimizer=state)}


def bf16(made: Made) -> Files:
    weights = made.kinds["weight"]
    optimizer = {
        "optimizer_state_dict": made.state(torch.tensor(3.0)),
        "fp32_groups": [[weights[n].requires_grad_() for n in group] for group in GROUPS],
    }
    return {FIRST: made.file(torch.bfloat16, optimizer=optimizer)}


def fp16_fused(made: Made) -> Files:
    """On GPUs with apex: a group is one parameter."""
    runs = {g: {kind: made.run(kind, group) for kind in MOMENTS} for g, group in enumerate(GROUPS)}
    state = {"state": runs, "param_groups": [{"params": [g], "step": 3} for g in runs]}
    flat = [made.run("weight", group) for group in GROUPS]
    optimizer = {"optimizer_state_dict": state, "fp32_groups_flat": flat, "cur_scale": 1024.0}
    return {FIRST: made.file(torch.float16, optimizer=optimizer)}


def zero(made: Made, replicas: int) -> Files:
    """bf16 at stage 1: what fills a run up to two numbers a replica is kept of moments alone."""
    parts: dict[str, list[list[Tensor]]] = {}
    for kind in ("weight", *MOMENTS):
        parts[kind] = []
        for group in GROUPS:
            run = made.run(kind, group)
            over = -len(run) % (2 * replicas)
            cut = list(torch.cat([run, torch.zeros(over)]).chunk(replicas))
            if kind == "weight":
                cut[-1] = cut[-1][: len(cut[-1]) - over]
            parts[kind].append(cut)
    made.args.zero_stage = 1
    files = {FIRST: made.file(torch.bfloat16, param_shapes=_shapes(made), dp_world_size=replicas)}
    for rank in range(replicas):
        state = {
            g: {"step": torch.tensor(3.0), **{kind: parts[kind][g][rank] for kind in MOMENTS}}
            for g in (0, 1)
        }
        files[f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"] = {
            "optimizer_state_dict": {
                "base_optimizer_state": {
                    "state": state,
                    "param_groups": [{"params": [0]}, {"params": [1]}],
                },
                "single_partition_of_fp32_groups": [parts["weight"][g][rank] for g in (0, 1)],
            }
        }
    return files


def _shapes(made: Made) -> list[OrderedDict[str, Any]]:
    weights = made.kinds["weight"]
    return [OrderedDict((name, weights[name].shape) for name in group) for group in GROUPS]


def pipeline(made: Made, dtype: torch.dtype = torch.float32) -> Files:
    """Two stages; layers are numbered among all modules."""
    made.args.no_pipeline_parallel = False
    weights = {name: t.to(dtype) for name, t in made.kinds["weight"].items()}
    of_layers = {1: EMBEDDING, 2: f"{ENCODER}layers.0.", 3: f"{ENCODER}layers.1."}
    files: Files = {
        f"layer_{n:02}-model_00-model_states.pt": {
            name.removeprefix(part): t for name, t in weights.items() if name.startswith(part)
        }
        for n, part in {**of_layers, 4: f"{ENCODER}final_layernorm."}.items()
    }
    return files | {FIRST: made.file() | {"module": None}}


def ours(folder: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint of ours, flat, by their names in it."""
    with safe_open(folder / "rank-00000.safetensors", "pt") as tensors:
        return {
            name.split("@")[0]: tensors.get_tensor(name).flatten()
            for name in tensors.keys()  # noqa: SIM118  # it is no dictionary
        }
