"""`longseq checkpoint`: what it says, and weights that the safetensors library reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from longseq.__main__ import main
from longseq.checkpoint import weights
from longseq.checkpoint.left_out import AllLeftOut, LeftOut
from tests.faults.small_engine import SmallEngine, load_newest, save_step
from tests.full_disk import room_for
from tests.unit.checkpoint.test_checkpoint_folder import with_a_key_more


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """step-1 to step-3 in a run's folder, after that many steps of one engine."""
    engine = SmallEngine(1.0, width=64)
    for step in (1, 2, 3):
        engine.step()
        save_step(tmp_path / "checkpoints", engine, step)
    return tmp_path


def weight_of(folder: Path) -> torch.Tensor:
    loaded = [load_file(path) for path in sorted(folder.glob("*.safetensors"))]
    return next(part["0.weight"] for part in loaded if "0.weight" in part)


def test_inspect(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoint", "inspect", str(three), "--tensors"]) == 0
    text = capsys.readouterr().out
    for line in (
        "consumed samples  6",
        "parameters        201",
        "tensors           12: exp_avg, exp_avg_sq, weight",
        "optimizer         adam",
        "numbers           step=3.0",
        "exp_avg/0.weight  [3, 64]",
    ):
        assert line in text
    assert "step-3" in text.splitlines()[0]


def test_inspect_names_what_was_left_out(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left_out = AllLeftOut((LeftOut(28, 31, 64, 1, "a spike"), LeftOut(40, 43, 64, 2, "a spike")))
    left_out.write(three / "checkpoints")
    assert main(["checkpoint", "inspect", str(three)]) == 0
    assert "left out          samples 28 to 31, 40 to 43\n" in capsys.readouterr().out


def test_verify(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoint", "verify", str(three)]) == 0
    assert capsys.readouterr().out.count(": whole: 2 files") == 3
    (three / "checkpoints/step-1/notes.txt").touch()
    assert main(["checkpoint", "verify", str(three)]) == 0
    said = capsys.readouterr().out.splitlines()
    others = "GiB/s; not of the checkpoint, and not read: notes.txt"
    assert [others in line for line in said] == [True, False, False]
    path = three / "checkpoints" / "step-2" / "rank-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-9] + b"damaged!!")
    assert main(["checkpoint", "verify", str(three)]) == 1
    text = capsys.readouterr().out
    assert text.count(": whole") == 2
    assert "step-2: damaged: rank-00000.safetensors is not what was written" in text
    with_a_key_more(three / "checkpoints" / "step-1")
    assert main(["checkpoint", "verify", str(three)]) == 1
    text = capsys.readouterr().out
    assert (text.count("step-2: damaged"), text.count("step-3: whole")) == (1, 1)
    assert main(["checkpoint", "verify", str(three / "checkpoints/step-1")]) == 2
    assert "this version does not know: go on with" in capsys.readouterr().err


def test_convert_and_average(
    three: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slabs of a row and files of a tensor give the same as whole ones."""
    expected: list[torch.Tensor] = []
    for _ in range(2):
        engine = SmallEngine(1.0, width=64)
        for _ in range(3 - len(expected)):
            engine.step()
        expected.append(engine.linear.weight.detach())
    monkeypatch.setattr(weights, "SLAB", 300)
    steps = [str(three / "checkpoints" / f"step-{step}") for step in (3, 2)]
    out = three / "one"
    assert main(["checkpoint", "convert", steps[0], "--output", str(out)]) == 0
    assert torch.equal(weight_of(out), expected[0])
    small = ["--shard-gib", "1e-9", "--dtype", "bf16"]
    assert main(["checkpoint", "average", *steps, "--output", str(three / "mean"), *small]) == 0
    assert len(list((three / "mean").glob("*.safetensors"))) == 4
    mean = (expected[0].double() + expected[1]) / 2
    assert torch.equal(weight_of(three / "mean"), mean.float().bfloat16())
    assert main(["checkpoint", "convert", steps[0], "--output", str(out)]) == 2
    assert f"--output {out}: it is there already: name a new" in capsys.readouterr().err
    assert sorted(path.name for path in three.iterdir()) == ["checkpoints", "mean", "one"]


def test_what_fp16_cannot_hold_is_refused(
    three: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["checkpoint", "convert", str(three), "--output", str(three / "out"), "--dtype", "fp16"]
    monkeypatch.setattr(weights, "_mean", lambda parts: parts[0] * 1e9)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "longseq: --dtype fp16: 0.weight holds a number above 65504" in said
    assert [path.name for path in three.iterdir()] == ["checkpoints"]
    monkeypatch.undo()
    assert main(words) == 0
    assert weight_of(three / "out").dtype == torch.float16


def test_a_full_disk_is_no_mistake(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with room_for(500):
        assert main(["checkpoint", "convert", str(three), "--output", str(three / "out")]) == 73
    error = capsys.readouterr().err
    assert f"longseq: --output {three / 'out'} cannot be written: no space left" in error
    assert [path.name for path in three.iterdir()] == ["checkpoints"]


@pytest.mark.parametrize("size", ["inf", "nan", "0"])
def test_a_size_that_is_none(tmp_path: Path, size: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["checkpoint", "convert", str(tmp_path), "--output", "x", "--shard-gib", size]
    assert main(words) == 2
    assert capsys.readouterr().err == f"longseq: --shard-gib {size}: give a size above 0\n"


def test_what_they_write_is_a_checkpoint(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole, with its manifest; one has the optimizer's state, the other leaves it as it is."""
    source = SmallEngine(0.0, width=64)
    load_newest(three / "checkpoints", source)
    out = {verb: three / verb for verb in ("convert", "average")}
    for verb, path in out.items():
        assert main(["checkpoint", verb, str(three), "--output", str(path)]) == 0
        assert main(["checkpoint", "verify", str(path)]) == 0
        engine = SmallEngine(7.0, width=64)
        assert load_newest(path, engine, same_layout=False) == 3
        assert torch.equal(engine.linear.weight, source.linear.weight)
        if verb == "convert":
            assert engine.numbers() == source.numbers()
        else:
            assert not engine.optimizer.inner.state
    capsys.readouterr()
    assert main(["checkpoint", "inspect", str(out["average"])]) == 0
    assert "optimizer         none: weights only" in capsys.readouterr().out


def test_a_damaged_one_is_not_converted(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = three / "checkpoints" / "step-3"
    data = bytearray((path / "rank-00000.safetensors").read_bytes())
    data[-2000] ^= 1
    (path / "rank-00000.safetensors").write_bytes(data)
    assert main(["checkpoint", "convert", str(path), "--output", str(three / "out")]) == 2
    assert "step-3 is damaged: rank-00000.safetensors" in capsys.readouterr().err
    assert not (three / "out").exists()
