"""The verb `longseq prepare`."""

import argparse
import time

from longseq.config.flags import Parser
from longseq.data.input_flags import (
    add_input_flags,
    check_input_flags,
    columns_of,
    features_of,
    tags_of,
)
from longseq.data.progress_bar import progress_bar
from longseq.errors import EXIT_DONE, UserError
from longseq.reports.format import counted, short


def add_prepare(parser: Parser) -> None:
    """The arguments of `longseq prepare`."""
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder, @LIST, URL or -")
    parser.add_argument(
        "--output", required=True, metavar="PREFIX", help="makes PREFIX.bin, .idx, .json"
    )
    parser.add_argument(
        "--tokenizer",
        default="",
        help="nucleotide (default), codon, codon:69, kmer:K, byte, huggingface:FILE or"
        " gpt2:VOCAB,MERGES",
    )
    add_input_flags(parser)
    parser.add_argument(
        "--train-tokenizer",
        default="",
        metavar="bpe:N",
        help="in place of --tokenizer: N words of letters, found in these files",
    )
    parser.add_argument(
        "--drop-duplicates",
        default="",
        metavar="WHICH",
        help="exact: records that are there before, on either strand; near:0.95: and those that a"
        " longer one holds at that identity",
    )
    parser.add_argument(
        "--genes", action="store_true", help="find genes with pyrodigal; one document each"
    )
    parser.add_argument("--reverse-complement", action="store_true", help="add the other strand")
    parser.add_argument(
        "--ambiguous",
        default="keep",
        choices=("keep", "n", "split", "drop", "refuse"),
        metavar="HOW",
        help="letters other than ACGT: keep them (nucleotide: own tokens; else the unknown token),"
        " fold them into N, split the record there, drop the record, or refuse the file",
    )
    parser.add_argument("--mask-lower-case", action="store_true", help="read lower case as N")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes; 0: what is fastest"
    )
    parser.add_argument(
        "--min-length", type=int, default=0, metavar="N", help="leave out records of fewer letters"
    )
    parser.add_argument(
        "--lower-case-weight",
        type=float,
        default=1.0,
        metavar="W",
        help="what lower-case letters (repeats) count for in the loss, 0 to 1",
    )
    parser.add_argument(
        "--unknown-weight",
        type=float,
        default=1.0,
        metavar="W",
        help="what letters other than ACGT count for in the loss, 0 to 1",
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out files that cannot be read, and list them"
    )
    parser.add_argument(
        "--allow-unknown",
        type=float,
        default=0.001,
        metavar="PART",
        help="part of the letters that a text tokenizer may not know (default 0.001)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace PREFIX")
    parser.set_defaults(run_verb=prepare)


def prepare(options: argparse.Namespace) -> int:
    """`longseq prepare`: returns the exit code, raises UserError."""
    _check_numbers(options)
    from longseq.data.prepare.job import prepare as run
    from longseq.data.prepare.recipe import Recipe
    from longseq.data.prepare.settings import Settings
    from longseq.data.sources.inputs import expand

    _check_tokenizer(options)
    text = _check_recipe(options)
    _check_likeness(options)
    inputs = expand(options.inputs)
    check_input_flags(options, inputs.paths, text)
    recipe = Recipe(
        options.tokenizer,
        options.ambiguous,
        options.mask_lower_case,
        options.reverse_complement,
        options.genes,
        options.min_length,
        options.lower_case_weight,
        options.unknown_weight,
        features=features_of(options),
        translation_table=options.translation_table,
        tags=",".join(tags_of(options)),
        tag_weight=options.tag_weight,
    )
    settings = Settings(
        recipe,
        options.workers,
        options.group_by,
        skip_bad=options.skip_bad,
        allow_unknown=options.allow_unknown,
        columns=columns_of(options),
        annotation=tuple(options.annotation),
        regions=tuple(options.regions),
        metadata=options.metadata,
        train_tokenizer=options.train_tokenizer,
        drop_duplicates=options.drop_duplicates,
    )
    started = time.monotonic()
    with progress_bar("preparing", inputs.bytes) as report:
        manifest = run(inputs, options.output, settings, options.overwrite, report, print)
    seconds = time.monotonic() - started
    _print_summary(options.output, manifest.counts, manifest.num_tokens, manifest.num_documents)
    for bad in manifest.skipped:
        print(f"  left out: {bad['reason']}")
    if inputs.skipped:
        print(
            f"  not read: {len(inputs.skipped)} other files of the folders, such as"
            f" {inputs.skipped[0]}"
        )
    size = sum(source["bytes"] for source in manifest.sources)
    print(f"  {seconds:.1f} s, {short(size / max(seconds, 1e-9))}B/s")
    return EXIT_DONE


