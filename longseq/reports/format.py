"""Numbers as people read them, and what is to be said of those that are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from longseq.reports.runs import finite


def number(value: float | None, form: str) -> str:
    """`value` in a format, or nothing where it is not known, or none to write (`finite`)."""
    return form.format(value) if finite(value) else ""


def loss(nats: float, bases: int | None) -> str:
    """Nats a token, and bits per base where a token is `bases`: `1.3863 (2.000 bits per base)`."""
    text = f"{nats:.4f}"
    return f"{text} ({bits_a_base(nats, bases):.3f} bits per base)" if bases else text


def bits_a_base(nats: float, bases: int) -> float:
    """From nats a token of `bases` letters."""
    return nats / math.log(2) / bases


def short(value: float | None) -> str:
    """A number in three digits: 12345 is 12.3k."""
    if value is None:
        return ""
    for unit in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}P"


def size(count: float) -> str:
    """Bytes: 0.12 GiB, and 12.5 MiB or 12.5 KiB where that would say little."""
    if count >= 2**30 / 10:
        return f"{count / 2**30:.2f} GiB"
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 / 10 else f"{count / 2**10:.1f} KiB"


def lacking(need: int, free: int) -> str:
    """Of a disk; where both are the same in so few digits, what is missing as well."""
    text = f"it needs {size(need)}, and {size(free)} are free"
    return text + (f", {need - free:,} bytes too few" if size(need) == size(free) else "")


def counted(count: float, what: str, does: str = "", do: str = "") -> str:
    """`1 document`, `1,200 documents`; with a verb for one and for more, `1 document does`."""
    noun, verb = (what, does) if count == 1 else (f"{what}s", do)
    return f"{count:,} {noun} {verb}".rstrip()


def duration(seconds: float) -> str:
    """3661 is 1:01:01."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"


def no_number(records: Sequence[dict[str, Any]], whole: bool = True) -> list[str]:
    """What is to be said of losses that are none, whose curves have gaps or are not there; whole:
    records is all of the run, not its end alone.
    """
    said = []
    for key, what in (("lm_loss", "iterations"), ("validation_loss", "validations")):
        told = [record for record in records if key in record]
        lost = [record["iteration"] for record in told if not finite(record[key])]
        if not lost:
            continue
        when = f"since iteration {lost[0]:,}"
        if lost[-1] != told[-1]["iteration"]:
            when = f"from {lost[0]:,} to {lost[-1]:,}" if lost[1:] else f"at {lost[0]:,}"
        elif not whole and lost[0] == told[0]["iteration"]:
            when += " or before"
        of = "" if whole else "the last "
        said.append(f"no number in {len(lost):,} of {of}{len(told):,} {what}, {when}")
    return said
