"""The model card says what the run and the checkpoint say."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, models

from longseq.__main__ import main
from longseq.config.arguments import Network
from tests.unit.huggingface.making import LLAMA, make_model, write_checkpoint


def test_the_card_has_the_losses_of_the_checkpoint_not_the_last_ones(tmp_path: Path) -> None:
    run = tmp_path / "run|1"
    network = {**LLAMA, "rope_theta": 5e5}
    write_checkpoint(make_model(Network(**network), 69), "codon:69", run / "checkpoints/step-7")
    records = [
        {"iteration": 7, "lm_loss": 3.0 * 0.6931471805599453, "validation_loss": 2.5},
        {"iteration": 9, "lm_loss": 1.0},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    settings = {"network": network, "run": {"save": "/a/secret/place"}, "training": {"bf16": True}}
    (run / "summary.json").write_text(json.dumps({"settings": settings}))
    assert main(["export", str(run), "--to", "huggingface", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    for line in (
        "| iterations | 7 |",
        "| training loss, nats a token | 2.0794 |",
        "| training loss, bits per base | 1.0000 |",  # 3 bits a codon
        "| validation loss, nats a token | 2.5000 |",
        "| tokenizer | codon:69, 69 tokens |",
        '`[tokenizer.eos_token_id] + tokenizer(sequence)["input_ids"]`',
        "`[PAD]` fills batches up",
    ):
        assert line in card, card
    assert "--rope-theta 500000.0" in card
    assert "--bf16" in card
    assert "secret" not in card


def test_a_text_tokenizer_goes_through_convert_and_export(tmp_path: Path) -> None:
    """Its file lies beside the weights; without it nobody can decode a token."""
    inner = Tokenizer(
        models.BPE({"A": 0, "C": 1, "G": 2, "T": 3, "<eod>": 4, "AC": 5}, [("A", "C")])
    )
    inner.save(str(tmp_path / "tokenizer.json"))
    model = make_model(Network(**LLAMA), 6)
    write_checkpoint(model, f"huggingface:{tmp_path / 'tokenizer.json'}", tmp_path / "ours")
    whole = ["checkpoint", "convert", str(tmp_path / "ours"), "--output", str(tmp_path / "whole")]
    assert main(whole) == 0
    assert main(["checkpoint", "verify", str(tmp_path / "whole")]) == 0
    out = tmp_path / "out"
    assert main(["export", str(tmp_path / "whole"), "--to", "huggingface", str(out)]) == 0
    found = Tokenizer.from_file(str(out / "tokenizer.json"))
    assert found.encode("ACGT").ids == [5, 2, 3]
