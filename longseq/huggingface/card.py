"""The model card: README.md beside an export, of what the checkpoint and its run say of themselves.

    (folder / "README.md").write_text(card(exported, "fp32"))

The losses are those at the checkpoint's iteration, not the run's last.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from longseq.checkpoint.format.manifest import Manifest
from longseq.checkpoint.trained import Trained
from longseq.config.arguments import GROUPS, Run
from longseq.config.flags import given_flags
from longseq.data.tokenizers.base import SequenceTokenizer
from longseq.errors import UserError
from longseq.huggingface.to_folder import Exported
from longseq.huggingface.tokenizer_file import padding_of
from longseq.reports.format import counted
from longseq.reports.runs import RunRecord, read_json, read_run

Rows = Iterable[tuple[str, Any]]

HEAD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [longseq, long-context]
---

# {name}

A causal language model on sequences of up to {length:,} tokens, trained with longseq; transformers
reads it as `{architecture}`.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
```
"""

LIMITS = """
## Limits

`{end}` ends a document, and another one begins after it: `longseq score` puts it in front of a
sequence, so that the first token has a likelihood too. To compare, give the model
`[tokenizer.eos_token_id] + tokenizer(sequence)["input_ids"]`.

`{padding}` fills batches up (`tokenizer([...], padding=True)`): hand on the attention mask, which
leaves it out, and before `generate` set `tokenizer.padding_side = "left"`.
"""

LEARNED = """
Positions are learned: in a batch that is filled up on the left they must be counted from the mask,
as `generate` does by itself and a plain call does not:

```python
tokenizer.padding_side = "left"
batch = tokenizer(sequences, padding=True, return_tensors="pt")
positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
logits = model(**batch, position_ids=positions).logits
```
"""

ENDS = """
It ends documents as well: `DataCollatorForLanguageModeling`, which takes every padding token out of
the labels, takes the ends out too. To train on them, make labels by the attention mask.
"""

ROTARY = """
transformers forms rotary angles in fp32, longseq in fp64: in sequences beyond some hundred thousand
tokens the fast frequencies of the two differ.
"""


def card(exported: Exported, dtype: str) -> str:
    """The text of README.md; what the run's folder does not say is left out."""
    trained = exported.trained
    manifest = trained.manifest
    run = _run_of(trained.path)
    text = HEAD.format(
        name=trained.name,
        length=trained.network.seq_length,
        architecture=exported.architecture,
    )
    text += _section("Network", _network(exported, dtype))
    text += _section("Training", [*_training(manifest), *(_losses(run, trained))])
    if run:
        text += _section("Data", _data(run))
    text += _section("Versions", manifest.versions.items())
    if run:
        words = ["./pretrain_gpt.py", *_arguments(run.summary.get("settings", {}))]
        text += f"\n## Arguments\n\n```bash\n{shlex.join(words)}\n```\n"
    end = trained.tokenizer.names()[trained.tokenizer.end_of_document]
    padding = padding_of(trained.tokenizer)
    text += LIMITS.format(end=end, padding=padding) + (ENDS if padding == end else "")
    return text + (ROTARY if trained.network.use_rotary_position_embeddings else LEARNED)


def _run_of(path: Path) -> RunRecord | None:
    """The run that RUN/checkpoints/step-N belongs to."""
    try:
        return read_run(path.resolve().parents[1])
    except (UserError, IndexError):
        return None


def _section(title: str, rows: Rows) -> str:
    lines = [f"| {name} | {_cell(value)} |" for name, value in rows if value not in (None, "")]
    if not lines:
        return ""
    return f"\n## {title}\n\n| | |\n|---|---|\n" + "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _network(exported: Exported, dtype: str) -> Rows:
    net, manifest = exported.trained.network, exported.trained.manifest
    heads = f"{net.num_attention_heads} on {net.key_value_heads}"
    return [
        ("parameters", net.parameter_count(manifest.vocabulary)),
        ("layers, width", f"{net.num_layers}, {net.hidden_size}"),
        ("query heads on key and value heads", heads),
        ("tokenizer", f"{manifest.tokenizer}, {manifest.vocabulary:,} tokens"),
        ("weights", f"{dtype}, {counted(len(exported.shards), 'file')}"),
    ]


def _training(manifest: Manifest) -> Rows:
    return [
        ("iterations", manifest.progress["iteration"]),
        ("tokens", manifest.progress["consumed_tokens"]),
        ("tokens of a sample", manifest.layout.get("seq_length")),
        ("samples of an iteration", manifest.layout.get("global_batch_size")),
        ("optimizer", manifest.optimizer),
        ("precision", manifest.layout.get("dtype")),
    ]


def _losses(run: RunRecord | None, trained: Trained) -> Rows:
    """Losses at the checkpoint's iteration, in nats a token and, of sequences, in bits per base."""
    for name, key in (("training loss", "lm_loss"), ("validation loss", "validation_loss")):
        found = dict(zip(*run.column(key), strict=True)) if run else {}
        loss = found.get(trained.manifest.progress["iteration"])
        if loss is not None:
            yield f"{name}, nats a token", loss
            if isinstance(trained.tokenizer, SequenceTokenizer):
                yield f"{name}, bits per base", loss / math.log(2) / trained.tokenizer.bases


def _arguments(settings: Mapping[str, Any]) -> list[str]:
    """The flags of a run but those of places, where they differ from their defaults."""
    words: list[str] = []
    for group in GROUPS:
        values = settings.get(group.__name__.lower(), {}) if group is not Run else {}
        words += given_flags(group, values)
    return words


def _data(run: RunRecord) -> Rows:
    """What the run was trained on, and what the manifest beside it says."""
    data = run.summary.get("settings", {}).get("data", {})
    path = str(data.get("data_path", ""))
    facts = read_json(Path(f"{path}.json"))
    return [
        ("path", path),
        ("documents", facts.get("num_documents")),
        ("tokens", facts.get("num_tokens")),
        ("split", data.get("split")),
        ("held out", data.get("valid_records")),
    ]
