"""Exports against transformers itself, whose classes share no code with ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from longseq.__main__ import main
from longseq.config.arguments import Network
from longseq.data.tokenizers.base import Tokenizer
from longseq.data.tokenizers.registry import tokenizer_from
from longseq.data.tokenizers.tagged import Tagged
from longseq.huggingface.families.choosing import FAMILIES, family_for, family_of
from tests.unit.huggingface.making import LLAMA, ROTARY, SMALL, make_model, write_checkpoint

# name → the class that must be chosen, and the network
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "neox": ("GPTNeoXForCausalLM", {**ROTARY, "rotary_percent": 0.5, "rope_theta": 5000.0}),
    "neox-untied": (
        "GPTNeoXForCausalLM",
        {**ROTARY, "untie_embeddings_and_output_weights": True, "layernorm_epsilon": 1e-3},
    ),
    "llama": ("LlamaForCausalLM", {**LLAMA, "disable_bias_linear": True, "num_key_value_heads": 2}),
    "llama-biases": ("LlamaForCausalLM", {**LLAMA, "untie_embeddings_and_output_weights": True}),
    "gpt2": ("GPT2LMHeadModel", {**SMALL, "max_position_embeddings": 7000}),
    "starcoder2": (
        "Starcoder2ForCausalLM",
        {**ROTARY, "num_key_value_heads": 1, "rope_theta": 1e9},
    ),
    "starcoder2-bare": ("Starcoder2ForCausalLM", {**ROTARY, "disable_bias_linear": True}),
    "stablelm": (
        "StableLmForCausalLM",
        {**ROTARY, "swiglu": True, "disable_bias_linear": True, "rotary_percent": 0.25},
    ),
}


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(class, our model, the folder of its export, that of its checkpoint)."""
    name, values = NETWORKS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    model = make_model(Network(**values), 16)
    write_checkpoint(model, "nucleotide", folder / "checkpoint")
    words = ["export", str(folder / "checkpoint"), "--to", "huggingface", str(folder / "out")]
    assert main([*words, "--shard-size", "20KB"]) == 0
    return name, model, folder / "out", folder / "checkpoint"


@pytest.mark.parametrize("network", NETWORKS)
def test_no_number_of_grouped_heads_is_none(network: str) -> None:
    """A config.json may hold null there."""
    net = Network(**NETWORKS[network][1])
    family = family_for(net)
    config = {"model_type": family.model_type, **family.config(net), "num_key_value_heads": None}
    assert family.network(config).num_key_value_heads == 0


@pytest.mark.parametrize("network", NETWORKS)
def test_dropout_goes_out_and_comes_back(network: str, tmp_path: Path) -> None:
    """Where transformers' class has it, it is dropout there too."""
    from transformers import AutoConfig, AutoModelForCausalLM

    net = Network(**NETWORKS[network][1], attention_dropout=0.125, hidden_dropout=0.25)
    family = family_for(net)
    config = {"model_type": family.model_type, "vocab_size": 16, **family.config(net)}
    back = family_of(config).network(config)
    assert (back.attention_dropout, back.hidden_dropout) == (0.125, 0.25)
    (tmp_path / "config.json").write_text(json.dumps(config))
    theirs = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    places = [one.p for one in theirs.modules() if isinstance(one, torch.nn.Dropout)]
    assert set(places) <= {0.125, 0.25}


def test_gpt2_that_says_nothing_of_dropout_has_a_tenth() -> None:
    from transformers import AutoConfig

    net = Network(**NETWORKS["gpt2"][1])
    config = {key: value for key, value in family_for(net).config(net).items() if "drop" not in key}
    config = {**config, "model_type": "gpt2"}
    back = family_of(config).network(config)
    theirs = AutoConfig.for_model("gpt2")
    assert (back.attention_dropout, back.hidden_dropout) == (theirs.attn_pdrop, theirs.resid_pdrop)


def test_logits_and_loss_are_those_of_transformers(exported: Any) -> None:
    from transformers import AutoModelForCausalLM

    name, model, folder, _ = exported
    theirs = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    assert type(theirs).__name__ == name
    tokens = torch.randint(0, 16, (2, 48), generator=torch.Generator().manual_seed(3))
    positions = torch.arange(48)[None]
    with torch.no_grad():
        hidden = model.hidden(tokens, positions)
        ours = model.head.logits(hidden).transpose(0, 1)
        losses = model.head.losses(hidden[:-1], tokens.t()[1:])
        out = theirs(input_ids=tokens, labels=tokens)
    assert out.logits.shape == ours.shape  # no padding of the vocabulary goes out
    torch.testing.assert_close(ours, out.logits, rtol=1e-5, atol=1e-5)
    assert float(out.loss) == pytest.approx(float(losses.mean()), abs=1e-6)


