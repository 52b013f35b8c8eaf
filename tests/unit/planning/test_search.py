"""What is suggested can be trained, is the best there is, and is as long as fits."""

from __future__ import annotations

import json

import pytest

from longseq.__main__ import main
from longseq.config.arguments import GROUPS
from longseq.config.flags import parse
from longseq.errors import UserError
from longseq.planning.advice import lengths
from longseq.planning.gpus import gpu_named, node_of, usual_node
from longseq.planning.plan import make_plan
from longseq.planning.search import Way, longest, pareto, planned, suggest, very_longest
from longseq.planning.ways import Choice, Request

SHAPE = "--num-layers 32 --hidden-size 4096 --num-attention-heads 24 --bf16 --seq-length 98304"
SHAPE = SHAPE.replace("4096", "3072") + " --use-rotary-position-embeddings --use-flash-attn-sdpa"


def request(gpus: int, *more: str) -> Request:
    groups = parse(GROUPS, [*SHAPE.split(), *more])
    return Request(groups, gpus, usual_node(gpu_named("a100-40")), 50304)


@pytest.fixture(scope="module")
def ways() -> list[Way]:
    return suggest(request(16))[0]


def test_a_suggestion_uses_all_ranks_and_heads_as_the_trainer_allows(ways: list[Way]) -> None:
    """24 heads: 16 ranks cannot be tensor parallel, and Ulysses takes what tp leaves."""
    assert ways[0].plan.fits == "yes"
    for way in ways:
        choice = way.choice
        assert 16 % (choice.tp * choice.ulysses * choice.ring) == 0
        assert 24 % choice.tp == 0
        assert choice.tp * choice.ulysses <= 24
    assert {way.choice.tp for way in ways} == {1, 2, 4, 8}


def test_the_fastest_that_fits_is_first(ways: list[Way]) -> None:
    fitting = [way for way in ways if way.plan.fits == "yes"]
    assert ways[: len(fitting)] == fitting
    assert ways[0].speed == max(way.speed for way in fitting)


