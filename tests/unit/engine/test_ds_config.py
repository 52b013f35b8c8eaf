"""DeepSpeed's settings: what the arguments mean, and what a user's file may replace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longseq.__main__ import main
from longseq.config.checks import parse_config
from longseq.engine.ds_config import deepspeed_settings
from longseq.errors import UserError
from longseq.host import machine

Settings = dict[str, Any]


def settings(*flags: str, ranks: int = 1) -> Settings:
    return deepspeed_settings(parse_config(list(flags), ranks))


def with_file(folder: Path, text: Any, *flags: str) -> Settings:
    path = folder / "user's file.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return settings("--deepspeed-overrides", str(path), *flags)


def test_clipping_is_always_written() -> None:
    for stage in "0123":
        for flags in ([], ["--bf16"], ["--clip-grad", "0"]):
            wanted = 0.0 if flags == ["--clip-grad", "0"] else 1.0
            assert settings("--zero-stage", stage, *flags)["gradient_clipping"] == wanted


@pytest.mark.parametrize("stage", ["0", "1", "2", "3"])
def test_nothing_is_offloaded_unless_asked(stage: str) -> None:
    assert "offload" not in json.dumps(settings("--zero-stage", stage))
    assert "scheduler" not in settings("--zero-stage", stage)
    assert "optimizer" not in settings("--zero-stage", stage)


def test_batch_counts_the_ranks_that_share_a_sample() -> None:
    flags = "--ds-sequence-parallel-size 2 --context-parallel-size 2 --use-flash-attn-sdpa"
    found = settings(
        *flags.split(), "--micro-batch-size", "3", "--global-batch-size", "12", ranks=8
    )
    assert found["train_batch_size"] == 12 * 4
    assert found["gradient_accumulation_steps"] == 2


@pytest.mark.parametrize(
    ("flags", "ranks", "kept"),
    [
        ("--zero-stage 1 --bf16", 4, True),
        ("--zero-stage 1 --bf16", 12, False),
        ("--zero-stage 2 --fp16 --device cuda", 6, False),
        ("--zero-stage 2 --bf16 --tensor-model-parallel-size 4", 12, False),
        ("--zero-stage 2", 12, True),
        ("--zero-stage 3 --bf16", 12, True),
    ],
)
def test_a_bf16_gradient_is_not_divided_by_three(flags: str, ranks: int, kept: bool) -> None:
    batch = ["--global-batch-size", str(ranks)]
    found = settings(
        *flags.split(), *batch, "--num-attention-heads", "12", "--hidden-size", "96", ranks=ranks
    )
    assert found["zero_optimization"].get("reduce_scatter", True) is kept


def test_buckets_grow_with_the_model() -> None:
    small, large = (
        settings("--zero-stage", "2", "--hidden-size", size)["zero_optimization"]
        for size in ("256", "6144")
    )
    # Half a layer: qkv, projection, up and down are 12 matrices of h x h
    assert small["reduce_bucket_size"] == 6 * 256**2
    assert large["reduce_bucket_size"] == 6 * 6144**2


def test_a_file_replaces_what_no_flag_says(tmp_path: Path) -> None:
    file = {
        "zero_optimization": {"reduce_bucket_size": 4096, "sub_group_size": 5, "stage": 2},
        "gradient_clipping": "auto",
        "wall_clock_breakdown": True,
    }
    found = with_file(tmp_path, file, "--zero-stage", "2")
    zero = found["zero_optimization"]
    assert (zero["reduce_bucket_size"], zero["sub_group_size"]) == (4096, 5)
    assert zero["contiguous_gradients"] is True
    assert found["gradient_clipping"] == 1.0
    assert found["wall_clock_breakdown"] is True


REFUSED: list[tuple[Any, str, list[str]]] = [
    ({"gradient_clipping": 0.5}, "", ["gradient_clipping 0.5", "--clip-grad", "1.0"]),
    ({"zero_optimization": {"stage": 3}}, "--zero-stage 1", ["stage 3", "ZERO_STAGE", "says 1"]),
    ({"train_micro_batch_size_per_gpu": 4}, "", ["gpu 4", "MICRO_BATCH", "says 1"]),
    ({"bf16": {"enabled": True}}, "", ["bf16.enabled true", "DTYPE", "says false"]),
    ({"bf16": {"enabled": False}}, "--bf16", ["bf16.enabled false", "says true"]),
    (
        {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}},
        "--zero-stage 1",
        ["offload_optimizer.device", "OFFLOAD_DEVICE", 'says "none"'],
    ),
    ({"optimizer": {"type": "Adam"}}, "", ["--optimizer"]),
    ({"scheduler": {"type": "WarmupLR"}}, "", ["one owner", "--lr"]),
    ({"gradient_cliping": 1.0}, "", ["did you mean gradient_clipping?"]),
    ({"zero_optimization": {"overlap_com": True}}, "", ["did you mean overlap_comm?"]),
    ({"zero_optimization": 3}, "", ["zero_optimization is 3"]),
    ([1], "", ["no JSON object"]),
    ("{", "", ["line 1"]),
    ("[" * 100_000, "", ["recursion"]),
    ('{"bf16": {}, "bf16": {}}', "", ["'bf16' is there twice"]),
    ("", "", ["user's file.json"]),
]


@pytest.mark.parametrize(("file", "flags", "words"), REFUSED, ids=[str(r[0]) for r in REFUSED])
def test_refused_with_both_values(tmp_path: Path, file: Any, flags: str, words: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        with_file(tmp_path, file, *flags.split())
    message = str(raised.value)
    assert [word for word in words if word not in message] == []
    assert "\n" not in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config .*none.json: No such file .*: name a JSON file"):
        settings("--deepspeed_config", str(tmp_path / "none.json"))
    with pytest.raises(UserError, match=r"overrides no.json \(DS_CONFIG\): No such file"):
        settings("--deepspeed-overrides", "no.json")


@pytest.mark.parametrize(
    ("device", "sees", "on_gpu"),
    [("auto", (9, 0), True), ("auto", None, False), ("cpu", (9, 0), False), ("cuda", None, True)],
)
def test_the_device_that_auto_comes_to_counts(
    device: str, sees: tuple[int, int] | None, on_gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "gpu_capability", lambda: sees)
    found = settings("--zero-stage", "3", "--cpu-optimizer", "--device", device, "--bf16")
    zero = found["zero_optimization"]
    assert (zero["overlap_comm"], zero["offload_optimizer"]["pin_memory"]) == (on_gpu, on_gpu)


def test_what_is_written_is_what_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check's output, handed to the ranks as --deepspeed_config, changes nothing."""
    user = tmp_path / "user.json"
    user.write_text('{"zero_optimization": {"reduce_bucket_size": 8192}}')
    flags = ["--zero-stage", "2", "--bf16", "--deepspeed-overrides", str(user)]
    run = tmp_path / "run"
    written = run / "ds_config.json"
    flags += ["--run-dir", str(run), "--deepspeed_config", str(written)]
    assert main(["check", "--dry-run", *flags]) == 0
    printed = capsys.readouterr().out
    run.mkdir()
    written.write_text(printed)
    assert settings(*flags) == json.loads(printed)
    assert json.loads(printed)["zero_optimization"]["reduce_bucket_size"] == 8192
