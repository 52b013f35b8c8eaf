"""A simulated step against formulas, against every layer and tile run, and against a real run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.memory.planned import Case, measure
from benchmarks.start import SPLIT, network
from longseq.__main__ import main
from longseq.config.arguments import Network
from longseq.config.checks import parse_config
from longseq.host.machine import Machine
from longseq.memory.job import Job, job_of
from longseq.memory.need import needed
from longseq.memory.recompute_policy import asked
from longseq.planning.gpus import gpu_named, usual_node
from longseq.planning.plan import make_plan
from longseq.planning.simulate.command import _policy
from longseq.planning.simulate.show import highest
from longseq.planning.simulate.trace import Moment
from longseq.planning.speed import launches, sent_bytes
from longseq.run.peak import Peak
from tests.unit.planning.test_plan import documented

ROOT = Path(__file__).parents[3]
L, H, HEADS, S, V = 5, 64, 4, 1024, 128
NET = f"--num-layers {L} --hidden-size {H} --num-attention-heads {HEADS} --seq-length {S}"
NET += " --use-rotary-position-embeddings --use-flash-attn-sdpa --disable-bias-linear"
CPU, GPU = " --device cpu", " --device cuda"
TILED = " --recompute-granularity full --tile-size 256"
TP4 = ["--tensor-model-parallel-size", "4", "--sequence-parallel"]
KEPT8 = GPU + " --bf16 --seq-length 262144 --recompute-granularity none --sequence-parallel"
KEPT8 += " --tensor-model-parallel-size 8"
CHUNKS = " --bf16 --recompute-granularity full --tile-size 256 --checkpoint-in-cpu"
CHUNKS += " --ds-sequence-parallel-fpdt --ds-sequence-parallel-fpdt-chunk-size 4096"
CHUNKS += " --hidden-size 256 --seq-length 32768"
AFAR = " --zero-stage 3 --remote-device cpu"
AWAY = " --ds-sequence-parallel-fpdt-offloading"
BLOCK = " --bf16 --recompute-granularity full --recompute-method block --seq-length 16384"
BLOCK += " --hidden-size 256 --tile-size 256"
LONG = NET + GPU + " --bf16 --recompute-granularity none --ds-sequence-parallel-size 2"
HOSTED = NET + GPU + TILED + " --bf16 --seq-length 16384 --ds-sequence-parallel-size 2"
HOSTED += " --checkpoint-in-cpu --recompute-num-layers 2"
OUTSIDE = " --bf16 --seq-length 16384 --context-parallel-size 4 --tile-size 256"
OUTSIDE += " --recompute-granularity outside-attention"
CASES: dict[str, tuple[int, str, bool]] = {
    "alone": (1, NET + CPU, True),
    "ulysses": (4, NET + CPU + " --ds-sequence-parallel-size 4", True),
    "tiled": (2, NET + CPU + TILED + " --bf16 --zero-stage 1 " + " ".join(SPLIT), True),
    "tiled, all": (2, NET + CPU + TILED + " --bf16 --zero-stage 1 " + " ".join(SPLIT), False),
    "kept, all": (4, NET + CPU + " --ds-sequence-parallel-size 4", False),
    "stage 3": (8, NET + GPU + TILED + " --bf16 --zero-stage 3", True),
    "inputs on the host": (1, NET + GPU + TILED + " --bf16 --checkpoint-in-cpu", True),
    "inputs here": (1, NET + GPU + TILED + " --bf16", True),
    "groups on the host": (2, HOSTED, True),
    "a block on the host": (2, HOSTED + " --recompute-method block", True),
    "a ring outside attention": (4, NET + GPU + OUTSIDE, True),
    "split": (2, LONG + " --seq-length 65536", True),
    # What a rank holds of the same run if its sequence is not split
    "unsplit": (2, LONG + " --seq-length 131072", True),
    # Ranks with few columns of the table gather hidden states that are larger than logits
    "gathered": (4, NET + GPU + TILED + " --bf16 --seq-length 65536 " + " ".join(TP4), True),
    "gathered, kept": (8, NET.replace(f"heads {HEADS}", "heads 8") + KEPT8, True),
    "chunks": (1, NET + GPU + CHUNKS, True),
    "chunks on the host": (1, NET + GPU + CHUNKS + AWAY, True),
    "chunks, ulysses": (4, NET + GPU + CHUNKS + AWAY + " --ds-sequence-parallel-size 4", True),
    **{
        f"fp16, stage {stage}": (2, NET + GPU + f" --fp16 --zero-stage {stage}", True)
        for stage in (0, 3)
    },
    **{
        f"fp16, accumulated, {name}": (
            1,
            NET + GPU + f" --fp16 --global-batch-size 2 --seq-length 64 --optimizer {name}",
            True,
        )
        for name in ("adam", "sgd")
    },
    "accumulated": (1, NET + CPU + " --global-batch-size 6", True),
    "fp32": (1, NET + GPU, True),
    "fp32, stage 3": (4, NET + GPU + " --zero-stage 3", True),
    # What looks at values too: rates that follow from norms, and what is dropped
    **{
        name: (1, NET + GPU + f" --bf16 --seq-length 64 --optimizer {name}", True)
        for name in ("sgd", "adafactor", "muon")
    },
    **{
        f"block of {layers}": (1, NET + GPU + BLOCK + f" --recompute-num-layers {layers}", True)
        for layers in (2, 4)
    },
    **{
        f"optimizer on the host, stage {zero}": (
            2,
            NET + GPU + f" --bf16 --cpu-optimizer --zero-stage {zero}",
            True,
        )
        for zero in (2, 3)
    },
    "weights on the host": (1, NET + GPU + " --bf16" + AFAR, True),
    "weights on the host, fp32": (4, NET + GPU + AFAR, True),
    "all on the host": (2, NET + GPU + " --bf16 --cpu-optimizer" + AFAR, True),
    "all in one chunk": (
        1,
        NET + GPU + CHUNKS + AWAY + " --ds-sequence-parallel-fpdt-chunk-size 65536",
        True,
    ),
    "dropout": (1, NET + GPU + TILED + " --bf16 --hidden-dropout 0.1", True),
    **{
        f"the table of tokens, split, {device[-4:].strip()}": (
            4,
            NET + device + " --bf16 --seq-length 64 " + " ".join(TP4),
            True,
        )
        for device in (CPU, GPU)
    },
}
REAL = {  # ranks, flags, vocabulary: trained as well
    "kept": (1, network(2048, "--recompute-granularity", "none"), 8192),
}


def vocabulary(name: str) -> int:
    """A large one where the gradient of the table of tokens is what counts."""
    return 4096 if name.startswith(("optimizer on the host", "the table of tokens")) else V


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """All cases, from one process that has no torch.distributed of its own."""
    cases = [(*case, vocabulary(name)) for name, case in CASES.items()]
    cases += [(ranks, " ".join(flags) + CPU, True, v) for ranks, flags, v in REAL.values()]
    asked = json.dumps(cases)
    module = "tests.unit.planning.simulated"
    done = subprocess.run(
        [sys.executable, "-m", module, asked], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = [*CASES, *REAL]
    return dict(zip(names, json.loads(done.stdout), strict=True))


def test_the_keys_of_json_are_those_that_are_documented(found: dict[str, Any]) -> None:
    assert sorted(found["alone"]) == sorted(documented("simulate.md", "What it says"))


def test_arithmetic_is_that_of_the_formulas(found: dict[str, Any]) -> None:
    """24 h² a token and layer forward and twice that backward; causal attention 2 s²h forward."""
    flops = found["alone"]["flops"]
    matmul = 3 * S * (L * 24 * H * H + 2 * H * V)
    assert flops["matmul"] == pytest.approx(matmul, rel=1e-3)
    assert flops["attention"] == pytest.approx(L * 2 * S * S * H * 3.5)
    # Tiles are made again, queries, keys and values (6 h²) once more for their own gradients
    again = S * L * (24 + 6) * H * H
    assert found["tiled"]["flops"]["matmul"] * 2 == pytest.approx(matmul + again, rel=1e-3)
    assert found["accumulated"]["flops"]["attention"] == 6 * flops["attention"]


def test_messages_are_those_of_the_formulas(found: dict[str, Any]) -> None:
    """Ulysses sends 3/4 of q, k, v and of the output, and of their gradients, in fp32."""
    sent = {(m["axis"], m["kind"]): m for m in found["ulysses"]["messages"]}
    each = 4 * (S // 4) * H * 3 // 4
    assert sent["ulysses", "send"]["bytes"] == L * 8 * each
    assert sent["ulysses", "send"]["calls"] == L * 8 * 3


@pytest.mark.parametrize(
    "name", ["groups on the host", "a block on the host", "a ring outside attention"]
)
def test_messages_of_layers_that_are_made_again_are_planned(
    found: dict[str, Any], name: str
) -> None:
    """In groups they are made twice; of a block the others are not made again, nor is attention
    that is kept.
    """
    sent = {(m["axis"], m["kind"]): m["bytes"] for m in found[name]["messages"]}
    config = parse_config(CASES[name][1].split(), CASES[name][0], Machine())
    job = job_of(config, V, asked(config, device="cuda"), "cuda")
    for axis in ("ulysses", "ring"):
        assert sent.get((axis, "send"), 0) == sent_bytes(job)[axis]


def test_pieces_of_tensor_parallelism_are_as_many_as_the_plan_launches(
    found: dict[str, Any],
) -> None:
    """Of a layer made in tiles of 256 tokens: 15 sent and 15 received for each other rank, 17
    products, 6 sums.
    """
    sent = {m["axis"]: m["calls"] for m in found["gathered"]["messages"] if m["kind"] == "send"}
    tiles = 65536 // 256
    assert sent["tp"] == pytest.approx(L * tiles * 15 * (4 - 1), rel=0.02)
    net = Network(num_layers=L, hidden_size=H, num_attention_heads=HEADS, seq_length=65536)
    jobs = [Job(net, V, tp=tp, sequence_parallel=True, recompute="full", tile=256) for tp in (4, 8)]
    more = launches(jobs[1]) - launches(jobs[0])
    assert more == L * tiles * 4 * (2 * 15 + 17 + 6)


def test_layers_and_tiles_that_stand_in_change_nothing(found: dict[str, Any]) -> None:
    for thin, full in (("tiled", "tiled, all"), ("ulysses", "kept, all")):
        a, b = found[thin], found[full]
        assert a["layers_standing_in"] == L - 3
        assert b["layers_standing_in"] == 0
        for key in ("peak_gib", "by_kind", "peak_line", "messages", "flops"):
            assert a[key] == b[key], (thin, key)


def test_kinds_are_those_of_the_formulas(found: dict[str, Any]) -> None:
    """Weights of all ranks at stage 3 are one network; layers keep their inputs."""
    parameters = L * (12 * H * H + 4 * H) + 2 * H + V * H
    alone, gib = found["alone"], 2**30
    assert alone["by_kind"]["weights"] * gib == pytest.approx(4 * parameters)
    assert alone["by_kind"]["optimizer"] * gib == pytest.approx(8 * parameters, rel=1e-4)
    share = found["stage 3"]["by_kind"]["weights"] * 8 * gib / 2
    assert parameters <= share <= 1.6 * parameters  # each of the small ones is padded to the ranks
    here, there = found["inputs here"], found["inputs on the host"]
    kept = "kept activations"
    assert L <= here["by_kind"][kept] * gib / (2 * S * H) <= L + 1
    assert there["by_kind"][kept] < here["by_kind"][kept]
    assert there["host_gib_per_rank"] * gib == pytest.approx(L * 2 * S * H, rel=0.05)


@pytest.mark.parametrize("name", REAL)
def test_the_peak_is_within_a_tenth_of_a_real_run(found: dict[str, Any], name: str) -> None:
    case = Case(name, *REAL[name])
    measured = measure(case) / 2**30
    plan = needed(case.config, case.vocabulary, asked(case.config))
    programs = plan.by_kind["programs"] / 2**30
    assert found[name]["peak_gib"] + programs == pytest.approx(measured, rel=0.1)
    assert plan.total / 2**30 == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(
    "name",
    [
        *("alone", "ulysses", "tiled", "kept, all", "split", "unsplit", "accumulated"),
        *(
            "fp16, stage 0",
            "fp16, accumulated, adam",
            "fp16, accumulated, sgd",
            "fp32",
            "fp32, stage 3",
        ),
        *("sgd", "adafactor", "muon", "block of 2", "block of 4", "all in one chunk"),
        *("optimizer on the host, stage 2", "optimizer on the host, stage 3"),
        *("weights on the host", "weights on the host, fp32", "all on the host"),
        *("gathered", "gathered, kept", "chunks", "chunks on the host", "chunks, ulysses"),
        *("groups on the host", "a block on the host"),
        *("the table of tokens, split, cpu", "the table of tokens, split, cuda"),
    ],
)
def test_a_plan_is_within_a_tenth_of_the_simulation(found: dict[str, Any], name: str) -> None:
    ranks, flags, _ = CASES[name]
    device = "cpu" if CPU in flags else "cuda"
    config = parse_config(flags.split(), ranks, Machine())
    plan = needed(config, vocabulary(name), asked(config, device=device), device)
    no_tensors = sum(plan.by_kind[kind] for kind in ("slack", "context", "programs"))
    assert (plan.total - no_tensors) / 2**30 == pytest.approx(found[name]["peak_gib"], rel=0.1)
    on_host = sum(plan.host.values()) / 2**30
    assert on_host == pytest.approx(found[name]["host_gib_per_rank"], rel=0.05, abs=1e-4)


def test_dropout_keeps_no_masks(found: dict[str, Any]) -> None:
    """What is dropped is drawn again in backward: only the layer at work has some."""
    dropping, plain = found["dropout"], found["inputs here"]
    kept = "kept activations"
    assert dropping["by_kind"][kept] == plain["by_kind"][kept]
    assert dropping["flops"] == plain["flops"]


def test_fp16_has_the_states_of_bf16(found: dict[str, Any]) -> None:
    """Weights of 2 bytes a parameter, halved at stage 3; the optimizer's 12 bytes."""
    parameters = L * (12 * H * H + 4 * H) + 2 * H + V * H
    of = found["fp16, stage 3"]["by_kind"]
    assert of["weights"] * 2**30 == pytest.approx(parameters, rel=0.02)
    alone = found["fp16, stage 0"]["by_kind"]
    assert alone["weights"] * 2**30 == pytest.approx(2 * parameters, rel=0.02)
    assert alone["optimizer"] * 2**30 == pytest.approx(12 * parameters, rel=0.02)
    assert of["optimizer"] * 2**30 == pytest.approx(6 * parameters, rel=0.02)
    assert of["gradients"] * 2**30 >= parameters


