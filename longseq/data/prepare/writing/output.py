"""What a preparation writes, in the order of its tasks, and how it takes a bad file back.

All of it are growing files (indexed/growing.py): to take something back is to cut them.
"""

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.format import Flags, Ints
from longseq.data.indexed.growing import GrowingFile, Place
from longseq.data.indexed.record_table import ENDING, HEADERS, record_rows
from longseq.data.indexed.writer import IndexedWriter
from longseq.data.prepare.encode import Encoder
from longseq.data.prepare.encoded import Encoded, Stretch, begun, emptied, without
from longseq.data.prepare.known.features import FeatureTable
from longseq.data.prepare.known.records import Known
from longseq.data.prepare.known.tags import Tags
from longseq.data.prepare.settings import Settings
from longseq.data.prepare.tasks import FileEnd, FileStart, LongStart, Task, remove_spool
from longseq.data.prepare.text import Unknown
from longseq.data.prepare.writing.progress import (
    SAVE_EVERY,
    SOURCES,
    Mark,
    Progress,
    write_progress,
)
from longseq.data.sources.names import printable
from longseq.data.tokenizers.words import Words
from longseq.errors import UserError

if TYPE_CHECKING:
    from longseq.data.survey.likeness import Likeness

LABELS = "labels"  # int64 [records]: its group by likeness
NONE: Flags = np.zeros(0, dtype=bool)
PLACES = "places"  # int64 [documents, 2]: its record, its first base (~ on the other strand)


