"""docs/flags.md: every argument of the trainer, as longseq.config.arguments declares them."""

from __future__ import annotations

from longseq.config.arguments import GROUPS
from longseq.config.flags import Flag, flags_of

HEAD = """# Arguments of the trainer

`ALCF/train-gpt3.sh` makes them from the environment; more go after `--`, and the last one wins.
Written by `longseq flags > docs/flags.md`.
"""


def flag_table() -> str:
    """Markdown with a table for each group of flags."""
    parts = [HEAD]
    for group in GROUPS:
        title = (group.__doc__ or "").splitlines()[0].rstrip(".")
        parts += [f"## {title}", "| flag | default | meaning |", "|---|---|---|"]
        parts += [_row(item) for item in flags_of(group)]
        parts.append("")
    return "\n".join(parts).rstrip()


def _row(item: Flag) -> str:
    default = "off" if item.kind is bool else str(item.default) or "none"
    choices = f" ({', '.join(item.choices)})" if item.choices else ""
    return f"| `{item.name}` | {default} | {item.help}{choices} |"
