"""Numbers as people read them."""

from __future__ import annotations

import math


def number(value: float | None, form: str) -> str:
    """`value` in a format, or nothing where it is not known."""
    return form.format(value) if isinstance(value, (int, float)) else ""


def loss(nats: float, bases: int | None) -> str:
    """Nats a token, and bits a base where a token is `bases`: `1.3863 (2.000 bits a base)`."""
    text = f"{nats:.4f}"
    return f"{text} ({bits_a_base(nats, bases):.3f} bits a base)" if bases else text


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


def counted(count: float, what: str) -> str:
    """`1 document`, `1,200 documents`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """3661 is 1:01:01."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
