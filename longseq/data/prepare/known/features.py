"""What a preparation of features keeps of each document: what it is, and how far it reaches."""

from array import array

import numpy as np

from longseq.data.indexed.document_table import CODON_START, ENDING, HEADER, document_line
from longseq.data.indexed.format import Ints
from longseq.data.sources.annotation.features import CODING, Feature
from longseq.host.atomic_files import sync_open

NOT_JOINED = (-1, -1)


class FeatureTable:
    """PREFIX.documents.tsv as it is written, and the reach of documents that are joined."""

    def __init__(self, prefix: str) -> None:
        self._file = open(f"{prefix}.{ENDING}", "w", encoding="utf-8")  # noqa: SIM115
        self._file.write(HEADER)
        self._reaches = array("q")  # by document, two: lowest base and one past the highest
        self.mark()

    def add(self, features: list[Feature], numbers: Ints) -> None:
        """The next documents, each the feature of its number."""
        for number in numbers.tolist():
            feature = features[number]
            facts = dict(feature.facts)
            if feature.kind == CODING:
                facts[CODON_START] = str(feature.phase + 1)
            line = document_line(feature.kind, feature.location, feature.name, facts)
            self._file.write(line)
            joined = len(feature.parts) > 1
            self._reaches.extend((feature.low, feature.high) if joined else NOT_JOINED)

    def mark(self) -> None:
        self._marked = self._file.tell(), len(self._reaches)

    def rollback(self) -> None:
        written, reaches = self._marked
        self._file.seek(written)
        self._file.truncate()
        del self._reaches[reaches:]

    def finish(self) -> Ints | None:
        """Flush the table to disk. Returns the reaches, int64 [documents, 2], if any is joined."""
        sync_open(self._file)
        reaches = np.frombuffer(self._reaches, dtype="<i8").reshape(-1, 2)
        return reaches if (reaches >= 0).any() else None

    def close(self) -> None:
        self._file.close()
