"""The verb `longseq data`: look at prepared data, check it, turn it back."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from longseq.config.flags import Parser
from longseq.data.input_flags import add_column_flags, check_column_flags
from longseq.errors import EXIT_DONE

if TYPE_CHECKING:
    from longseq.config.arguments import Data

PREFIX = "prepared data: the name of PREFIX.bin and PREFIX.idx without its ending"


def add_data(parser: Parser) -> None:
    """The arguments of `longseq data inspect|verify|decode|duplicates|report`."""
    parser.set_defaults(run_verb=data)
    verbs = parser.add_subparsers(dest="look", metavar="WHAT", required=True)
    inspect = verbs.add_parser(
        "inspect", help="documents, lengths, tokens, how a run would cut them"
    )
    inspect.add_argument("prefix", metavar="PREFIX", help=PREFIX)
    _add_split(inspect)
    inspect.add_argument(
        "--seq-length", type=int, default=2048, metavar="N", help="tokens of a sample"
    )
    inspect.add_argument(
        "--tokenizer-type", default="", metavar="NAME", help="for files of other programs"
    )
    verify = verbs.add_parser("verify", help="digests, ranges and ends of every token")
    verify.add_argument("prefix", metavar="PREFIX", help=PREFIX)
    verify.add_argument(
        "--tokenizer-type", default="", metavar="NAME", help="for files of other programs"
    )
    report = verbs.add_parser(
        "report", help="a page of a data set, PREFIX.report.html, and a table"
    )
    report.add_argument("prefix", metavar="PREFIX", help=PREFIX)
    _add_split(report)
    report.add_argument(
        "--tokenizer-type", default="", metavar="NAME", help="for files of other programs"
    )
    duplicates = verbs.add_parser("duplicates", help="records that are there twice, or nearly")
    duplicates.add_argument("inputs", nargs="+", metavar="INPUT", help="as of prepare, or not -")
    duplicates.add_argument(
        "--near", type=float, default=0.95, metavar="IDENTITY", help="1: only what is equal (0.95)"
    )
    add_column_flags(duplicates)
    decode = verbs.add_parser("decode", help="documents back to sequences, as FASTA")
    decode.add_argument("prefix", metavar="PREFIX", help=PREFIX)
    decode.add_argument("--document", type=int, action="append", help="its number; default: all")
    decode.add_argument(
        "--tokenizer-type", default="", metavar="NAME", help="for files of other programs"
    )


def data(options: argparse.Namespace) -> int:
    """What is asked for: returns the exit code, raises UserError."""
    from longseq.data import inspection

    if options.look == "inspect":
        inspection.inspect(_flags(options), options.seq_length)
    elif options.look == "report":
        from longseq.data.report.page import write_report

        write_report(_flags(options))
    elif options.look == "duplicates":
        from longseq.data.sources.inputs import expand
        from longseq.data.sources.tables import Columns
        from longseq.data.survey.first_pass import list_duplicates

        inputs = expand(options.inputs)
        check_column_flags(options, inputs.paths)
        columns = Columns(options.column, options.name_column)
        list_duplicates(inputs, options.near, columns)
    elif options.look == "verify":
        inspection.verify(options.prefix, options.tokenizer_type)
    else:
        inspection.decode(options.prefix, options.tokenizer_type, options.document)
    return EXIT_DONE


def _flags(options: argparse.Namespace) -> Data:
    """As the trainer reads the same flags, within the same bounds."""
    from longseq.config.arguments import Data
    from longseq.config.flags import read_flags

    names = ("tokenizer_type", "split", "split_seed", "valid_records", "test_records")
    given = {name: getattr(options, name) for name in names}
    (found,) = read_flags([Data], argparse.Namespace(data_path=options.prefix, **given))
    return found


def _add_split(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--split", default="949,50,1", metavar="WEIGHTS", help="weights of the parts")
    verb.add_argument("--split-seed", default="1234", metavar="N", help="draws what is held out")
    verb.add_argument(
        "--valid-records", default="", metavar="LIST", help="held out by name, as in a run"
    )
    verb.add_argument("--test-records", default="", metavar="LIST", help="the same for the test")
