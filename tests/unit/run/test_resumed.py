"""A run that goes on has the settings of the one before, unless it is told otherwise."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from longseq.config.checks import parse_config
from longseq.errors import UserError
from longseq.host.variables import read_table
from longseq.run.resumed import find_before, main, taken_over

RUN = """--num-layers 2 --hidden-size 32 --num-attention-heads 4 --seq-length 256
    --max-position-embeddings 256 --use-rotary-position-embeddings --swiglu --data-path genome.fa
    --micro-batch-size 2 --global-batch-size 4 --train-iters 30 --lr 1e-3 --zero-stage 3 --bf16
    --ds-sequence-parallel-size 2 --lr-warmup-fraction 0.1 --device cpu --remote-device cpu
    --recompute-granularity selective --wandb-project p --load elsewhere --run-dir run"""


def make_run(folder: Path, words: str = RUN, **more: object) -> Path:
    settings = asdict(parse_config(words.split(), 2))
    (folder / "checkpoints" / "step-30").mkdir(parents=True)
    summary = {"settings": settings, "directory": "/data", **more}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "command.sh").write_text("cd /x\nexport MODEL_SIZE_KEY='GPT_SMALL'\nexec y\n")
    return folder


def over(run: Path, *told: str, ranks: int = 2) -> tuple[dict[str, str], list[str]]:
    before = find_before(run / "checkpoints")
    assert before is not None
    return taken_over(before, ranks, told, read_table())


def test_variables_and_flags_are_those_of_the_run_before(tmp_path: Path) -> None:
    variables, words = over(make_run(tmp_path / "run"))
    expected = {
        "SEQ_LEN": "256",
        "USE_ROTARY": "1",
        "DATA_PATH": "/data/genome.fa",
        "MPSIZE": "1",
        "SPSIZE": "2",
        "GLOBAL_BATCH": "4",
        "MICRO_BATCH": "2",
        "TRAIN_ITERS": "30",
        "LR": "0.001",
        "LR_WARMUP_FRACTION": "0.1",
        "ZERO_STAGE": "3",
        "DTYPE": "bf16",
        "OFFLOAD_PARAM": "cpu",
        "OFFLOAD_DEVICE": "none",
        "USE_FLASH_ATTN": "0",
        "WB_PROJECT": "p",
        "MODEL_SIZE_KEY": "GPT_SMALL",
        "LONGSEQ_NETWORK": "2 32 4",
    }
    assert {name: variables.get(name) for name in expected} == expected
    assert not {"LOAD", "USE_ACTIVATION_CHECKPOINTING", "NVME_PATH"} & set(variables)
    assert words == [
        "--swiglu", "--recompute-granularity", "selective", "--save-interval", "0",
        "--eval-interval", "0", "--lr-decay-iters", "30",
    ]  # fmt: skip


def test_what_is_told_wins_under_any_of_its_names(tmp_path: Path) -> None:
    told = """SEQ_LEN GLOBAL_BATCH_SIZE USE_FLASH_ATTN2 DTYPE MODEL_SIZE_KEY SAVE_INTERVAL
        EVAL_INTERVAL USE_ACTIVATION_CHECKPOINTING"""
    variables, words = over(make_run(tmp_path / "run"), *told.split())
    left_out = {"SEQ_LEN", "GLOBAL_BATCH", "USE_FLASH_ATTN", "DTYPE", "LONGSEQ_NETWORK"}
    assert not left_out & set(variables)
    assert words == ["--swiglu", "--lr-decay-iters", "30"]


def test_the_layout_stays_on_as_many_ranks_only(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    variables, _ = over(run, ranks=4)
    assert {"MPSIZE", "SPSIZE", "RINGSIZE"}.isdisjoint(variables)
    assert (variables["SP_TYPE"], variables["GLOBAL_BATCH"]) == ("ds", "4")
    assert "SPSIZE" not in over(run, "MPSIZE")[0]


def test_each_difference_is_said(tmp_path: Path) -> None:
    before = find_before(make_run(tmp_path / "run") / "checkpoints" / "step-30")
    assert before is not None
    words = RUN.replace("genome.fa", "/data/genome.fa").split()
    same = parse_config([*words, "--lr-decay-iters", "30", "--train-iters", "60"], 2)
    assert before.differences(same) == ["--train-iters 60; before, 30"]
    words[words.index("--bf16")] = "--untie-embeddings-and-output-weights"
    words[words.index("--ds-sequence-parallel-size")] = "--tensor-model-parallel-size"
    assert before.differences(parse_config([*words, "--lr-decay-iters", "40"], 2)) == [
        "on 2 ranks = tp 2 x ulysses 1 x ring 1 x dp 1; before, 2 ranks = tp 1 x ulysses 2 x ring 1"
        " x dp 1",
        "--untie-embeddings-and-output-weights on; before, off",
        "--lr-decay-iters 40; before, 30",
        "--bf16 off; before, on",
    ]


def test_a_number_of_0_or_1_is_said_as_one(tmp_path: Path) -> None:
    """Python takes 1 for True, as a key too."""
    words = RUN.replace("genome.fa", "/data/genome.fa") + " --lr-decay-iters 30 --save s"
    words += " --save-interval 1"
    before = find_before(make_run(tmp_path / "run", words) / "checkpoints")
    assert before is not None
    for was, now in (
        ("--micro-batch-size 2 --global-batch-size 4", "--micro-batch-size 1"),
        ("--zero-stage 3", "--zero-stage 1"),
        ("--remote-device cpu", ""),
        ("--save-interval 1", "--save-interval 0 --untie-embeddings-and-output-weights"),
    ):
        assert was in words
        words = words.replace(was, now)
    assert before.differences(parse_config(words.split(), 2)) == [
        "--untie-embeddings-and-output-weights on; before, off",
        "--micro-batch-size 1; before, 2",
        "--global-batch-size 0; before, 4",
        "--zero-stage 1; before, 3",
        "--remote-device none; before, cpu",
        "--save-interval 0; before, 1",
    ]


def test_another_name_of_the_same_data_is_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    words = f"{RUN} --lr-decay-iters 30"
    run = make_run(tmp_path / "run", words, directory=str(tmp_path))
    before = find_before(run / "checkpoints")
    assert before is not None
    for name, same in (("./genome.fa", True), ("there/../genome.fa", True), ("link/g.fa", False)):
        now = parse_config(words.replace("genome.fa", name).split(), 2)
        said = [f"--data-path {name}; before, {tmp_path}/genome.fa"]
        assert before.differences(now) == ([] if same else said)


def test_a_link_to_checkpoints_is_as_good(tmp_path: Path) -> None:
    """From a folder that is another run's, too; and out of a run, to a disk that has room."""
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "other")
    for name, target in (("all", "checkpoints"), ("best", "checkpoints/step-30")):
        (other / name).symlink_to(run / target)
        before = find_before(other / name)
        assert before is not None
        assert before.folder == run
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    before = find_before(run / "checkpoints" / "step-30")
    assert before is not None
    assert before.folder == run


