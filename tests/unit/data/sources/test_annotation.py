"""Annotated features become the documents that Biopython extracts, from every kind of file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from Bio import SeqIO
from Bio.Seq import Seq
from Bio.SeqFeature import CompoundLocation, SeqFeature, SimpleLocation
from Bio.SeqRecord import SeqRecord
from data_helpers import options, texts

from longseq.__main__ import run_verb
from longseq.data.datasets import documents_of, open_datasets
from longseq.data.held_out import split_datasets
from longseq.data.indexed.document_table import read_documents
from longseq.data.indexed.manifest import read_manifest
from longseq.data.indexed.record_table import read_records
from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.sources.annotation.beside import read_annotation
from longseq.data.sources.inputs import expand
from longseq.errors import UserError

#          123456789 123456789 123456789 (30 bases)
GENOME = "ATGAAACCCGGGTTTTAACCCGGGATGCAT"
# Written down by hand: an operon of two exons, a partial gene on the other strand, and two genes
# over the origin of the circle, one on each strand.
BY_HAND = ["ATGAAACCCTTTTAA", "ATGCATCCCG", "ATGCATATG", "CATATGCAT"]
GFF = """##gff-version 3
##sequence-region c1 1 30
c1\tx\tregion\t1\t30\t.\t+\t.\tID=c1:1..30;Is_circular=true
c1\tx\tgene\t1\t18\t.\t+\t.\tID=gene-a
c1\tx\tmRNA\t1\t18\t.\t+\t.\tID=rna-a;Parent=gene-a
c1\tx\tCDS\t13\t18\t.\t+\t0\tID=cds-2;Parent=rna-a;locus_tag=a
c1\tx\tCDS\t1\t9\t.\t+\t0\tID=cds-1;Parent=rna-a;locus_tag=a;product=x%3By
c1\tx\tgene\t21\t30\t.\t-\t.\tID=gene-b
c1\tx\tCDS\t21\t30\t.\t-\t1\tID=cds-b;Parent=gene-b;locus_tag=b
c1\tx\tCDS\t25\t33\t.\t+\t0\tID=cds-c;locus_tag=c
c1\tx\ttRNA\t25\t33\t.\t-\t.\tID=d;locus_tag=d
##FASTA
>c1
"""
GTF = """c1\tx\texon\t1\t18\t.\t+\t.\tgene_id "g"; transcript_id "t";
c1\tx\tCDS\t1\t9\t.\t+\t0\tgene_id "g"; transcript_id "t";
c1\tx\tCDS\t13\t15\t.\t+\t0\tgene_id "g"; transcript_id "t";
c1\tx\tstop_codon\t16\t18\t.\t+\t0\tgene_id "g"; transcript_id "t";
c1\tx\tCDS\t21\t30\t.\t-\t1\tgene_id "h"; transcript_id "u";
"""
BED = "track name=x\nc1\t0\t18\ta\t0\t+\t0\t0\t0\t2\t9,6,\t0,12,\nc1\t20\t30\tb\t0\t-\nc1\t3\t6\n"


def genbank(path: Path, kind: str) -> list[str]:
    """Write the genome with its features; what Biopython itself extracts of them."""
    record = SeqRecord(Seq(GENOME), id="c1", name="c1", annotations={"molecule_type": "DNA"})
    record.annotations |= {"topology": "circular", "organism": "E. test", "taxonomy": ["B", "T"]}
    over = [SimpleLocation(24, 30, 1), SimpleLocation(0, 3, 1)]
    back = [SimpleLocation(0, 3, -1), SimpleLocation(24, 30, -1)]
    exons = SimpleLocation(0, 9, 1) + SimpleLocation(12, 18, 1)
    for location, feature, name, said in (
        (exons, "CDS", "a", {"product": ["x;y"]}),
        (SimpleLocation(20, 30, -1), "CDS", "b", {"codon_start": ["2"]}),
        (CompoundLocation(over), "CDS", "c", {}),
        (CompoundLocation(back), "tRNA", "d", {}),
    ):
        record.features.append(
            SeqFeature(location, feature, qualifiers={"locus_tag": [name], **said})
        )
    SeqIO.write([record], path, kind)
    (read,) = SeqIO.parse(path, kind)
    return [str(feature.extract(read.seq)) for feature in read.features]


def fasta(folder: Path, genome: str = GENOME, name: str = "c1 a circle") -> str:
    (folder / "x.fa").write_text(f">{name}\n{genome[:7]}\n{genome[7:]}\n>other\nACGT\n")
    return str(folder / "x.fa")


def run(folder: Path, *words: str) -> str:
    prefix = str(folder / "out")
    assert run_verb(["prepare", *words, "--output", prefix, "--overwrite"]) == 0
    return prefix


@pytest.mark.parametrize("kind", ["genbank", "embl"])
def test_flat_files(tmp_path: Path, kind: str) -> None:
    extracted = genbank(tmp_path / f"x.{kind}", kind)
    assert extracted == BY_HAND
    prefix = run(tmp_path, str(tmp_path / f"x.{kind}"), "--features", "CDS,tRNA")
    assert texts(prefix) == extracted
    documents = list(read_documents(prefix))
    assert [document.location for document in documents] == [
        "1..9+,13..18+", "21..30-", "25..30+,1..3+", "1..3-,25..30-"
    ]  # fmt: skip
    assert documents[0].facts == {"locus_tag": "a", "product": "x;y", "codon_start": "1"}
    (record,) = read_records(prefix)
    assert record.facts["organism"] == "E. test"
    assert record.facts["taxonomy"] == "B; T"


@pytest.mark.parametrize("chunk", [0, 16])
@pytest.mark.parametrize(
    ("name", "content", "features", "expected"),
    [
        ("x.gff3", GFF, "CDS,tRNA", BY_HAND),
        ("x.gtf", GTF, "CDS", BY_HAND[:2]),
        ("x.bed", BED, "region", ["ATGAAACCCTTTTAA", "AAA", "ATGCATCCCG"]),
    ],
)
def test_files_beside_the_sequence(
    tmp_path: Path, name: str, content: str, features: str, expected: list[str], chunk: int
) -> None:
    """Also of a record that is longer than a piece, which is read in windows."""
    (tmp_path / name).write_text(content)
    files = (str(tmp_path / name),)
    which = {"regions" if name == "x.bed" else "annotation": files}
    settings = Settings(Recipe(features=features), chunk_bytes=chunk, **which)  # type: ignore[arg-type]
    prefix = str(tmp_path / "out")
    manifest = prepare(expand([fasta(tmp_path)]), prefix, settings, True, quiet)
    assert sorted(texts(prefix)) == sorted(expected)
    assert [record.documents for record in read_records(prefix)] == [len(expected), 0]
    assert [Path(source["path"]).name for source in manifest.sources] == ["x.fa", name]


@pytest.mark.parametrize(
    "first",
    [
        'gene_id "g"; product "a ; b";',
        'gene_id "g"; transcript_id "v"; note "x; y=1"',
        'note "a=b"; gene_id "g"',
        "gene_id g; transcript_id v; exon_number 1;",
        'gene_id "g" ; transcript_id "v" ;',
        ";gene_id g",
        ".",
    ],
)
def test_no_line_of_gtf_says_how_others_are_read(tmp_path: Path, first: str) -> None:
    """Neither what is in its quotes, nor that there are none, nor the blanks."""
    line = f"c1\tx\tgene\t1\t18\t.\t+\t.\t{first}\nc1\tx\tCDS\t25\t30\t.\t+\t0\t{first}\n"
    last = GTF.replace('"u";', '"u"; note "1; 2"; tag "a"; tag "b"; level 2')
    (tmp_path / "x.gtf").write_text(line + last)
    prefix = run(tmp_path, fasta(tmp_path), "--annotation", str(tmp_path / "x.gtf"))
    assert texts(prefix) == [BY_HAND[0], BY_HAND[1], "ATGCAT"]
    documents = list(read_documents(prefix))
    names = [document.name for document in documents[:2]]
    assert names == ["t", "u"]
    assert documents[1].facts["gene_id"] == "h"
    if "transcript_id" in first:
        assert documents[2].name == "v"


@pytest.mark.parametrize(
    "first", ["ID=g;Name=x; y=1 ", ".", 'note="a;b"', "ID=g ; Name=1,2", "a=%3B,=;"]
)
def test_no_line_of_gff3_says_how_others_are_read(tmp_path: Path, first: str) -> None:
    """Here one with a blank behind its semicolons, and one without."""
    rows = [
        f"gene\t1\t18\t.\t+\t.\t{first}",
        'CDS\t1\t9\t.\t+\t0\tName="a,b=c"; Parent=t1',
        "CDS\t13\t18\t.\t+\t0\tName=a%2Cb=c;Parent=t2,t1 ;",
    ]
    (tmp_path / "x.gff").write_text("".join(f"c1\tx\t{row}\n" for row in rows))
    prefix = run(tmp_path, fasta(tmp_path), "--annotation", str(tmp_path / "x.gff"))
    assert texts(prefix) == [BY_HAND[0], "TTTTAA"]
    assert [document.name for document in read_documents(prefix)] == ["a,b=c", "a,b=c"]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [("CDS", ["ATGAAACCCTTTTAA"]), ("CDS,stop_codon", ["ATGAAACCCTTTTAA", "TAA"])],
)
@pytest.mark.parametrize("name", ["in.gtf", "beside.gtf", "x.gff"])
def test_a_stop_codon_is_read_once(
    tmp_path: Path, name: str, kinds: str, expected: list[str]
) -> None:
    """Whether a program counts it in the CDS or not; in GFF3 it always is. That of another
    transcript stops nothing that is there.
    """
    said = "ID=x;Parent=t" if name == "x.gff" else 'transcript_id "t";'
    rows = [("stop_codon", 16, 18), ("CDS", 1, 9), ("CDS", 13, 15 if name == "beside.gtf" else 18)]
    lines = [f"c1\tx\t{kind}\t{a}\t{b}\t.\t+\t0\t{said}\n" for kind, a, b in rows]
    if kinds == "CDS":
        lines.append(lines[0].replace('"t"', '"u"').replace("Parent=t", "Parent=u"))
    (tmp_path / name).write_text("".join(lines))
    words = ["--annotation", str(tmp_path / name), "--features", kinds]
    assert texts(run(tmp_path, fasta(tmp_path), *words)) == expected


@pytest.mark.parametrize("strand", [".", "?"])
def test_cds_of_no_strand_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], strand: str
) -> None:
    gff = GFF.replace("CDS\t25\t33\t.\t+", f"CDS\t25\t33\t.\t{strand}")
    (tmp_path / "x.gff").write_text(gff.replace("gene\t21\t30\t.\t-", "gene\t21\t30\t.\t."))
    prefix = run(tmp_path, fasta(tmp_path), "--annotation", str(tmp_path / "x.gff"))
    assert sorted(texts(prefix)) == sorted(BY_HAND[:3])
    said = capsys.readouterr().out
    assert "lines of CDS without a strand (. or ?), read as +: 1" in said
    assert read_manifest(prefix).counts["cds_without_strand"] == 1  # type: ignore[union-attr]


def test_cds_of_no_transcript_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gtf = GTF.replace('\tgene_id "h"; transcript_id "u"', '\tgene_id "h"; transcript_id ""')
    (tmp_path / "x.gtf").write_text(gtf)
    prefix = run(tmp_path, fasta(tmp_path), "--annotation", str(tmp_path / "x.gtf"))
    assert texts(prefix) == BY_HAND[:2]
    assert "lines of CDS without a transcript_id, each a document of its own: 1" in (
        capsys.readouterr().out
    )
    assert read_manifest(prefix).counts["cds_without_transcript"] == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("chunk", [0, 16])
def test_weights_go_with_their_letters(tmp_path: Path, chunk: int) -> None:
    """By hand: of 10..21 on the other strand, 13..18 lower case; an N weighs nothing."""
    genome = GENOME[:12] + GENOME[12:18].lower() + GENOME[18:19] + "N" + GENOME[20:]
    (tmp_path / "x.bed").write_text("c1\t9\t21\tx\t0\t-\n")
    recipe = Recipe(features="region", lower_case_weight=0.5, unknown_weight=0.0)
    settings = Settings(recipe, chunk_bytes=chunk, regions=(str(tmp_path / "x.bed"),))
    prefix = str(tmp_path / "out")
    prepare(expand([fasta(tmp_path, genome)]), prefix, settings, True, quiet)
    assert texts(prefix) == ["GNGTTAAAACCC"]
    found = np.fromfile(f"{prefix}.weights", np.uint8).tolist()
    assert found == [0, 2, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]


def test_annotation_of_a_file_that_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.gff").write_text(
        GFF.replace("##FASTA", "z\tx\tCDS\t1\t3\t.\t+\t0\tID=z\n##FASTA")
    )
    (tmp_path / "bad.2bit").write_bytes(b"\x43\x27\x41\x1a")
    words = ["--annotation", str(tmp_path / "x.gff"), "--skip-bad"]
    prefix = run(tmp_path, fasta(tmp_path), str(tmp_path / "bad.2bit"), *words)
    assert texts(prefix) == [BY_HAND[0], BY_HAND[2], BY_HAND[1]]


@pytest.mark.parametrize("start", ["0", "4", "x" * 99])
def test_a_frame_of_no_codon_is_refused(tmp_path: Path, start: str) -> None:
    genbank(tmp_path / "x.gb", "genbank")
    text = (tmp_path / "x.gb").read_text().replace('/codon_start="2"', f"/codon_start={start}")
    (tmp_path / "x.gb").write_text(text.replace("/codon_start=2", f"/codon_start={start}"))
    with pytest.raises(UserError) as caught:
        run(tmp_path, str(tmp_path / "x.gb"), "--features", "CDS")
    assert f"x.gb: CDS b of c1 has codon_start {start[:20]!r}, which is 1, 2 or 3: mend" in (
        str(caught.value)
    )


def test_codons_are_in_frame_and_looked_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """b begins one letter before its first whole codon; only a is as table 11 has it."""
    genbank(tmp_path / "x.gb", "genbank")
    words = [str(tmp_path / "x.gb"), "--features", "CDS", "--tokenizer", "codon"]
    prefix = run(tmp_path, *words)
    assert texts(prefix) == ["ATGAAACCCTTTTAA", "TGCATCCCG", "ATGCATATG"]
    counts = read_manifest(prefix).counts  # type: ignore[union-attr]
    assert counts["letters_before_frame"] == 1
    assert (counts["cds_without_start"], counts["cds_without_stop"]) == (1, 2)
    assert "CDS that do not end with a stop codon: 2" in capsys.readouterr().out
    made = read_manifest(run(tmp_path, *words, "--translation-table", "2"))
    assert made is not None
    assert made.counts["cds_without_stop"] == 2
    mend = GENOME.replace("TTTTAA", "AGATAG")  # AGA stops in table 2 only
    (tmp_path / "y.gff").write_text(GFF.replace("tRNA", "CDS"))
    flags = ["--annotation", str(tmp_path / "y.gff"), "--tokenizer", "codon"]
    for table, inner in (("11", 0), ("2", 1)):
        made = read_manifest(
            run(tmp_path, fasta(tmp_path, mend), *flags, "--translation-table", table)
        )
        assert made is not None
        assert made.counts.get("cds_with_inner_stop", 0) == inner


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--annotation", "{0}/names.gff"], r"names\.gff annotates 'chr1', .*x\.fa has 'c1'"),
        (["--annotation", "{0}/long.gff"], r"of c1 ends at base 40, but .*x\.fa has 30 of it"),
        (["--annotation", "{0}/x.bed"], r"x\.bed: line 1: 'c1 0 9' has 3 columns between tabs, wh"),
        (
            ["--annotation", "{0}/dot.gff"],
            r"dot\.gff: line 6: CDS of c1 has the places '\.' and '18'",
        ),
        (
            ["--annotation", "{0}/code.gff", "--tokenizer", "codon"],
            r"fa: CDS cds-b has transl_table 1111: NCBI's genetic codes are 1, 2.* or overrule it",
        ),
        (["--annotation", "{0}/x.gff", "--features", "gen"], "no gen in it.*it has CDS, gene"),
        (["--annotation", "{0}/x.gff", "--annotation", "{0}/y.gff"], "both annotate c1"),
        (["--annotation", "{0}/none.gff"], "No such file"),
        (["--annotation", "{0}/empty.gff"], "is empty"),
        (["--regions", "{0}/x.gff"], r"x\.gff: line 3: its columns 2 and 3 are 'x' and 'regi"),
        (["--regions", "{0}/none.bed"], r"line 2: c1 5 5 has no length: mend it or leave it out"),
        (["--regions", "{0}/back.bed"], r"line 1: c1 5 4 ends before it begins: mend it"),
        (["--regions", "{0}/short.bed"], r"from 0 to 17, and columns 2 and 3 say 0 to 18: mend"),
        (["--regions", "{0}/late.bed"], r"from 1 to 18, and columns 2 and 3 say 0 to 18: mend"),
        (["--regions", "{0}/x.bed", "--features", "CDS"], "--regions with --features"),
        (["--features", "CDS"], "no input is GenBank or EMBL"),
        (["--annotation", "{0}/x.gff", "--genes"], "--annotation with --genes"),
        (["--annotation", "{0}/x.gff", "--tokenizer", "byte"], "a tokenizer of sequences"),
        (["--annotation", "{0}/x.gff", "--translation-table", "11"], "acts where genes"),
        (["--genes", "--translation-table", "7"], "NCBI's genetic codes are 1, 2"),
        (["--genes", "--translation-table", "3"], "pyrodigal has models of 4 and 11"),
        (["--features", "CDS,CDS"], "each once"),
        (["--column", "x"], "no input is a table"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "x.gff").write_text(GFF)
    (tmp_path / "y.gff").write_text(GFF)
    (tmp_path / "empty.gff").write_text("")
    (tmp_path / "names.gff").write_text(GFF.replace("c1", "chr1"))
    (tmp_path / "long.gff").write_text(GFF.replace("true", "false").replace("\t33", "\t40"))
    (tmp_path / "dot.gff").write_text(GFF.replace("CDS\t13\t18", "CDS\t.\t18"))
    (tmp_path / "code.gff").write_text(GFF.replace(";locus_tag=b", ";transl_table=" + "1" * 5000))
    (tmp_path / "x.bed").write_text("c1\t0\t9\n")
    (tmp_path / "none.bed").write_text("c1\t0\t9\nc1\t5\t5\n")
    (tmp_path / "back.bed").write_text("c1 5 4\n")
    (tmp_path / "short.bed").write_text(BED.replace("9,6,", "9,5,"))
    (tmp_path / "late.bed").write_text(BED.replace("0,12,", "1,12,"))
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path, fasta(tmp_path), *[word.format(tmp_path) for word in words])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("chunk", [0, 16])
@pytest.mark.parametrize(("name", "content"), [("x.gff3", GFF), ("x.gtf", GTF), ("x.bed", BED)])
def test_places_in_a_record_with_gaps_are_refused(
    tmp_path: Path, name: str, content: str, chunk: int
) -> None:
    """Where features are; nobody annotated the other record."""
    (tmp_path / name).write_text(content)
    which = {"regions" if name == "x.bed" else "annotation": (str(tmp_path / name),)}
    settings = Settings(Recipe(features="CDS"), chunk_bytes=chunk, **which)  # type: ignore[arg-type]

    def made(genome: str) -> None:
        path = fasta(tmp_path, genome)
        Path(path).write_text(Path(path).read_text().replace("ACGT\n", "AC-GT\n"))
        prepare(expand([path]), str(tmp_path / "out"), settings, True, quiet)

    made(GENOME)
    with pytest.raises(UserError) as caught:
        made(GENOME[:9] + "--" + GENOME[9:20] + "." + GENOME[20:])
    said = str(caught.value)
    assert (
        f"record c1 has 3 alignment gaps (- or .), which stand for no base, and {tmp_path}" in said
    )
    assert f"{name} counts places in it: give the sequence without gaps" in said


@pytest.mark.parametrize("kind", ["genbank", "embl"])
def test_features_of_flat_files_with_gaps_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    genbank(path, kind)
    head, found, tail = path.read_text().partition("atgaaa")
    path.write_text(f"{head}{found and 'at-aaa'}{tail}")
    prefix = run(tmp_path, str(path))
    assert texts(prefix) == ["ATAAACCCGGGTTTTAACCCGGGATGCAT"]
    with pytest.raises(UserError, match=r"c1 has 1 alignment gap .*, and --features counts places"):
        run(tmp_path, str(path), "--features", "CDS")


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        (
            "x.gff",
            "CDS\t18\t13\t.\t+",
            "CDS of c1 ends at 13, before it begins at 18: mend it or le",
        ),
        (
            "x.gff",
            "CDS\t0\t9\t.\t+",
            "CDS of c1 begins at 0, where the first base is 1: mend it or",
        ),
        (
            "x.gff",
            "CDS\tx\ty z\t.\t+",
            "CDS of c1 has the places 'x' and 'y z', where numbers belong",
        ),
        ("x.gff", "CDS\t1\t9\t.\t+\t0\tb=c", "'c1 x CDS 1 9 . + 0 b=c 0 ID=a' has 11 columns betw"),
        ("x.bed", "5", "it has 2 columns, where BED has 3 or more: mend it or leave it out"),
        ("x.bed", "-1\t5", "c1 -1 5 begins below 0, the first base: mend it or leave it out"),
        (
            "x.bed",
            "0\t9\ta\t0\t+\t0\t0\t0\t2\t9,6\t0",
            "it has 2 sizes of blocks in column 11 and 1 s",
        ),
        (
            "x.bed",
            "0\t9\ta\t0\t+\t0\t0\t0\t0\t,\t,",
            "it has 0 sizes of blocks in column 11 and 0 s",
        ),
        (
            "x.bed",
            "0\t9\ta\t0\t+\t0\t0\t0\t3\t4,5,\t0,4,",
            "it has 2 sizes of blocks in column 11 and 2 starts in column 12, of 3 in column 10: m",
        ),
        (
            "x.bed",
            "0\t9\ta\t0\t+\t0\t0\t0\t3\t2,3,6,\t0,6,3,",
            "a block begins at 6, where the one before ends at 9: mend it or leave it out",
        ),
        (
            "x.bed",
            "0\t9\ta\t0\t+\t0\t0\t0\t2\t9,0\t0,9",
            "a block in its column 11 has no length (0):",
        ),
        (
            "x.bed",
            "0\t9\ta\t0\t+\t0\t0\t0\t1\tx\t0",
            "its column 11 is 'x', where numbers belong: ",
        ),
    ],
)
def test_a_faulty_line_says_what_is_wrong(tmp_path: Path, name: str, line: str, said: str) -> None:
    row = f"c1\t{line}\n" if name == "x.bed" else f"c1\tx\t{line}\t0\tID=a\n"
    (tmp_path / name).write_text(f"# first\n{row}")
    flag = "--regions" if name == "x.bed" else "--annotation"
    with pytest.raises(UserError) as caught:
        run(tmp_path, fasta(tmp_path), flag, str(tmp_path / name))
    assert f"{name}: line 2: {said}" in str(caught.value)
    assert str(caught.value).isprintable()


def test_the_digest_is_of_the_whole_file(tmp_path: Path) -> None:
    """Also of the sequences that a GFF3 file may have behind its lines."""
    content = GFF.encode() + b"A" * (3 << 20)
    (tmp_path / "x.gff").write_bytes(content)
    (facts,) = read_annotation((str(tmp_path / "x.gff"),), ("CDS",)).sources
    assert facts["bytes"] == len(content)
    assert facts["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["track_1", "browserX"])
def test_a_contig_may_be_called_like_a_line_of_bed(tmp_path: Path, name: str) -> None:
    lines = "track name=x\nbrowser position c1:1-9\ntrack\n \n"
    (tmp_path / "x.bed").write_text(f"{lines}{name}\t0\t3\n{name}\t3\t6\n")
    words = ["--regions", str(tmp_path / "x.bed")]
    assert texts(run(tmp_path, fasta(tmp_path, name=name), *words)) == ["ATG", "AAA"]


def test_an_empty_id_is_none(tmp_path: Path) -> None:
    row = "c1\tx\tCDS\t{}\t{}\t.\t+\t0\tID=\n"
    (tmp_path / "x.gff").write_text(row.format(1, 3) + row.format(4, 6))
    prefix = run(tmp_path, fasta(tmp_path), "--annotation", str(tmp_path / "x.gff"))
    assert texts(prefix) == ["ATG", "AAA"]


def test_a_cut_goes_through_no_joined_gene(tmp_path: Path) -> None:
    """Genes that share an exon far from where they begin, or lie in one, are never in two parts."""
    rng = np.random.default_rng(2)
    genome = "".join(rng.choice(list("ACGT"), 6000))
    exons = {"t": [(100, 200), (3000, 3400)], "u": [(3000, 3400), (5000, 5100)]}
    lines = [(f"s{at}", [(at, at + 60)]) for at in range(250, 2900, 100)]
    lines += [(f"s{at}", [(at, at + 60)]) for at in range(3500, 5100, 100)]  # the last within u
    gff = "".join(
        f"c1\tx\tCDS\t{start + 1}\t{stop}\t.\t+\t0\tID={name}\n"
        for name, parts in [*exons.items(), *lines]
        for start, stop in parts
    )
    (tmp_path / "x.gff").write_text(gff)
    prefix = run(tmp_path, fasta(tmp_path, genome), "--annotation", str(tmp_path / "x.gff"))
    (dataset,) = open_datasets(prefix)
    reaches = documents_of(dataset).reaches
    assert reaches is not None
    names = [document.name for document in read_documents(prefix)]
    assert reaches[names.index("t")].tolist() == [100, 3400]
    locations = dict([*exons.items(), *lines])
    for seed in range(3):
        flags: dict[str, Any] = {"split": "60,40,0", "split_seed": seed}
        (split,) = split_datasets([dataset], options(prefix, **flags))
        offsets = dataset.tokens.document_offsets
        bases = {}
        for part in ("train", "valid"):
            starts = set(split.parts[part].start.tolist())
            held = [name for name, at in zip(names, offsets.tolist(), strict=False) if at in starts]
            assert held, part
            bases[part] = {b for n in held for low, high in locations[n] for b in range(low, high)}
        assert not bases["train"] & bases["valid"]


def test_names_of_records_reach_decode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.gff").write_text(GFF)
    prefix = run(tmp_path, fasta(tmp_path), "--annotation", str(tmp_path / "x.gff"))
    capsys.readouterr()
    assert run_verb(["data", "decode", prefix, "--document", "0"]) == 0
    assert capsys.readouterr().out.startswith(">0 c1 a circle CDS a 1..9+,13..18+\nATG")
    assert run_verb(["data", "verify", prefix]) == 0
    values = json.loads(Path(f"{prefix}.json").read_text())
    assert values["options"]["features"] == "CDS"
    assert {"documents.tsv", "reaches"} <= set(values["files"])
