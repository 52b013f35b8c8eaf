"""Annotation in files of its own → features by record: GFF3, GTF and BED.

Read whole before the sequences: a record's features may lie anywhere in a file. What belongs
together (the exons of a coding sequence) is joined.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from longseq.data.sources.annotation.attributes import Attributes, Reader
from longseq.data.sources.annotation.features import CODING, Feature, in_order, on_circle
from longseq.data.sources.annotation.lines import Faulty, region_of, span_of
from longseq.data.sources.inputs import Source, open_source
from longseq.data.sources.names import first_word, gaps_among_places, printable
from longseq.errors import UserError
from longseq.reports.format import counted

STOP = "stop_codon"  # in GTF beside the CDS of its transcript, not in it
GENES = ("gene", "pseudogene", "ncRNA_gene")
NAMES = ("locus_tag", "protein_id", "transcript_id", "Name", "gene", "gene_id", "ID")
FACTS = ("gene", "locus_tag", "protein_id", "product", "gene_id", "transcript_id", "gene_biotype")


@dataclass
class Annotation:
    """features: by the name of their record; circular: records that are circles; files: of which
    file each record's features are. sources: what the manifest says of the files.
    other: file and name of the first record that has none. counts: what lines do not say.
    """

    features: dict[str, list[Feature]] = field(default_factory=dict)
    circular: set[str] = field(default_factory=set)
    files: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    sources: list[dict[str, Any]] = field(default_factory=list)
    other: tuple[str, str] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    _since: set[str] = field(default_factory=set)  # taken since the mark

    def mark(self) -> None:
        """What was taken so far was."""
        self._since = set()

    def rollback(self) -> None:
        """What was taken since the mark may be taken again."""
        self.taken -= self._since

    def take(self, path: str, name: str, length: int, gaps: int) -> tuple[Feature, ...]:
        """The features of a record, by the first word of its name, in the order of their places."""
        word = first_word(name)
        if word not in self.files:
            self.other = self.other or (path, word)
            return ()
        if word in self.taken:
            raise UserError(f"{path}: {word} is annotated, and two records are called so")
        self.taken.add(word)
        self._since.add(word)
        if gaps:
            raise gaps_among_places(path, word, gaps, self.files[word])
        placed = []
        for feature in self.features.get(word, []):
            fits = on_circle(feature, length, word in self.circular)
            if fits is None:
                raise UserError(
                    f"{self.files[word]}: {feature.kind} {feature.name} of {word} ends at base"
                    f" {feature.high:,}, but {path} has {length:,} of it: annotation and sequence"
                    " must be of the same assembly"
                )
            placed.append(fits)
        return tuple(sorted(placed, key=lambda feature: feature.low))

    def has(self, name: str) -> bool:
        """Whether a record of this name is annotated."""
        return first_word(name) in self.files

    def check_met(self) -> None:
        """Every annotated record was among the sequences."""
        left = sorted(set(self.files) - self.taken)
        if left:
            path, name = self.other or ("no other sequence", "")
            has = f"{path} has {name!r}" if name else path
            raise UserError(
                f"{self.files[left[0]]} annotates {left[0]!r}, which no sequence is called ({has}):"
                " use the same names in both"
            )


def read_annotation(paths: tuple[str, ...], kinds: tuple[str, ...]) -> Annotation:
    """GFF3 and GTF files; kinds: which features are wanted."""
    annotation = Annotation()
    for path in paths:
        shown, before = path, set(annotation.files)
        found = _Joined(kinds)
        with open_source(path, kind="gff") as source:
            shown = source.path
            for number, line in enumerate(_lines(source), 1):
                if line.startswith("##FASTA") or line.startswith(">"):
                    _pass_over(source)
                    break
                if line.strip() and not line.startswith("#"):
                    try:
                        found.add(line)
                    except Faulty as error:
                        raise UserError(f"{shown}: line {number:,}: {error}") from None
            annotation.sources.append(source.facts())
        annotation.circular |= found.circular
        annotation.counts += found.counts
        for record, feature in found.features():
            _add(annotation, before, shown, record, feature)
        if set(annotation.files) == before:
            raise UserError(
                f"{shown}: no {' or '.join(kinds)} in it: name others with --features"
                f" (it has {', '.join(sorted(found.kinds)[:9]) or 'none'})"
            )
    return annotation


def read_regions(paths: tuple[str, ...]) -> Annotation:
    """BED files; a region a line, with its blocks joined where it has twelve columns."""
    annotation = Annotation()
    for path in paths:
        before = set(annotation.files)
        with open_source(path, kind="bed") as source:
            shown = source.path
            for number, line in enumerate(_lines(source), 1):
                if line.startswith("#") or first_word(line) in ("", "track", "browser"):
                    continue
                try:
                    record, feature = region_of(line.split("\t") if "\t" in line else line.split())
                except Faulty as error:
                    raise UserError(f"{shown}: line {number:,}: {error}") from None
                _add(annotation, before, shown, record, feature)
            annotation.sources.append(source.facts())
        if set(annotation.files) == before:
            raise UserError(f"{shown}: no region in it: leave it out")
    return annotation


def _add(
    annotation: Annotation, before: set[str], path: str, record: str, feature: Feature
) -> None:
    if record in before:
        raise UserError(
            f"{path} and {annotation.files[record]} both annotate {record}: records of two genomes"
            " need names of their own"
        )
    annotation.files[record] = path
    annotation.features.setdefault(record, []).append(feature)


def _pass_over(source: Source) -> None:
    """Read what is left of a file, of which all is digested."""
    while source.read(1 << 20):
        pass


def _lines(source: Source) -> Iterator[str]:
    """Lines of text, however long the blocks are that they come in."""
    rest = b""
    while block := source.read(1 << 20):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace").rstrip("\r")
    if rest:
        yield rest.decode("utf-8", "replace")


class _Line(NamedTuple):
    """What a line of GFF3 or GTF says; low, high: first base from 0, and one past the last."""

    kind: str
    low: int
    high: int
    strand: str
    frame: str
    attributes: Attributes


class _Joined:
    """The lines of one GFF3 or GTF file, those of one feature together."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.wanted = kinds
        self.kinds: set[str] = set()
        self.circular: set[str] = set()
        self._genes: set[str] = set()
        self._groups: dict[tuple[str, str, str], list[_Line]] = {}
        self.counts: Counter[str] = Counter()
        self._reader = Reader()

    def add(self, text: str) -> None:
        """One line; Faulty where it is none."""
        columns = text.split("\t")
        if len(columns) != 9:
            shown, count = printable(text)[:60], counted(len(columns), "column")
            raise Faulty(
                f"{shown!r} has {count} between tabs, where GFF3 and GTF have 9: mend it (BED is"
                " for --regions)"
            )
        record, kind = columns[0], columns[2]
        self.kinds.add(kind)
        if "Is_circular=true" in columns[8]:
            self.circular.add(record)
        stop = kind == STOP and CODING in self.wanted
        if kind not in self.wanted and kind not in GENES and not stop:
            return
        low, high = span_of(columns)
        line = _Line(kind, low, high, columns[6], columns[7], self._reader.read(columns[8]))
        if kind in GENES:
            self._genes.update(line.attributes.get("ID", []))
        gtf = bool(self._reader.gtf)
        if kind in self.wanted:
            self._count(line, gtf)
            self._put(record, kind, line, gtf)
        if stop and gtf:
            self._put(record, CODING, line, gtf)

    def _put(self, record: str, kind: str, line: _Line, gtf: bool) -> None:
        """Put a line beside the others of its feature."""
        for owner in self._owners(line, gtf):
            key = (record, kind, owner or f"line {len(self._groups)}")
            self._groups.setdefault(key, []).append(line)

    def _count(self, line: _Line, gtf: bool) -> None:
        """What a line does not say, and is taken for granted."""
        alone = gtf and not any(line.attributes.get("transcript_id", []))
        if line.kind == CODING:
            self.counts["cds_without_transcript"] += alone
            self.counts["cds_without_strand"] += line.strand not in ("+", "-")

    def _owners(self, line: _Line, gtf: bool) -> list[str]:
        """What a line is a part of: its transcript, if it codes; else its own ID."""
        coding = line.kind in (CODING, STOP)
        if gtf:
            return line.attributes.get("transcript_id") or [""] if coding else [""]
        parents = [p for p in line.attributes.get("Parent", []) if p not in self._genes]
        identity = line.attributes.get("ID") or [""]  # "ID=" is none
        return parents if coding and parents else identity[:1]

    def features(self) -> Iterator[tuple[str, Feature]]:
        """Each feature with the name of its record, in the order of their first lines."""
        for (record, kind, _), lines in self._groups.items():
            if kind == CODING and not (lines := _coding(lines)):
                continue
            parts = [(line.low, line.high, line.strand == "-") for line in lines]
            ordered = in_order(list(dict.fromkeys(parts)))
            first = lines[parts.index(ordered[0])]
            said = {key: values[0] for key, values in first.attributes.items() if values}
            name = next((said[key] for key in NAMES if said.get(key)), "")
            facts = tuple((key, printable(said[key])) for key in FACTS if said.get(key))
            phase = int(first.frame) if first.frame in ("0", "1", "2") else 0
            number = said.get("transl_table", "")[:4]  # of more digits is none
            table = int(number) if number.isdecimal() else 0
            yield record, Feature(kind, printable(name), ordered, phase, table, facts)


def _coding(lines: list[_Line]) -> list[_Line]:
    """CDS with the stop codons beside them, but for those that some programs count in a CDS too.
    Those of no CDS are none: what they stop is not there.
    """
    coding = [line for line in lines if line.kind == CODING]
    return [
        line
        for line in lines
        if line.kind == CODING
        or (coding and not any(c.low <= line.low and line.high <= c.high for c in coding))
    ]
