"""How much of validation is in training, on either strand: words of the sequences themselves.

A genome, and synthetic ones of several records, of which every tenth is a strain of the one before
(2% of its letters drawn anew), are prepared with both strands, where records are divided at N, and
split as a run would: by record, by file, and by likeness, which alone keeps strains together. Each
word of K letters of validation is looked up among those of training, which hold both strands. What
a genome has twice is in both parts whatever the split: so a column counts only words that the data
have once (on either strand), of which none may be shared. Beside them stands a split that is none:
every document drawn by itself.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.table import Table
from longseq.config.arguments import Data
from longseq.data.datasets import Dataset, open_datasets
from longseq.data.held_out import split_datasets
from longseq.data.indexed.format import Tokens
from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.sources.inputs import expand

K = 24
STRAIN, CHANGED = 10, 0.02  # every how many-th genome is a strain; how many of its letters differ
Words = npt.NDArray[np.uint64]
BACTERIUM = "/usr/share/doc/bowtie/examples/genomes/NC_008253.fna.gz"


def words(tokens: Tokens) -> Words:
    """Every word of K letters A, C, G, T in a row of nucleotide tokens, as often as it is there."""
    count = len(tokens) - K + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    number = np.zeros(count, np.uint64)
    for place in range(K):
        number <<= np.uint64(2)
        number |= tokens[place : place + count] & np.uint8(3)
    foreign = np.cumsum(np.append(0, tokens > 3))
    return number[foreign[K:] == foreign[:count]]


def other_strand(found: Words) -> Words:
    """The same words read from the other strand."""
    turned = np.zeros_like(found)
    for place in range(K):
        letter = found >> np.uint64(2 * place) & np.uint64(3)
        turned = turned << np.uint64(2) | (np.uint64(3) - letter)
    return turned


def shared(train: Words, valid: Words) -> float:
    """The part of validation's words that are in training, on either strand; train: sorted."""
    there = np.zeros(len(valid), dtype=bool)
    for looked_up in (valid, other_strand(valid)):
        there |= train[np.searchsorted(train, looked_up).clip(max=len(train) - 1)] == looked_up
    return float(there.mean())


def once(dataset: Dataset) -> Words:
    """The words that the data have once, sorted; both strands are in them, so that each word and
    its other strand are there."""
    number, count = np.unique(
        words(read(dataset, 0, dataset.tokens.num_tokens)), return_counts=True
    )
    return number[(count == 1) & (number != other_strand(number))]


def read(dataset: Dataset, start: int, count: int) -> Tokens:
    """Tokens of the data; an end or an N is above 3, so that no word spans it."""
    return dataset.tokens.read(start, count)


def parts(dataset: Dataset, seed: int) -> tuple[str, list[Words]]:
    """How a run would cut the data, and the words of training and of validation, sorted."""
    flags = Data(data_path=dataset.prefix, split="90,10,0", split_seed=seed)
    (split,) = split_datasets([dataset], flags)
    found = []
    for name in ("train", "valid"):
        segments = split.parts[name]
        places = zip(segments.start.tolist(), segments.length.tolist(), strict=True)
        found.append(joined([words(read(dataset, start, count)) for start, count in places]))
    return split.by, found


def drawn(dataset: Dataset, seed: int) -> list[Words]:
    """The same where a tenth of the documents is drawn, each by itself."""
    chosen = np.random.default_rng(seed).random(dataset.tokens.num_documents) < 0.1
    documents = [np.flatnonzero(chosen == wanted).tolist() for wanted in (False, True)]
    return [joined([words(dataset.tokens.document(n)) for n in some]) for some in documents]


def joined(found: list[Words]) -> Words:
    return np.unique(np.concatenate(found))


def write_genomes(folder: Path, genomes: int) -> None:
    """Files of three records, each of two stretches of unequal lengths with N between them; every
    tenth is the one before with some letters drawn anew.
    """
    rng, letters = np.random.default_rng(4), np.frombuffer(b"ACGT", np.uint8)
    genome: list[npt.NDArray[np.uint8]] = []
    for number in range(genomes):
        if number % STRAIN == STRAIN - 1:
            changed = [rng.random(len(part)) < CHANGED for part in genome]
            drawn = [rng.choice(letters, len(part)) for part in genome]
            genome = [np.where(*parts) for parts in zip(changed, drawn, genome, strict=True)]
        else:
            genome = [rng.choice(letters, n) for n in rng.integers(1_500, 9_000, 6)]
        texts = [part.tobytes() for part in genome]
        records = [(b"N" * 100).join(texts[place : place + 2]) for place in (0, 2, 4)]
        lines = [b">%d.%d\n%s\n" % (number, place, text) for place, text in enumerate(records)]
        (folder / f"{number:04}.fa").write_bytes(b"".join(lines))


def measure(table: Table, name: str, source: str, folder: Path, group_by: str) -> None:
    prefix = str(folder / name.replace(" ", "-"))
    recipe = Recipe(reverse_complement=True, ambiguous="split")
    prepare(expand([source]), prefix, Settings(recipe, group_by=group_by), True, quiet)
    (dataset,) = open_datasets(prefix)
    single = once(dataset)
    for seed in (1234, 1):
        by, (train, valid) = parts(dataset, seed)
        alone = valid[np.isin(valid, single, assume_unique=True, kind="sort")]
        none = None
        if dataset.tokens.num_documents > 2:
            none = shared(*drawn(dataset, seed))
        row = len(valid), shared(train, valid), len(alone), shared(train, alone), none
        table.row(f"{name}, seed {seed}", by, *row)


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--genome", default=BACTERIUM, help="a FASTA file (E. coli 536)")
    parser.add_argument("--genomes", type=int, default=980, help="synthetic ones")


def main(options: Namespace) -> None:
    columns = ("words", ",d"), ("shared", ".3%"), ("there once", ",d"), ("shared", ".3%")
    table = Table(("validation of", "<26"), ("cut by", "<8"), *columns, ("no split", ".1%"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(table, "one genome", options.genome, folder, "auto")
        (folder / "genomes").mkdir()
        write_genomes(folder / "genomes", options.genomes)
        for group_by in ("auto", "file", "likeness"):
            called = f"{options.genomes} by {group_by}"
            measure(table, called, str(folder / "genomes"), folder, group_by)
