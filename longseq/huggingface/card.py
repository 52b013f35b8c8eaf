"""The model card: README.md beside an export, of what the checkpoint and its run say of themselves.

(folder / "README.md").write_text(card(path, manifest, exported))
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from longseq.checkpoint.format.manifest import Manifest
from longseq.huggingface.to_folder import Exported

FP32_EXACT = 1 << 24  # whole numbers that fp32 holds; transformers forms rotary angles in it

HEAD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [longseq, long-context]
---

# {name}

A causal language model on sequences of up to {length:,} tokens, trained by
[longseq](https://pypi.org/project/longseq/), for `transformers.{architecture}`.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
```
"""


def card(path: Path, manifest: Manifest, exported: Exported, dtype: str) -> str:
    """The text of README.md; what the run's folder does not say is left out."""
    run = _run_folder(path)
    facts = _read(run / "summary.json") if run else {}
    net = exported.network
    text = HEAD.format(
        name=run.name if run else path.name,
        length=net.seq_length,
        architecture=exported.architecture,
    )
    text += _section("Network", _network(manifest, exported, dtype))
    text += _section("Training", _training(manifest, facts))
    text += _section("Data", _data(facts))
    text += _section("Versions", manifest.versions.items())
    if run and (command := _command(run)):
        text += f"\n## Command\n\n```bash\n{command}\n```\n"
    return text + _limits(exported)


def _section(title: str, rows: Iterable[tuple[str, Any]]) -> str:
    lines = [f"| {name} | {_cell(value)} |" for name, value in rows if value not in (None, "")]
    if not lines:
        return ""
    return f"\n## {title}\n\n| | |\n|---|---|\n" + "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _network(manifest: Manifest, exported: Exported, dtype: str) -> list[tuple[str, Any]]:
    net = exported.network
    return [
        ("parameters", net.parameter_count(manifest.vocabulary)),
        ("layers, width, heads", f"{net.num_layers}, {net.hidden_size}, {net.num_attention_heads}"),
        ("key and value heads", net.key_value_heads),
        ("tokenizer", f"{manifest.tokenizer}, {manifest.vocabulary:,} tokens"),
        ("weights", f"{dtype}, {len(exported.shards)} files"),
    ]


def _training(manifest: Manifest, facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    progress = manifest.progress
    return [
        ("iterations", progress["iteration"]),
        ("tokens", progress["consumed_tokens"]),
        ("tokens of a sample", manifest.layout.get("seq_length")),
        ("samples of an iteration", manifest.layout.get("global_batch_size")),
        ("optimizer", manifest.optimizer),
        ("precision", manifest.layout.get("dtype")),
        *((name, facts.get(key)) for name, key in LOSSES.items()),
    ]


LOSSES = {"training loss (nats a token)": "loss", "validation loss (nats a token)": "valid_loss"}


def _data(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    config = facts.get("config", {})
    data = config.get("data", {}) if isinstance(config, dict) else {}
    return [("path", data.get("data_path")), ("split", data.get("split"))]


def _limits(exported: Exported) -> str:
    text = "\n## Limits\n\nA new document begins after the token that ends one"
    text += f" (`{exported.tokenizer.names()[exported.tokenizer.end_of_document]}`).\n"
    if exported.network.use_rotary_position_embeddings:
        text += (
            "transformers forms rotary angles in fp32, longseq in fp64: with sequences beyond some"
            " hundred thousand tokens the two differ in the fast frequencies.\n"
        )
    return text


def _run_folder(path: Path) -> Path | None:
    """RUN of RUN/checkpoints/step-N."""
    run = path.resolve().parents[1]
    return run if (run / "command.sh").exists() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _command(run: Path) -> str:
    """The last line of command.sh: what ran, a word at a time."""
    lines = (run / "command.sh").read_text(encoding="utf-8").rstrip().splitlines()
    words = shlex.split(lines[-1].removeprefix("exec ")) if lines else []
    return shlex.join(words)
