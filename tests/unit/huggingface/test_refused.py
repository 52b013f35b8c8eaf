"""What export and import refuse: one line each, exit code 2, nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longseq.__main__ import main
from longseq.config.arguments import Network
from tests.unit.huggingface.making import LLAMA, SMALL, make_model, write_checkpoint


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


def change(name: str, values: dict[str, Any]) -> Callable[[Path], None]:
    """Replace values of a JSON file; None removes one."""

    def act(folder: Path) -> None:
        found = {**json.loads((folder / name).read_text()), **values}
        text = json.dumps({key: value for key, value in found.items() if value is not None})
        (folder / name).write_text(text)

    return act


def cut(folder: Path) -> None:
    """Half of the weights."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (change("config.json", {"model_type": "t5"}), "model_type is 't5'"),
        (change("config.json", {"hidden_act": "relu"}), "hidden_act is 'relu'"),
        (change("config.json", {"head_dim": 5}), "head_dim is 5"),
        (change("config.json", {"hidden_size": None}), "has no 'hidden_size'"),
        (change("config.json", {"vocab_size": 3}), "vocab_size 3"),
        (change("config.json", {"num_hidden_layers": 3}), "holds no tensor model.layers.2."),
        (change("config.json", {"rope_parameters": {"rope_type": "yarn"}}), "type 'yarn'"),
        (change("config.json", {"mlp_bias": False}), "mlp_bias"),
        (change("config.json", {"intermediate_size": 24}), "shape"),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), "is no JSON"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: No such file"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has neither model.safetensors"),
        (cut, "cannot be read"),
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