def test_nothing_that_the_trainer_chooses_by_itself_is_faster() -> None:
    """Of 54 layers on 32 GPUs not all need be recomputed; the line then names no way of it."""
    shape = "--num-layers 54 --hidden-size 6144 --num-attention-heads 64 --bf16"
    words = f"{shape} --seq-length 131072 --use-rotary-position-embeddings --use-flash-attn-sdpa"
    asked = Request(parse(GROUPS, words.split()), 32, node_of("polaris"), 128)
    best = suggest(asked)[0][0]
    chosen = [
        planned(asked, Choice(ulysses=ulysses, ring=16 // ulysses, zero=3, recompute="auto"))
        for ulysses in (1, 2, 4)
    ]
    assert {way.plan.fits for way in chosen} == {"yes"}
    assert best.speed >= max(way.speed for way in chosen)
    assert best.plan.policy.method == "block"
    line = best.choice.line(asked, best.tokens)
    assert line.endswith(" USE_FLASH_ATTN=sdpa ./ALCF/train-gpt3.sh")


def test_a_longest_sequence_fits_and_one_a_little_longer_does_not() -> None:
    asked = request(8)
    found = longest(asked)[0]
    best = found[0]
    assert best.plan.fits == "yes"
    assert very_longest(asked) == best
    config = best.choice.config(asked, best.tokens * 33 // 32 // 16384 * 16384 + 16384)
    assert make_plan(config, 50304, asked.node).fits != "yes"
    front = pareto(found)
    assert [way.tokens for way in front] == sorted((w.tokens for w in front), reverse=True)
    assert [way.speed for way in front] == sorted(way.speed for way in front)


@pytest.mark.parametrize(
    ("words", "zero", "recompute"),
    [
        ("--optimizer sgd", 3, "none"),  # has no optimizer on the host
        ("--attention-dropout 0.1", 3, "none"),  # and chunks have no dropout
        ("--recompute-granularity full --tile-size 4096", 3, "full"),  # nothing is in tiles else
        ("--recompute-granularity full --recompute-num-layers 2", 3, "full"),
        ("--optimizer muon", 0, "full"),  # ZeRO would cut its matrices up
    ],
)
def test_a_way_that_is_refused_takes_no_other_with_it(
    words: str, zero: int, recompute: str
) -> None:
    found, refused = suggest(request(4, *words.split()))
    choices = {way.choice for way in found}
    assert Choice(ulysses=4, zero=zero, recompute=recompute) in choices
    assert Choice(ulysses=2, zero=zero, recompute="full", inputs_on_host=True) in choices
    assert all(1 <= count <= 10 for count in refused.values())  # layouts of 4 ranks


@pytest.mark.parametrize(
    "words",
    [
        "--optimizer muon",
        "--curriculum-seq-length 32768 --curriculum-iters 10",
        "--sample-overlap 2048",
        "--recompute-granularity full --tile-size 4096",
    ],
)
def test_the_search_for_a_longest_begins_where_the_flags_allow(words: str) -> None:
    asked = request(4, *words.split(), "--num-layers", "8")
    best = very_longest(asked)
    assert best is not None
    assert best.tokens > 1_000_000


def test_refusals_are_no_lack_of_memory() -> None:
    with pytest.raises(UserError, match="every layout is refused; most often: of a flag"):
        lengths(request(4), [], {"of a flag": 3, "of another": 2})
    with pytest.raises(UserError, match="not even the shortest sequence fits on 4 GPUs"):
        lengths(request(4), [], {})


def plan(words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert main(["plan", *words.split(), "--", *SHAPE.split()]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_the_line_and_why_others_lost(capsys: pytest.CaptureFixture[str]) -> None:
    text = plan("--gpu a100-40 --gpus 4 --suggest", capsys)
    assert "NGPUS=4 MPSIZE=" in text
    assert "slower: more time in" in text or "as fast" in text
    found = json.loads(plan("--gpu a100-40 --gpus 4 --suggest --json", capsys))
    assert found[0]["line"] in text
    assert found[0]["fits"] == "yes"


def test_nothing_fits_says_what_the_nearest_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--gpu", "a100-40", "--gpus", "1", "--suggest", "--", *SHAPE.split()]
    assert main([*words, "--num-layers", "96", "--hidden-size", "12288"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("nothing fits 98,304 tokens; the nearest lacks")
    assert "GiB" in text.splitlines()[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--gpu h100 --suggest", "--suggest needs --gpus N"),
        ("--gpus 4 --longest", "--longest needs --gpu NAME"),
        ("--gpu h100 --gpus 4 --suggest --longest", "exclude each other"),
        ("--gpu h100 --gpus 4 --suggest --like alst", "leave --like alst out"),
        ("--gpu h100 --gpus 4 --longest --picture x.gif", "ends in .svg"),
        ("--gpu h100 --like mine", "--like 'mine' is not known"),
    ],
)
def test_a_mistake_is_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = plan(words, capsys, code=2)
    assert text.count("\n") == 1
    assert said in text


@pytest.mark.parametrize("wish", ["--suggest", "--longest"])
def test_what_no_layout_mends_is_not_for_lack_of_gpus(
    wish: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", "--gpu", "a100-40", "--gpus", "4", wish, "--", *SHAPE.split()]
    assert main([*words, "--min-lr", "1"]) == 2
    assert (
        capsys.readouterr().err
        == "longseq: --min-lr 1 (MIN_LR) is above --lr 0.00015 (LR): lower it\n"
    )


def test_the_line_names_every_choice() -> None:
    choice = Choice(2, 4, 2, 3, 1, "full", True, True, True)
    line = choice.line(request(16), 4096)
    for word in (
        "MPSIZE=2 SPSIZE=4 RINGSIZE=2 SEQ_LEN=4096 MICRO_BATCH=1 ZERO_STAGE=3 OFFLOAD_DEVICE=cpu"
        " OFFLOAD_PARAM=cpu USE_FLASH_ATTN=sdpa --recompute-granularity full --checkpoint-in-cpu"
    ).split():
        assert word in line.split()
