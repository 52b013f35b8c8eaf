"""`longseq prepare`: the flags that say what to read of the inputs, and what they exclude."""

import argparse
from typing import TYPE_CHECKING

from longseq.config.flags import Parser
from longseq.errors import UserError

if TYPE_CHECKING:
    from longseq.data.sources.tables import Columns


def add_column_flags(parser: argparse.ArgumentParser) -> None:
    """What to read of a table."""
    parser.add_argument(
        "--column", default="", metavar="NAME", help="of a table, what holds the sequences"
    )
    parser.add_argument(
        "--name-column", default="", metavar="NAME", help="of a table, what holds their names"
    )


def add_input_flags(parser: Parser) -> None:
    """Columns of tables, and annotated features."""
    add_column_flags(parser)
    parser.add_argument(
        "--features",
        default="",
        metavar="KINDS",
        help="documents are annotated features of these kinds, as in CDS,tRNA: those that GenBank"
        " and EMBL files hold, or --annotation (default there: CDS)",
    )
    parser.add_argument(
        "--annotation", action="append", default=[], metavar="FILE", help="GFF3 or GTF; repeatable"
    )
    parser.add_argument(
        "--regions", action="append", default=[], metavar="FILE.bed",
        help="documents are the regions of a BED file; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--translation-table",
        type=int,
        default=0,
        metavar="N",
        help="NCBI's genetic code of all coding sequences (default: what the annotation says of"
        " each, else 1; with --genes 11)",
    )

    parser.add_argument(
        "--metadata",
        default="",
        metavar="TABLE",
        help="what records are: .tsv or .csv, its first column their names or files",
    )
    parser.add_argument(
        "--group-by",
        default="auto",
        metavar="NAME",
        help="what a split never divides: record, file, likeness (records that are alike, at an"
        " identity of 0.9 or, for instance, likeness:0.95), file-likeness, or all that have the"
        " same value of NAME (taxonomy of GenBank, a column of a table or of --metadata); auto:"
        " records, unless they are too few",
    )
    parser.add_argument(
        "--tags",
        default="",
        metavar="NAMES",
        help="tokens before each document that say its NAMES, as in organism,gene",
    )
    parser.add_argument(
        "--tag-weight",
        type=float,
        default=0.0,
        metavar="W",
        help="what tags count for in the loss, 0 (default) to 1",
    )


def columns_of(options: argparse.Namespace) -> "Columns":
    """What to read of tables."""
    from longseq.data.prepare.settings import BUILT_IN
    from longseq.data.sources.tables import Columns

    kind = options.group_by.partition(":")[0]
    wanted = [options.group_by] if kind not in BUILT_IN else []
    wanted += [name for name in tags_of(options) if name not in wanted]
    return Columns(options.column, options.name_column, tuple(wanted))


def tags_of(options: argparse.Namespace) -> list[str]:
    """--tags organism,gene → its names."""
    names = [name.strip() for name in options.tags.split(",") if name.strip()]
    if options.tags and (not names or len(set(names)) < len(names)):
        raise UserError(f"--tags {options.tags!r}: give names such as organism,gene, each once")
    if options.tag_weight and not names:
        raise UserError(f"--tag-weight {options.tag_weight:g}: there are no --tags: leave it out")
    return names


def features_of(options: argparse.Namespace) -> str:
    """The kinds of features that are documents, or "" for whole records."""
    if options.regions:
        from longseq.data.sources.annotation.lines import REGION

        return REGION
    return options.features or ("CDS" if options.annotation else "")


def check_column_flags(options: argparse.Namespace, paths: tuple[str, ...]) -> None:
    """Refuse columns where no input is a table."""
    from longseq.data.sources.inputs import has_kind
    from longseq.data.sources.tables import KINDS

    for flag in ("column", "name_column"):
        if getattr(options, flag) and not has_kind(paths, KINDS):
            raise UserError(
                f"--{flag.replace('_', '-')} {getattr(options, flag)}: no input is a table"
                " (parquet or Arrow): leave the flag out"
            )


def check_input_flags(options: argparse.Namespace, paths: tuple[str, ...], text: bool) -> None:
    """Refuse what cannot act, before hours of reading. text: the tokenizer is one of text."""
    from longseq.data.sources.inputs import has_kind

    check_column_flags(options, paths)
    _check_features(options, text)
    own = options.features and not options.annotation
    if own and not has_kind(paths, ("genbank", "embl")):
        raise UserError(
            f"--features {options.features}: no input is GenBank or EMBL: name a GFF3 or GTF file"
            " with --annotation"
        )


def _check_features(options: argparse.Namespace, text: bool) -> None:
    from longseq.data.sources.annotation.coding import unknown_code
    from longseq.data.sources.annotation.features import CODING, kinds_of

    for one, other in (("regions", "annotation"), ("regions", "features")):
        if getattr(options, one) and getattr(options, other):
            raise UserError(f"--{one} with --{other}: documents are the one or the other")
    features = features_of(options)
    kinds = kinds_of(features)
    flag = next((f"--{f}" for f in ("regions", "annotation", "features") if vars(options)[f]), "")
    if flag and (options.genes or options.reverse_complement):
        other = "--genes" if options.genes else "--reverse-complement"
        raise UserError(f"{flag} with {other}: features are read on their own strands as they are")
    if flag and text:
        raise UserError(
            f"--tokenizer {options.tokenizer}: {flag} needs a tokenizer of sequences: nucleotide,"
            " codon or kmer:K"
        )
    if options.translation_table:
        codons = options.tokenizer.partition(":")[0] == "codon" and CODING in kinds
        if not (options.genes or codons):
            raise UserError(
                f"--translation-table {options.translation_table} acts where genes are called"
                " (--genes) or annotated CDS become codons: leave it out"
            )
        if said := unknown_code(options.translation_table):
            raise UserError(f"--translation-table {said}")