@pytest.mark.parametrize(
    ("name", "each"),
    [
        ("weights on the host", 2),
        ("weights on the host, fp32", 4),  # masters and moments are not
        # Masters, moments, gradients in fp32, and the partition in half precision or its gradients
        ("optimizer on the host, stage 2", 12 + 4 + 2),
        ("optimizer on the host, stage 3", 12 + 4 + 2),
        ("all on the host", 2 + 12 + 4 + 2),
    ],
)
def test_what_is_on_the_host_is_that_of_the_formulas(
    found: dict[str, Any], name: str, each: int
) -> None:
    """`each`: bytes a parameter, of all ranks; at stage 2 the table's gradient is on its way there.
    Norms of gradients are taken on the GPU.
    """
    ranks, table = CASES[name][0], vocabulary(name) * H
    parameters = L * (12 * H * H + 4 * H) + 2 * H + table
    passing = 2 * table * ranks if "stage 2" in name else 0
    host = found[name]["host_gib_per_rank"] * 2**30 * ranks
    assert host == pytest.approx(each * parameters + passing, rel=1e-3)


def test_chunks_on_the_host_are_not_here(found: dict[str, Any]) -> None:
    """q, k, v and the output of one layer, and the fp32 sums of its dq, but for two chunks of each.

    Of eight chunks that are 3/4 of 6 hidden states of all tokens.
    """
    hidden = 2 * 256 * 32768 / 2**30
    saved = found["chunks"]["peak_gib"] - found["chunks on the host"]["peak_gib"]
    assert saved == pytest.approx(3 / 4 * 6 * hidden, rel=0.1)


