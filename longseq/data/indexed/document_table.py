"""PREFIX.documents.tsv: what each document is, where documents are annotated features.

    feature  location            name    facts
    CDS      190..255+           thrL    {"product": "leader peptide", "codon_start": "1"}

Locations count from 1, in reading order, and so does codon_start, where the first whole codon of a
coding sequence begins; documents of codons begin there. Data of whole records have none: their
table of records says it all.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from longseq.errors import UserError

ENDING = "documents.tsv"
CODON_START = "codon_start"
HEADER = "feature\tlocation\tname\tfacts\n"


@dataclass(frozen=True)
class Document:
    feature: str
    location: str
    name: str
    facts: dict[str, str]

    @property
    def title(self) -> str:
        return " ".join(filter(None, (self.feature, self.name, self.location)))


def document_line(kind: str, location: str, name: str, facts: dict[str, str]) -> str:
    return f"{kind}\t{location}\t{name}\t{json.dumps(facts, ensure_ascii=False)}\n"


def read_documents(prefix: str) -> Iterator[Document]:
    """All documents of prepared data, in their order."""
    path = f"{prefix}.{ENDING}"
    try:
        with open(path, encoding="utf-8") as file:
            if file.readline() != HEADER:
                raise UserError(f"{path} is not a table of documents: prepare the data again")
            for line in file:
                kind, location, name, facts = line.rstrip("\n").split("\t")
                yield Document(kind, location, name, json.loads(facts))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: prepare the data again") from None
    except ValueError:
        raise UserError(f"{path} is damaged: prepare the data again") from None
