"""What --data-path and its flags ask for, looked at before anything is prepared or a job queued.

    look_at_data(config.data)      # raises UserError, in the words of the run that would find it

Standard library only, and quick: the content of data is the run's to check.
"""

import mmap
import os
import re
from importlib.util import find_spec

from longseq.config.arguments import Data
from longseq.config.split import parse_split
from longseq.data.fasta_cache import check_source, prefix_of
from longseq.data.indexed.manifest import DatasetManifest, check_sizes, read_manifest
from longseq.data.indexed.record_table import names_of, read_records
from longseq.data.samples.blend import read_blend
from longseq.data.samples.held_names import asked_names, refuse_unknown
from longseq.data.sources.formats import compression
from longseq.data.sources.inputs import PEEK, open_source
from longseq.data.sources.names import header_name, no_nucleotide
from longseq.data.tokenizers.kinds import (
    TAGGED,
    TYPE_FLAG,
    check_specification,
    is_of_text,
    kind_of,
)
from longseq.data.tokenizers.letters import GAPS, INVALID, LAYOUT, code_table
from longseq.errors import UserError

READ_UP_TO = 1 << 30  # bytes of a FASTA file that are searched for names, in a second or two
HEADER = re.compile(rb"^>[^\r\n]*", re.MULTILINE)


def look_at_data(data: Data) -> None:
    """Refuse what the run would refuse, as far as it can be seen without preparing anything."""
    parse_split(data.split)
    asked = asked_names(data)
    parts = read_blend(data.data_path) if data.data_path else []
    for part in parts:
        _look_at(part.path, data.tokenizer_type)
    names = [_names(part.path) for part in parts] if asked else []
    known = {name for some in names for name in some or ()}
    if names and None not in names:
        refuse_unknown(asked, known, known)


def _look_at(path: str, tokenizer: str) -> None:
    prefix = prefix_of(path)
    if prefix is not None:
        manifest = read_manifest(prefix)
        check_wanted(prefix, manifest, tokenizer)
        if manifest is not None:
            check_sizes(prefix, manifest)
        return
    kind = tokenizer or "nucleotide"
    check_specification(kind, TYPE_FLAG)
    source = check_source(path)
    with open(source, "rb") as file:
        squeezed = compression(file.read(8))
    if not squeezed or find_spec("xopen"):
        with open_source(str(source), is_of_text(kind)) as opened:
            if opened.kind in ("fasta", "text") and not is_of_text(kind):
                _check_letters(path, opened.read(PEEK))


def _check_letters(path: str, head: bytes) -> None:
    """Is what the first record begins with a sequence of nucleotides?"""
    line, _, rest = head.lstrip().partition(b"\n")
    name = header_name(line) if line.startswith(b">") else ""
    sequence = rest.partition(b"\n>")[0] if line.startswith(b">") else line
    place = sequence.translate(code_table(), LAYOUT + GAPS).find(INVALID)
    if place >= 0:
        remedy = f"name another file, or give {TYPE_FLAG} byte"
        letters = sequence.translate(None, LAYOUT + GAPS)[place:]
        raise no_nucleotide(path, name, place, remedy, letters)


def check_wanted(prefix: str, manifest: DatasetManifest | None, wanted: str) -> None:
    """Refuse --tokenizer-type `wanted` for prepared data of another tokenizer, or of an unknown
    one that it does not name.
    """
    if manifest is None:
        if not wanted:
            raise UserError(
                f"{prefix}.json is missing, so that nothing says what its tokens are: add"
                f" {TYPE_FLAG}"
            )
        kind_of(wanted.removeprefix(TAGGED), TYPE_FLAG)
    elif wanted and wanted.partition(":")[0] != manifest.tokenizer and wanted != manifest.tokenizer:
        raise UserError(
            f"{TYPE_FLAG} {wanted}: {prefix} was prepared with {manifest.tokenizer}:"
            " leave the flag out"
        )


def _names(path: str) -> set[str] | None:
    """What the records of a prepared pair or of a FASTA file may be called; None where only a
    preparation can say.
    """
    if (prefix := prefix_of(path)) is not None:
        return {name for record in read_records(prefix) for name in record.names}
    with open(path, "rb") as file:
        if file.read(1) != b">" or os.path.getsize(path) > READ_UP_TO:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            headers = (header_name(found.group()) for found in HEADER.finditer(text))
            return {name for header in headers for name in names_of(header, path)}
