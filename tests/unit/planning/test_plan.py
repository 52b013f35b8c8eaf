"""What `longseq plan` counts, against the papers' own formulas, and what it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longseq.__main__ import main
from longseq.config.arguments import Network
from longseq.config.checks import parse_config
from longseq.data.tokenizers.registry import tokenizer_from
from longseq.host.machine import Machine
from longseq.memory.activations import kept_bytes
from longseq.memory.job import Job
from longseq.memory.need import needed
from longseq.memory.recompute_policy import asked
from longseq.memory.states import states
from longseq.memory.system import OURS
from longseq.planning.command import NUCLEOTIDES
from longseq.planning.gpus import gpu_named, machines, node_of, usual_node
from longseq.planning.speed import sent_bytes, step_times

ROOT = Path(__file__).resolve().parents[3]
GIB = 2**30
LARGE = (
    "--num-layers 64 --hidden-size 6144 --num-attention-heads 64 --use-rotary-position-embeddings"
    " --bf16 --use-flash-attn-sdpa --seq-length 131072"
).split()
TP32 = ["--tensor-model-parallel-size", "32", "--sequence-parallel", "--checkpoint-activations"]

FLASH = "--use-rotary-position-embeddings --bf16 --use-flash-attn-sdpa"
GPT6K = f"--num-layers 16 --hidden-size 6144 --num-attention-heads 64 {FLASH} --seq-length 32768"
FULL = f"{FLASH} --seq-length 4096 --recompute-granularity full"
GPT2K = f"--num-layers 4 --hidden-size 2048 --num-attention-heads 16 {FULL}"
GPT4K = f"--num-layers 2 --hidden-size 4096 --num-attention-heads 32 --swiglu {FULL}"
WIDE = f"--hidden-size 4096 --num-attention-heads 32 --untie-embeddings-and-output-weights {FULL}"
ULYSSES16 = "--ds-sequence-parallel-size 16"
ULYSSES2 = "--ds-sequence-parallel-size 2"


def network(**more: int | bool) -> Network:
    return Network(num_layers=64, hidden_size=6144, num_attention_heads=64, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stage", "parts"),
    [(0, (2, 2, 12)), (1, (2, 2, 12 / 64)), (2, (2, 2 / 64, 12 / 64)), (3, (2 / 64,) * 2)],
)
def test_states_are_those_of_zero(stage: int, parts: tuple[float, ...]) -> None:
    """Table 1 of arXiv 1910.02054: a model of Ψ parameters on 64 ranks."""
    job = Job(network(), 50304, dp=8, ulysses=8, zero=stage)
    found = states(job, OURS)[0]
    count = network().parameter_count(50304)
    due = [count * size for size in (*parts, 12 / 64)[:3]]
    assert list(found.values()) == pytest.approx(due)


def test_a_layer_keeps_what_the_paper_counts() -> None:
    """Equation 2 of arXiv 2205.05198 is 34 s·b·h without scores: of those, 2 are dropout masks;
    and it has no copy of queries and keys after rotary positions.
    """
    net = network(seq_length=2048, use_rotary_position_embeddings=False)
    kept = kept_bytes(Job(net, 50304), OURS)
    assert kept == pytest.approx(64 * 2048 * 6144 * (34 - 2))


@pytest.mark.parametrize(("ulysses", "ring"), [(4, 1), (1, 4)])
def test_ranks_that_share_a_sequence_keep_attentions_output_twice(ulysses: int, ring: int) -> None:
    """As attention's, and as its projection takes it. longseq simulate: 24 layers of 2048 and
    16,384 of 65,536 tokens a rank keep 12.77 GiB more than 12 do, 17 hidden states a layer.
    """
    net = Network(num_layers=12, hidden_size=2048, num_attention_heads=16, seq_length=65536)
    net = replace(net, use_rotary_position_embeddings=True)
    kept = kept_bytes(Job(net, 16, ulysses=ulysses, ring=ring), OURS)
    assert kept / GIB == pytest.approx(12.77, rel=0.01)


def test_messages_are_those_of_the_papers() -> None:
    """Ulysses sends 4·N·h/P numbers a layer and pass (arXiv 2309.14509, section 3.2); ZeRO 1 and 2
    as much as plain data parallelism, stage 3 half as much again (arXiv 1910.02054, section 7).
    """
    net = network(seq_length=131072)
    sent = sent_bytes(Job(net, 50304, ulysses=64))
    assert sent["ulysses"] == pytest.approx(64 * 2 * 4 * 131072 / 64 * 6144 * 2, rel=0.02)
    small = Network(num_layers=4, hidden_size=256, num_attention_heads=8, seq_length=8192)
    for ring, simulated in ((2, 100.7e6), (4, 117.4e6), (8, 125.8e6)):  # longseq simulate
        job = Job(small, 64, ring=ring, dtype="bf16", recompute="none")
        assert sent_bytes(job)["ring"] == pytest.approx(simulated, rel=1e-3)
    plain, *cut = (sent_bytes(Job(net, 50304, dp=8, zero=z))["replicas"] for z in (0, 1, 2, 3))
    assert cut == pytest.approx([plain, plain, 1.5 * plain], rel=0.01)


@pytest.mark.parametrize(
    ("ranks", "flags", "vocabulary", "simulated"),
    [
        (16, f"{GPT6K} --zero-stage 3 {ULYSSES16} --recompute-granularity none", 50304, 18.453),
        (16, f"{GPT6K} --zero-stage 3 {ULYSSES16} --recompute-granularity full", 50304, 13.255),
        (2, f"{GPT2K} --zero-stage 1 --global-batch-size 8", 50304, 5.340),
        (2, f"{GPT2K} --zero-stage 2 --global-batch-size 8", 50304, 4.206),
        (2, f"{GPT4K} --zero-stage 3 {ULYSSES2} --global-batch-size 4", 50304, 8.166),
        # DeepSpeed's stage 3 updates 1e9 numbers at a time, or some more to the end of a table
        (1, f"{WIDE} --num-layers 2 --zero-stage 3", 128256, 30.154),
        (1, f"{WIDE} --num-layers 4 --zero-stage 3", 128256, 33.970),
        # With its optimizer on the host a GPU has a buffer of the largest parameter
        (1, f"{GPT2K} --zero-stage 1 --cpu-optimizer", 50304, 2.128),
        (2, f"{GPT2K} --zero-stage 2 --cpu-optimizer --global-batch-size 8", 50304, 2.696),
    ],
)
def test_large_networks_are_planned_as_they_are_simulated(
    ranks: int, flags: str, vocabulary: int, simulated: float
) -> None:
    """GiB of tensors, by `./longseq.sh simulate --gpus RANKS --vocab-size VOCABULARY -- FLAGS`."""
    assert tensors(ranks, flags, vocabulary) / GIB == pytest.approx(simulated, rel=0.03)


@pytest.mark.parametrize(
    ("flags", "simulated"),
    [("--zero-stage 1", 2.754), ("--zero-stage 2", 2.754)],
)
def test_states_leave_room_for_activations(flags: str, simulated: float) -> None:
    """Likewise: a layer that is made again has no gradients yet, and none of others on their way.
    Planned higher, more would be made again than has to be.
    """
    found = tensors(2, f"{GPT2K} --seq-length 8192 {flags}", 8192) / GIB
    assert simulated < found < 1.1 * simulated


def tensors(ranks: int, flags: str, vocabulary: int) -> float:
    """Bytes planned on a GPU, but for what is no tensor."""
    config = parse_config([*flags.split(), "--device", "cuda"], ranks, Machine())
    plan = needed(config, vocabulary, asked(config, device="cuda"), "cuda")
    return plan.tensors - plan.by_kind["slack"]


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["plan", *words]) == 0
    return capsys.readouterr().out


def test_the_numbers_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--machine", "thetagpu", "--gpus", "32", "--vocab-size", "50304"]
    found = json.loads(run([*words, "--json", "--", *LARGE, *TP32], capsys))
    assert found["fits"] == "yes"
    assert found["peak_gib"] == pytest.approx(sum(found["by_kind"].values()))
    assert found["parameters"] == network(use_rotary_position_embeddings=True).parameter_count(
        50304
    )
    # The input of each of 64 layers, an 1/32 of 131,072 tokens of 6,144 bf16 numbers; in the head,
    # which needs 0.05 GiB less, its own and the gradient of that as well
    assert found["moment"] == "backward of a layer"
    assert found["by_kind"]["activations"] == pytest.approx(64 * 4096 * 6144 * 2 / GIB)
    # fp32 weights and both of Adam's moments; each of 32 ranks writes half a GB a second
    assert found["checkpoint_gib"] == pytest.approx(12 * found["parameters"] / GIB)
    assert found["checkpoint_seconds"] == pytest.approx(12 * found["parameters"] / 32 / 0.5e9)
    tokens = found["tokens_per_second"] * found["step_seconds"]
    assert tokens == pytest.approx(131072)
    assert sum(found["seconds_by_part"].values()) == pytest.approx(found["step_seconds"])


def documented(page: str, heading: str) -> list[str]:
    """What the first column of the table below a heading names."""
    text = (ROOT / "docs" / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [row.split("|")[1] for row in text.splitlines() if row.startswith("| `")]
    return [name for cell in cells for name in re.findall("`([a-z_]+)`", cell)]


def test_the_keys_of_json_are_those_that_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(["--gpu", "h100", "--json", "--", *LARGE], capsys))
    assert list(found) == documented("plan.md", "`--json`")
    row = next(x for x in (ROOT / "docs/plan.md").read_text().splitlines() if "| `by_kind`" in x)
    assert re.findall("`([a-z]+)`", row.split("|")[2]) == list(found["by_kind"])
    words = ["--gpu", "h100", "--gpus", "8", "--suggest", "--json", "--", *LARGE]
    assert set(json.loads(run(words, capsys))[0]) == {*found, "line", "tokens"}


def test_the_verdict_and_what_breaks_first(capsys: pytest.CaptureFixture[str]) -> None:
    alone = run(["--gpu", "a100-40", "--", *LARGE], capsys)
    assert alone.startswith("does not fit")
    assert "GPU memory (optimizer state" in alone.splitlines()[1]
    assert max(map(len, alone.splitlines())) <= 80
    # 4 x 29e9 x 16 / 4 bytes of optimizer state and gradients in a host of 256 GiB
    words = [*LARGE, *TP32, "--tensor-model-parallel-size", "4", "--seq-length", "8192"]
    words = [*words, "--zero-stage", "1", "--cpu-optimizer"]
    offloaded = run(["--machine", "perlmutter", "--", *words], capsys)
    assert offloaded.startswith("does not fit")
    assert "host memory (optimizer)" in offloaded.splitlines()[1]


def test_a_checkpoints_copy_is_in_host_memory_where_there_is_room(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--gpu", "h100", "--gpus", "8", "--json", "--", *LARGE, "--zero-stage", "3"]
    words += ["--checkpoint-activations", "--seq-length", "8192"]
    saves = ["--save", "x", "--save-interval", "10"]
    plain, saving = (json.loads(run([*words, *more], capsys)) for more in ([], saves))
    copy = plain["checkpoint_gib"]  # a node's ranks write all of it
    assert saving["host_gib_per_node"] - plain["host_gib_per_node"] == pytest.approx(copy, rel=0.01)
    assert saving["peak_gib"] == plain["peak_gib"]
    words += ["--num-layers", "170", "--cpu-optimizer", "--remote-device", "cpu"]
    full = [json.loads(run([*words, *more], capsys)) for more in ([], saves)]
    assert full[0]["fits"] == "yes"
    assert full[0]["host_gib_per_node"] + full[0]["checkpoint_gib"] > 2048
    assert full[0] == full[1]


def measured_cells() -> list[dict[str, Any]]:
    rows = json.loads((ROOT / "docs/measured/h200/results.json").read_text())["steps"]
    return [*rows["speed"]["rows"], *(r | {"what": "GPT1_5B"} for r in rows["beside"]["rows"][:4])]


@pytest.mark.parametrize("cell", measured_cells(), ids=lambda cell: f"{cell['tokens']}")
def test_an_h200s_steps_are_planned(
    cell: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its measured seconds, of 48 layers of 1536 with 24 heads, or with 12."""
    heads = 12 if "/12" in cell["what"] else 24
    words = "--gpu h200 --vocab-size 8 --json -- --num-layers 48 --hidden-size 1536"
    words += f" --num-attention-heads {heads} --use-rotary-position-embeddings --bf16"
    words += f" --use-flash-attn-best --seq-length {cell['tokens']}"
    if not cell["what"].endswith("chosen"):
        words += " --recompute-granularity none"
    found = json.loads(run(words.split(), capsys))
    assert found["step_seconds"] == pytest.approx(cell["seconds"], rel=0.15)


