"""Files of sequences → PREFIX.bin, .idx and .json, in one pass and bounded memory."""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longseq.data.indexed.manifest import DatasetManifest
from longseq.data.prepare.encode import Encoder
from longseq.data.prepare.settings import Settings
from longseq.data.prepare.target import check_target
from longseq.data.prepare.tasks import Reader
from longseq.data.prepare.units import left_out
from longseq.data.prepare.workers import encode_all
from longseq.data.prepare.writing.finish import finish
from longseq.data.prepare.writing.output import Output
from longseq.data.prepare.writing.progress import STATE, Progress, find_progress, fingerprint
from longseq.data.prepare.writing.working import SURVEY, clear, publish, remove_working
from longseq.data.sources.annotation.features import kinds_of
from longseq.data.sources.identity import identity
from longseq.data.sources.inputs import Inputs
from longseq.data.survey.wish import wish_of
from longseq.data.tokenizers.kinds import OF_TEXT
from longseq.errors import UserError
from longseq.host.atomic_files import (
    Sha256,
    lost,
    unfinished,
    unwritable,
)
from longseq.reports.format import counted

if TYPE_CHECKING:  # what few preparations need is imported by these
    from longseq.data.sources.annotation.beside import Annotation
    from longseq.data.survey.first_pass import FirstPass
    from longseq.data.survey.likeness import Likeness
    from longseq.data.survey.reading import RawRecord

Report = Callable[[int], None]  # told how many bytes of the inputs were read so far
Say = Callable[[str], None]


def quiet(_: Any) -> None:
    """No report."""


def prepare(
    inputs: Inputs, prefix: str, settings: Settings, overwrite: bool, report: Report,
    say: Say = quiet,
) -> DatasetManifest:  # fmt: skip
    """Write a prepared prefix: aside, then renamed; the .idx, without which nothing opens, last.

    What a killed or failed preparation of the same left in PREFIX.unfinished is gone on with.
    """
    target = Path(prefix)
    check_target(inputs, prefix, settings, overwrite)
    with unfinished(target, "--output") as folder:
        try:
            annotation = annotation_of(settings)
            likeness, wish = None, wish_of(settings.drop_duplicates, settings.group_by)
            if wish.anything:
                first = _first_pass(inputs, settings, folder, report, say, annotation)
                likeness = first.likeness(wish)
            if settings.train_tokenizer:
                first = _first_pass(inputs, settings, folder, report, say, annotation)
                path = first.tokenizer(settings.train_tokenizer)
                recipe = replace(settings.recipe, tokenizer=f"huggingface:{path}")
                settings = replace(settings, recipe=recipe)
            name = str(folder / target.name)
            manifest = _write(inputs, name, settings, report, say, likeness, annotation)
            publish(folder, target, _names(target.name, manifest))
            (folder / STATE).unlink(missing_ok=True)
        except OSError as error:
            where = error.filename2 or error.filename or target.parent
            problem = f"{where}: {lost(error, folder)}"
            raise unwritable(problem + _kept(folder), error) from None
        except UserError as error:
            raise type(error)(f"{error}{_kept(folder)}") from None
        except KeyboardInterrupt:
            kept = _kept(folder) or ", and nothing is kept: the same command starts again"
            raise KeyboardInterrupt(f"stopped{kept}") from None
        finally:
            if not (folder / STATE).exists():
                remove_working(folder, target.name)
    return manifest


def _first_pass(
    inputs: Inputs, settings: Settings, folder: Path, report: Report, say: Say,
    annotation: "Annotation | None",
) -> "FirstPass":  # fmt: skip
    if inputs.once:
        raise UserError(
            f"{inputs.once} is no file, and --drop-duplicates, --group-by likeness and"
            " --train-tokenizer read the inputs twice: give a file in its place"
        )
    from longseq.data.survey.first_pass import FirstPass

    recipe = settings.recipe
    files = (*inputs.paths, *settings.annotation, *settings.regions)
    facts = [fingerprint(settings, {}), *map(identity, files)]
    kept = folder / f"{SURVEY}{Sha256(repr(facts).encode()).hexdigest()[:16]}"
    table, columns, skip_bad = recipe.code_table(), settings.columns, settings.skip_bad

    remedy = ""
    if recipe.kind in OF_TEXT:
        remedy = (
            "duplicates and likeness are of nucleotides: leave out --drop-duplicates and --group-by"
        )

    def check(record: "RawRecord", codes: bytes) -> bool:
        recipe.check(record.path, record.name, codes, remedy=remedy)
        if recipe.features:
            beside = annotation is not None and annotation.has(record.name)
            return not (record.annotated or beside)
        return left_out(recipe, len(codes), codes, Counter())

    kinds = kinds_of(recipe.features)
    return FirstPass(inputs, columns, skip_bad, table, check, kinds, kept, report, say)


