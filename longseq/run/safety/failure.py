"""A run that fails: recorded in summary.json, and out of memory said in numbers with the remedy.

record_failure(folder, error)                        by the first rank that fails
raise UserError(out_of_memory(config, …)) from error
"""

from __future__ import annotations

from pathlib import Path

from longseq.config.arguments import Config
from longseq.host.machine import device_in_sight
from longseq.memory.need import needed
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.reports.runs import FAILED, RUNNING, SUMMARY, read_json
from longseq.run.summary import put_summary


def record_failure(folder: Path, error: BaseException) -> None:
    """Put into a run's summary that it failed and why; the first reason counts."""
    summary = read_json(folder / SUMMARY)
    if summary.get("status") == RUNNING:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        put_summary(folder, summary | {"status": FAILED, "reason": reason})


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator of torch's, or Python's, had nothing left to give."""
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and ("out of memory" in text or "can't allocate memory" in text)
    )


def out_of_memory(
    config: Config,
    vocabulary: int,
    policy: RecomputePolicy,
    iteration: int,
    measured_gib: float,
    available_gib: float,
    copied: bool = False,
) -> str:
    """One line: what was estimated, what was measured, what there is, and what helps. copied:
    whether memory was held for a checkpoint's copy.
    """
    device = device_in_sight(config.training.device)
    need = needed(config, vocabulary, policy, device, copied)
    expected, copy = need.total / 2**30, need.by_kind["checkpoint"] / 2**30
    *most, last = remedies(config, policy, copy > 0)
    part = f" ({copy:.1f} GiB of it a checkpoint's copy)" if copy else ""
    return (
        f"out of memory in iteration {iteration}: estimated {expected:.1f} GiB a rank{part},"
        f" measured {measured_gib:.1f} GiB when it failed, {available_gib:.1f} GiB more were there:"
        f" give {', '.join(most)} or {last}"
    )


def remedies(config: Config, policy: RecomputePolicy, copied: bool) -> list[str]:
    """What takes less memory and is not in force yet, the cheapest first."""
    train = config.training
    every = (
        (copied, "--save-interval 0 (a save at the end, without a copy)"),
        (train.micro_batch_size > 1, "MICRO_BATCH=1"),
        (policy.recompute != "full", "USE_ACTIVATION_CHECKPOINTING=1"),
        (train.zero_stage < 3 and config.layout.world_size > 1, "ZERO_STAGE=3"),
        (True, "more ranks to share the sequence (SP_TYPE=ds or ring)"),
        (True, "a shorter SEQ_LEN"),
    )
    return [text for helps, text in every if helps]