@pytest.mark.parametrize("words", [["--gpu", "h100", "--", *LARGE, *TP32], ["--"]])
def test_a_plan_needs_nothing_installed(words: list[str]) -> None:
    missing = "for name in ('torch', 'numpy', 'psutil', 'rich'): sys.modules[name] = None"
    code = f"import sys\n{missing}\nfrom longseq.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "plan", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--gpu a101 --", "--gpu 'a101' is not known: use one of v100-16"),
        ("--machine mira --", "--machine 'mira' is not known: use one of aurora"),
        ("--machine polaris --gpu h100 --", "leave --gpu out"),
        ("--gpus-per-node 4 --", "give --gpu NAME"),
        ("--gpu h100 --gpus none --", "--gpus 'none' is not a number"),
        ("--gpu h100 --vocab-size -3 --", "--vocab-size"),
        ("--gpu h100 --gpus 3 -- --tensor-model-parallel-size 2", "must be a multiple of 2"),
        ("--gpu h100 -- --ds-sequence-parallel-size 16", "use 8 or fewer"),
        ("--gpu h100 -- --seqlength 4", "did you mean --seq-length?"),
        ("--gpu v100-16 -- --use-flash-attn-v2 --fp16", "flash-attn 2"),
        ("--gpu v100-32 -- --bf16", "--bf16: a V100 32 GB has no bf16: give --fp16"),
        ("--gpu h100 --picture x.gif --", "ends in .svg, .png, .pdf"),
        ("--gpu h100 --picture none/x.svg --", "--picture none/x.svg: there is no folder none"),
        ("--gpu h100 --seq-length 4", "unknown argument '--seq-length'"),
        ("--gpu h100 4096", "go behind --"),
    ],
)
def test_a_mistake_is_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


