"""What a run says of itself at its start and end, on the screen and in RUN/summary.json."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longseq.config.arguments import Config
from longseq.data.opening import TrainingData
from longseq.host.atomic_files import replace_file
from longseq.reports.runs import SUMMARY

Rows = list[tuple[str, object]]


def opening_rows(
    config: Config, data: TrainingData, device: str, iteration: int, recompute: str, note: str = ""
) -> Rows:
    """Network, layout with every factor, batch, precision, attention and data, as (name, value)."""
    net, train = config.network, config.training
    parameters = net.parameter_count(net.padded_vocabulary(data.vocab_size))
    heads = f"{net.num_attention_heads} heads"
    if net.key_value_heads != net.num_attention_heads:
        heads += f" on {net.key_value_heads} key-value heads"
    parts = f"{train.micro_batch_size} a rank x {config.accumulation} accumulated"
    rows: Rows = [
        (
            "network",
            f"{net.num_layers} layers, hidden {net.hidden_size}, {heads}:"
            f" {parameters:,} parameters",
        ),
        ("layout", config.layout),
        ("batch", f"{config.global_batch_size} x {net.seq_length:,} tokens ({parts})"),
        *_curriculum(config),
        ("precision", f"{train.dtype}, ZeRO stage {train.zero_stage}, on {device}"),
        ("attention", config.memory.kernel),
        ("memory", recompute),
        ("data", f"{config.data.data_path}, vocabulary {data.vocab_size}"),
        *(("", note) for note in data.notes),
    ]
    if iteration:
        rows.append(("resumed", f"after iteration {iteration} from {config.run.load}"))
    if note:
        rows.append(("", note))
    return rows


def _curriculum(config: Config) -> Rows:
    data = config.data
    if not data.curriculum_seq_length:
        return []
    growth = "evenly" if data.curriculum_root == 1 else f"as root {data.curriculum_root}"
    first, steps = data.curriculum_seq_length, data.curriculum_iters
    return [("", f"samples grow from {first:,} tokens, {growth}, over {steps:,} iterations")]


def closing_rows(
    config: Config,
    data: TrainingData,
    loss: float,
    validation_loss: float | None,
    saved: Path | None,
    exit_code: int,
) -> Rows:
    """Losses beside the data's own entropy, where everything is, and how to go on."""
    rows: Rows = [("training loss", f"{loss:.4f}")]
    if data.valid is not None and validation_loss is not None:
        rows.append(("validation loss", f"{validation_loss:.4f}"))
        unigram = data.valid.unigram_loss()
        rows.append(("unigram loss", f"{unigram:.4f} (validation tokens, no context)"))
    if config.run.run_dir:
        rows.append(("everything", f"{config.run.run_dir} (report.html shows it)"))
    if saved:
        more = "" if exit_code else " and a larger TRAIN_ITERS"
        rows.append(("go on with", f"LOAD={config.run.save}{more}"))
    return rows


def write_summary(
    folder: Path, config: Config, data: TrainingData, status: str, opening: Rows, closing: Rows
) -> None:
    """RUN/summary.json, which the report reads: at the start, so that a run that fails has one, and
    at the end.
    """
    summary = {
        "status": status,
        "opening": [(name, str(value)) for name, value in opening],
        "closing": [(name, str(value)) for name, value in closing],
        "settings": asdict(config),
        **baselines(data),
    }
    put_summary(folder, summary)


def put_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write RUN/summary.json, whole."""
    replace_file(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")


def baselines(data: TrainingData) -> dict[str, Any]:
    """Losses that the validation loss can be held against."""
    return {"unigram_loss": data.valid.unigram_loss() if data.valid else None}
