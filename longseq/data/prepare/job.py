"""Files of sequences → PREFIX.bin, .idx and .json, in one pass and bounded memory."""

import os
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from longseq.data.indexed.format import IndexedWriter
from longseq.data.indexed.manifest import DatasetManifest, write_manifest
from longseq.data.prepare.encode import BASES, Encoded, Encoder, Recipe, Stretch, count_gaps
from longseq.data.prepare.workers import Task, encode_all
from longseq.data.sources.chunks import LongRecord, chunks
from longseq.data.sources.inputs import Inputs, Source, open_source
from longseq.data.tokenizers.base import SequenceTokenizer
from longseq.data.tokenizers.text import TextTokenizer
from longseq.errors import UserError
from longseq.host.atomic_files import digest, make_aside, publish_files, sync_open

CHUNK = 8 << 20
GENE_CHUNK = 1 << 20  # calling genes takes a second a megabase: small tasks keep every worker busy

Report = Callable[[int], None]  # told how many bytes of the inputs were read so far


@dataclass(frozen=True)
class Settings:
    """recipe: how letters become tokens; group_by: what a split must not divide, record or file."""

    recipe: Recipe = field(default_factory=Recipe)
    workers: int = 1
    group_by: str = "record"
    chunk_bytes: int = 0

    @property
    def chunk(self) -> int:
        return self.chunk_bytes or (GENE_CHUNK if self.recipe.genes else CHUNK)


