"""What is asked for of duplicates and likeness: known without what finds them."""

from dataclasses import dataclass

from longseq.errors import UserError

DEFAULT_LIKENESS = 0.9
LEAST_IDENTITY = 0.8
LIKE = ("likeness", "file-likeness")  # kinds of --group-by


@dataclass(frozen=True)
class Wish:
    """What is asked for. exact, near: duplicates to drop, of at least that identity (0: none);
    alike: of at least that identity in one group (0: no such groups); files: and so are all records
    of a file.
    """

    exact: bool = False
    near: float = 0.0
    alike: float = 0.0
    files: bool = False

    @property
    def anything(self) -> bool:
        return self.exact or self.alike > 0


def wish_of(drop: str, group_by: str) -> Wish:
    """From --drop-duplicates and --group-by."""
    kind, _, part = drop.partition(":")
    if drop and (kind not in ("exact", "near") or (kind == "exact" and part)):
        raise UserError(f"--drop-duplicates {drop}: give exact or near:IDENTITY, as near:0.95")
    near = _identity(f"--drop-duplicates {drop}", part) if kind == "near" else 0.0
    by, _, part = group_by.partition(":")
    if by not in LIKE:
        return Wish(bool(drop), near)
    alike = _identity(f"--group-by {group_by}", part or str(DEFAULT_LIKENESS))
    return Wish(bool(drop), near, alike, by == "file-likeness")


def _identity(flag: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LEAST_IDENTITY <= value < 1:
        raise UserError(f"{flag}: give an identity from {LEAST_IDENTITY} to below 1, such as 0.95")
    return value
