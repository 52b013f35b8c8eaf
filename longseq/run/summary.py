"""What a run says of itself at its start and end, on the screen and in RUN/summary.json."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Any

from longseq.config.arguments import Config
from longseq.data.opening import TrainingData
from longseq.data.samples.entropy import CELLS, markov
from longseq.host.atomic_files import replace_file
from longseq.reports.format import counted, loss
from longseq.reports.runs import SUMMARY

Rows = list[tuple[str, object]]
LEARNT, JUDGED = 1 << 20, 1 << 18  # tokens that Markov models see: a second at most
CELLS_A_TOKEN = 16  # a table with more counts than that for each token learns nothing


def opening_rows(
    config: Config,
    data: TrainingData,
    device: str,
    iteration: int,
    recompute: str,
    compiled: str = "",
    notes: Iterable[str] = (),
) -> Rows:
    """Network, layout with every factor, batch, precision, attention and data, as (name, value).

    recompute, compiled: what is recomputed, and what is compiled, empty for nothing. notes: what a
    resumed run does otherwise than the one before.
    """
    net, train = config.network, config.training
    parameters = net.parameter_count(net.padded_vocabulary(data.vocab_size))
    parts = f"{train.micro_batch_size} a rank x {config.accumulation} accumulated"
    rows: Rows = [
        ("network", f"{net}: {parameters:,} parameters"),
        ("layout", config.layout),
        ("batch", f"{config.global_batch_size} x {net.seq_length:,} tokens ({parts})"),
        *_curriculum(config),
        *_schedule(config),
        ("precision", f"{train.dtype}, ZeRO stage {train.zero_stage}, on {device}"),
        ("attention", config.memory.kernel + (f"; {compiled}" if compiled else "")),
        ("memory", recompute),
        ("data", f"{config.data.data_path}, vocabulary {data.vocab_size}"),
        *(("", note) for note in data.notes),
    ]
    if iteration:
        left = "" if iteration < train.train_iters else "; none is left: give more (TRAIN_ITERS)"
        rows.append(("resumed", f"after iteration {iteration} from {config.run.load}{left}"))
    return rows + [("", note) for note in notes]


def _curriculum(config: Config) -> Rows:
    data = config.data
    if not data.curriculum_seq_length:
        return []
    growth = "evenly" if data.curriculum_root == 1 else f"as root {data.curriculum_root}"
    first, steps = data.curriculum_seq_length, data.curriculum_iters
    return [("", f"samples grow from {first:,} tokens, {growth}, over {steps:,} iterations")]


def _schedule(config: Config) -> Rows:
    """Said where it is not that of the iterations there are, as in a run that goes on longer."""
    train = config.training
    if train.decay_iters == train.train_iters or train.lr_decay_style == "constant":
        return []
    how = f"over {train.decay_iters:,} iterations; another: --lr-decay-iters {train.train_iters}"
    return [("schedule", f"{train.lr_decay_style} {how}")]


def closing_rows(
    config: Config,
    marks: dict[str, Any],
    losses: Sequence[float],
    validation_loss: float | None,
    saved: Path | None,
    exit_code: int,
) -> Rows:
    """Losses beside the data's own marks, where everything is, and how to go on.

    marks: of `baselines`, empty on other ranks than 0. losses: nats a token, whose mean is
    told (reports/runs.py: recent).
    """
    bases = marks.get("bases_a_token")
    rows: Rows = []
    if losses:
        mean = sum(losses) / len(losses)
        rows.append(
            ("training loss", f"{loss(mean, bases)}, mean of {counted(len(losses), 'iteration')}")
        )
    if validation_loss is not None:
        rows.append(("validation loss", loss(validation_loss, bases)))
    if marks.get("unigram_loss"):
        rows.append(("unigram loss", f"{loss(marks['unigram_loss'], bases)}, without context"))
        for order, value in marks["markov_losses"].items():
            rows.append((f"Markov, order {order}", loss(value, bases)))
    if config.run.run_dir and Path(config.run.run_dir).is_dir():
        shown = " (report.html shows it)" if losses else ""
        rows.append(("everything", config.run.run_dir + shown))
    if saved:
        more = "" if exit_code else " and a larger TRAIN_ITERS"
        rows.append(("go on with", f"LOAD={quote(config.run.save)}{more}"))  # to paste
    return rows


def write_summary(
    folder: Path,
    config: Config,
    marks: dict[str, Any],
    status: str,
    opening: Rows,
    closing: Rows,
) -> None:
    """RUN/summary.json, which the report reads: at the start, so that a run that fails has one, and
    at the end.
    """
    summary = {
        "status": status,
        "opening": [(name, str(value)) for name, value in opening],
        "closing": [(name, str(value)) for name, value in closing],
        "settings": asdict(config),
        "warmup_iters": config.training.warmup_iters,  # a run that goes on has as many
        "directory": str(Path.cwd()),  # what paths in the settings start from
        **marks,
    }
    put_summary(folder, summary)


def put_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write RUN/summary.json, whole."""
    replace_file(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")


def baselines(data: TrainingData) -> dict[str, Any]:
    """Losses that the validation loss can be held against, in nats a token, of labels that count as
    they do in it.

    `markov_losses`: of Markov models of order 2 and of the order that is best for what it learns
    from, by the order; `bases_a_token`: letters of a sequence, None where tokens are of text.
    """
    found: dict[str, Any] = {
        "unigram_loss": None,
        "markov_losses": {},
        "bases_a_token": getattr(data.tokenizer, "bases", None),
    }
    if data.valid is None or data.train is None:
        return found
    found["unigram_loss"] = data.valid.unigram_loss() or None
    train, valid = data.train.some_labels(LEARNT), data.valid.some_labels(JUDGED)
    if not any(one.count for one in valid):  # what they see of the part counts nothing
        return found
    bits, best = markov(train, valid, min(CELLS, CELLS_A_TOKEN * sum(map(len, train))))
    orders = {min(2, max(bits)), best} - {0}
    found["markov_losses"] = {str(n): bits[n] * math.log(2) for n in sorted(orders)}
    return found
