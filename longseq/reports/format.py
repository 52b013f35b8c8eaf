"""Numbers as people read them."""

from __future__ import annotations


def number(value: float | None, form: str) -> str:
    """`value` in a format, or nothing where it is not known."""
    return form.format(value) if isinstance(value, (int, float)) else ""


def short(value: float | None) -> str:
    """A number in three digits: 12345 is 12.3k."""
    if value is None:
        return ""
    for unit in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}P"


def duration(seconds: float) -> str:
    """3661 is 1:01:01."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
