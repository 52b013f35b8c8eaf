"""Which policy is chosen, on an estimate that memory bears out, and which requests are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from longseq.attention.kernel import kernel
from longseq.config.arguments import Config
from longseq.config.checks import parse_config
from longseq.engine.distributed import pick_device
from longseq.engine.network.initialize import initialize
from longseq.engine.network.recompute import apply_recompute_policy
from longseq.errors import UserError
from longseq.memory.activations import layer_bytes
from longseq.memory.choosing import USABLE, choose
from longseq.memory.job import job_of
from longseq.memory.need import needed
from longseq.memory.recompute_policy import TILE, RecomputePolicy, asked
from longseq.memory.system import OURS
from longseq.model import head_tiles
from longseq.model.gpt import GPT
from longseq.planning.speed import launches
from tests.unit.attention.watch import Watch

GIB = 2**30
LONG = ["--seq-length", "65536", "--bf16", "--use-flash-attn-sdpa"]
SMALL = "--hidden-size 64 --num-attention-heads 4 --use-rotary-position-embeddings".split()
SMALL += ["--use-flash-attn-sdpa"]


def estimate(config: Config, way: str) -> float:
    """Bytes of a rank's tensors at their peak if `way` is what is recomputed."""
    policy = replace(asked(config, way), recompute=way)
    return needed(config, 512, policy).tensors


