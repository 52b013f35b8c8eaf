"""What two records are compared by: a digest for equality, a sketch for likeness.

The sketch is sourmash's FracMinHash: of all words of K letters, on either strand, those whose hash
is below one part of its range. Two sketches share what the records share, whatever their lengths.
"""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from longseq.data.sources.pieces import TEXTS
from longseq.data.survey.reading import Check, RawRecord
from longseq.data.tokenizers.alphabet import letters, reverse_complement
from longseq.data.tokenizers.letters import GAPS, LAYOUT, LETTERS
from longseq.errors import UserError
from longseq.host.atomic_files import Sha256

K = 21  # letters; identity I leaves I^K of the words as they were
HASHES = 4_000_000  # of all records; an index of them takes about 100 bytes for each
PIECE = 2000  # letters that are sketched at a time
FEWEST = 10  # hashes of a record below which its likeness says nothing


@dataclass(frozen=True)
class Sketch:
    """file, number: as in RawRecord. digest: of either strand; hashes: uint64 [n], none without a
    library's sketch. left_out: whether it will make no document.
    """

    file: int
    number: int
    path: str
    name: str
    bases: int
    digest: bytes
    hashes: npt.NDArray[np.uint64]
    left_out: bool = False


def sketch_library() -> Any:
    """sourmash; UserError where it is not installed."""
    try:
        return importlib.import_module("sourmash")
    except ImportError:
        raise UserError(
            "likeness needs the package sourmash, which is installed from Python 3.11 on: use a"
            " newer Python, or --drop-duplicates exact and another --group-by"
        ) from None


def sketches(records: Iterable[RawRecord], table: bytes, check: Check, alike: bool) -> list[Sketch]:
    """One for each record, which is held in memory for it.

    table: letter → code (letters.py); check: refuses what is no nucleotide. alike: with hashes, of
    one in `scaled` words, so that they are HASHES of all letters; before the last is read more are
    kept, at most three times as many.
    """
    library = sketch_library() if alike else None
    sketched: list[Sketch] = []
    scaled, bases, kept = 1, 0, 0
    for record in records:
        if record.kind in TEXTS:
            raise UserError(f"{record.path}: duplicates are found in sequences, and this is text")
        codes = b"".join([part.translate(table, LAYOUT + GAPS) for part in record.parts])
        left_out = check(record, codes)
        forward = np.minimum(np.frombuffer(codes, np.uint8), len(LETTERS) - 1)
        strand = min(forward.tobytes(), reverse_complement(forward).tobytes())
        hashes = np.zeros(0, np.uint64)
        bases += len(codes)
        scaled = max(1, -(-bases // HASHES))
        if library is not None:
            hashes = _hashes(library, letters(forward), scaled)
        digest = Sha256(strand).digest()[:16]
        sketched.append(
            Sketch(
                record.file, record.number, record.path, record.name, len(codes), digest, hashes,
                left_out,
            )
        )  # fmt: skip
        kept += len(hashes)
        if kept > 2 * HASHES:
            sketched = _thinned(sketched, scaled)
            kept = sum(len(one.hashes) for one in sketched)
    return _thinned(sketched, scaled)


def _hashes(library: Any, text: str, scaled: int) -> npt.NDArray[np.uint64]:
    """Of a record, in order. A sketch puts each hash in its place among all it has, so it is of a
    few letters at a time.
    """
    found = [np.zeros(0, np.uint64)]
    for first in range(0, len(text) - K + 1, PIECE):
        sketch = library.MinHash(n=0, ksize=K, scaled=scaled)
        sketch.add_sequence(text[first : first + PIECE + K - 1], force=True)  # without words with N
        found.append(np.fromiter(sketch.hashes, np.uint64, len(sketch)))
    hashes = np.sort(np.concatenate(found))
    return hashes[np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)]]


def _thinned(sketched: list[Sketch], scaled: int) -> list[Sketch]:
    """The same with the hashes of one in `scaled` words."""
    most = np.uint64((2**64 - 1) // scaled)
    return [replace(one, hashes=one.hashes[one.hashes <= most]) for one in sketched]
