"""Variants → what they do to the log-likelihood of the sequence around them.

    for row in variant_rows(ready, reference, "calls.vcf", window): …

Both alleles stand between the same flanks, in one window of the network's length, behind the tags
of the reference's record; what they differ in is log p(alternative) - log p(reference), in nats.
What has no score, or one that compares other words, is counted: `notes` says it. Sites without an
alternative, as files of all sites have them, are counted too and have no row.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longseq.data.indexed.format import Ints, Tokens
from longseq.data.sources.names import gaps_among_places
from longseq.data.tokenizers.letters import LAYOUT, count_gaps
from longseq.errors import UserError
from longseq.inference.sequences import Reader
from longseq.inference.vcf import NO_REF, NONE, SHOWN, Variant, agrees, other_name, read_variants
from longseq.inference.windows import Cutting, Window
from longseq.reports.format import counted

if TYPE_CHECKING:
    from longseq.inference.network import Ready

COLUMNS = {
    "record": str, "position": int, "id": str, "ref": str, "alt": str,
    "log_likelihood_ref": float, "log_likelihood_alt": float, "difference": float,
}  # fmt: skip
Encode = Callable[[str, bytes], Tokens]  # name and letters → the tokens of their whole words


@dataclass(frozen=True)
class Known:
    """A record of the reference: its letters, upper case, and in front of them tags, which have no
    position: as they are written, and how many tokens they are. gaps: letters that are no base.
    """

    letters: str
    lead: str = ""
    tags: int = 0
    gaps: int = 0


Reference = dict[str, Known]  # by the record's name


def reference_of(reader: Reader) -> Reference:
    """What variants are looked up in; UserError for a name given twice."""
    if reader.datasets:
        raise UserError("--variants needs the reference's letters: give its FASTA, not tokens")
    found: Reference = {}
    for name, raw in reader.raw():
        if name in found:
            raise UserError(f"--variants: the reference has two records {name}: give one")
        tags, spelt = reader.lead("--variants: the reference", name, raw)
        if spelt.startswith(b"<"):
            raise UserError(
                f"--variants: the reference's record {name} begins with '<', and"
                f" {reader.trained.name} was trained without tags: take it out"
            )
        letters = spelt.translate(None, LAYOUT).decode("ascii", "replace").upper()
        written = raw[: len(raw) - len(spelt)].decode()
        found[name] = Known(letters, written, len(tags), count_gaps(spelt))
    return found


def check_variants(path: Path, reference: Reference, fasta: str, cuts: Cutting, bases: int) -> int:
    """How many alternatives there are; UserError for one that was called on another reference, or
    does not fit a window of words of `bases` letters.
    """
    count, sites, size = 0, 0, cuts.size or cuts.length
    for variant in read_variants(path):
        count += variant.alt != NONE
        sites += variant.alt == NONE
        where = f"--variants {path}: {variant.place}"
        record = reference.get(variant.record)
        if record is None:
            raise UserError(
                f"{where}: {fasta} has no {other_name(variant.record, reference.keys())}"
            )
        if record.gaps:
            raise gaps_among_places(fasta, variant.record, record.gaps, f"--variants {path}")
        if _is_telomere(variant, record.letters):
            continue
        found = record.letters[variant.start : variant.start + len(variant.ref)]
        if not agrees(found, variant.ref):
            if variant.ref in NO_REF:
                raise UserError(f"{where}: its column REF is empty, or a dot: mend the line")
            raise UserError(
                f"{where} has REF {variant.ref} and {fasta} has {found or 'no letter'} there: give"
                " the FASTA that it was called on"
            )
        needed = record.tags - (-_least(variant, bases) // bases)
        if variant.is_sequence and needed > size:
            before = ["the token before it"] * (variant.start >= bases)
            before += [counted(record.tags, "tag")] * bool(record.tags)
            with_it = f"with {' and '.join(before)}, " if before else ""
            flags = [f"--seq-length {needed}"] * (needed > cuts.length)
            flags += [f"--window {needed}"] * bool(needed <= cuts.length or cuts.size)
            remedy = f"give {' '.join(flags)}, or " if needed <= max(cuts.length, cuts.most) else ""
            raise UserError(
                f"{where}: {with_it}an allele of"
                f" {counted(max(len(variant.ref), len(variant.alt)), 'letter')} needs a window of"
                f" {needed:,} tokens, and the window has {size:,}: {remedy}leave it out"
            )
    if not count:
        bare = counted(sites, "site", "has", "have")
        only = f": its {bare} no alternative (ALT is .)" if sites else ""
        raise UserError(f"--variants {path} holds no variant{only}")
    return count


def _is_telomere(variant: Variant, letters: str) -> bool:
    """Whether it is at one of the two positions that VCF has for telomeres, where no letter is: 0,
    and the one behind the last letter, as N.
    """
    behind = variant.start == len(letters) and variant.ref.upper() in ("N", *NO_REF)
    return variant.start < 0 or behind


@dataclass
class Told:
    """Why alternatives have no score, or one with a reserve: how many, and where the first is."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, why: str, variant: Variant) -> None:
        self.counts[why] += 1
        self.first.setdefault(why, f"{variant.place} {variant.ref[:SHOWN]}>{variant.alt[:SHOWN]}")


