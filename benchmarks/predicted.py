"""A row of a published table as a run that can be planned, and what is planned for it.

The names of networks that sources use without dimensions are in NETWORKS, and what their papers say
elsewhere in BATCHES; Unpredictable says what else a row would have to state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from longseq.config.arguments import Network
from longseq.errors import UserError
from longseq.memory.activations import kept_bytes
from longseq.memory.job import Job
from longseq.memory.need import need
from longseq.memory.states import states
from longseq.memory.system import System
from longseq.planning.gpus import Node, gpu_named, usual_node
from longseq.planning.speed import step_times
from longseq.planning.systems import SYSTEMS, Known
from longseq.run.throughput import again, megatron_flops, model_flops

GIB = 2**30
Row = dict[str, str]


class Unpredictable(Exception):
    """What a row does not state."""


# layers, hidden, heads, vocabulary
NETWORKS = {
    # upstream's megatron_long_seq_support/pretrain_gpt_30B_seq_parallel.sh
    "GPT 30B/33B-class": (64, 6144, 64, 50304),
    # SPPO's Table 2
    "GPT-7B": (32, 4096, 32, 50257),
    "GPT-13B": (40, 5120, 40, 50257),
    "GPT-65B": (80, 8192, 64, 50257),
    # arXiv 2309.14509, section 4.1
    "GPT-1.2B": (24, 2048, 16, 50304),
}
# key-value heads, ffn, vocabulary of public configurations
PUBLIC = {"Llama-70B": (80, 8192, 64, 8, 28672, 32000)}
# arXiv 2205.05198, Table 3: micro batch, global batch
BATCHES = {"GPT-22B": (4, 4), "GPT-175B": (1, 64), "GPT-530B": (1, 280), "GPT-1T": (1, 512)}
GATED = ("Llama", "Qwen", "Gemma", "Mistral")
TIED = ("Qwen3-4B", "Gemma", "MPT")
NAMES = (  # the beginning of a row's system, and whose habits it has
    ("Megatron-DeepSpeed old", "megatron-deepspeed-2023-old"),
    ("Megatron-DeepSpeed new", "megatron-deepspeed-2023-new"),
    ("Megatron-LM (CI", "megatron-core"),
    ("Megatron-LM tuned", "megatron-core"),
    ("Megatron-LM (PyTorch", "megatron-core"),
    ("Megatron-LM", "megatron-lm"),
    ("NeMo", "nemo"),
    ("torchtitan", "torchtitan"),
    ("llm-foundry", "llm-foundry"),
    ("ALST", "alst"),
    ("HF TRL", "hf-trl"),
    ("HF", "hf"),
    ("LlamaFactory", "hf"),
    ("UPipe", "upipe"),
    ("USP", "usp"),
    ("DeepSpeed-Ulysses+ZeRO+FPDT", "fpdt"),
    ("DeepSpeed-Ulysses", "ulysses-2023"),
    ("FPDT", "fpdt"),
    ("analysis", "megatron-core"),
)


@dataclass(frozen=True)
class Run:
    """A row that can be planned; `gpu_bytes`: what one GPU has."""

    job: Job
    system: System
    known: Known
    node: Node

    @property
    def gpu_bytes(self) -> float:
        return self.node.gpu.gib * GIB


def run_of(row: Row) -> Run:
    """The run of a row; raises Unpredictable."""
    known = _known(row)
    net, vocabulary = _network(row)
    node = _node(row)
    job = known.job(_job(row, known, net, vocabulary))
    if "2205.05198" in row["source"]:  # its baseline has no sequence parallelism
        job = replace(job, sequence_parallel="sequence" in row["recompute"])
    if "no --sequence-parallel" in row["note"]:
        job = replace(job, sequence_parallel=False)
    if row["attn"].startswith(("flash", "TE", "SDPA", "sdpa")):
        job = replace(job, flash=True)
    if row["sp_ulysses"] and job.tp == 1 and net.num_attention_heads % job.ulysses:
        raise Unpredictable(f"{net.num_attention_heads} heads over {job.ulysses} Ulysses ranks")
    return Run(job, _system(row, known, net), known, node)


def _known(row: Row) -> Known:
    for start, name in NAMES:
        if row["system"].startswith(start):
            return SYSTEMS[name]
    raise Unpredictable(f"what {row['system']} keeps is not described")


def _int(row: Row, name: str, default: int = 0) -> int:
    text = row[name].strip()
    return int(float(text)) if text else default


def _network(row: Row) -> tuple[Network, int]:
    model = row["model"]
    layers, hidden, heads = (_int(row, name) for name in ("layers", "hidden", "heads"))
    groups, ffn, vocabulary = (_int(row, name) for name in ("kv_heads", "ffn", "vocab"))
    if not layers and model in NETWORKS:
        layers, hidden, heads, vocabulary = NETWORKS[model]
    elif not layers and model in PUBLIC:
        layers, hidden, heads, groups, ffn, vocabulary = PUBLIC[model]
    if not (layers and hidden and heads):
        raise Unpredictable("the network's dimensions are not stated")
    if not _int(row, "seq_len"):
        raise Unpredictable("the length is not stated")
    gated = model.startswith(GATED)
    net = Network(
        num_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        ffn_hidden_size=ffn,
        seq_length=_int(row, "seq_len"),
        swiglu=gated,
        normalization="rmsnorm" if gated else "layernorm",
        disable_bias_linear=gated or model.startswith("MPT"),
        untie_embeddings_and_output_weights=gated and not model.startswith(TIED),
        use_rotary_position_embeddings=gated or "DeepSpeed" in row["system"],
        make_vocab_size_divisible_by=128,
    )
    if "untied" in row["note"]:
        net = replace(net, untie_embeddings_and_output_weights=True)
    return net, net.padded_vocabulary(vocabulary or 50304)


def _node(row: Row) -> Node:
    name, size = row["gpu"].split()[0].lower() if row["gpu"] else "", _int(row, "gpu_mem_gb")
    if name == "hopper":
        name = "h100"
    if row["result_kind"] == "activation_mem":  # of the network alone
        name = name or "h100"
    if not name:
        raise Unpredictable("the GPU is not stated")
    if name == "a100" and not size:
        size = 80
    for title in (f"{name}-{size}", name):
        try:
            return usual_node(gpu_named(title))
        except UserError:
            continue
    raise Unpredictable(f"nothing is known of a {row['gpu']}")


def _layout(row: Row, known: Known, net: Network) -> dict[str, Any]:
    """Ranks of each axis; those of a system whose layout is not stated are tensor parallel."""
    axes = {"tp": "tp", "ulysses": "sp_ulysses", "ring": "cp", "pp": "pp"}
    found = {axis: max(1, _int(row, column, 1)) for axis, column in axes.items()}
    stated = (
        any(row[column] for column in ("tp", "sp_ulysses", "cp", "pp", "dp")) or row["zero_or_fsdp"]
    )
    gpus = _int(row, "gpus", 1)
    named = re.search(r"\(SP (\d+), PP (\d+)", row["system"])
    if named:
        found["tp"], found["pp"] = int(named[1]), int(named[2])
    elif known.tp and not row["tp"]:
        found["tp"] = max(
            n for n in range(1, gpus + 1) if gpus % n == net.num_attention_heads % n == 0
        )
    elif known.sequence and not any(row[name] for name in ("tp", "sp_ulysses", "cp")):
        heads = net.num_attention_heads
        found["ulysses"] = max(n for n in range(1, gpus + 1) if gpus % n == heads % n == 0)
    elif not stated and gpus > 1 and known.zero < 3:
        raise Unpredictable("the layout is not stated")
    if "layout not given" in row["note"]:
        raise Unpredictable("the layout is not stated")
    shared = found["tp"] * found["ulysses"] * found["ring"] * found["pp"]
    if gpus % shared:
        raise Unpredictable(f"{gpus} GPUs are no multiple of the axes' {shared}")
    return found | {"dp": gpus // shared}


def _job(row: Row, known: Known, net: Network, vocabulary: int) -> Job:
    axes = _layout(row, known, net)
    micro, batch = _int(row, "micro_batch"), _int(row, "global_batch")
    if not micro and "2205.05198" in row["source"]:
        micro, batch = BATCHES.get(row["model"].split(" (")[0], (4, 4))
        batch *= axes["dp"]
    micro = micro or 1
    if axes["pp"] > 1 and "torchtitan" in row["system"]:
        micro, batch = 1, micro * axes["dp"]  # its local batch is what a pipeline cuts up
    if not batch and "gbs 2" in row["note"]:
        batch = 2
    job = Job(
        net,
        vocabulary,
        **axes,
        micro_batch=micro,
        micro_batches=max(1, batch // (micro * axes["dp"])),
        dtype=_dtype(row),
        zero=_zero(row, known),
        recompute=_recompute(row, known),
    )
    job = replace(job, **_offload(row))
    if row["result_kind"] == "max_seq":
        said = bool(row["recompute"] or row["offload"])
        job = replace(job, **({} if said else known.longest))
    virtual = re.search(r"VP (\d+)", row["note"])
    if virtual:
        job = replace(job, virtual=int(virtual[1]))
    if "chunk " in row["tiling"]:
        size = re.search(r"chunk (\d+)", row["tiling"])
        job = replace(job, chunk=int(size[1]) if size else 65536, chunks_at="cpu")
    return job


def _dtype(row: Row) -> str:
    text = row["precision"]
    return "fp8" if "fp8" in text else "fp16" if "fp16" in text else "bf16"


def _zero(row: Row, known: Known) -> int:
    text = row["zero_or_fsdp"]
    if "ZeRO-1" in text:
        return 1
    stage = re.search(r"ZeRO-(\d)", text)
    if stage:
        return int(stage[1])
    if row["system"].startswith("torchtitan") and _int(row, "pp", 1) > 1:
        return 1  # with a pipeline it gathers weights once a step, and keeps gradients whole
    return 3 if "FSDP" in text or "FULL" in text else known.zero


def _offload(row: Row) -> dict[str, Any]:
    text = row["offload"]
    found: dict[str, Any] = {}
    if "optimizer cpu" in text or "ZeRO-Offload" in text or "CPU offload" in row["zero_or_fsdp"]:
        found["optimizer_at"] = "cpu"
    if "param cpu" in text:
        found["weights_at"] = "cpu"
    if "act-ckpt cpu" in text:
        found["inputs_at"] = "cpu"
    if row["system"].startswith("HF TRL"):  # its memory is that of states on the GPU
        found.pop("optimizer_at", None)
    return found


def _recompute(row: Row, known: Known) -> str:
    text = row["recompute"]
    for start in ("full", "selective", "none"):
        if text.startswith(start):
            return start
    return known.recompute


def _system(row: Row, known: Known, net: Network) -> System:
    system = known.for_length(net.seq_length)
    if known.system.name in ("alst", "hf", "hf-trl") and row["tiling"]:
        system = replace(system, logit=0, tiles_mlp="MLP" in row["tiling"])
    elif known.system.name == "alst":
        system = replace(system, logit=14, tiles_mlp=False)
    if row["model"].startswith("Qwen3"):  # norms of queries and keys in fp32, and heads of 128
        wider = 128 / net.head_size
        system = replace(system, inner=(system.inner + 4) * wider, keys=(system.keys + 4) * wider)
    if "PURE" in row["precision"]:
        system = replace(system, weights=2, gradients=2, optimizer=4)
    return system


def unit_bytes(unit: str) -> float:
    """nvidia-smi's GB are GiB."""
    return GIB if unit.startswith("GiB") or "nvidia-smi" in unit else 1e9