class Output:
    """One preparation under way: what is written, in the order of the tasks.

    progress: of the one to begin or to go on with. likeness: which records are dropped, and the
    group of each; None: nobody asked.
    """

    def __init__(
        self, prefix: str, settings: Settings, encoder: Encoder, progress: Progress,
        likeness: "Likeness | None" = None,
    ) -> None:  # fmt: skip
        self.prefix = prefix
        self.settings = settings
        self.tokenizer = encoder.tokenizer
        self.progress = progress
        sizes = progress.whole.sizes
        self.known = Known(settings)
        self.tags = Tags(settings.recipe, self.tokenizer) if settings.recipe.tags else None
        self.features = FeatureTable(prefix) if settings.recipe.features else None
        self.beside = [one for one in (self.known, self.tags, self.features) if one is not None]
        dtype = self.tokenizer.dtype if self.tags is None else self.tags.dtype
        weighted = len(settings.recipe.weights) > 1
        self.writer = IndexedWriter(prefix, dtype, weighted, sizes)
        self.files = dict(self.writer.files)
        self.likeness = likeness
        for ending in (ENDING, PLACES, SOURCES, *([LABELS] if likeness else [])):
            self.files[ending] = GrowingFile(f"{prefix}.{ending}", sizes.get(ending, 0))
        if not sizes:
            self.files[ENDING].write(HEADERS[0].encode())
        self._load(progress.whole)
        self._path = ""
        self._bad = ""  # why the file that is being read is left out
        self._before: dict[str, Place] = {}  # digests before it, if this process began it
        self._saved = time.monotonic()
        self._identity = progress.identity
        self._long = LongStart("", 0, Counter())
        self._dropping = False  # the long record whose stretches come
        self._open: Ints | None = None  # record, begin, backward of the document that is open
        self._documents_before = 0

    def _load(self, mark: Mark) -> None:
        self.records, self.largest, self.plain = mark.records, mark.largest, mark.plain
        self.counts: Counter[str] = Counter(mark.counts)
        self.unknown: Unknown | None = mark.unknown
        self._last_record = mark.records - 1  # of the last document

    def _mark(self) -> Mark:
        sizes = {ending: file.size for ending, file in self.files.items()}
        counts = dict(self.counts)
        return Mark(sizes, self.records, self.largest, self.plain, counts, self.unknown)

    def write(self, task: Task, result: Encoded | UserError | None) -> None:
        """Take one task's result; they come in the order of the tasks."""
        if isinstance(task, FileStart):
            self._start_file(task)
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

    def _start_file(self, task: FileStart) -> None:
        self._path, self._identity, self._bad = task.path, task.identity, ""
        self._before = {}
        if task.goes_on:
            return
        self._before = {ending: file.place() for ending, file in self.files.items()}
        for one in self.beside:
            one.mark()
        mark, identity = self._mark(), task.identity
        self.progress = replace(self.progress, start=mark, identity=identity, pieces=0, whole=mark)

    def _take(self, task: Task, result: Encoded | None) -> None:
        if isinstance(task, LongStart):
            facts = self.known.facts(self._path, [task.name], [task.facts])[0]
            self._long = replace(task, facts=facts)
            self._documents_before = self.writer.num_documents
            self.counts.update(task.counts)
            self._dropping = bool(self._dropped(1).any())
            self.counts.update(duplicate_records=int(self._dropping))
            if not task.kept:
                self._add_records([task.name], [task.length], [0], [facts])
                self._whole_piece()
        elif result is not None:
            if isinstance(task, Stretch):
                self._add(emptied(result) if self._dropping else result, [self._long.facts])
                self._end_stretch(task)
            else:
                if (dropped := self._dropped(len(result.names))).any():
                    result = without(result, dropped)
                known = self.known.facts(self._path, result.names, result.facts)
                self._add(result, known)
                documents = np.bincount(result.runs.owner, minlength=len(result.names))
                self._add_records(result.names, result.sizes, documents.tolist(), known)
                self._whole_piece()

    def _dropped(self, count: int) -> Flags:
        """Which of the next records are duplicates, bool [count]; [] where nobody looked."""
        if self.likeness is None:
            return NONE
        at = self._place()
        known = self.likeness.dropped[at : at + count]  # of a file that has changed, too few
        return np.array(known + [False] * (count - len(known)))

    def _place(self) -> int:
        """Of the next record among all of the inputs."""
        if self.likeness is None:
            return 0
        first = self.likeness.first[self.progress.files]
        return first + self.records - self.progress.start.records

    def _check_compared(self, task: FileEnd, reason: str) -> str:
        """Why a file is left out, or "". Refuse what its records were compared for in vain: it has
        changed, or is bad after all.
        """
        if self.likeness is None:
            return reason
        digest = self.likeness.digests[self.progress.files]
        if not reason and not digest:
            return f"{task.path} could not be compared: without --skip-bad it is said why"
        if not reason and digest != task.facts["sha256"]:
            self.progress = Progress(self.progress.fingerprint)  # nothing is gone on with
            raise UserError(
                f"{task.path} has changed since its records were compared: prepare again once it is"
                " whole"
            )
        if reason and any(one.kept_file == task.path for one in self.likeness.duplicates):
            raise UserError(
                f"{reason}; records of other files were dropped as duplicates of its own: leave the"
                " file out"
            )
        return reason

    def _add(self, result: Encoded, facts: list[str]) -> None:
        """Append tokens, and the places of the documents that they end."""
        if self._open is None:
            result = begun(result)
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
        may_grow = self.tags is not None or self.largest < self.tokenizer.vocab_size - 1
        if len(result.tokens) and may_grow:
            self.largest = max(self.largest, int(result.tokens.max()))
        self.counts.update(result.counts)
        if isinstance(self.tokenizer, Words):
            unknown = self.tokenizer.ambiguous(result.tokens)
            self.counts.update(unknown_words=int(np.count_nonzero(unknown)))
        self.unknown = self.unknown or result.unknown

    @property
    def lead(self) -> int:
        """Tags before each document."""
        return 0 if self.tags is None else len(self.tags.names)

    def _add_places(self, rows: npt.NDArray[Any], lengths: Ints) -> None:
        """rows: record, where reading begins, whether backward, [documents, 3]."""
        if not len(rows):
            return
        record, begin, backward = rows.T
        bases = (lengths - 1 - self.lead) * getattr(self.tokenizer, "bases", 1)
        places = np.empty((len(rows), 2), "<i8")
        places[:, 0] = record
        places[:, 1] = np.where(backward == 1, ~(begin - bases), begin)
        self.files[PLACES].write(places.tobytes())
        own = record[0] > self._last_record and (record[1:] > record[:-1]).all()
        self.plain = bool(self.plain and own and not places[:, 1].any())
        self._last_record = int(record[-1])

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
            self._whole_piece()

    def _add_records(
        self, names: list[str], sizes: list[int], documents: list[int], facts: list[str]
    ) -> None:
        rows = record_rows(printable(self._path), names, sizes, documents, facts)
        self.files[ENDING].write(rows)
        self.known.group(self._path, names, facts)
        if self.likeness is not None:
            at = self._place()
            labels = np.array(self.likeness.group[at : at + len(names)], dtype="<i8")
            self.files[LABELS].write(labels.tobytes())
        self.records += len(names)

    def _whole_piece(self) -> None:
        """Between two records: a place to go on from."""
        pieces = self.progress.pieces + 1
        self.progress = replace(self.progress, pieces=pieces, whole=self._mark())
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save()

    def _end_file(self, task: FileEnd) -> None:
        entry: dict[str, Any] = {"path": task.path, "identity": self._identity}
        start = self.progress.start
        if reason := self._check_compared(task, self._bad or task.reason):
            for ending, file in self.files.items():
                file.cut(self._before.get(ending) or Place(start.sizes[ending]))
            self._load(start)
            for one in self.beside:
                one.rollback()
            self._open, self.writer.open_length = None, 0
            entry["reason"] = reason
        else:
            entry |= {"facts": task.facts, "first": start.sizes["lengths"] // 8}
        self.files[SOURCES].write(json.dumps(entry).encode() + b"\n")
        mark, files = self._mark(), self.progress.files + 1
        self.progress = Progress(self.progress.fingerprint, files, start=mark, whole=mark)

    def save(self) -> None:
        """Make what is whole so far last, on the disk, where it can be gone on with."""
        if not self.settings.resumable:
            return
        for file in self.files.values():
            file.sync()
        write_progress(Path(self.prefix).parent, self.progress)
        self._saved = time.monotonic()

    def abandon(self) -> None:
        """Close what is open; what was written does not open."""
        for file in self.files.values():
            file.close()
        if self.features is not None:
            self.features.close()