def prepare(
    inputs: Inputs, prefix: str, settings: Settings, overwrite: bool, report: Report
) -> DatasetManifest:
    """Write a prepared prefix: aside, then renamed; the .idx, without which nothing opens, last."""
    target = Path(prefix)
    if not target.name:
        raise UserError(f"--output {prefix}: give a prefix for files, such as {prefix}genomes")
    if Path(f"{prefix}.idx").exists() and not overwrite:
        raise UserError(f"{prefix}.idx exists: choose another --output, or add --overwrite")
    aside = make_aside(target)
    try:
        manifest = write_tokens(inputs, str(aside / target.name), settings, report)
        publish_files(aside, target.parent, f"{target.name}.idx")
    except OSError as error:
        raise UserError(f"{error.filename or target.parent}: {error.strerror}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifest


def write_tokens(
    inputs: Inputs, prefix: str, settings: Settings, report: Report
) -> DatasetManifest:
    """Write PREFIX.bin, .idx and .json into a folder that nobody looks into yet."""
    job = _Job(prefix, settings, report)
    try:
        for task, encoded in encode_all(job.tasks(inputs), job.encoder, settings.workers):
            job.write(task, encoded)
        return job.finish(inputs)
    finally:
        job.writer.abandon()


class _Job:
    """One preparation under way."""

    def __init__(self, prefix: str, settings: Settings, report: Report) -> None:
        self.prefix = prefix
        self.settings = settings
        self.report = report
        self.encoder = Encoder(settings.recipe)
        self.tokenizer = self.encoder.tokenizer
        self.writer = IndexedWriter(prefix, self.tokenizer.dtype)
        self.counts: Counter[str] = Counter()
        self.sources: list[dict[str, Any]] = []
        self.groups = array("q")  # documents of each record
        self.file_groups: Counter[str] = Counter()  # documents of each file
        self.largest = 0
        self._spools = 0
        self._documents_before = 0
        self._bytes_before = 0

    def tasks(self, inputs: Inputs) -> Iterator[Task]:
        """Everything there is to encode, file by file."""
        text = isinstance(self.tokenizer, TextTokenizer)
        for path in inputs.paths:
            with open_source(path, text) as source:
                for piece in chunks(source, self.settings.chunk):
                    self.report(self._bytes_before + source.meter.bytes_read)
                    if isinstance(piece, LongRecord):
                        yield from self._long(piece)
                    else:
                        yield piece
                self._bytes_before += source.meter.bytes_read
                self._note(source)

    def _note(self, source: Source) -> None:
        self.sources.append(
            {
                "path": source.path,
                "kind": source.kind,
                "bytes": source.meter.bytes_read,
                "sha256": source.meter.hexdigest(),
            }
        )

    def _long(self, record: LongRecord) -> Iterator[Stretch]:
        """Write a long record's codes to a file of their own and hand it out in stretches."""
        self._spools += 1
        spool = f"{self.prefix}.spool-{self._spools}"
        length = foreign = 0
        with open(spool, "wb") as file:
            for raw in record.pieces:
                codes = self.encoder.codes(raw)
                self.encoder.check(record.path, record.name, codes, length)
                foreign += len(codes.translate(None, BASES))
                self.counts["gaps"] += count_gaps(raw, codes)
                length += file.write(codes)
        self.counts["records"] += 1
        self.counts["bases"] += length
        if foreign and self.settings.recipe.ambiguous == "drop":
            self.counts["dropped_records"] += 1
            self.counts["dropped_bases"] += length
            os.unlink(spool)
            return
        yield from self._stretches(record.path, spool, length)

    def _stretches(self, path: str, spool: str, length: int) -> Iterator[Stretch]:
        recipe = self.settings.recipe
        if recipe.genes or not isinstance(self.tokenizer, SequenceTokenizer):
            yield Stretch(path, spool, 0, length, False, False, True)  # these need it whole
            return
        trailing = length % self.tokenizer.bases
        step = self.settings.chunk - self.settings.chunk % self.tokenizer.bases
        both = recipe.reverse_complement
        self.counts["trailing_bases"] += trailing * (2 if both else 1)
        for start in range(0, length - trailing, step):
            stop = min(start + step, length - trailing)
            closes = stop == length - trailing
            yield Stretch(path, spool, start, stop, False, closes, closes and not both)
        for stop in range(length, trailing, -step) if both else ():
            start = max(stop - step, trailing)
            yield Stretch(path, spool, start, stop, True, start == trailing, start == trailing)

    def write(self, task: Task, encoded: Encoded) -> None:
        """Append one result; they come in the order of the tasks."""
        before = self.writer.num_documents
        self.writer.add_documents(encoded.tokens, encoded.lengths)
        if len(encoded.tokens):
            self.largest = max(self.largest, int(encoded.tokens.max()))
        if isinstance(task, Stretch):
            if task.closes:
                self.writer.close_document(self.tokenizer.end_of_document)
            if task.final:
                self.groups.append(self.writer.num_documents - self._documents_before)
                os.unlink(task.spool)
        else:
            self.groups.frombytes(encoded.groups.astype(np.int64).tobytes())
        if not isinstance(task, Stretch) or task.final:
            self._documents_before = self.writer.num_documents
        self.file_groups[task.path] += self.writer.num_documents - before
        self.counts.update(encoded.counts)

    def finish(self, inputs: Inputs) -> DatasetManifest:
        """Check the sums, then write what makes the tokens readable, the index last."""
        if not self.writer.num_documents:
            raise UserError(f"{', '.join(inputs.paths)}: no sequence in it that makes a token")
        self._check_sums()
        files: dict[str, dict[str, Any]] = {}
        self._write_groups(files)
        for name, content in self.tokenizer.files.items():
            Path(f"{self.prefix}.{name}").write_bytes(content)
            files[name] = {"bytes": len(content), "sha256": digest(f"{self.prefix}.{name}")}
        self.writer.finish()
        for kind, sha in self.writer.digests.items():
            files[kind] = {"bytes": os.stat(f"{self.prefix}.{kind}").st_size, "sha256": sha}
        manifest = DatasetManifest(
            tokenizer=self.tokenizer.specification,
            vocab_size=self.tokenizer.vocab_size,
            end_of_document=self.tokenizer.end_of_document,
            num_tokens=self.writer.num_tokens,
            num_documents=self.writer.num_documents,
            largest_token=max(self.largest, self.tokenizer.end_of_document),
            files=files,
            counts=dict(sorted(self.counts.items())),
            sources=self.sources,
            options={**asdict(self.settings.recipe), "group_by": self.settings.group_by},
        )
        write_manifest(self.prefix, manifest)
        return manifest

    def _check_sums(self) -> None:
        """Bases in = bases in tokens + what the counts say was left out; else it is our fault."""
        recipe, counts = self.settings.recipe, self.counts
        if recipe.genes or not isinstance(self.tokenizer, SequenceTokenizer):
            return
        strands = 2 if recipe.reverse_complement else 1
        expected = strands * (counts["bases"] - counts["dropped_bases"])
        expected -= counts["trailing_bases"] + counts["ambiguous_left_out"]
        found = (self.writer.num_tokens - self.writer.num_documents) * self.tokenizer.bases
        if found != expected:
            raise RuntimeError(f"{found} bases were written where {expected} were read")

    def _write_groups(self, files: dict[str, dict[str, Any]]) -> None:
        """The first document of each group, where a group is not simply a document."""
        by_file = self.settings.group_by == "file"
        sizes = np.array(
            list(self.file_groups.values()) if by_file else self.groups, dtype=np.int64
        )
        sizes = sizes[sizes > 0]
        if (sizes == 1).all():
            return
        firsts = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype("<i8")
        with open(f"{self.prefix}.groups", "wb") as file:
            file.write(firsts.tobytes())
            sync_open(file)
        path = f"{self.prefix}.groups"
        files["groups"] = {"bytes": firsts.nbytes, "sha256": digest(path)}


def quiet(_: int) -> None:
    """No report."""