def peak_bytes(run: Run, kind: str, unit: str) -> float:
    """Memory in the row's unit; only nvidia-smi sees what the driver takes."""
    if kind == "steady_mem":
        return sum(states(run.job, run.system)[0].values()) / unit_bytes(unit)
    if kind == "activation_mem":
        one = replace(run.job, tp=1, ulysses=1, ring=1, pp=1, dp=1)
        return kept_bytes(one, replace(run.system, kept=1)) / GIB
    found = need(run.job, run.system)
    size = found.total if "nvidia-smi" in unit else found.tensors
    if "allocated" in unit and "reserved" not in unit:
        size -= found.by_kind["slack"]
    return size / unit_bytes(unit)


def speed(run: Run, unit: str) -> float:
    """Speed in the row's unit."""
    job, net = run.job, run.job.network
    seconds = step_times(job, run.node, run.system).seconds
    if unit == "s":
        return seconds
    batch = job.micro_batch * job.micro_batches * job.dp
    if unit.startswith("tokens/s"):
        tokens = batch * net.seq_length / seconds
        return tokens if "all GPUs" in unit else tokens / job.ranks
    if unit.startswith("ms"):
        return _layer_seconds(run) * 1e3
    per_gpu = 1e12 * job.ranks * seconds
    if "(model)" in unit:
        return model_flops(net, job.vocabulary, batch, net.seq_length) / per_gpu
    more = again("full" if "hw" in unit or unit.startswith("TFLOPS/GPU") else "none")
    flops = megatron_flops(net, job.vocabulary, batch, net.seq_length, more) / per_gpu
    if "MFU" in unit:
        return 100 * flops / (run.node.gpu.peak(job.dtype) / 1e12)
    return flops


def _layer_seconds(run: Run) -> float:
    """Of one layer, without head and update."""
    one, two = (
        step_times(
            replace(run.job, network=replace(run.job.network, num_layers=n)), run.node, run.system
        )
        for n in (1, 2)
    )
    return two.seconds - one.seconds


def longest(run: Run, unit: str) -> float:
    """The longest sequence that fits, in the row's unit: a multiple of the system's grid."""
    grid = run.known.grid

    def fits(steps: int) -> bool:
        job = replace(run.job, network=replace(run.job.network, seq_length=steps * grid))
        system = run.system if run.job.flash else run.known.for_length(steps * grid)
        found = need(job, system)
        host = sum(found.host.values()) * min(run.node.gpus, job.ranks)
        return found.total <= run.gpu_bytes and host <= run.node.host_gib * GIB

    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
        if high * grid > 1e9:
            break
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    scale = {"k": 1000, "K": 1024}.get(unit[0], 1)
    return low * grid / scale