def test_a_sequence_that_is_not_split_is_noticed(found: dict[str, Any]) -> None:
    config = parse_config(CASES["split"][1].split(), 2, Machine())
    planned = needed(config, V, asked(config, device="cuda"), "cuda").tensors / 2**30
    assert Peak(planned, found["split"]["peak_gib"]).warning == ""
    warning = Peak(planned, found["unsplit"]["peak_gib"]).warning
    assert "was to be split and is not" in warning
    assert f"{planned:.2f} planned" in warning


def test_a_gpu_has_recomputed_what_is_planned_for_it() -> None:
    """At a length at which what CUDA itself takes makes the difference."""
    words = "--num-layers 24 --hidden-size 1024 --num-attention-heads 16 --seq-length 61440 --bf16"
    config = parse_config([*words.split(), "--use-rotary-position-embeddings"], 1, Machine((8, 0)))
    planned = make_plan(config, V, usual_node(gpu_named("a100-40")), timed=False).policy
    assert _policy(config, V, "a100-40").describe() == planned.describe()


def test_the_picture_keeps_the_peak() -> None:
    moments = [Moment(at, total) for at, total in enumerate([1, 9, 2, 3, 1, 1, 5])]
    assert [m.total for m in highest(moments, 3)] == [9, 3, 5]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpus", "3", "--", "--tensor-model-parallel-size", "2"], "3 ranks cannot be shared"),
        (["gpus"], "'gpus': the trainer's arguments go behind --"),
        (["--gpus", "none", "--"], "--gpus 'none' is not a number above 0"),
        (["--gpus", "9" * 5000, "--"], "is not a number above 0"),
        (["--", "--num-layer", "3"], "did you mean --num-layers?"),
        (["--gpu", "a1000", "--"], "--gpu 'a1000' is not known: use one of v100"),
        (["--gpu", "h100", "--", "--checkpoint-activations"], "--gpu h100: the flags say what is"),
        (["--gpu", "h100", "--", "--device", "cpu"], "--gpu h100 and --device cpu exclude"),
        (["--picture", "x.gif", "--"], "--picture x.gif: give a name that ends in .svg"),
        (
            ["--", "--zero-stage", "3", "--nvme-optimizer", "--nvme-path", "x"],
            "simulate has no files",
        ),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