def test_what_has_no_run_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (main(str(tmp_path), "2"), main(str(tmp_path / "no"), "2")) == (0, 0)
    assert capsys.readouterr() == (
        "",
        f"longseq: LOAD={tmp_path}: no run's summary.json is there: the settings are those given"
        " now\n",
    )


def test_flags_that_could_not_act_are_not_taken_over(tmp_path: Path) -> None:
    """Runs were accepted with them: LOAD goes on from these, and says nothing of it."""
    words = RUN.replace("--use-rotary-position-embeddings", "--optimizer sgd")
    words = words.replace("genome.fa", "/data/genome.fa").replace("--remote-device cpu", "")
    run = make_run(tmp_path / "run", words)
    summary = json.loads((run / "summary.json").read_text())
    summary["settings"]["network"]["rope_theta"] = 5e5
    summary["settings"]["training"]["adam_beta2"] = 0.95
    (run / "summary.json").write_text(json.dumps(summary))
    assert not {"--rope-theta", "--adam-beta2"} & set(over(run)[1])
    before = find_before(run)
    assert before is not None
    assert before.differences(parse_config(words.split(), 2)) == []


@pytest.mark.parametrize(
    ("given", "iterations", "noted", "fraction", "warmup"),
    [
        ("0.29", 100, {}, "0.28", 28),
        ("0.29", 100, {"warmup_iters": 29}, "0.29", 29),
        ("0.29", 100, {"warmup_iters": 28}, "0.28", 28),
        ("0.25", 50, {"warmup_iters": 12}, "0.24", 12),
        ("0.25", 50, {"warmup_iters": 12.5}, "0.25", 12.5),
    ],
)
def test_a_run_that_goes_on_keeps_its_warm_up(
    given: str, iterations: int, noted: dict[str, float], fraction: str, warmup: float,
    tmp_path: Path,
) -> None:  # fmt: skip
    """0.29 of 100 iterations were 28, until they were noted, and 0.25 of 50 were 12."""
    words = RUN.replace("--train-iters 30", f"--train-iters {iterations}")
    words = words.replace("--lr-warmup-fraction 0.1", f"--lr-warmup-fraction {given}")
    variables, more = over(make_run(tmp_path / "run", words, **noted))
    assert variables["LR_WARMUP_FRACTION"] == fraction
    flags = [*words.split(), "--lr-warmup-fraction", fraction, *more]
    assert parse_config(flags, 2).training.warmup_iters == warmup


def test_a_folder_without_a_run_gives_nothing_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert find_before(tmp_path / "checkpoints") is None
    run = make_run(tmp_path / "run")
    for text, named in (("{", "does not say"), ('{"settings": {"a": {"lr": "x"}}}', "--lr")):
        (run / "summary.json").write_text(text)
        with pytest.raises(UserError, match=named):
            find_before(run)