def test_a_padded_batch_has_the_logits_of_each(exported: Any) -> None:
    """And no row of the embedding is left out of training for it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, _, folder, _ = exported
    theirs = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    assert theirs.get_input_embeddings().padding_idx is None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    both = tokenizer(["ACGTTGCA", "GGA"], padding=True, return_tensors="pt")
    alone = tokenizer(["GGA"], return_tensors="pt")
    with torch.no_grad():
        found = theirs(**both).logits[1, :3]
        torch.testing.assert_close(found, theirs(**alone).logits[0], rtol=1e-5, atol=1e-5)


def test_the_card_pads_on_the_left_as_the_class_needs_it(exported: Any) -> None:
    """By its own lines where positions are learned; rotary ones are the same further on."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name, _, folder, _ = exported
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    known = {"model": model, "tokenizer": tokenizer, "sequences": ["ACGTTGCA", "GGA"]}
    plain = 'logits = model(**tokenizer(sequences, padding=True, return_tensors="pt")).logits'
    shown = (folder / "README.md").read_text().split("```python\n")[2:]
    with torch.no_grad():
        alone = model(**tokenizer("GGA", return_tensors="pt")).logits[0]
        exec(plain, known)
    plainly = torch.allclose(known["logits"][1, -3:], alone, rtol=1e-4, atol=1e-4)
    assert (plainly, len(shown)) == ((False, 1) if name == "GPT2LMHeadModel" else (True, 0))
    if shown:
        with torch.no_grad():
            exec(shown[0].split("```")[0], known)
        torch.testing.assert_close(known["logits"][1, -3:], alone, rtol=1e-5, atol=1e-5)


def test_back_again_gives_the_same_bytes(exported: Any, tmp_path: Path) -> None:
    _, _, folder, checkpoint = exported
    assert main(["import", str(folder), "--output", str(tmp_path / "back")]) == 0
    again = ["export", str(tmp_path / "back"), "--to", "huggingface", str(tmp_path / "again")]
    assert main([*again, "--shard-size", "20KB"]) == 0
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(names) > 1
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name
    ours = json.loads((checkpoint / "manifest.json").read_text())["network"]
    assert json.loads((tmp_path / "back/manifest.json").read_text())["network"] == ours


@pytest.mark.parametrize("tokenizer", ["codon", "kmer:2", "nucleotide", "tagged"])
def test_transformers_draws_letters_alone(tokenizer: str, tmp_path: Path) -> None:
    """No [UNK] and no tag, of which a network of random numbers draws one in a few dozen; the
    logits keep them.
    """
    from transformers import AutoModelForCausalLM

    ours: Tokenizer = tokenizer_from("codon" if tokenizer == "tagged" else tokenizer)
    if tokenizer == "tagged":
        ours = Tagged(ours, ["<organism=a>", "<organism=b>"])
    write_checkpoint(make_model(Network(**LLAMA), ours.vocab_size), ours, tmp_path / "ours")
    out = tmp_path / "out"
    assert main(["export", str(tmp_path / "ours"), "--to", "huggingface", str(out)]) == 0
    theirs: Any = AutoModelForCausalLM.from_pretrained(out)
    end = ours.end_of_document
    torch.manual_seed(1)
    words = {"max_new_tokens": 40, "do_sample": True, "top_k": 0, "num_return_sequences": 64}
    start = torch.tensor([[end]])
    drawn = theirs.generate(start, attention_mask=start * 0 + 1, pad_token_id=end, **words)
    names = ours.names()
    said = {names[token] for token in drawn.flatten().tolist() if token != end}
    assert len(said) > 10
    assert {letter for name in said for letter in name} <= set("ACGTNRYSWKMBDHV"), said
    with torch.no_grad():
        assert theirs(start).logits.isfinite().all()
    config = out / "generation_config.json"
    assert config.exists() == (tokenizer != "nucleotide")
    assert main(["import", str(out), "--output", str(tmp_path / "back")]) == 0


def text_file(folder: Path) -> str:
    """A tokenizer of text, of single letters."""
    from tokenizers import Tokenizer as Inner
    from tokenizers import models

    names = [*"ACGT", "<eod>"]
    Inner(models.BPE({name: n for n, name in enumerate(names)}, [])).save(str(folder / "t.json"))
    return f"huggingface:{folder}/t.json"


