"""What is learnt from the inputs before they are prepared, kept for a call that goes on."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from longseq.data.progress_bar import progress_bar
from longseq.data.sources.inputs import Inputs
from longseq.data.sources.tables import Columns
from longseq.data.survey.bpe import bpe_size, train_bpe
from longseq.data.survey.likeness import Likeness, compare
from longseq.data.survey.reading import Check, RawRecord, read_all
from longseq.data.survey.sample import Sample, sample_of
from longseq.data.survey.sketches import sketches
from longseq.data.survey.wish import LEAST_IDENTITY, Wish, wish_of
from longseq.data.tokenizers.letters import INVALID, code_table
from longseq.errors import UserError
from longseq.host.atomic_files import replace_file
from longseq.reports.format import counted


@dataclass(frozen=True)
class FirstPass:
    """table, check: of the recipe, as in `sketches`; features: which are documents. kept: what the
    names of the files start with that hold what was learnt. report: told the bytes read; say: what
    was found. digests: as in `read_all`.
    """

    inputs: Inputs
    columns: Columns
    skip_bad: bool
    table: bytes
    check: Check
    features: tuple[str, ...]
    kept: Path
    report: Callable[[int], None]
    say: Callable[[str], None]
    digests: dict[int, str] = field(default_factory=dict)

    def likeness(self, wish: Wish) -> Likeness | None:
        """Duplicates and groups, where they are asked for."""
        if not wish.anything:
            return None
        path = self.kept.with_suffix(".likeness")
        if path.exists():
            return Likeness.of(path.read_text(encoding="utf-8"))
        alike = wish.near > 0 or wish.alike > 0
        check = self._noted if self.skip_bad else self.check
        found = sketches(self._records(), self.table, check, alike)
        likeness = compare(found, len(self.inputs.paths), wish, self.digests)
        replace_file(path, likeness.text())
        if wish.exact:
            self.say(f"dropped as duplicates of others: {counted(sum(likeness.dropped), 'record')}")
        if wish.alike:
            groups = len(set(likeness.group))
            self.say(
                f"by likeness: {counted(len(likeness.group), 'record')} in"
                f" {counted(groups, 'group')}"
            )
        if likeness.short:
            self.say(
                f"too short for their likeness to be judged: {counted(likeness.short, 'record')}"
            )
        return likeness

    def _noted(self, record: RawRecord, codes: bytes) -> bool:
        """What is wrong with a record makes its file a bad one."""
        try:
            return self.check(record, codes)
        except UserError:
            self.digests[record.file] = ""
            return True

    def tokenizer(self, wanted: str) -> Path:
        """The tokenizer.json that --train-tokenizer asks for."""
        size = bpe_size(wanted)
        path = self.kept.with_suffix(".json")
        if not path.exists():
            sample = self._sample()
            replace_file(path, train_bpe(sample, size))
            used = sum(map(len, sample.words))
            self.say(
                f"{wanted}: trained on {used:,} of {sample.seen:,} letters, drawn from all records;"
                " those that a split will hold out are among them"
            )
        return path

    def _sample(self) -> Sample:
        """Drawn again where a file turned out to be bad: nothing is learnt from it."""
        note = self._noted if self.skip_bad else None
        while True:
            before = self._bad_files()
            sample = sample_of(self._records(), self.table, note)
            if self._bad_files() == before:
                return sample

    def _bad_files(self) -> int:
        return list(self.digests.values()).count("")

    def _records(self) -> Iterator[RawRecord]:
        scratch = str(self.kept.with_suffix(".copy"))
        return read_all(
            self.inputs.paths, self.columns, scratch, self.skip_bad, self.report, self.digests,
            self.features,
        )  # fmt: skip


def list_duplicates(inputs: Inputs, near: float, columns: Columns) -> None:
    """Print each record that is another's duplicate: `longseq data duplicates`. What is said of all
    of them goes to stderr, so that stdout is a table.
    """
    if "-" in inputs.paths:
        raise UserError("data duplicates does not read standard input: give files in place of -")
    if near != 1 and not LEAST_IDENTITY <= near < 1:
        raise UserError(
            f"--near {near:g}: give an identity from {LEAST_IDENTITY} to below 1, or 1 for what is"
            " equal"
        )
    wish = wish_of("exact" if near == 1 else f"near:{near}", "record")

    def check(record: RawRecord, codes: bytes) -> bool:
        place = codes.find(INVALID)
        if place >= 0:
            raise UserError(
                f"{record.path}: record {record.name}: letter {place + 1:,} is no nucleotide: mend"
                " the record, or leave the file out"
            )
        return False

    with (
        tempfile.TemporaryDirectory() as folder,
        progress_bar("looking", inputs.bytes) as report,
    ):
        digests: dict[int, str] = {}
        records = read_all(inputs.paths, columns, f"{folder}/copy", False, report, digests)
        found = sketches(records, code_table(), check, wish.near > 0)
        likeness = compare(found, len(inputs.paths), wish, digests)
    if likeness.duplicates:
        print(likeness.rows(), end="", flush=True)
    said = f"{len(likeness.duplicates):,} of {len(likeness.dropped):,} records are duplicates"
    if likeness.short:
        said += f"; too short for their likeness to be judged: {likeness.short:,}"
    print(said, file=sys.stderr)
