"""The end of a preparation: its sums are checked, then what makes the tokens readable is written.

Nothing is removed here: killed at any moment, all of it can be done again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from longseq.data.indexed.document_table import ENDING as DOCUMENTS
from longseq.data.indexed.format import Ints
from longseq.data.indexed.growing import GrowingFile, int64_blocks
from longseq.data.indexed.manifest import DatasetManifest, write_manifest
from longseq.data.indexed.record_table import ENDING
from longseq.data.prepare.text import check_unknown
from longseq.data.prepare.units import check_sums
from longseq.data.prepare.writing.output import LABELS, PLACES, Output
from longseq.data.prepare.writing.progress import SOURCES, read_sources
from longseq.data.sources.inputs import Inputs
from longseq.data.sources.remote import shown
from longseq.data.survey.wish import LIKE
from longseq.errors import UserError
from longseq.host.atomic_files import digest

if TYPE_CHECKING:
    from longseq.data.sources.annotation.beside import Annotation

DUPLICATES = "duplicates.tsv"
GROUPS = "groups"  # int64 [groups]: the first document of each
GROUP_OF = "group_of"  # int64 [documents], where those of a group are not side by side
REACHES = "reaches"  # int64 [documents, 2], of features

Files = dict[str, dict[str, Any]]  # a name's ending → what the manifest says of the file


def finish(output: Output, inputs: Inputs, annotation: "Annotation | None") -> DatasetManifest:
    """Check the sums, then write the index and, last, the manifest."""
    output.save()
    output.files[SOURCES].sync()
    entries = read_sources(output.files[SOURCES].path, output.files[SOURCES].size)
    skipped = [{"path": e["path"], "reason": e["reason"]} for e in entries if "reason" in e]
    read = [entry for entry in entries if "reason" not in entry]
    writer, settings = output.writer, output.settings
    if not writer.num_documents:
        reason = f"{skipped[0]['reason']}; " if skipped else ""
        named = ", ".join(map(shown, inputs.paths))
        short = output.counts["short_records"]
        why = f" ({short:,} are below --min-length {settings.recipe.min_length})" if short else ""
        raise UserError(f"{reason}{named}: no sequence in it that makes a token{why}")
    written = writer.num_tokens - writer.num_documents * (1 + output.lead)
    check_sums(settings.recipe, output.counts, output.tokenizer, written)
    check_unknown(output.counts, output.unknown, settings.allow_unknown)
    if output.tags is not None:
        output.tags.check()
        output.tokenizer = output.tags.tokenizer
    files = _write_records(output) | _write_groups(output, [entry["first"] for entry in read])
    for ending, content in output.tokenizer.files.items():
        files[ending] = _write(output, ending, [content])
    writer.write_index()
    files |= writer.facts
    sources = [entry["facts"] for entry in read]
    if annotation is not None:
        sources += annotation.sources
        output.counts.update(annotation.counts)
    if output.known.metadata is not None:
        sources.append(output.known.metadata.source)
        output.counts["metadata_unused"] = output.known.metadata.unused
    manifest = _manifest(output, files, sources, skipped)
    write_manifest(output.prefix, manifest)
    return manifest


def _manifest(
    output: Output, files: Files, sources: list[dict[str, Any]], skipped: list[dict[str, str]]
) -> DatasetManifest:
    settings = output.settings
    options = {**asdict(settings.recipe), "group_by": settings.group_by}
    if settings.drop_duplicates:
        options["drop_duplicates"] = settings.drop_duplicates
    if settings.train_tokenizer:  # its file is not where it was trained any more
        options["tokenizer"] = settings.train_tokenizer
    return DatasetManifest(
        tokenizer=output.tokenizer.specification,
        vocab_size=output.tokenizer.vocab_size,
        end_of_document=output.tokenizer.end_of_document,
        num_tokens=output.writer.num_tokens,
        num_documents=output.writer.num_documents,
        largest_token=max(output.largest, output.tokenizer.end_of_document),
        files=files,
        counts={name: count for name, count in sorted(output.counts.items()) if count},
        sources=sources,
        options=options,
        skipped=skipped,
        weights=list(settings.recipe.weights),
    )


def _write(output: Output, ending: str, parts: Iterable[bytes]) -> dict[str, Any]:
    """A file of these parts; its facts."""
    file = GrowingFile(f"{output.prefix}.{ending}")
    for part in parts:
        file.write(part)
    return file.finish()


def _write_records(output: Output) -> Files:
    """The tables of records, of features and of duplicates, and where documents lie."""
    files = {ENDING: output.files[ENDING].finish()}
    facts = output.files[PLACES].finish()
    if not output.plain:
        files[PLACES] = facts
    if output.features is not None:
        reaches = output.features.finish()
        path = f"{output.prefix}.{DOCUMENTS}"
        with open(path, "rb") as file:
            size = file.seek(0, 2)
        files[DOCUMENTS] = {"bytes": size, "sha256": digest(path)}
        if reaches is not None:
            files[REACHES] = _write(output, REACHES, [reaches.tobytes()])
    if output.likeness is not None and output.likeness.duplicates:
        rows = output.likeness.rows().encode("utf-8", "replace")
        files[DUPLICATES] = _write(output, DUPLICATES, [rows])
    return files


def _write_groups(output: Output, file_starts: list[int]) -> Files:
    """What a split must not divide, where a group is not simply a document."""
    places = output.files[PLACES].path
    if output.known.by:
        labels = np.frombuffer(output.known.groups, dtype="<i8")
        return {GROUP_OF: _write(output, GROUP_OF, _groups_of(places, labels))}
    if output.settings.group_by.partition(":")[0] in LIKE:
        output.files[LABELS].sync()
        labels = np.fromfile(output.files[LABELS].path, "<i8")
        return {GROUP_OF: _write(output, GROUP_OF, _groups_of(places, labels))}
    documents = output.writer.num_documents
    firsts = sorted(set(file_starts) - {documents})
    blocks: Iterable[Ints] = [np.array(firsts)]
    if output.settings.group_by != "file":
        blocks = _first_documents(places)
    facts = _write(output, GROUPS, (block.astype("<i8").tobytes() for block in blocks))
    return {} if facts["bytes"] == 8 * documents else {GROUPS: facts}


def _groups_of(places: str, labels: Ints) -> Iterator[bytes]:
    """The group of each document, numbered without gaps. labels: of each record, [records]."""
    used = np.zeros(int(labels.max()) + 1, dtype=bool)
    for block in int64_blocks(places):
        used[labels[block[::2]]] = True
    numbers = np.cumsum(used) - 1
    for block in int64_blocks(places):
        yield numbers[labels[block[::2]]].astype("<i8").tobytes()


def _first_documents(places: str) -> Iterator[Ints]:
    """The first document of each record that has one, a block of documents at a time."""
    last, at = -1, 0
    for block in int64_blocks(places):
        records = block[::2]
        yield at + np.flatnonzero(np.diff(records, prepend=last))
        last, at = int(records[-1]), at + len(records)