def _check_numbers(options: argparse.Namespace) -> None:
    if options.workers < 0:
        raise UserError(
            f"--workers {options.workers}: give a number of processes, or 0 for what is fastest"
        )
    if options.min_length < 0:
        raise UserError(f"--min-length {options.min_length}: give a number of letters, 0 or more")
    for name in ("lower_case_weight", "unknown_weight", "tag_weight", "allow_unknown"):
        value = getattr(options, name)
        if not 0 <= value <= 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: give a number from 0 to 1")


def _check_tokenizer(options: argparse.Namespace) -> None:
    """One that is given, or trained."""
    if not options.train_tokenizer:
        options.tokenizer = options.tokenizer or "nucleotide"
        return
    from longseq.data.survey.bpe import bpe_size

    bpe_size(options.train_tokenizer)
    if options.tokenizer:
        raise UserError(
            f"--train-tokenizer {options.train_tokenizer} with --tokenizer {options.tokenizer}:"
            " give one of them"
        )


def _check_recipe(options: argparse.Namespace) -> bool:
    """Whether the tokenizer is one of text; UserError for what does not go together."""
    if options.genes and options.reverse_complement:
        raise UserError(
            "--reverse-complement with --genes: genes are already read from both strands"
        )
    from longseq.data.tokenizers.kinds import is_of_text

    given = {
        "--genes": options.genes,
        "--reverse-complement": options.reverse_complement,
        f"--lower-case-weight {options.lower_case_weight:g}": options.lower_case_weight < 1,
        f"--unknown-weight {options.unknown_weight:g}": options.unknown_weight < 1,
        f"--ambiguous {options.ambiguous}": options.ambiguous in ("split", "drop"),
    }
    unusable = next((flag for flag, acts in given.items() if acts), "")
    text = is_of_text(options.tokenizer or "byte")  # where it is trained: of text, too
    if text and unusable:
        raise UserError(
            f"{unusable} with {_tokenizer_flag(options)}: it needs a tokenizer of sequences"
            " (--tokenizer nucleotide, codon or kmer:K)"
        )
    if options.mask_lower_case and options.lower_case_weight < 1:
        raise UserError(
            "--mask-lower-case makes lower-case letters N: give --unknown-weight in place of"
            " --lower-case-weight"
        )
    return text


def _check_likeness(options: argparse.Namespace) -> None:
    """What is looked for in a first pass over the inputs."""
    from longseq.data.survey.wish import wish_of

    wish = wish_of(options.drop_duplicates, options.group_by)
    if wish.near or wish.alike:
        from longseq.data.survey.sketches import sketch_library

        sketch_library()


def _tokenizer_flag(options: argparse.Namespace) -> str:
    if options.train_tokenizer:
        return f"--train-tokenizer {options.train_tokenizer}"
    return f"--tokenizer {options.tokenizer}"


NAMES = {
    "records": "records read",
    "bases": "bases read",
    "bytes": "bytes of text read",
    "genes": "genes found",
    "features": "annotated features",
    "metadata_unused": "lines of --metadata that no record or file is called",
    "letters_before_frame": "letters before the first whole codon of a partial CDS",
    "cds_without_transcript": "lines of CDS without a transcript_id, each a document of its own",
    "cds_without_strand": "lines of CDS without a strand (. or ?), read as +",
    "cds_not_in_threes": "CDS whose length is no multiple of three",
    "cds_without_start": "CDS that do not begin with a start codon",
    "cds_without_stop": "CDS that do not end with a stop codon",
    "cds_with_inner_stop": "CDS with a stop codon inside",
    "bases_outside_genes": "bases outside genes",
    "empty_records": "empty records",
    "below_a_token": "records or features shorter than a token, of which nothing is left",
    "trailing_bases": "bases after the last whole token",
    "ambiguous_left_out": "bases left out where records were split",
    "dropped_records": "records dropped for ambiguous letters",
    "dropped_bases": "bases in them",
    "short_records": "records left out as too short",
    "short_bases": "letters in them",
    "unknown_letters": "letters the tokenizer has no token for",
    "unknown_words": "words with another letter than A C G T, which are [UNK]",
    "duplicate_records": "records dropped as duplicates",
    "duplicate_tokens": "tokens they would have made",
    "lower_case_bases": "letters in lower case (repeats)",
    "gaps": "alignment gaps (- and .) that stand for no base",
}


def _print_summary(prefix: str, counts: dict[str, int], tokens: int, documents: int) -> None:
    print(f"{prefix}: {tokens:,} tokens in {counted(documents, 'document')}")
    for key, text in NAMES.items():
        if counts.get(key):
            print(f"  {text}: {counts[key]:,}")
