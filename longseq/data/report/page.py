"""PREFIX.report.html, which needs nothing beside it, and the same as a table on the terminal."""

from pathlib import Path

import numpy as np

from longseq.config.arguments import Data
from longseq.data.datasets import documents_of, open_datasets
from longseq.data.report.facts import SHOWN, Facts, facts_of, names_of_parts
from longseq.data.report.pictures import pictures
from longseq.host.atomic_files import reason, replace_file, unwritable
from longseq.reports.format import counted
from longseq.reports.page import render

Rows = list[tuple[str, str]]

POLICIES = {  # count → what became of these letters or tokens, and of which they are a part
    "gaps": ("alignment gaps, no base", "letters and gaps"),
    "lower_case_bases": ("lower case (soft-masked repeats)", "letters"),
    "ambiguous_left_out": ("not ACGT, split there", "on strands"),
    "dropped_bases": ("in records dropped for such letters", "in records"),
    "short_bases": ("in records that are too short", "in records"),
    "trailing_bases": ("after a record's last whole token", "on strands"),
    "bases_outside_genes": ("outside genes", "letters"),
    "duplicate_tokens": ("tokens of dropped duplicates", "tokens with duplicates"),
    "unknown_letters": ("without a token", "as text"),
    "unknown_words": ("words with a letter other than ACGT ([UNK])", "tokens"),
}


def write_report(flags: Data) -> None:
    """Write the page of each data set that the flags name, and print its figures."""
    for dataset in open_datasets(flags.data_path, flags.tokenizer_type):
        facts = facts_of(dataset, flags)
        path = Path(f"{dataset.prefix}.report.html")
        try:
            replace_file(path, page(facts))
        except OSError as error:
            raise unwritable(f"{path} cannot be written: {reason(error)}", error) from None
        print(text(facts))
        print(f"{path}: the same with pictures")


def page(facts: Facts) -> str:
    """The HTML of one data set."""
    cards = [(value, name) for name, value in _figures(facts)]
    held_out = [
        (
            part,
            ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" * (len(names) > SHOWN)),
        )
        for part, names in names_of_parts(facts).items()
        if any(names)
    ]
    duplicates = [(f"{row[1]} ({row[0]})", f"{row[3]}") for row in facts.duplicates[1:]]
    manifest = facts.dataset.manifest
    options = [(name, str(value)) for name, value in (manifest.options if manifest else {}).items()]
    skipped = [(one["path"], one["reason"]) for one in (manifest.skipped if manifest else [])]
    return render(
        name=Path(facts.dataset.prefix).name,
        subtitle=facts.dataset.prefix,
        cards=cards,
        pictures="Pictures",
        drawn=[(title, "", svg) for title, svg in pictures(facts)],
        by="",
        sections=[
            ("Split", _split(facts)),
            ("What became of the letters", _policies(facts)),
            ("Loss weights", _weights(facts)),
            ("Duplicates that were dropped, and what stands for them", duplicates),
            ("Files that were left out", skipped),
            ("Tokens by source", _sources(facts)),
        ],
        details=[("Held out", held_out), ("Options", options)],
        command="",
    )


def text(facts: Facts) -> str:
    """The figures as lines for the terminal."""
    blocks = [
        (facts.dataset.prefix, _figures(facts)),
        ("split", _split(facts)),
        ("letters", _policies(facts)),
        ("loss weights", _weights(facts)),
        ("sources", _sources(facts)[:5]),
    ]
    lines = []
    for title, rows in blocks:
        if rows:
            lines.append(title)
            lines += [f"  {name:<32}  {value}" for name, value in rows]
    return "\n".join(lines)