def test_the_least_that_fits_is_chosen() -> None:
    config = parse_config(LONG, 1)
    ways = ("none", "pointwise", "outside-attention", "full")
    needs = [estimate(config, way) for way in ways]
    assert needs == sorted(needs, reverse=True)
    for way, need in zip(ways, needs, strict=True):
        assert choose(config, 512, int(need / USABLE) + 1).recompute == way
    too_little = choose(config, 512, GIB // 100)
    assert too_little.recompute == "full"
    assert "may be too much for" in too_little.describe()


def test_no_more_layers_than_needed_are_recomputed() -> None:
    config = parse_config([*LONG, "--num-layers", "12"], 1)
    products_kept, none_kept = estimate(config, "pointwise"), estimate(config, "outside-attention")
    room = (products_kept + none_kept) / 2
    chosen = choose(config, 512, room / USABLE)
    assert (chosen.recompute, chosen.method) == ("outside-attention", "block")
    assert chosen.rest == "pointwise"
    assert 0 < chosen.layers < 12
    fewer = replace(chosen, layers=chosen.layers - 1)
    assert needed(config, 512, chosen).tensors <= room < needed(config, 512, fewer).tensors
    assert f"the first {chosen.layers} layers" in chosen.describe()


SAVING = ["--save", "x", "--save-interval", "5", "--train-iters", "10"]


@pytest.mark.parametrize(
    ("flags", "ranks", "device", "parameters"),
    [
        ("--optimizer adam", 1, "cpu", 12),
        ("--optimizer sgd", 1, "cpu", 4),
        ("--zero-stage 1", 2, "cpu", 6),
        ("--optimizer adam", 1, "cuda", 12),
    ],
)
def test_a_checkpoints_copy_is_planned(
    flags: str, ranks: int, device: str, parameters: int
) -> None:
    config = parse_config([*SMALL, *flags.split(), *SAVING], ranks)
    size = parameters * config.network.parameter_count(512)
    plan = needed(config, 512, asked(config), device)
    without = needed(config, 512, asked(config), device, copied=False)
    if device == "cpu":
        assert plan.by_kind["checkpoint"] == pytest.approx(size)
        assert plan.total - without.total == pytest.approx(size)
        assert plan.passing == pytest.approx(without.passing)
    else:
        assert plan.host["checkpoint"] == pytest.approx(size)
        assert plan.total == without.total


@pytest.mark.parametrize("flags", ["", "--save x", "--save x --save-interval 10 --train-iters 10"])
def test_no_copy_is_planned_where_none_is_made(flags: str) -> None:
    """Without saves, or with one at the end, which is waited for."""
    config = parse_config([*SMALL, *flags.split()], 1)
    assert not config.copies
    assert needed(config, 512, asked(config)).by_kind["checkpoint"] == 0


def test_what_is_chosen_leaves_room_for_a_copy() -> None:
    plain, saving = parse_config(LONG, 1), parse_config([*LONG, *SAVING], 1)
    room = int(estimate(plain, "none") / USABLE) + 1
    assert choose(plain, 512, room).recompute == "none"
    assert choose(saving, 512, room).recompute == "pointwise"
    copy = needed(saving, 512, asked(saving)).by_kind["checkpoint"]
    assert choose(saving, 512, room + copy / USABLE).recompute == "none"
    least = int(estimate(plain, "full") / USABLE) + 1
    full = choose(saving, 512, least)  # with a copy nothing fits: none will be made
    assert (full.recompute, "may be too much" in full.why) == ("full", False)


def peak(config: Config, policy: RecomputePolicy) -> int:
    """Bytes of the tensors alive at the peak of a forward and a backward pass on one rank."""
    s = config.network.seq_length
    model = GPT(config.network, 512, kernel("sdpa"), seed=1)
    initialize(model, config.network, 1, torch.device("cpu"))
    apply_recompute_policy(model, policy)
    tokens = torch.zeros(1, s, dtype=torch.int64)
    with Watch() as watch:
        model(tokens, tokens, torch.full((1, s), 1 / s), torch.arange(s)[None]).backward()
    return watch.peak


@pytest.mark.parametrize(
    "way",
    [
        "none",
        "none --swiglu",
        "pointwise",
        "pointwise --swiglu --normalization rmsnorm",
        "outside-attention",
        "full",
    ],
)
def test_the_estimate_grows_as_memory_does(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured on a small network in tiles, so that only what is kept grows with the sequence."""
    monkeypatch.setitem(head_tiles.TILE_TOKENS, "cpu", 128)
    recompute, *extra = way.split()
    policy = RecomputePolicy(recompute, tile=128)
    measured, estimated = [], []
    for length in (2048, 4096):
        config = parse_config([*SMALL, *extra, "--seq-length", str(length)], 1)
        measured.append(peak(config, policy))
        estimated.append(needed(config, 512, policy).tensors)
    found, expected = measured[1] - measured[0], estimated[1] - estimated[0]
    assert expected == pytest.approx(found, rel=0.1)


def test_flags_win() -> None:
    config = parse_config([*LONG, "--recompute-granularity", "none"], 1)
    assert choose(config, 512, 1).recompute == "none"
    config = parse_config([*LONG, "--checkpoint-activations", "--micro-batch-size", "2"], 1)
    chosen = choose(config, 512, 1 << 50)
    assert (chosen.recompute, chosen.tile, chosen.why) == ("full", TILE // 2, "")
    assert asked(parse_config(LONG, 1)).recompute == "none"


@pytest.mark.parametrize(
    ("length", "ranks", "device", "tile"),
    [
        (65536, 1, "cpu", 2048),
        (16384, 1, "cpu", 1024),
        (16384, 2, "cpu", 512),
        (12000, 2, "cpu", 256),
        (1024, 1, "cpu", 256),
        (16384, 2, "cuda", 65536),
    ],
)
def test_a_tile_is_small_beside_what_a_rank_holds(
    length: int, ranks: int, device: str, tile: int
) -> None:
    flags = [*LONG, "--seq-length", str(length), "--context-parallel-size", str(ranks)]
    assert asked(parse_config(flags, ranks), "full", device).tile == tile
    given = parse_config([*flags, "--tile-size", "100", "--checkpoint-activations"], ranks)
    assert asked(given, device=device).tile == 100


def test_a_tile_is_of_all_samples() -> None:
    """As many tokens in 1, 2 or 8 samples take as much, in as many tiles."""
    found = set()
    for samples in (1, 2, 8):
        flags = [*LONG, "--seq-length", str(65536 // samples), "--micro-batch-size", str(samples)]
        flags += ["--checkpoint-activations", "--tile-size", "32768", "--swiglu"]
        config = parse_config(flags, 1)
        job = job_of(config, 8, asked(config, device="cuda"), "cuda")
        found.add((layer_bytes(job, OURS), launches(job)))
    assert len(found) == 1


@pytest.mark.parametrize("tp", [1, 2, 8, 32])
def test_a_tile_of_ranks_that_share_it_takes_a_gpu_no_more(tp: int) -> None:
    """Hidden states of 6,144: 17 of a token, shared out, and 3 of those that ranks exchange."""
    flags = f"{' '.join(LONG)} --hidden-size 6144 --num-attention-heads 64 --sequence-parallel"
    flags += f" --tensor-model-parallel-size {tp}" if tp > 1 else ""
    if tp == 1:
        flags = flags.replace(" --sequence-parallel", "")
    tile = asked(parse_config(flags.split(), tp), "full", "cuda").tile
    each = 17 / tp + (3 if tp > 1 else 0)
    assert tile * each <= 17 * 2**24 / 6144 < 2 * tile * each


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--checkpoint-activations --recompute-granularity selective", "leave one of them out"),
        ("--recompute-method block", "--recompute-method block needs layers that are recomputed"),
        ("--recompute-num-layers 2 --num-layers 4", "--recompute-num-layers 2 needs layers"),
        (
            "--tile-size 64 --recompute-granularity selective",
            "--tile-size 64 needs layers that are recomputed, and --recompute-granularity is"
            " selective",
        ),
        ("--checkpoint-in-cpu", "needs layers"),
        ("--checkpoint-activations --checkpoint-in-cpu --device cpu", "leave it out"),
        ("--checkpoint-activations --recompute-num-layers 5", "more than the 4 layers"),
        (
            "--recompute-granularity outside-attention --recompute-num-layers 2",
            "--recompute-num-layers 2 makes whole layers again.* or --recompute-method block",
        ),
        ("--ds-sequence-parallel-fpdt", "give --use-flash-attn-sdpa"),
        ("--ds-sequence-parallel-fpdt-offloading", "acts with --ds-sequence-parallel-fpdt only"),
        (
            "--ds-sequence-parallel-fpdt --use-flash-attn-sdpa --context-parallel-size 2",
            "leave one of them out",
        ),
        (
            "--ds-sequence-parallel-fpdt --use-flash-attn-sdpa --attention-dropout 0.1",
            "--attention-dropout 0.1",
        ),
        (
            "--ds-sequence-parallel-fpdt --use-flash-attn-sdpa --device cpu"
            " --ds-sequence-parallel-fpdt-offloading",
            "leave it out",
        ),
    ],
)
def test_requests_that_cannot_act(flags: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(flags.split(), 2)


@pytest.mark.parametrize(
    "flags",
    [
        "--checkpoint-activations --checkpoint-in-cpu",
        "--ds-sequence-parallel-fpdt --use-flash-attn-sdpa --ds-sequence-parallel-fpdt-offloading",
        "--fp16 --use-flash-attn-sdpa",
    ],
)
def test_what_needs_a_gpu_is_refused_where_none_is_found(
    flags: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--device auto says only on the rank that there is no GPU."""
    config = parse_config(flags.split(), 1)
    for kind in (torch.cuda, torch.xpu):
        monkeypatch.setattr(kind, "is_available", lambda: False)
    with pytest.raises(UserError, match=flags.split()[0] if "fp16" in flags else "leave it out"):
        pick_device(config)
