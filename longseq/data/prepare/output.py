"""What a preparation writes, in the order of its tasks, and how it takes a bad file back."""

import os
from array import array
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.document_table import ENDING as DOCUMENTS
from longseq.data.indexed.manifest import DatasetManifest, write_manifest
from longseq.data.indexed.record_table import ENDING, HEADERS, write_records
from longseq.data.indexed.writer import IndexedWriter, Mark
from longseq.data.prepare.encode import Encoder
from longseq.data.prepare.encoded import Encoded, Stretch
from longseq.data.prepare.known.features import FeatureMark, FeatureTable
from longseq.data.prepare.known.records import Known
from longseq.data.prepare.known.tags import Tags
from longseq.data.prepare.settings import Settings
from longseq.data.prepare.tasks import (
    FileEnd,
    FileStart,
    LongStart,
    Task,
    remove_spool,
)
from longseq.data.prepare.text import Unknown, check_unknown
from longseq.data.prepare.units import check_sums
from longseq.data.samples.split import Ints
from longseq.data.sources.annotation.beside import Annotation
from longseq.data.sources.inputs import Inputs
from longseq.data.sources.names import printable
from longseq.data.sources.remote import shown
from longseq.errors import UserError
from longseq.host.atomic_files import digest, sync_open


@dataclass(frozen=True)
class _Before:
    """Everything that a file adds to, as it was before; what a bad one added is taken back."""

    writer: Mark
    table: int
    records: int
    places: int
    groups: int
    largest: int
    counts: Counter[str]
    unknown: Unknown | None
    features: FeatureMark | None