def _kept(folder: Path) -> str:
    if not (folder / STATE).exists():
        return ""
    return f" (what is whole is kept in {folder}: the same command goes on from there)"


def write_tokens(
    inputs: Inputs, prefix: str, settings: Settings, report: Report
) -> DatasetManifest:
    """Write PREFIX.bin, .idx, .json and what is beside them into a folder of their own."""
    manifest = _write(inputs, prefix, settings, report)
    folder, name = Path(prefix).parent, Path(prefix).name
    clear(folder, name, _names(name, manifest), final=True)
    return manifest


def _write(
    inputs: Inputs, prefix: str, settings: Settings, report: Report,
    say: Say = quiet, likeness: "Likeness | None" = None, annotation: "Annotation | None" = None,
) -> DatasetManifest:  # fmt: skip
    """The same, or go on with what is there, of which all stays, so that it can be done again. A
    failure leaves what is worth going on with, or nothing.
    """
    folder, name = Path(prefix).parent, Path(prefix).name
    encoder = Encoder(settings.recipe)
    known = {"likeness": likeness.text().encode()} if likeness else {}
    wanted = fingerprint(settings, {**encoder.tokenizer.files, **known})
    progress = None
    if settings.resumable:
        progress = find_progress(prefix, wanted, inputs.paths, settings.skip_bad)
    _tell(folder, progress, say)
    progress = progress or Progress(wanted)
    growing = [f"{name}.{ending}" for ending in progress.whole.sizes]
    clear(folder, name, [STATE, *growing] if growing else [])
    reader = Reader(encoder, prefix, settings, annotation)
    output = Output(prefix, settings, encoder, progress, likeness)
    try:
        for task, result in _results(reader, inputs, settings, progress, report):
            output.write(task, result)
        manifest = finish(output, inputs, annotation)
    except BaseException as error:
        # a bad file must be mended, so that what was read of it does not count
        worth = output.progress.files or not isinstance(error, UserError)
        with suppress(OSError):
            if settings.resumable and worth and output.progress.whole.sizes.get("bin"):
                output.save()
            else:
                clear(folder, name, [])
        raise
    finally:
        output.abandon()
    return manifest


def _names(name: str, manifest: DatasetManifest) -> list[str]:
    """Of the files of data that are whole."""
    return [f"{name}.{ending}" for ending in (*manifest.files, "json")]


def _results(
    reader: Reader, inputs: Inputs, settings: Settings, progress: Progress, report: Report
) -> Iterable[Any]:
    """Each task that is left, with its result."""
    reader.bytes_read = Inputs(inputs.paths[: progress.files]).bytes
    tasks = reader.tasks(list(inputs.paths[progress.files :]), report, progress.pieces)
    total = inputs.bytes  # a look at each of them, once
    return encode_all(
        tasks, reader.encoder, settings.workers, lambda: _more(total, reader.bytes_read)
    )


def _tell(folder: Path, progress: Progress | None, say: Say) -> None:
    """What becomes of an earlier preparation."""
    if progress is not None:
        say(
            f"goes on with what an earlier call left: {counted(progress.files, 'file')} and"
            f" {counted(progress.whole.records, 'record')}"
        )
    elif (folder / STATE).exists():
        say(f"starts again: what {folder} holds is of other options or of files that have changed")


def annotation_of(settings: Settings) -> "Annotation | None":
    """The features that come in files of their own, read whole."""
    if not (settings.regions or settings.annotation):
        return None
    from longseq.data.sources.annotation.beside import read_annotation, read_regions

    if settings.regions:
        return read_regions(settings.regions)
    return read_annotation(settings.annotation, kinds_of(settings.recipe.features))


def _more(total: int, done: int) -> float:
    """How many times what was read is still to come; of standard input, as much again."""
    return max(0, total - done) / max(done, 1) if total else 1.0
