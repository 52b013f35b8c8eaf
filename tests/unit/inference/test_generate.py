"""What is made with the cache against runs without one, and against transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from longseq.__main__ import main
from longseq.data.tokenizers.base import Tokenizer
from longseq.data.tokenizers.registry import tokenizer_from
from longseq.data.tokenizers.tagged import Tagged
from longseq.inference.generation.generate import _stops
from longseq.inference.generation.sampling import Sampling
from longseq.model.gpt import GPT
from tests.unit.inference.reference import llama
from tests.unit.inference.trained_run import LLAMA, ROTARY, made, make_model, write_run

transformers = pytest.importorskip("transformers")

END, LETTERS = 15, "ACGTNRYSWKMBDHV"
PROMPTS = ["ACGT", "GATTACAGATTACANNACGTTTT", "C"]
FAMILIES = {
    "rotary": f"{ROTARY} --rotary-percent 0.5",
    "learned": "",
    "learned, grouped heads": "--num-key-value-heads 4 --swiglu",
    "rotary, grouped heads, RMSNorm, SwiGLU": LLAMA,
}


def read(path: Path) -> dict[str, tuple[str, str]]:
    """Header and sequence by name."""
    found = {}
    for record in path.read_text().split(">")[1:]:
        header, *lines = record.splitlines()
        found[header.split()[0]] = header, "".join(lines)
    return found


@torch.no_grad()
def without_cache(model: GPT, prompt: str, count: int) -> str:
    """The likeliest tokens, each from all tokens before it."""
    tokens = [END, *map(LETTERS.index, prompt)]
    for _ in range(count):
        hidden = model.hidden(torch.tensor([tokens]), torch.arange(len(tokens))[None])
        token = int(model.head.logits(hidden[-1:])[0, 0].argmax())
        if token == END:
            break
        tokens.append(token)
    return "".join(LETTERS[token] for token in tokens[1 + len(prompt) :])


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_that_of_a_run_without_a_cache(family: str, tmp_path: Path) -> None:
    model = make_model(FAMILIES[family])
    run, out = str(write_run(model, tmp_path / "run")), tmp_path / "made.fa"
    prompts = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    words = ["--temperature", "0", "--max-new-tokens", "40", "--output", str(out)]
    assert main(["generate", run, *prompts, *words]) == 0
    made = read(out)
    for number, prompt in enumerate(PROMPTS, 1):
        header, text = made[f"prompt-{number}/1"]
        assert text == without_cache(model, prompt, 40)
        assert f"prompt={len(prompt)} tokens={len(text)} " in header
        assert "temperature=0 top_k=0 top_p=1 seed=1234" in header


def test_greedy_is_that_of_transformers(tmp_path: Path) -> None:
    model = make_model(LLAMA)
    run, out = str(write_run(model, tmp_path / "run")), tmp_path / "made.fa"
    fasta = tmp_path / "prompts.fa"
    fasta.write_text("".join(f">{n}\n{text}\n" for n, text in enumerate(PROMPTS)))
    words = ["--temperature", "0", "--max-new-tokens", "30", "--with-prompt", "--output", str(out)]
    assert main(["generate", run, str(fasta), *words]) == 0
    for number, prompt in enumerate(PROMPTS):
        tokens = torch.tensor([[END, *map(LETTERS.index, prompt)]])
        theirs = llama(model).generate(  # type: ignore[operator]
            tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=30,
            eos_token_id=END, pad_token_id=END,
        )  # fmt: skip
        text = "".join(LETTERS[t] for t in theirs[0, 1:].tolist() if t != END)
        assert read(out)[f"{number}/1"][1] == text


def test_a_sequence_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    run = str(write_run(make_model(LLAMA), tmp_path / "run"))
    made = []
    for rows in ("1", "4"):
        out = tmp_path / f"{rows}.fa"
        words = ["--samples", "5", "--max-new-tokens", "20", "--seed", "3", "--output", str(out)]
        chosen = ["--temperature", "1.5", "--top-k", "9", "--top-p", "0.9", "--no-end"]
        assert main(["generate", run, "--micro-batch-size", rows, *words, *chosen]) == 0
        made.append(read(out))
    assert made[0] == made[1]
    assert len({text for _, text in made[0].values()}) == 5
    assert all("|" not in text and len(text) == 20 for _, text in made[0].values())


def test_a_stop_token_ends_a_sequence(tmp_path: Path) -> None:
    run = str(write_run(make_model(LLAMA), tmp_path / "run"))
    out = tmp_path / "made.fa"
    words = ["--samples", "6", "--max-new-tokens", "60", "--stop", "A", "--output", str(out)]
    assert main(["generate", run, *words, "--no-end"]) == 0
    for header, text in read(out).values():
        assert "A" not in text[:-1]
        assert ("ended=A" in header) == text.endswith("A")
        assert ("ended=length" in header) == (len(text) == 60 and not text.endswith("A"))


@pytest.mark.parametrize(
    ("specification", "given", "token"),
    [("codon", "taa", "TAA"), ("codon", "UaA", "TAA"), ("nucleotide", "u", "T"), ("byte", "t", "t"),
     ("codon", "[PAD]", "[PAD]"), (Tagged(tokenizer_from("codon"), ["<a=b>"]), "uga", "TGA")],
)  # fmt: skip
def test_a_stop_is_read_as_a_prompt_is(
    specification: str | Tokenizer, given: str, token: str
) -> None:
    """Of bytes as it is typed."""
    tokenizer = made(specification)
    end = {tokenizer.end_of_document: "end"}
    assert _stops(tokenizer, [given]) == {tokenizer.names().index(token): token} | end


@pytest.mark.parametrize(("k", "p", "temperature"), [(3, 1.0, 1.0), (0, 0.7, 0.5), (5, 0.6, 2.0)])
def test_tokens_are_left_out_as_transformers_does(k: int, p: float, temperature: float) -> None:
    logits = torch.randn(20, 16, generator=torch.Generator().manual_seed(1)) * 2
    scores = logits.double() / temperature
    if k:
        scores = transformers.TopKLogitsWarper(k)(None, scores)
    if p < 1:
        scores = transformers.TopPLogitsWarper(p)(None, scores)
    likely, order = Sampling(temperature, k, p).probabilities(logits)
    ours = torch.zeros_like(likely).scatter_(-1, order, likely)
    torch.testing.assert_close(ours, scores.softmax(-1), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("temperature", [5e-324, 1e-320, 1e-300])
def test_the_least_temperatures_take_the_likeliest_token(temperature: float) -> None:
    """No number is above all logits over these."""
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(1))
    generators = [torch.Generator() for _ in logits]
    tokens = Sampling(temperature, never=(4,)).next(logits.clone(), generators)
    logits[:, 4] = -torch.inf
    assert tokens.tolist() == logits.argmax(-1).tolist()


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    generators = [torch.Generator().manual_seed(n) for n in range(4000)]
    drawn = Sampling().next(logits.expand(4000, 4).clone(), generators).numpy()
    expected = np.exp([0.0, 1, 2, -1]) / np.exp([0.0, 1, 2, -1]).sum()
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 4000, expected, atol=0.02)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-new-tokens", "97"], "is more than the 96 that the network sees at once"),
        (["--prompt", "AC-J\u00e9"], "letter 3 is no nucleotide, but 'J': mend"),
        (["--prompt", "ac\u00e9"], "letter 3 is no nucleotide, but '\u00e9': mend"),
        (["--prompt", ""], "record prompt-1 is empty"),
        (["--stop", "TAA"], "--stop TAA: nucleotide has no such token"),
        (["--temperature", "-1"], "--temperature -1.0: give 0 or more"),
        (["--top-p", "0"], "--top-p 0.0: give above 0, at most 1"),
        (["--temperature", "0", "--top-k", "4"], "would not act: leave them out"),
        (["--output", "made.txt"], "end it in one of .fa, .fasta, .fna"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", run, *words]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert said in error
    assert error.count("\n") == 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_run(make_model(LLAMA), tmp_path_factory.mktemp("run")))