class Output:
    """One preparation under way: what is written, in the order of the tasks."""

    def __init__(self, prefix: str, settings: Settings, encoder: Encoder) -> None:
        self.prefix = prefix
        self.settings = settings
        self.tokenizer = encoder.tokenizer
        self.known = Known(settings)
        self.tags = Tags(settings.recipe, self.tokenizer) if settings.recipe.tags else None
        dtype = self.tokenizer.dtype if self.tags is None else self.tags.dtype
        self.writer = IndexedWriter(prefix, dtype, len(settings.recipe.weights) > 1)
        self.table = open(f"{prefix}.{ENDING}", "w", encoding="utf-8")  # noqa: SIM115
        self.table.write(HEADERS[0])
        self.counts: Counter[str] = Counter()
        self.sources: list[dict[str, Any]] = []
        self.skipped: list[dict[str, str]] = []
        self.places = array("q")  # by document: its record, its first base (~ on the other strand)
        self.file_starts = array("q")  # the first document of each file
        self.records = 0
        self.largest = 0
        self.unknown: Unknown | None = None
        self.features = FeatureTable(prefix) if settings.recipe.features else None
        self._path = ""
        self._bad = ""  # why the file that is being read is left out
        self._before = self._state()
        self._long = LongStart("", 0, Counter())
        self._open: Ints | None = None  # record, begin, backward of the document that is open
        self._documents_before = 0

    def write(self, task: Task, result: Encoded | UserError | None) -> None:
        """Take one task's result; they come in the order of the tasks."""
        if isinstance(task, FileStart):
            self._path, self._bad, self._before = task.path, "", self._state()
            self.file_starts.append(self.writer.num_documents)
        elif isinstance(task, FileEnd):
            self._end_file(task)
        elif isinstance(result, UserError):
            if not self.settings.skip_bad:
                raise result
            self._bad = self._bad or str(result)
        elif not self._bad:
            self._take(task, result)
        if isinstance(task, Stretch) and task.final:
            remove_spool(task)

    def _take(self, task: Task, result: Encoded | None) -> None:
        if isinstance(task, LongStart):
            facts = self.known.facts(self._path, [task.name], [task.facts])[0]
            self._long = replace(task, facts=facts)
            self._documents_before = self.writer.num_documents
            self.counts.update(task.counts)
            if not task.kept:
                self._add_records([task.name], [task.length], [0], [facts])
        elif result is not None:
            if isinstance(task, Stretch):
                self._add(result, [self._long.facts])
                self._end_stretch(task)
            else:
                known = self.known.facts(self._path, result.names, result.facts)
                self._add(result, known)
                documents = np.bincount(result.runs.owner, minlength=len(result.names))
                self._add_records(result.names, result.sizes, documents.tolist(), known)

    def _add(self, result: Encoded, facts: list[str]) -> None:
        """Append tokens, and the places of the documents that they end."""
        if self.tags is not None:
            result = self.tags.put(result, facts, self._open is not None)
        runs = result.runs
        rows = np.stack((self.records + runs.owner, runs.begin, runs.backward), axis=1)
        if self._open is not None:
            goes_on = len(result.tokens) and result.tokens[0] != self.tokenizer.end_of_document
            rows = np.concatenate(([self._open], rows[1:] if goes_on else rows))
        ended = self.writer.add_documents(result.tokens, result.lengths, result.weights)
        self._open = rows[-1] if len(rows) > len(ended) else None
        self._add_places(rows[: len(ended)], ended)
        if self.features is not None and runs.unit is not None:
            self.features.add(result.features, runs.unit[: len(ended)])
        if len(result.tokens):
            self.largest = max(self.largest, int(result.tokens.max()))
        self.counts.update(result.counts)
        self.unknown = self.unknown or result.unknown

    @property
    def _lead(self) -> int:
        """Tags before each document."""
        return 0 if self.tags is None else len(self.tags.names)

    def _add_places(self, rows: npt.NDArray[Any], lengths: Ints) -> None:
        """rows: record, where reading begins, whether backward, [documents, 3]."""
        bases = (lengths - 1 - self._lead) * getattr(self.tokenizer, "bases", 1)
        stored = np.where(rows[:, 2] == 1, ~(rows[:, 1] - bases), rows[:, 1])
        self.places.frombytes(np.stack((rows[:, 0], stored), axis=1).tobytes())

    def _end_stretch(self, task: Stretch) -> None:
        if self.unknown is not None and not self.unknown.record:
            self.unknown = replace(self.unknown, record=self._long.name)
        if task.closes and self._open is not None:
            ended = self.writer.close_document(self.tokenizer.end_of_document)
            self._add_places(self._open[None], ended)
            self._open = None
        if task.final:
            documents = self.writer.num_documents - self._documents_before
            long = self._long
            self._add_records([long.name], [long.length], [documents], [long.facts])

    def _add_records(
        self, names: list[str], sizes: list[int], documents: list[int], facts: list[str]
    ) -> None:
        write_records(self.table, printable(self._path), names, sizes, documents, facts)
        self.known.group(self._path, names, facts)
        self.records += len(names)

    def _state(self) -> _Before:
        return _Before(
            self.writer.mark(),
            self.table.tell(),
            self.records,
            len(self.places),
            len(self.file_starts),
            self.largest,
            self.counts.copy(),
            self.unknown,
            None if self.features is None else self.features.mark(),
        )

    def _end_file(self, task: FileEnd) -> None:
        reason = self._bad or task.reason
        if not reason:
            self.sources.append(task.facts)
            return
        self.skipped.append({"path": task.path, "reason": reason})
        before = self._before
        self.writer.rollback(before.writer)
        self.table.seek(before.table)
        self.table.truncate()
        del self.places[before.places :]
        del self.file_starts[before.groups :]
        del self.known.groups[before.records :]
        self.records, self.largest = before.records, before.largest
        self.counts, self.unknown = before.counts.copy(), before.unknown
        if self.features is not None and before.features is not None:
            self.features.rollback(before.features)
        self._open = None

    def abandon(self) -> None:
        """Close what is open; what was written does not open."""
        self.writer.abandon()
        self.table.close()
        if self.features is not None:
            self.features.close()

    def finish(self, inputs: Inputs, annotation: Annotation | None) -> DatasetManifest:
        """Check the sums, then write what makes the tokens readable, the index last."""
        if not self.writer.num_documents:
            reason = f"{self.skipped[0]['reason']}; " if self.skipped else ""
            named = ", ".join(map(shown, inputs.paths))
            raise UserError(f"{reason}{named}: no sequence in it that makes a token")
        check_sums(
            self.settings.recipe,
            self.counts,
            self.tokenizer,
            self.writer.num_tokens - self.writer.num_documents * (1 + self._lead),
        )
        check_unknown(self.counts, self.unknown, self.settings.allow_unknown)
        if self.tags is not None:
            self.tags.check()
            self.tokenizer = self.tags.tokenizer
        files: dict[str, dict[str, Any]] = {}
        sync_open(self.table)
        files[ENDING] = self._facts(ENDING)
        arrays = {"places": self._places()}
        if self.known.by:
            records = np.frombuffer(self.places, dtype="<i8")[::2]
            arrays["group_of"] = np.frombuffer(self.known.groups, dtype="<i8")[records]
        else:
            arrays["groups"] = self._groups()
        if self.features is not None:
            arrays["reaches"] = self.features.finish()
            files[DOCUMENTS] = self._facts(DOCUMENTS)
        for name, array_of in arrays.items():
            if array_of is not None:
                self._write_array(name, array_of)
                files[name] = self._facts(name)
        for name, content in self.tokenizer.files.items():
            Path(f"{self.prefix}.{name}").write_bytes(content)
            files[name] = self._facts(name)
        self.writer.finish()
        for name, sha in self.writer.digests.items():
            files[name] = {"bytes": os.stat(f"{self.prefix}.{name}").st_size, "sha256": sha}
        self.sources += [] if annotation is None else annotation.sources
        if self.known.metadata is not None:
            self.sources.append(self.known.metadata.source)
            self.counts["metadata_unused"] = self.known.metadata.unused
        manifest = self._manifest(files)
        write_manifest(self.prefix, manifest)
        return manifest

    def _manifest(self, files: dict[str, dict[str, Any]]) -> DatasetManifest:
        return DatasetManifest(
            tokenizer=self.tokenizer.specification,
            vocab_size=self.tokenizer.vocab_size,
            end_of_document=self.tokenizer.end_of_document,
            num_tokens=self.writer.num_tokens,
            num_documents=self.writer.num_documents,
            largest_token=max(self.largest, self.tokenizer.end_of_document),
            files=files,
            counts={name: count for name, count in sorted(self.counts.items()) if count},
            sources=self.sources,
            options={**asdict(self.settings.recipe), "group_by": self.settings.group_by},
            skipped=self.skipped,
            weights=list(self.settings.recipe.weights),
        )

    def _places(self) -> Ints | None:
        """Where each document lies, [documents, 2]; None where each is a record, read forward."""
        places = np.frombuffer(self.places, dtype="<i8").reshape(-1, 2)
        plain = not places[:, 1].any() and bool((np.diff(places[:, 0]) > 0).all())
        return None if plain else places

    def _groups(self) -> Ints | None:
        """The first document of each group, where a group is not simply a document."""
        records = np.frombuffer(self.places, dtype="<i8")[::2]
        if self.settings.group_by == "file":
            firsts = np.unique(np.frombuffer(self.file_starts, dtype="<i8"))
            firsts = firsts[firsts < len(records)]
        else:
            firsts = np.flatnonzero(np.diff(records, prepend=-1))
        return None if len(firsts) == len(records) else firsts.astype("<i8")

    def _write_array(self, ending: str, values: Ints) -> None:
        with open(f"{self.prefix}.{ending}", "wb") as file:
            file.write(values.tobytes())
            sync_open(file)

    def _facts(self, ending: str) -> dict[str, Any]:
        path = f"{self.prefix}.{ending}"
        return {"bytes": os.stat(path).st_size, "sha256": digest(path)}