def _figures(facts: Facts) -> Rows:
    tokens, counts = facts.dataset.tokens, facts.counts
    low, middle, high = np.quantile(facts.lengths, (0.05, 0.5, 0.95))
    rows = [
        ("tokens", f"{tokens.num_tokens:,}"),
        ("documents", f"{tokens.num_documents:,}"),
        ("records", f"{counts.get('records', len(facts.lengths)):,}"),
        ("bases read", f"{counts['bases']:,}" if "bases" in counts else "not known"),
        ("tokenizer", facts.dataset.tokenizer.specification),
        ("median length of records", f"{middle:,.0f}"),
        ("lengths of 90% of them", f"{low:,.0f} to {high:,.0f}"),
        ("N50", f"{_n50(facts):,}"),
        ("GC", f"{facts.gc_of_all:.2%}"),
        ("tokens with letters beside ACGT", f"{facts.not_acgt / facts.tokens.sum():.3%}"),
    ]
    if "lower_case_bases" in counts:
        rows.append(("lower case (repeats)", f"{counts['lower_case_bases'] / counts['bases']:.2%}"))
    dropped = facts.counts.get("duplicate_records")
    manifest = facts.dataset.manifest
    searched = manifest is not None and "drop_duplicates" in manifest.options
    rows.append(
        ("duplicate records", f"{dropped or 0:,} dropped" if searched else "not looked for")
    )
    return rows


def _n50(facts: Facts) -> int:
    """The length of the record with which half of all bases are in records as long or longer."""
    lengths = np.sort(facts.lengths)[::-1]
    return int(lengths[np.searchsorted(np.cumsum(lengths), lengths.sum() / 2)])


def _split(facts: Facts) -> Rows:
    rows = []
    for part in facts.parts:
        asked = ", held out by name" if part.asked is None else f" for {part.asked:.2%} asked"
        fair = "" if part.fair or not part.asked else ", far from its share"
        gc = "" if np.isnan(part.gc) else f", GC {part.gc:.2%}"
        rows.append((
            part.name,
            f"{part.got:.2%} of the tokens{asked}{fair}: {part.tokens:,} in"
            f" {counted(part.groups, 'group')}, {_pieces(part.documents)}{gc}",
        ))  # fmt: skip
    tokens, documents = facts.in_no_part
    if tokens:
        share = tokens / facts.tokens.sum()
        text = f"{share:.2%} of the tokens, where a cut goes through: {tokens:,}"
        text += f", {counted(documents, 'whole document')} among them" if documents else ""
        rows.append(("in no part", text))
    return [("cut by", facts.split.by), *rows, *(("note", note) for note in facts.split.notes)]


def _pieces(count: int) -> str:
    return "1 document or piece" if count == 1 else f"{count:,} documents or pieces"


def _policies(facts: Facts) -> Rows:
    """What was done to letters and tokens, each as a part of its like."""
    counts, wholes = facts.counts, _wholes(facts)
    return [
        (what, f"{counts[name]:,}" + (f" ({counts[name] / wholes[of]:.3%})" if wholes[of] else ""))
        for name, (what, of) in POLICIES.items()
        if counts.get(name)
    ]


def _wholes(facts: Facts) -> dict[str, int]:
    """What POLICIES are parts of. In records: where documents are features, in these. On strands:
    of both, where both are read. Tokens: without ends and tags.
    """
    counts, manifest = facts.counts, facts.dataset.manifest
    options = manifest.options if manifest else {}
    letters = counts.get("bases", 0) + counts.get("bytes", 0)
    records = counts.get("feature_bases", letters)
    tokens = facts.dataset.tokens.num_tokens
    tokens -= facts.dataset.tokens.num_documents * (1 + documents_of(facts.dataset).lead)
    return {
        "letters": letters,
        "letters and gaps": letters + counts.get("gaps", 0),
        "in records": records,
        "on strands": records * (2 if options.get("reverse_complement") else 1),
        "as text": counts.get("letters", 0),
        "tokens": tokens,
        "tokens with duplicates": tokens + counts.get("duplicate_tokens", 0),
    }


def _weights(facts: Facts) -> Rows:
    total = sum(facts.weights.values())
    return [
        (f"count for {weight:g}", f"{counted(count, 'token')}, {count / total:.2%}")
        for weight, count in facts.weights.items()
    ]


def _sources(facts: Facts) -> Rows:
    rows = [
        (
            name,
            f"{counted(tokens, 'token')}, {counted(bases, 'base')},"
            f" {counted(documents, 'document')}",
        )
        for name, (documents, bases, tokens) in facts.sources.items()
    ]
    left = rows[SHOWN:]
    return [*rows[:SHOWN], *([("others", counted(len(left), "file"))] if left else [])]