@pytest.mark.parametrize("inner", ["codon", "text"])
def test_a_network_with_tags_goes_out_and_comes_back(inner: str, tmp_path: Path) -> None:
    """transformers sees the tags that it was trained with; so does a checkpoint made from them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if inner == "text":
        inner = text_file(tmp_path)
    tags = ["<organism=Escherichia coli>", "<organism=>"]
    tokenizer = Tagged(tokenizer_from(inner), tags)
    model = make_model(Network(**LLAMA), tokenizer.vocab_size)
    write_checkpoint(model, tokenizer, tmp_path / "ours")
    out, back = tmp_path / "out", tmp_path / "back"
    assert main(["export", str(tmp_path / "ours"), "--to", "huggingface", str(out)]) == 0
    theirs = AutoModelForCausalLM.from_pretrained(out, attn_implementation="eager")
    tokens = AutoTokenizer.from_pretrained(out)(tags[0] + "ACGTTT", return_tensors="pt")
    assert int(tokens["input_ids"][0, 0]) == tokenizer.vocab_size - 2
    with torch.no_grad():
        length = tokens["input_ids"].shape[1]
        hidden = model.hidden(tokens["input_ids"], torch.arange(length)[None])
        found = theirs(input_ids=tokens["input_ids"]).logits
    torch.testing.assert_close(
        model.head.logits(hidden).transpose(0, 1), found, rtol=1e-5, atol=1e-5
    )
    assert main(["import", str(out), "--output", str(back)]) == 0
    kept = [
        json.loads((path / "vocabulary.json").read_text()) for path in (tmp_path / "ours", back)
    ]
    assert kept[0] == kept[1]
    assert json.loads((back / "tags.json").read_text()) == tags
    fasta, table = tmp_path / "a.fa", tmp_path / "s.tsv"
    fasta.write_text(">a\nACGTTT\n")
    scores = []
    for path in (tmp_path / "ours", back):
        assert main(["score", str(path), str(fasta), "--output", str(table)]) == 0
        scores.append(table.read_text())
    assert scores[0] == scores[1]


@pytest.mark.parametrize("inner", ["nucleotide", "byte", "tagged:nucleotide", "tagged:text"])
def test_a_token_that_was_added_there_is_not_lost(
    inner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its row is no padding of the table, which looks just like it and is left out."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kind = inner.removeprefix("tagged:")
    if kind == "text":
        kind = text_file(tmp_path)
    tokenizer = tokenizer_from(kind)
    if inner.startswith("tagged:"):
        tokenizer = Tagged(tokenizer, ["<organism=E. coli>", "<organism=>"])
    write_checkpoint(make_model(Network(**LLAMA), tokenizer.vocab_size), tokenizer, tmp_path / "a")
    out, tuned, back = tmp_path / "out", tmp_path / "tuned", tmp_path / "back"
    assert main(["export", str(tmp_path / "a"), "--to", "huggingface", str(out)]) == 0
    model = AutoModelForCausalLM.from_pretrained(out)
    theirs = AutoTokenizer.from_pretrained(out)
    theirs.save_pretrained(tuned)
    model.resize_token_embeddings(tokenizer.vocab_size + 7)
    model.save_pretrained(tuned)
    words = ["import", str(tuned), "--output"]
    if "tagged" in inner:  # which transformers does not save
        assert main([*words, str(back)]) == 2
        assert "tags.json'): copy it from the export" in capsys.readouterr().err
        (tuned / "tags.json").write_bytes((out / "tags.json").read_bytes())
    assert main([*words, str(tmp_path / "padded")]) == 0  # the rows stand for nothing
    kept = json.loads((tmp_path / "padded/manifest.json").read_text())
    assert kept["vocabulary"] == tokenizer.vocab_size
    theirs.add_tokens(["<phage>"])
    theirs.save_pretrained(tuned)
    capsys.readouterr()
    assert main([*words, str(back)]) == 2
    said = capsys.readouterr().err
    assert f"{tuned}/tokenizer.json has tokens that {tokenizer.specification} " in said
    assert "has not, <phage>: to leave them out copy both files from the export" in said
    assert said.count("\n") == 1
    assert not back.exists()
    if "tagged" in inner:
        assert "to keep them" not in said
        return
    change = json.loads((tuned / "tokenizer_config.json").read_text())
    del change["longseq_tokenizer"]  # as the message says
    (tuned / "tokenizer_config.json").write_text(json.dumps(change))
    assert main([*words, str(back)]) == 0
    assert json.loads((back / "vocabulary.json").read_text())["tokens"][-1] == "<phage>"


def test_other_tokens_than_its_own_are_no_export_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(make_model(Network(**LLAMA), 16), "nucleotide", tmp_path / "ours")
    out = tmp_path / "out"
    assert main(["export", str(tmp_path / "ours"), "--to", "huggingface", str(out)]) == 0
    facts = json.loads((out / "tokenizer.json").read_text())
    del facts["model"]["vocab"]["V"]
    (out / "tokenizer.json").write_text(json.dumps(facts))
    assert main(["import", str(out), "--output", str(tmp_path / "back")]) == 2
    assert "tokenizer.json lacks tokens that nucleotide (" in capsys.readouterr().err


# network → tensors that older files hold beside its weights
COMPUTED: dict[str, dict[str, tuple[int, ...]]] = {
    "gpt2": {"transformer.h.0.attn.bias": (1, 1, 48, 48), "transformer.h.0.attn.masked_bias": ()},
    "neox": {
        "gpt_neox.layers.1.attention.bias": (1, 1, 48, 48),
        "gpt_neox.layers.1.attention.masked_bias": (),
        "gpt_neox.layers.1.attention.rotary_emb.inv_freq": (2,),
        "embed_out.weight": (16, 32),
    },
    "starcoder2": {
        "model.layers.0.self_attn.rotary_emb.inv_freq": (4,),
        "lm_head.weight": (16, 32),
    },
}


@pytest.mark.parametrize("name", COMPUTED)
def test_what_is_computed_or_there_twice_is_no_other_network(name: str, tmp_path: Path) -> None:
    """Masks, frequencies, and a head that is the embedding."""
    model = make_model(Network(**NETWORKS[name][1]), 16)
    write_checkpoint(model, "nucleotide", tmp_path / "a")
    out, back = tmp_path / "out", tmp_path / "back"
    assert main(["export", str(tmp_path / "a"), "--to", "huggingface", str(out)]) == 0
    found = load_file(out / "model.safetensors")
    (table,) = (tensor for tensor in found.values() if tensor.shape == (16, 32))
    more = {
        key: table.clone() if shape == table.shape else torch.ones(shape, dtype=torch.uint8)
        for key, shape in COMPUTED[name].items()
    }
    save_file({**found, **more}, out / "model.safetensors", {"format": "pt"})
    assert main(["import", str(out), "--output", str(back)]) == 0
    names = {f"weight/{name}@0:0" for name, _ in model.named_parameters()}
    assert load_file(back / "rank-00000.safetensors").keys() == names


@pytest.mark.parametrize("name", ["gpt2", "neox", "llama"])
def test_a_model_that_was_saved_without_its_head_comes_in(name: str, tmp_path: Path) -> None:
    """As AutoModel saves it, and as gpt2 is on the Hub: without the first part of each name."""
    from transformers import AutoModel

    model = make_model(Network(**NETWORKS[name][1]), 16)
    write_checkpoint(model, "nucleotide", tmp_path / "a")
    words = ["export", str(tmp_path / "a"), "--to", "huggingface", str(tmp_path / "out")]
    assert main(words) == 0
    assert main(["import", str(tmp_path / "out"), "--output", str(tmp_path / "whole")]) == 0
    AutoModel.from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "out")
    there = load_file(tmp_path / "out/model.safetensors")
    assert not any(key.startswith(("transformer.", "gpt_neox.", "model.")) for key in there)
    assert main(["import", str(tmp_path / "out"), "--output", str(tmp_path / "bare")]) == 0
    file = "rank-00000.safetensors"
    assert (tmp_path / "bare" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.mark.parametrize("tags", [[], ["<organism=>"]])
def test_a_models_own_end_of_a_document_comes_back(tags: list[str], tmp_path: Path) -> None:
    """Though it has a token that ends documents elsewhere."""
    from transformers import AutoTokenizer

    theirs, names = tmp_path / "theirs", [*"ACGT", "<|endoftext|>", "</s>"]
    theirs.mkdir()
    known = {"vocab": {name: number for number, name in enumerate(names)}, "merges": []}
    facts = json.dumps({"version": "1.0", "model": {"type": "BPE", **known}})
    (theirs / "tokenizer.json").write_text(facts)
    (theirs / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    inner = tokenizer_from(f"huggingface:{theirs}/tokenizer.json")
    tokenizer = Tagged(inner, tags) if tags else inner
    write_checkpoint(make_model(Network(**LLAMA), tokenizer.vocab_size), tokenizer, tmp_path / "a")
    for ours, out in (("a", "b"), ("c", "d")):
        words = ["export", f"{tmp_path}/{ours}", "--to", "huggingface", f"{tmp_path}/{out}"]
        assert main(words) == 0
        assert AutoTokenizer.from_pretrained(tmp_path / out).eos_token == "</s>"
        assert json.loads((tmp_path / out / "config.json").read_text())["eos_token_id"] == 5
        if out == "b":
            assert main(["import", f"{tmp_path}/b", "--output", f"{tmp_path}/c"]) == 0


def test_all_families_are_tried() -> None:
    assert {family.architecture for family in FAMILIES} == {name for name, _ in NETWORKS.values()}
