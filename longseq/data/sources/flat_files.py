"""GenBank and EMBL → records with their features and their organism, by Biopython."""

import io
import json
import warnings
from collections.abc import Iterator
from typing import Any

from longseq.data.sources.annotation.features import Feature, Span
from longseq.data.sources.names import gaps_among_places, printable
from longseq.data.sources.pieces import Chunk, Record
from longseq.data.tokenizers.letters import count_gaps
from longseq.errors import UserError

NAMES = ("locus_tag", "protein_id", "gene", "label")
FACTS = ("gene", "locus_tag", "protein_id", "product")
WRONG_LENGTH = "Expected sequence length"  # what Biopython's warning starts with
LENGTH_LINES = {"genbank": "first", "embl": "SQ"}
TITLES = {"genbank": "GenBank", "embl": "EMBL"}


def flat_records(chunk: Chunk, kinds: tuple[str, ...]) -> Iterator[Record]:
    """The records of a piece; kinds: which features are wanted of them."""
    from Bio import BiopythonParserWarning
    from Bio.SeqIO.InsdcIO import EmblIterator, GenBankIterator

    title = TITLES[chunk.kind]
    if not chunk.raw.rstrip().endswith(b"//"):
        raise UserError(f"{chunk.path} is cut off: its last record does not end with //")
    reader = GenBankIterator if chunk.kind == "genbank" else EmblIterator
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BiopythonParserWarning)
            warnings.filterwarnings("error", WRONG_LENGTH, BiopythonParserWarning)
            for record in reader(io.StringIO(chunk.raw.decode("latin-1"))):
                features = tuple(_features(chunk.path, record, kinds)) if kinds else ()
                name, letters = printable(record.id), bytes(record.seq)
                if features and (gaps := count_gaps(letters)):
                    raise gaps_among_places(chunk.path, name, gaps, "--features")
                yield Record(name, letters, _facts(record), features)
    except UserError:
        raise
    except BiopythonParserWarning as error:
        raise UserError(
            f"{chunk.path}: a record is not as long as its {LENGTH_LINES[chunk.kind]} line says"
            f" ({printable(str(error)).rstrip('.')}): fetch it again, or mend that line"
        ) from None
    except Exception as error:
        raise UserError(
            f"{chunk.path} is not {title}, or has no sequence in it ({printable(str(error))})"
        ) from None


def _facts(record: Any) -> str:
    """What a split, a tag or a reader may want to know of a record."""
    said = record.annotations
    facts = {
        "organism": said.get("organism", ""),
        "taxonomy": "; ".join(said.get("taxonomy", [])),
        "topology": said.get("topology", ""),
    }
    known = {key: printable(value) for key, value in facts.items() if value.strip(". ")}
    return json.dumps(known, ensure_ascii=False) if known else ""


def _features(path: str, record: Any, kinds: tuple[str, ...]) -> Iterator[Feature]:
    for found in record.features:
        if found.type not in kinds:
            continue
        said = {key: values[0] for key, values in found.qualifiers.items()}
        name = printable(next((said[key] for key in NAMES if said.get(key)), ""))
        parts = _parts(found.location, len(record.seq))
        if parts is None:
            raise UserError(
                f"{path}: {found.type} {name} of {printable(record.id)} lies where that record has"
                " no bases: mend the location, or take other --features"
            )
        facts = tuple((key, printable(said[key])) for key in FACTS if said.get(key))
        start = said.get("codon_start", "1")
        if start not in ("1", "2", "3"):
            raise UserError(
                f"{path}: {found.type} {name} of {printable(record.id)} has codon_start"
                f" {printable(start)[:20]!r}, which is 1, 2 or 3: mend it, or take other --features"
            )
        phase = int(start) - 1
        table = int(said.get("transl_table", "0"))
        yield Feature(found.type, name, parts, phase, table, facts)


def _parts(location: Any, length: int) -> tuple[Span, ...] | None:
    """The parts in reading order, as Biopython has them; None where they are not in the record."""
    if location is None or any(part.ref for part in location.parts):
        return None
    spans = [(int(part.start), int(part.end), part.strand == -1) for part in location.parts]
    good = all(0 <= start < stop <= length for start, stop, _ in spans)
    return tuple(spans) if good else None
