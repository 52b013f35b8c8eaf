"""What was saved on one layout, stage and precision goes on on another as if uninterrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.parallel.ranks import operator_is_built, run_ranks

WORKER = Path(__file__).with_name("layouts_worker.py")
STEPS, AT = 5, 3

GROUPED = " --num-key-value-heads 2 --swiglu --untie-embeddings-and-output-weights"
FILES = "--zero-stage 3 --nvme-optimizer --remote-device nvme --nvme-path "

# Trainings that save, on two ranks, and those that go on from each
SAVED = {
    "tp, split": "--tensor-model-parallel-size 2 --sequence-parallel" + GROUPED,
    "zero 3": "--zero-stage 3" + GROUPED,
    "ulysses, zero 2, offload": "--ds-sequence-parallel-size 2 --zero-stage 2 --cpu-optimizer",
    "bf16, zero 1": "--zero-stage 1 --bf16",
    "sgd, zero 1": "--zero-stage 1 --optimizer sgd --lr 1e-1",
    "adafactor": "--optimizer adafactor",
    "muon": "--optimizer muon",
}
PAIRS = {
    ("tp, split", "dp, zero 2"): "--zero-stage 2" + GROUPED,
    ("tp, split", "ring, zero 3"): "--context-parallel-size 2 --zero-stage 3" + GROUPED,
    ("zero 3", "tp"): "--tensor-model-parallel-size 2" + GROUPED,
    ("zero 3", "dp, micro batch 2"): "--micro-batch-size 2" + GROUPED,
    ("zero 3", "other padding"): "--make-vocab-size-divisible-by 50" + GROUPED,
    ("ulysses, zero 2, offload", "tp, split, zero 1"): (
        "--tensor-model-parallel-size 2 --sequence-parallel --zero-stage 1"
    ),
    ("ulysses, zero 2, offload", "zero 3, offload"): "--zero-stage 3 --cpu-optimizer",
    ("bf16, zero 1", "bf16, zero 0"): "--bf16",
    ("bf16, zero 1", "bf16, tp, zero 3"): "--bf16 --zero-stage 3 --tensor-model-parallel-size 2",
    ("sgd, zero 1", "sgd, tp"): "--tensor-model-parallel-size 2 --optimizer sgd --lr 1e-1",
    ("adafactor", "adafactor, ulysses"): "--ds-sequence-parallel-size 2 --optimizer adafactor",
    ("muon", "muon, ulysses"): "--ds-sequence-parallel-size 2 --optimizer muon",
}


# Checkpoints in whole tensors, made of these, and those that go on from each
WHOLE = {
    "whole": ("convert", ["tp, split"], ["--shard-gib", "1e-4"]),
    "whole, bf16": ("convert", ["bf16, zero 1"], ["--dtype", "bf16"]),
    "weights": ("convert", ["tp, split"], ["--weights-only"]),
    "mean": ("average", ["tp, split", "zero 3"], []),
}
FROM_WHOLE = {
    ("whole", "tp, split"): SAVED["tp, split"],
    ("whole", "zero 3"): SAVED["zero 3"],
    ("whole", "ring, zero 2"): "--context-parallel-size 2 --zero-stage 2" + GROUPED,
    ("whole, bf16", "bf16, zero 0"): "--bf16",
    ("weights", "zero 1, sgd"): "--zero-stage 1 --optimizer sgd --lr 1e-1" + GROUPED,
    ("weights", "zero 1"): "--zero-stage 1" + GROUPED,
    ("mean", "zero 1"): "--zero-stage 1" + GROUPED,
}


def place(folder: Path, name: str) -> str:
    """Where a training saves."""
    return str(folder / name.replace(" ", "").replace(",", "-"))


def jobs(folder: Path) -> list[dict[str, Any]]:
    saved, pairs = dict(SAVED), dict(PAIRS)
    if operator_is_built():
        disk = folder / "disk"
        saved["files"] = FILES + str(disk)
        pairs["files", "zero 1"] = "--zero-stage 1"
        pairs["ulysses, zero 2, offload", "files"] = FILES + str(disk)
    places = {name: place(folder, name) for name in saved}
    result: list[dict[str, Any]] = [
        {"name": name, "flags": flags, "steps": STEPS, "save": places[name], "at": AT}
        for name, flags in saved.items()
    ]
    for name, (verb, sources, options) in WHOLE.items():
        places[name] = str(folder / name.replace(" ", "-").replace(",", "-"))
        command = ["checkpoint", verb, *(places[source] for source in sources)]
        result.append({"command": [*command, "--output", places[name], *options]})
    pairs |= FROM_WHOLE
    same = {(name, name): flags for name, flags in saved.items()}
    for (before, after), flags in (pairs | same).items():
        name = f"{before} > {after}"
        result.append({"name": name, "flags": flags, "steps": STEPS, "load": places[before]})
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


@pytest.fixture(scope="module")
def losses(folder: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = run_ranks(2, WORKER, json.dumps(jobs(folder)))
    return found


def left(whole: dict[str, float]) -> dict[str, float]:
    """The iterations after the checkpoint."""
    return {i: loss for i, loss in whole.items() if int(i) > AT}


@pytest.mark.parametrize("name", SAVED)
def test_same_layout_is_exact(losses: dict[str, dict[str, float]], name: str) -> None:
    assert losses[f"{name} > {name}"] == left(losses[name])


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_other_layout(losses: dict[str, dict[str, float]], before: str, after: str) -> None:
    rest = losses[f"{before} > {after}"]
    # bf16 has 8 bits: the layouts round elsewhere. Muon makes its steps orthogonal in bf16
    tolerance = {"bf16": 2e-3, "muon": 1e-5}.get(before.split(",")[0], 1e-6)
    assert rest == pytest.approx(left(losses[before]), rel=0, abs=tolerance)


def test_converted_goes_on_exactly_on_the_layout_that_wrote_it(
    losses: dict[str, dict[str, float]],
) -> None:
    assert losses["whole > tp, split"] == left(losses["tp, split"])


@pytest.mark.parametrize("after", ["zero 3", "ring, zero 2"])
def test_converted_goes_on_on_others(losses: dict[str, dict[str, float]], after: str) -> None:
    whole = left(losses["tp, split"])
    assert losses[f"whole > {after}"] == pytest.approx(whole, rel=0, abs=1e-6)


def test_converted_to_bf16(losses: dict[str, dict[str, float]]) -> None:
    """The masters are rounded once."""
    rest = losses["whole, bf16 > bf16, zero 0"]
    assert rest == pytest.approx(left(losses["bf16, zero 1"]), rel=0, abs=2e-3)


def test_weights_only_begin_with_another_optimizer(losses: dict[str, dict[str, float]]) -> None:
    """The first loss is that of the weights; what comes then is the new optimizer's."""
    whole = losses["tp, split"]
    for name in ("weights > zero 1, sgd", "weights > zero 1", "mean > zero 1"):
        assert losses[name].keys() == left(whole).keys()
        assert losses[name]["4"] == pytest.approx(whole["4"], rel=0, abs=1e-6)
    assert losses["weights > zero 1"]["5"] != pytest.approx(whole["5"], rel=0, abs=1e-3)
    assert losses["mean > zero 1"] == pytest.approx(losses["weights > zero 1"], rel=0, abs=1e-5)


@pytest.mark.skipif(not operator_is_built(), reason="async_io is not built")
def test_state_in_files(losses: dict[str, dict[str, float]]) -> None:
    assert losses["files > files"] == left(losses["files"])
    for before, after in (("files", "zero 1"), ("ulysses, zero 2, offload", "files")):
        whole = left(losses[before])
        assert losses[f"{before} > {after}"] == pytest.approx(whole, rel=0, abs=1e-6)


def test_two_ranks_to_four_and_back(losses: dict[str, dict[str, float]], folder: Path) -> None:
    """From step 3 on four ranks, from step 4 on two again; all of it as on two."""
    wide = {"name": "4", "flags": "--tensor-model-parallel-size 2 --zero-stage 3" + GROUPED}
    wide |= {"load": place(folder, "zero 3"), "save": str(folder / "four")}
    found = run_ranks(4, WORKER, json.dumps([wide | {"steps": 4, "at": 4}]))["4"]
    narrow = {"name": "2", "flags": "--zero-stage 1" + GROUPED, "load": str(folder / "four")}
    found |= run_ranks(2, WORKER, json.dumps([narrow | {"steps": 5}]))["2"]
    assert found == pytest.approx(left(losses["zero 3"]), rel=0, abs=1e-6)