@pytest.mark.parametrize("verb", ["plan", "simulate"])
def test_a_network_named_for_the_launcher_is_not_passed_over(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_SIZE_KEY", "GPT25B")
    assert main([verb, "--gpu", "h100", "--", "--seq-length", "4096"]) == 2
    assert "MODEL_SIZE_KEY=GPT25B is read by ./ALCF/train-gpt3.sh" in capsys.readouterr().err


def test_each_machine_has_a_node_with_the_ranks_of_its_profile() -> None:
    ranks = {name: node_of(name).gpus for name in machines()}
    assert ranks == {
        "aurora": 12, "frontier": 8, "perlmutter": 4, "polaris": 4, "sirius": 4, "sophia": 8,
        "thetagpu": 8,
    }  # fmt: skip


def test_a_group_over_nodes_is_as_fast_as_their_network() -> None:
    """8 GPUs share 200 GB/s: a ring of all of them has it all, one of a GPU a node an eighth."""
    node = usual_node(gpu_named("A100"), 8)
    assert node.bus(8) == 300e9
    assert node.bus(32) == 200e9
    assert node.bus(4, stride=8) == 25e9
    assert node.swap(16) == pytest.approx(50e9)


def test_an_optimizer_on_the_host_shares_it_with_the_ranks_that_are_there() -> None:
    job = Job(network(), 16, zero=1, optimizer_at="cpu")
    alone, of_eight = (usual_node(gpu_named("a100-40"), gpus) for gpus in (1, 8))
    assert step_times(job, of_eight).parts["update"] == step_times(job, alone).parts["update"]


def test_the_vocabulary_of_nucleotides_is_the_tokenizers() -> None:
    assert tokenizer_from("nucleotide").vocab_size == NUCLEOTIDES
