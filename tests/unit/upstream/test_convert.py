"""`longseq convert`: what comes over, and what is refused, each in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from longseq.__main__ import main
from tests.unit.upstream.converting import made as its
from tests.unit.upstream.converting.made import ENCODER, FIRST, Files, Made, ours, write

SOME = {  # its names → ours
    f"{its.EMBEDDING}word_embeddings.weight": "tokens.weight",
    f"{its.EMBEDDING}position_embeddings.weight": "positions.blocks.0.weight",
    f"{ENCODER}layers.0.self_attention.query_key_value.bias": "layers.0.attention.qkv.bias",
    f"{ENCODER}layers.1.mlp.dense_4h_to_h.weight": "layers.1.mlp.down.weight",
    f"{ENCODER}layers.1.post_attention_layernorm.bias": "layers.1.mlp_norm.bias",
    f"{ENCODER}final_layernorm.weight": "norm.weight",
}
TENSORS = 28


def converted(folder: Path, *words: str) -> int:
    words = ("convert", str(folder), "--output", f"{folder}.out", *words)
    return main([*words, "--data-path", str(its.GENOME)])


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line."""
    assert converted(folder, *words) == 2
    said = capsys.readouterr()
    assert not said.out
    assert len(said.err.splitlines()) == 1
    assert not Path(f"{folder}.out").exists()
    return said.err