def variant_rows(
    ready: Ready, reference: Reference, path: Path, size: int, encode: Encode,
    told: Told,
) -> Iterator[dict[str, list[Any]]]:  # fmt: skip
    """A row of COLUMNS for each alternative, in the file's order; NaN where there is no score.

    size: tokens of the longer allele with its flanks. told: takes what `notes` tells.
    """
    from longseq.inference.forward import in_turn

    waiting: deque[tuple[Variant, bool]] = deque()  # whether it has a score
    tokenizer = ready.trained.tokenizer
    bases = getattr(tokenizer, "bases", 1)

    def alleles() -> Iterator[Window]:
        for variant in read_variants(path):
            windows: list[Window] = []
            record = reference[variant.record]
            if variant.alt == NONE:
                told.add("sites", variant)
                continue
            if not variant.is_sequence:
                told.add("symbolic", variant)
            elif _is_telomere(variant, record.letters):
                told.add("telomeres", variant)
            else:
                why = ""
                room = (size - record.tags) * bases
                for allele in _alleles(variant, record.letters, room, bases):
                    try:
                        text = record.lead + allele.letters
                        tokens = encode(variant.record, text.encode())
                    except UserError:  # of these letters; others' scores are not lost for it
                        why = "without"
                        break
                    why = why or allele.unscored(tokenizer.sizes(tokens))
                    is_part = allele.left and not record.tags
                    begin = None if is_part else tokenizer.end_of_document
                    windows.append(_window(tokens, begin, record.tags))
                if why:
                    windows = []
                    told.add(why, variant)
                elif (len(variant.alt) - len(variant.ref)) % bases:
                    told.add("shifted", variant)
            waiting.append((variant, bool(windows)))
            yield from windows

    scores: list[float] = []
    for window, losses in in_turn(ready, alleles()):
        scores.append(-float(losses[window.context :].sum(dtype=np.float64)))
        if len(scores) == 2:
            while not waiting[0][1]:
                yield _row(waiting.popleft()[0], float("nan"), float("nan"))
            yield _row(waiting.popleft()[0], *scores)
            scores = []
    for variant, _ in waiting:
        yield _row(variant, float("nan"), float("nan"))


def notes(told: Told, specification: str) -> Iterator[str]:
    """What is to be known of the rows of a network of these tokens."""
    counts = told.counts
    if count := counts["sites"]:
        yield f"{counted(count, 'site', 'has', 'have')} no alternative: left out"
    if count := counts["symbolic"]:
        yield f"{counted(count, 'alternative', 'is', 'are')} no sequence (symbolic): nan"
    if count := counts["telomeres"]:
        at = counted(count, "alternative", "is", "are")
        yield f"{at} at a telomere (position 0, or behind the last): nan"
    if count := counts["without"]:
        yield (
            f"{counted(count, 'alternative', 'has', 'have')} a letter in their window that"
            f" {specification} has no token for, or too few letters for one, the first at"
            f" {told.first['without']}: nan"
        )
    if count := counts["context"]:
        yield (
            f"{counted(count, 'alternative', 'begins', 'begin')} in the first token of the window,"
            " which is context for the others: nan; a longer --window has one before it"
        )
    if count := counts["shifted"]:
        yield (
            f"{counted(count, 'alternative', 'shifts', 'shift')} the frame of {specification}: both"
            " alleles hold different tokens up to the window's end, maybe different numbers of them"
        )


@dataclass(frozen=True)
class Allele:
    """Letters of a window: those of the allele are the ones from `first` to `last`, and the window
    begins at letter `left` of the record.
    """

    letters: str
    first: int
    last: int
    left: int

    def unscored(self, sizes: Ints) -> str:
        """Why tokens of these many letters each [n] leave letters of the allele without a score,
        for `notes`; "" where they do not. The first token is context, but for a record's own and
        for a tag, which has no letters.
        """
        if sizes.sum() < self.last:
            return "without"
        return "context" if self.left and sizes[0] > self.first else ""


def _least(variant: Variant, bases: int) -> int:
    """Letters of the least window that scores both alleles: a word before them, which is context,
    unless they begin the record, and behind them what makes their last words whole.
    """
    inside = variant.start % bases
    before = bases * (variant.start >= bases)
    lengths = len(variant.ref), len(variant.alt)
    return before + inside + max(lengths) + max(-(inside + n) % bases for n in lengths)


def _alleles(variant: Variant, whole: str, letters: int, bases: int) -> Iterator[Allele]:
    """Reference and alternative between the same flanks, at most `letters` long; what one end of
    the record lacks, the flank on the other side has. The left one keeps the frame of words of
    `bases` letters and is one of them at least, where the record has one.
    """
    longest = max(len(variant.ref), len(variant.alt))
    stop, room = variant.start + len(variant.ref), letters - longest
    left = variant.start - max(room // 2, room - (len(whole) - stop))
    nearest = variant.start - variant.start % bases - bases  # where the word before begins
    spare = letters - _least(variant, bases)
    left = max(0, min(left - left % bases, nearest), nearest - spare + spare % bases)
    right = min(len(whole), stop + room - (variant.start - left))
    before, after = whole[left : variant.start], whole[stop:right]
    rna = "U" in before + after and "T" not in before + after  # and so are its alleles
    for text in (variant.ref.upper(), variant.alt.upper()):
        allele = text.replace("T", "U") if rna else text
        yield Allele(before + allele + after, len(before), len(before) + len(allele), left)


def _window(tokens: Tokens, begin: int | None, tags: int) -> Window:
    """All tokens but tags count where they begin a record or have tags in front, as `score` has it
    of such a record; else the first one is context.
    """
    before = [] if begin is None else [begin]
    stream = np.concatenate((np.array(before, np.int64), tokens.astype(np.int64)))
    return Window(stream[:-1], stream[1:], tags)


def _row(variant: Variant, ref: float, alt: float) -> dict[str, list[Any]]:
    return {
        "record": [variant.record],
        "position": [variant.start + 1],
        "id": [variant.name],
        "ref": [variant.ref],
        "alt": [variant.alt],
        "log_likelihood_ref": [ref],
        "log_likelihood_alt": [alt],
        "difference": [alt - ref],
    }
