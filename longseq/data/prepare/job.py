"""Files of sequences → PREFIX.bin, .idx and .json, in one pass and bounded memory."""

import shutil
from collections.abc import Callable
from pathlib import Path

from longseq.data.indexed.manifest import DatasetManifest
from longseq.data.prepare.encode import Encoder
from longseq.data.prepare.output import Output
from longseq.data.prepare.settings import Settings
from longseq.data.prepare.tasks import Reader
from longseq.data.prepare.workers import encode_all
from longseq.data.sources.annotation.beside import Annotation, read_annotation, read_regions
from longseq.data.sources.annotation.features import kinds_of
from longseq.data.sources.inputs import Inputs
from longseq.errors import UserError
from longseq.host.atomic_files import make_aside, publish_files

Report = Callable[[int], None]  # told how many bytes of the inputs were read so far


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
    encoder = Encoder(settings.recipe)
    annotation = annotation_of(settings)
    reader = Reader(encoder, prefix, settings, annotation)
    output = Output(prefix, settings, encoder)
    try:
        tasks = reader.tasks(list(inputs.paths), report)
        for task, result in encode_all(
            tasks, encoder, settings.workers, lambda: _more(inputs.bytes, reader.bytes_read)
        ):
            output.write(task, result)
        return output.finish(inputs, annotation)
    finally:
        output.abandon()


def annotation_of(settings: Settings) -> Annotation | None:
    """The features that come in files of their own, read whole."""
    if settings.regions:
        return read_regions(settings.regions)
    if settings.annotation:
        return read_annotation(settings.annotation, kinds_of(settings.recipe.features))
    return None


def _more(total: int, done: int) -> float:
    """How many times what was read is still to come; of standard input, as much again."""
    return max(0, total - done) / max(done, 1) if total else 1.0


def quiet(_: int) -> None:
    """No report."""