@pytest.mark.parametrize(
    "form",
    [
        its.fp32,
        its.fp32_of_apex,
        its.bf16,
        its.fp16_fused,
        lambda made: its.zero(made, 1),
        lambda made: its.zero(made, 3),
    ],
    ids="fp32 fp32-of-apex bf16 fp16-fused zero-1 zero-3-replicas".split(),
)
def test_weights_in_fp32_and_moments_come_over(
    form: Callable[[Made], Files], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made()
    assert converted(write(tmp_path / "its", form(made))) == 0
    said = capsys.readouterr()
    assert "iteration 3, with Adam's moments" in said.out
    assert not said.err
    found = ours(tmp_path / "its.out")
    assert len(found) == 3 * TENSORS
    for kind, values in made.kinds.items():
        for name, here in SOME.items():
            assert found[f"{kind}/{here}"].tolist() == values[name].flatten().tolist()
        mine = [t.tolist() for name, t in found.items() if name.startswith(kind + "/")]
        assert sorted(mine) == sorted(t.flatten().tolist() for t in values.values())
    manifest = json.loads((tmp_path / "its.out/manifest.json").read_text())
    assert manifest["numbers"] == {"step": 3.0}
    assert manifest["optimizer"] == "adam"
    progress = {"iteration": 3, "consumed_samples": 6, "consumed_tokens": 36}
    assert manifest["progress"] == progress


def bf16_alone(made: Made) -> Files:
    return {FIRST: made.file(torch.bfloat16)}


@pytest.mark.parametrize("form", [bf16_alone, lambda made: its.pipeline(made, torch.bfloat16)])
def test_weights_in_16_bits_alone_are_said_to_be_so(
    form: Callable[[Made], Files], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made()
    assert converted(write(tmp_path / "its", form(made))) == 0
    said = capsys.readouterr()
    assert "weights alone: Adam begins anew" in said.out
    assert "the weights are in 16 bits, and none in fp32 could be read" in said.err
    found = ours(tmp_path / "its.out")
    for name, here in SOME.items():
        wanted = made.kinds["weight"][name].bfloat16().float().flatten()
        assert found[f"weight/{here}"].tolist() == wanted.tolist()


def test_a_pipeline_comes_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Made()
    assert converted(write(tmp_path / "its", its.pipeline(made))) == 0
    assert not capsys.readouterr().err
    found = ours(tmp_path / "its.out")
    assert len(found) == TENSORS
    for name, here in SOME.items():
        assert found[f"weight/{here}"].tolist() == made.kinds["weight"][name].flatten().tolist()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("squared_relu", True),
        ("apply_layernorm_1p", True),
        ("apply_residual_connection_post_layernorm", True),
        ("kv_channels", 8),
        ("num_experts", [4]),
        ("num_key_value_heads", 1),
        ("add_position_embedding", False),
    ],
)
def test_another_network_is_refused_by_the_argument_that_makes_it(
    name: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made()
    setattr(made.args, name, value)
    said = refused(write(tmp_path / "its", its.fp32(made)), capsys)
    assert f"was trained with {name}={value}, which our network has not" in said


def test_the_weights_come_over_where_the_optimizer_was_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made()
    made.args.optimizer = "sgd"
    files = its.bf16(made)
    for one in files[FIRST]["optimizer"]["optimizer_state_dict"]["state"].values():
        del one["exp_avg"], one["exp_avg_sq"]
    assert converted(write(tmp_path / "its", files)) == 0
    said = capsys.readouterr()
    assert "weights alone: Adam begins anew" in said.out
    assert not said.err
    found = ours(tmp_path / "its.out")
    assert len(found) == TENSORS
    for name, here in SOME.items():
        assert found[f"weight/{here}"].tolist() == made.kinds["weight"][name].flatten().tolist()


NO_BIASES = {"add_bias_linear": False}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"add_bias_linear": True, "bias_gelu_fusion": False, "longseq_corrected": False}, True),
        ({**NO_BIASES, "longseq_corrected": False}, True),
        (NO_BIASES, False),  # by a run of ours, which has put the tanh form in
    ],
)
def test_an_exact_gelu_is_said(
    changes: dict[str, Any], said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made()
    vars(made.args).update(changes)
    if not made.args.add_bias_linear:
        for name in its.PLAIN:
            if "norm" not in name:
                del made.kinds["weight"][name]
    assert converted(write(tmp_path / "its", {FIRST: made.file()})) == 0
    assert ("its GELU was the exact one" in capsys.readouterr().err) == said


def test_that_of_openai_is_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is the tanh form, which goes without its fused one."""
    made = Made()
    made.args.openai_gelu, made.args.bias_gelu_fusion = True, False
    assert converted(write(tmp_path / "its", its.fp32(made))) == 0
    assert not capsys.readouterr().err


def rotary(**changes: Any) -> Files:
    """Of a network with rotary positions; changes: of its arguments, None removes one."""
    made = Made()
    del made.kinds["weight"][f"{its.EMBEDDING}position_embeddings.weight"]
    changes = {"use_rotary_position_embeddings": True, "add_position_embedding": False, **changes}
    vars(made.args).update(changes)
    made.args = type(made.args)(**{k: v for k, v in vars(made.args).items() if v is not None})
    return {FIRST: made.file()}


@pytest.mark.parametrize("said", [None, False])
def test_rotary_positions_as_shipped_are_refused(
    said: bool | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing says that those of others were corrected, and one of ours may say that it was not."""
    folder = write(tmp_path / "its", rotary(longseq_corrected=said))
    line = refused(folder, capsys)
    assert "rotary positions turn by cos(m·theta)" in line
    assert "UPSTREAM_FIXES=0" in line
    assert "--rotary-as-here" in line
    assert converted(folder, "--rotary-as-here") == 0
    warned = capsys.readouterr().err
    assert "its softmax counted 16 rows that are no tokens" in warned


OLD = {"longseq_corrected": None, "ds_sequence_parallel_fpdt": None}
ULYSSES = {"ds_sequence_parallel_size": 2}


@pytest.mark.parametrize(
    ("changes", "turned"),
    [
        (OLD, ""),
        ({**OLD, "ds_sequence_parallel_size": 1, "force_ds_sequence_parallel": True}, ""),
        ({**OLD, **ULYSSES}, "positions that began at 0 on each of its 2 Ulysses ranks"),
        ({**OLD, "bf16": True}, "angles that bf16 had rounded"),
        ({**OLD, "fp16": True, "ds_sequence_parallel_size": 1}, "angles that fp16 had rounded"),
    ],
)
def test_rotary_positions_of_before_fpdt(
    changes: dict[str, Any], turned: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They turned by m·theta: in fp32, and not on its Ulysses path."""
    folder = write(tmp_path / "its", rotary(**changes))
    if turned:
        line = refused(folder, capsys)
        assert f"in its version, rotary positions turn by {turned}" in line
        assert "Go on in that version" in line
    else:
        assert "has no other rotary positions" in refused(folder, capsys, "--rotary-as-here")
        assert converted(folder) == 0


@pytest.mark.parametrize(
    ("changes", "code"), [({}, 2), ({"ds_sequence_parallel_size": 1}, 0)], ids=["july", "later"]
)
def test_a_pipeline_of_before_fpdt_kept_its_angles_in_fp32(
    changes: dict[str, Any], code: int, tmp_path: Path
) -> None:
    """Since August 2023, when DeepSpeed's Ulysses came."""
    made = Made()
    del made.kinds["weight"][f"{its.EMBEDDING}position_embeddings.weight"]
    positions = {"use_rotary_position_embeddings": True, "add_position_embedding": False}
    vars(made.args).update(bf16=True, **positions, **changes)
    del made.args.ds_sequence_parallel_fpdt, made.args.longseq_corrected
    assert converted(write(tmp_path / "its", its.pipeline(made, torch.bfloat16))) == code


def test_rotary_positions_that_are_ours_come_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Corrected by a run of ours, whose summary alone may say so, or on the Ulysses path."""
    folder = write(tmp_path / "a", rotary(longseq_corrected=True))
    assert "has no other rotary positions" in refused(folder, capsys, "--rotary-as-here")
    assert converted(folder) == 0
    sequence = {"longseq_corrected": None, "ds_sequence_parallel_size": 2}
    assert converted(write(tmp_path / "b", rotary(**sequence))) == 0
    write(tmp_path / "run/checkpoints", rotary(longseq_corrected=None))
    for as_shipped, code in ((True, 2), (False, 0)):
        summary = {"settings": {"run": {"as_shipped": as_shipped}}}
        (tmp_path / "run/summary.json").write_text(json.dumps(summary))
        assert converted(tmp_path / "run") == code


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocab_size": 16}, ""),
        ({"vocab_size": 15}, "vocab_size=15"),
        ({"vocab_size": 15, "longseq_corrected": None}, ""),  # its own: one more ends documents
        ({"vocab_size": 14, "longseq_corrected": None}, "vocab_size=14"),
        ({"vocab_size": 14, "tokenizer_type": "GPT2BPETokenizer"}, ""),  # which has its own size
        ({"padded_vocab_size": 32}, ""),
        ({"padded_vocab_size": 64}, "padded_vocab_size=64"),
    ],
)
def test_data_of_other_tokens_are_refused(
    changes: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows that pad the table would hide it."""
    made = Made()
    vars(made.args).update({"tokenizer_type": "NullTokenizer", **changes})
    made.args = type(made.args)(**{k: v for k, v in vars(made.args).items() if v is not None})
    folder = write(tmp_path / "its", its.fp32(made))
    if said:
        line = refused(folder, capsys)
        assert f"its args say {said}, and --data-path {its.GENOME} has 16 tokens" in line
    else:
        assert converted(folder) == 0


def test_weights_alone_of_stage_1_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = its.zero(Made(), 2)
    assert converted(write(tmp_path / "its", {FIRST: files[FIRST]})) == 0
    said = capsys.readouterr()
    assert "its args say zero_stage=1, and none of its zero_pp_rank_" in said.err
    assert "weights alone: Adam begins anew" in said.out
