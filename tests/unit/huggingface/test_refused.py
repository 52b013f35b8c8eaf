"""What export and import refuse: one line each, exit code 2, nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from longseq.__main__ import main
from longseq.config.arguments import Network
from tests.full_disk import room_for
from tests.unit.huggingface.making import LLAMA, ROTARY, SMALL, make_model, write_checkpoint


def refused(words: list[str], output: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a verb that ends with 2 and leaves nothing beside `output`."""
    capsys.readouterr()
    before = sorted(output.parent.iterdir())
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert sorted(output.parent.iterdir()) == before
    return said


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (
            {**SMALL, "swiglu": True},
            "GPT2LMHeadModel would be with no --swiglu",
        ),
        (
            {**LLAMA, "rotary_percent": 0.5},
            "LlamaForCausalLM would be with --rotary-percent 1",
        ),
        (
            {**LLAMA, "swiglu": False, "normalization": "layernorm", "rotary_percent": 0.4,
             "num_key_value_heads": 2},
            "Starcoder2ForCausalLM would be with --rotary-percent 1",
        ),
    ],
)  # fmt: skip
def test_a_network_of_no_class_says_what_would_have_to_differ(
    network: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(make_model(Network(**network), 16), "nucleotide", tmp_path / "ours")
    out = tmp_path / "out"
    words = ["export", str(tmp_path / "ours"), "--to", "huggingface", str(out)]
    assert said in refused(words, out, capsys)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export."""
    top = tmp_path_factory.mktemp("good")
    write_checkpoint(make_model(Network(**LLAMA), 16), "nucleotide", top / "ours")
    words = ["export", str(top / "ours"), "--to", "huggingface", str(top / "good")]
    assert main(words) == 0
    return top / "good"


def test_export_asks_for_a_checkpoint_a_new_folder_and_a_size(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    ours = str(folder.parent / "ours")
    words = ["export", str(tmp_path / "none"), "--to", "huggingface", str(out)]
    assert "no such folder" in refused(words, out, capsys)
    words = ["export", ours, "--to", "huggingface", str(folder)]
    assert f"{folder} exists" in refused(words, out, capsys)
    words = ["export", ours, "--to", "huggingface", str(out), "--shard-size", "4 parsecs"]
    assert "--shard-size '4 parsecs'" in refused(words, out, capsys)


@pytest.mark.parametrize("room", [0, 500, 4000])
def test_a_full_disk_is_no_mistake(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], room: int
) -> None:
    """Whichever file is the first that has no room."""
    out = tmp_path / "out"
    for words in (
        ["export", str(folder.parent / "ours"), "--to", "huggingface", str(out)],
        ["import", str(folder), "--output", str(out)],
    ):
        with room_for(room):
            assert main(words) == 73
        assert f"{out} cannot be written: no space left" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


def change(name: str, values: dict[str, Any]) -> Callable[[Path], None]:
    """Replace values of a JSON file; None removes one."""

    def act(folder: Path) -> None:
        found = {**json.loads((folder / name).read_text()), **values}
        text = json.dumps({key: value for key, value in found.items() if value is not None})
        (folder / name).write_text(text)

    return act


def indexed(values: dict[str, Any]) -> Callable[[Path], None]:
    """Give it an index of several files of weights."""

    def act(folder: Path) -> None:
        (folder / "model.safetensors.index.json").write_text(json.dumps(values))

    return act


def bare(folder: Path) -> None:
    """As a model is that was saved by itself."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def cut(folder: Path) -> None:
    """Half of the weights."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


Tensors = dict[str, torch.Tensor]


def weights(more: Callable[[Tensors], Tensors]) -> Callable[[Path], None]:
    """Put other tensors beside those that are there, or in their place."""

    def act(folder: Path) -> None:
        path = folder / "model.safetensors"
        found = load_file(path)
        save_file({**found, **more(found)}, path, {"format": "pt"})

    return act


def table(*shape: int) -> Callable[[Path], None]:
    """Give the embedding another shape."""
    return weights(lambda found: {"model.embed_tokens.weight": torch.ones(shape)})


def as_kind(kind: torch.dtype) -> Callable[[Path], None]:
    """Give a matrix other numbers, as quantized models have them with scales beside them."""
    name = "model.layers.1.mlp.down_proj.weight"
    return weights(lambda found: {name: found[name].to(kind)})


@pytest.mark.parametrize(
    ("network", "values", "said"),
    [
        (ROTARY, {"num_attention_heads": 2}, None),
        (ROTARY, {"num_attention_heads": 32}, "1.0 of a head of 1 is 1 channel; only pairs"),
        (
            ROTARY,
            {"rope_parameters": None, "partial_rotary_factor": None, "rotary_pct": 0.4},
            "0.4 of a head of 8 is 3 channels; only pairs",
        ),
        (
            {**ROTARY, "swiglu": True, "disable_bias_linear": True},
            {"rope_parameters": {"partial_rotary_factor": 0.9}},
            "0.9 of a head of 8 is 7 channels; only pairs",
        ),
        (ROTARY, {"rope_parameters": {"partial_rotary_factor": 0.85}}, None),
        (
            ROTARY,
            {"num_attention_heads": 24, "hidden_size": 48},
            "query_key_value.weight has shape",
        ),
        (SMALL, {"n_positions": 10**8}, "wpe.weight has shape (48, 32), which config.json makes"),
    ],
)
def test_import_takes_the_shapes_that_config_names(
    network: dict[str, Any],
    values: dict[str, Any],
    said: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_checkpoint(make_model(Network(**network), 16), "nucleotide", tmp_path / "ours")
    out, theirs = tmp_path / "out", tmp_path / "theirs"
    assert main(["export", str(tmp_path / "ours"), "--to", "huggingface", str(theirs)]) == 0
    change("config.json", values)(theirs)
    words = ["import", str(theirs), "--output", str(out)]
    if said is None:
        assert main(words) == 0
    else:
        assert said in refused(words, out, capsys)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (change("config.json", {"model_type": "t5"}), "model_type is 't5'"),
        (change("config.json", {"hidden_act": "relu"}), "hidden_act is 'relu'"),
        (change("config.json", {"head_dim": 5}), "head_dim is 5"),
        (change("config.json", {"hidden_size": None}), "has no 'hidden_size'"),
        (change("config.json", {"vocab_size": 3}), "vocab_size 3"),
        (change("config.json", {"num_hidden_layers": 3}), "holds no tensor model.layers.2."),
        (
            change("config.json", {"rope_parameters": {"rope_type": "yarn"}}),
            "bad/config.json: rotary positions of type 'yarn', and only 'default' is here: a model",
        ),
        (change("config.json", {"mlp_bias": False}), "mlp_bias"),
        (change("config.json", {"intermediate_size": 24}), "shape"),
        (change("config.json", {"hidden_size": "32"}), "hidden_size is '32', not a whole number"),
        (change("config.json", {"vocab_size": "16"}), "vocab_size is '16', not a whole number"),
        (change("config.json", {"num_attention_heads": 0}), "num_attention_heads is '0', not"),
        (
            change("config.json", {"num_attention_heads": 5, "head_dim": None}),
            "32 does not divide by 5 heads",
        ),
        (change("config.json", {"num_key_value_heads": 3}), "4 heads do not divide by 3"),
        (change("config.json", {"rms_norm_eps": "1e-5"}), "rms_norm_eps is '1e-5', not a number"),
        (
            change("config.json", {"rms_norm_eps": 2.0}),
            "rms_norm_eps is '2.0', not a number from 0 to 1\n",
        ),
        (change("config.json", {"rms_norm_eps": float("inf")}), "'inf', not a number from 0 to 1"),
        (change("config.json", {"rms_norm_eps": float("nan")}), "'nan', not a number from 0 to 1"),
        (
            change("config.json", {"rope_parameters": {"rope_theta": 10**400}}),
            "0', not a number from 1\n",
        ),
        (
            change("config.json", {"rope_parameters": {"rope_theta": float("inf")}}),
            "rope_parameters.rope_theta is 'inf', not a number from 1\n",
        ),
        (change("config.json", {"rope_parameters": None, "rope_scaling": "x"}), "not an object"),
        (
            change("config.json", {"rope_parameters": {"rope_theta": "x"}}),
            "rope_parameters.rope_theta is 'x', not a number from 1",
        ),
        (change("config.json", {"num_hidden_layers": 10**8}), "tensors for 100000000 layers"),
        (
            change("config.json", {"num_hidden_layers": 10**9}),
            "not a whole number from 1 to 100,000,000",
        ),
        (change("tokenizer_config.json", {"longseq_tokenizer": 3}), "--tokenizer '3' is unknown"),
        (indexed({}), "model.safetensors.index.json has no weight_map of names"),
        (indexed({"weight_map": {"lm_head.weight": 3}}), "index.json has no weight_map of names"),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), "is no JSON"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: No such file"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has neither model.safetensors"),
        (bare, "bad has no tokenizer.json: copy it and tokenizer_config.json from the export"),
        (cut, "cannot be read"),
        (table(7, 32), "tokens.weight has shape (7, 32) and config.json makes it (16, 32)"),
        (table(16, 31), "tokens.weight has shape (16, 31) and config.json makes it (16, 32)"),
        (table(), "tokens.weight has shape () and config.json makes it (16, 32)"),
        (
            change("config.json", {"quantization_config": {"quant_method": "fp8"}}),
            "config.json: quantization_config: its weights are quantized: load the model with",
        ),
        (
            change("config.json", {"attention_bias": False, "mlp_bias": False}),
            "without, model.layers.0.mlp.down_proj.bias, model.layers.0.mlp.gate_proj.bias and 12",
        ),
        (
            change("config.json", {"num_hidden_layers": 1}),
            "without, model.layers.1.input_layernorm.weight, model.layers.1.mlp.down_proj.bias and",
        ),
        (
            weights(lambda found: {"lm_head.weight": found["model.embed_tokens.weight"] + 1}),
            "lm_head.weight is another table than model.embed_tokens.weight, and config.json makes",
        ),
        (as_kind(torch.float8_e4m3fn), "down_proj.weight is of F8_E4M3, and weights are read of"),
        (as_kind(torch.int8), "down_proj.weight is of I8, and weights are read of F64, F32,"),
        (as_kind(torch.bool), "down_proj.weight is of BOOL, and weights are read of F64, F32,"),
    ],
)
def test_import_refuses_what_is_no_network_of_ours(
    damage: Callable[[Path], None],
    said: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for path in folder.iterdir():
        (bad / path.name).write_bytes(path.read_bytes())
    damage(bad)
    out = tmp_path / "out"
    assert said in refused(["import", str(bad), "--output", str(out)], out, capsys)
