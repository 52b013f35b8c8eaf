"""What variants do to the likelihood, against transformers on the same letters."""

from __future__ import annotations

import csv
import gzip
import math
from pathlib import Path

import pysam
import pytest

from longseq.__main__ import main
from longseq.inference.vcf import agrees
from longseq.model.gpt import GPT
from tests.unit.inference.reference import log_likelihoods
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

END = 15
SHORT = "ACGTTGCATTACGTACCATG"
LONG = "ACGTTGCAGGACGTACTTGACCA" * 12
HEADER = (
    "##fileformat=VCFv4.2\n##contig=<ID=short>\n##contig=<ID=long>\n"
    '##ALT=<ID=DEL,Description="gone">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n'
)


@pytest.fixture(scope="module")
def model() -> GPT:
    return make_model(LLAMA)


@pytest.fixture(scope="module")
def run(model: GPT, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_run(model, tmp_path_factory.mktemp("run")))


def files(folder: Path, rows: list[str]) -> tuple[str, str]:
    fasta, vcf = folder / "reference.fa", folder / "calls.vcf"
    fasta.write_text(f">short the first\n{SHORT}\n>long\n{LONG[:100]}\n{LONG[100:]}\n")
    vcf.write_text(HEADER + "".join(row.replace(" ", "\t") + "\t.\t.\t.\n" for row in rows))
    return str(fasta), str(vcf)


def of(model: GPT, letters: str, begins: bool) -> float:
    codes = ["ACGTN".index(letter) for letter in letters]
    return float(log_likelihoods(model, [END, *codes] if begins else codes).sum())


def test_differences_are_those_of_transformers(model: GPT, run: str, tmp_path: Path) -> None:
    rows = ["short 4 rs1 T A,TGG", "short 10 . TAC T", "short 12 . C <DEL>", "long 120 . T C"]
    rows[3] = f"long 120 . {LONG[119]} {'C' if LONG[119] != 'C' else 'G'}"
    fasta, vcf = files(tmp_path, rows)
    out = tmp_path / "out.tsv"
    words = ["--variants", vcf, "--window", "33", "--output", str(out)]
    assert main(["score", run, fasta, *words]) == 0
    with out.open() as file:
        found = list(csv.DictReader(file, delimiter="\t"))
    alt = rows[3].split()[-1]
    flanks = LONG[103:119], LONG[120:136]
    expected = [
        (of(model, SHORT, True), of(model, SHORT[:3] + "A" + SHORT[4:], True)),
        (of(model, SHORT, True), of(model, SHORT[:3] + "TGG" + SHORT[4:], True)),
        (of(model, SHORT, True), of(model, SHORT[:10] + SHORT[12:], True)),
        (math.nan, math.nan),
        (of(model, LONG[103:136], False), of(model, flanks[0] + alt + flanks[1], False)),
    ]
    assert [row["position"] for row in found] == ["4", "4", "10", "12", "120"]
    assert [row["alt"] for row in found] == ["A", "TGG", "T", "<DEL>", alt]
    for row, (ref, other) in zip(found, expected, strict=True):
        assert float(row["log_likelihood_ref"]) == pytest.approx(ref, abs=2e-3, nan_ok=True)
        assert float(row["log_likelihood_alt"]) == pytest.approx(other, abs=2e-3, nan_ok=True)
        assert float(row["difference"]) == pytest.approx(other - ref, abs=4e-3, nan_ok=True)


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        (["short 4 . G A"], [], "short:4 has REF G and"),
        (["short 20 . GTT A"], [], "short:20 has REF GTT and"),
        (["short 4 . T A", "other 1 . A C"], [], "has no record other"),
        (
            ["chrlong 1 . A C"],
            [],
            "has no record chrlong, but long: use the same names",
        ),
        ([], [], "holds no variant"),
        (["short 4 . T ."], [], "holds no variant: its 1 site has no alternative (ALT is .)"),
        (["short 4 . T A", "short 5 . A ."], [], "short:5 has REF A and"),
        (["short 4 . T A"], ["--per-position", "x.tsv"], "--per-position and --variants"),
        (
            ["short 4 . T A", "short 10 . T TACGTACGTA"],
            ["--window", "9"],
            "of 10 letters needs a window of 11 tokens, and the window has 9: give --window 11, or",
        ),
        (["short 4 . T A"], ["--window", "1"], "short:4: with the token before it, an allele of 1"),
        (
            ["short 2 . CG CA"],
            ["--window", "2"],
            "needs a window of 3 tokens, and the window has 2: give",
        ),
        (
            ["long 2 . C C" + "A" * 96],
            [],
            "of 98 tokens, and the window has 96: give --seq-length 98, or leave it out",
        ),
        (
            ["long 2 . C C" + "A" * 96],
            ["--window", "96"],
            "and the window has 96: give --seq-length 98 --window 98, or leave it out",
        ),
        (
            ["short 4 . T A"],
            ["--window", "97"],
            "--window 97: the network sees 96 tokens at once: give 96 or less, or --seq-length 97",
        ),
        (["short 4 .  A"], [], "short:4: its column REF is empty, or a dot: mend the line"),
        (["short 4 . . A"], [], "short:4: its column REF is empty, or a dot: mend the line"),
        (["short 4 . T A"], ["--stride", "3", "--window", "9"], "--stride and --variants"),
    ],
)
def test_a_mistake_is_one_line(
    rows: list[str],
    words: list[str],
    said: str,
    run: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fasta, vcf = files(tmp_path, rows)
    assert main(["score", run, fasta, "--variants", vcf, *words]) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert said in error
    assert error.count("\n") == 1


def test_what_is_no_vcf_is_one_line(
    run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fasta, _ = files(tmp_path, [])
    assert main(["score", run, fasta, "--variants", fasta]) == 2
    error = capfd.readouterr().err
    assert "cannot be read as VCF: it does not begin like one: name a VCF" in error
    assert error.count("\n") == 1
    assert main(["score", run, fasta, "--variants", str(tmp_path / "none.vcf")]) == 2
    assert "none.vcf: No such file or directory: name a whole VCF" in capfd.readouterr().err


@pytest.mark.parametrize("flag", [[], ["--csi"]])
def test_an_index_is_said_to_be_one(
    flag: list[str], run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fasta, vcf = files(tmp_path, ["short 4 . T A"])
    packed = pysam.tabix_index(vcf, preset="vcf", csi=bool(flag))
    index = f"{packed}.csi" if flag else f"{packed}.tbi"
    assert main(["score", run, fasta, "--variants", index]) == 2
    error = capfd.readouterr().err
    assert f"--variants {index} is the index of a file of variants: name that file" in error
    assert error.count("\n") == 1


def test_telomeres_have_a_row_without_a_score(
    run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Position 0 and the one behind the last letter; the others of their file are scored."""
    end = len(SHORT) + 1
    rows = ["short 0 . N <DEL>", "short 0 . N A", "short 4 . T A", f"short {end} . N A"]
    fasta, vcf = files(tmp_path, rows)
    found, error = scored(run, fasta, vcf, tmp_path, capfd, 20)
    assert [row["position"] for row in found] == ["0", "0", "4", str(end)]
    nans = [math.isnan(float(row["difference"])) for row in found]
    assert nans == [True, True, False, True]
    assert "1 alternative is no sequence (symbolic): nan" in error
    assert "2 alternatives are at a telomere (position 0, or behind the last): nan" in error


@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("short\tabc\t.\tA\tC\t.\t.\t.", "is no row of a VCF: 'short abc . A C"),
        ("short\t5\t.\tA", "is no row of a VCF: 'short 5 . A'"),
        ("", "is no row of a VCF: ''"),
        ("short\t5\t.\tG\t\t.\t.\t.", "has an empty ALT, where . stands for none: 'short 5 . G "),
    ],
)
def test_a_faulty_row_is_told_by_its_line(
    row: str, said: str, squeezed: bool, run: str, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fasta, vcf = files(tmp_path, ["short 4 . T A"])
    whole = Path(vcf).read_text() + row + "\nshort\t9\t.\tA\tC\t.\t.\t.\n"
    Path(vcf).write_text(whole)
    if squeezed:
        pysam.tabix_compress(vcf, vcf := f"{vcf}.gz")
    assert main(["score", run, fasta, "--variants", vcf]) == 2
    error = capfd.readouterr().err
    assert f"{vcf}: line 7 {said}" in error
    assert "mend it or leave it out" in error
    assert error.count("\n") == 1


def test_a_file_that_was_cut_off_or_packed_by_gzip_says_so(
    run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fasta, vcf = files(tmp_path, ["short 4 . T A"] * 20_000)
    packed = Path(f"{vcf}.gz")
    pysam.tabix_compress(vcf, str(packed))
    whole = packed.read_bytes()
    blocks = whole[:-28]  # without the empty one that ends the file
    for content, said in (
        (blocks, "no BGZF EOF marker; file may be truncated: name a whole VCF"),
        (blocks[:-200] + whole[-28:], "cannot be read: the file may be damaged or cut off"),
        (gzip.compress(Path(vcf).read_bytes()), "is packed by gzip, and only bgzip's blocks are"),
    ):
        packed.write_bytes(content)
        assert main(["score", run, fasta, "--variants", str(packed)]) == 2
        error = capfd.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_a_letter_is_no_symbol(run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """R has a token as N has, and Z none; a star and names in brackets are no letters."""
    fasta, vcf = files(tmp_path, ["short 4 . T R,r,Z", "short 5 . T *,<DEL>"])
    text = Path(vcf).read_text().replace("short\t5\t.\tT", f"short\t5\t.\t{SHORT[4]}")
    Path(vcf).write_text(text)
    found, error = scored(run, fasta, vcf, tmp_path, capfd, 20)
    ratios = [float(row["difference"]) for row in found]
    assert [math.isnan(ratio) for ratio in ratios] == [False, False, True, True, True]
    assert ratios[0] == ratios[1]
    assert "2 alternatives are no sequence (symbolic): nan" in error
    assert "1 alternative has a letter in their window that nucleotide has no token for" in error
    assert "the first at short:4 T>Z: nan" in error


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of k-mers, which have no token for N."""
    folder = tmp_path_factory.mktemp("words")
    return str(write_run(make_model(LLAMA, "kmer:3"), folder, "kmer:3"))


def scored(
    run: str, fasta: str, vcf: str, folder: Path, capfd: pytest.CaptureFixture[str], window: int = 8
) -> tuple[list[dict[str, str]], str]:
    out = folder / "out.tsv"
    words = ["--variants", vcf, "--window", str(window), "--output", str(out)]
    capfd.readouterr()
    assert main(["score", run, fasta, *words]) == 0
    with out.open() as file:
        return list(csv.DictReader(file, delimiter="\t")), capfd.readouterr().err


def candidates(model: GPT, row: str, bases: int, window: int) -> list[tuple[float, float]]:
    """Both alleles' log-likelihoods in each window of `window` words of LONG that has a word before
    the variant, which is context, or begins the record.
    """
    _, position, _, ref, alt = row.split()
    start, found = int(position) - 1, []
    for left in range(0, start + 1, bases):
        right = window * bases - max(len(ref), len(alt)) - (start - left)
        if right < 0 or (left and start - left < bases):
            continue
        end = start + len(ref)
        texts = [LONG[left:start] + allele + LONG[end : end + right] for allele in (ref, alt)]
        ends = (start - left + len(allele) for allele in (ref, alt))
        if all(len(text) // bases * bases >= end for text, end in zip(texts, ends, strict=True)):
            ours, theirs = (of_words(model, text, bases, not left) for text in texts)
            found.append((ours, theirs))
    return found


@pytest.mark.parametrize(
    ("bases", "length", "at", "change", "left", "right"),
    [
        # 33 letters around each, of single letters
        (1, 276, 276, "", 243, 276),
        (1, 276, 262, "", 243, 276),
        (1, 276, 261, "", 243, 276),
        (1, 276, 260, "", 243, 276),
        (1, 276, 259, "", 242, 275),
        (1, 276, 273, "-2", 243, 276),
        (1, 276, 276, "AA", 245, 276),
        (1, 276, 276, "" + "A" * 31, 274, 276),
        (1, 276, 2, "", 0, 33),
        (1, 276, 2, "AA", 0, 31),
        (1, 276, 18, "", 1, 34),
        (1, 30, 30, "", 0, 30),
        (1, 30, 1, "", 0, 30),
        (1, 33, 33, "", 0, 33),
        # 33 words of three letters
        (3, 276, 276, "", 177, 276),
        (3, 276, 200, "", 150, 249),
        (3, 276, 250, "", 177, 276),
        (3, 275, 270, "", 174, 273),
        (3, 274, 273, "", 174, 273),
        (3, 276, 271, "-3", 177, 276),
        (3, 276, 275, "ACG", 180, 276),
        (3, 276, 4, "", 0, 99),
        (3, 50, 48, "", 0, 50),
    ],
)
def test_what_one_flank_lacks_the_other_one_has(
    bases: int, length: int, at: int, change: str, left: int, right: int, model: GPT, run: str,
    words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Both alleles between LONG[left:] and LONG[:right], by transformers. change: "" another
    letter, "-2" two behind it less, others are put behind it.
    """
    stop = at - int(change) if change[:1] == "-" else at
    ref = LONG[at - 1 : stop]
    alt = {"": "A" if ref != "A" else "C", "-": ref[0]}.get(change[:1], ref + change)
    fasta, vcf = files(tmp_path, [f"long {at} . {ref} {alt}"])
    Path(fasta).write_text(f">long\n{LONG[:length]}\n")
    (found,), _ = scored(run if bases == 1 else words, fasta, vcf, tmp_path, capfd, 33)
    network = model if bases == 1 else make_model(LLAMA, "kmer:3")
    for column, allele in (("ref", ref), ("alt", alt)):
        text = LONG[left : at - 1] + allele + LONG[stop:right]
        expected = of_words(network, text, bases, not left)
        assert float(found[f"log_likelihood_{column}"]) == pytest.approx(expected, abs=2e-3)


def of_words(model: GPT, text: str, bases: int, begins: bool) -> float:
    """The log-likelihood of a text, of single letters or of k-mers, whose numbers are in order."""
    if bases == 1:
        return of(model, text, begins)
    whole = [text[n : n + bases] for n in range(0, len(text) - bases + 1, bases)]
    digits = [["ACGT".index(letter) for letter in word] for word in whole]
    tokens = [2 + sum(4 ** (bases - 1 - n) * d for n, d in enumerate(word)) for word in digits]
    return float(log_likelihoods(model, [1, *tokens] if begins else tokens).sum())


@pytest.mark.parametrize("window", [2, 3, 4, 8])
def test_a_variant_is_scored_in_a_window_that_is_hardly_longer(
    window: int, words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first token of a window is context, and so must not be that of the variant."""
    rows = []
    for at in (1, 2, 3, 4, 5, 6, 7, 130, 131, 132):
        for alt in "ACGT".replace(LONG[at - 1], "")[:1]:
            rows.append(f"long {at} . {LONG[at - 1]} {alt}")
    if window > 2:
        rows += [f"long {at} . {LONG[at - 1 : at + 2]} {LONG[at - 1]}" for at in (4, 31, 132)]
        rows += [f"long {at} . {LONG[at - 1]} {LONG[at - 1]}A" for at in (5, 30, 31)]
    fasta, vcf = files(tmp_path, rows)
    found, error = scored(words, fasta, vcf, tmp_path, capfd, window)
    assert "nan" not in error
    model = make_model(LLAMA, "kmer:3")
    for row, text in zip(found, rows, strict=True):
        pair = float(row["log_likelihood_ref"]), float(row["log_likelihood_alt"])
        among = candidates(model, text, 3, window)
        assert min(max(abs(a - b) for a, b in zip(pair, one, strict=True)) for one in among) < 2e-3
        assert abs(float(row["difference"])) > 1e-3


def test_letters_behind_the_last_word_have_no_score(
    words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fasta, vcf = files(tmp_path, ["short 18 . A C", "short 19 . T A", "short 20 . G A"])
    found, error = scored(words, fasta, vcf, tmp_path, capfd, 4)
    assert [math.isnan(float(row["difference"])) for row in found] == [False, True, True]
    assert "2 alternatives have a letter in their window that kmer:3 has no token for, or" in error


@pytest.mark.parametrize("window", [2, 3])
def test_a_letter_in_the_least_window(
    window: int, model: GPT, run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of single letters: one before it, and of three one behind it."""
    alt = "A" if LONG[119] != "A" else "C"
    fasta, vcf = files(tmp_path, [f"long 120 . {LONG[119]} {alt}"])
    (row,), _ = scored(run, fasta, vcf, tmp_path, capfd, window)
    behind = LONG[120 : 118 + window]
    ref, other = (of(model, LONG[118] + letter + behind, False) for letter in (LONG[119], alt))
    assert float(row["difference"]) == pytest.approx(other - ref, abs=2e-3)
    assert float(row["log_likelihood_ref"]) == pytest.approx(ref, abs=2e-3)


def test_one_letter_without_a_token_does_not_end_the_others(
    words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """N and letters that are none in some windows: nan for these, and said."""
    letters = list(LONG)
    letters[101], letters[190] = "N", "*"
    rows = [f"long {at} . {LONG[at - 1]} T" for at in (50, 100, 190, 250)]
    _, vcf = files(tmp_path, [*rows, "short 4 . T <DEL>"])
    fasta = tmp_path / "reference.fa"
    fasta.write_text(f">short\n{SHORT}\n>long\n{''.join(letters)}\n")
    found, error = scored(words, str(fasta), vcf, tmp_path, capfd)
    assert [row["position"] for row in found] == ["50", "100", "190", "250", "4"]
    each = [float(row["difference"]) for row in found]
    assert [math.isnan(one) for one in each] == [False, True, True, False, True]
    fasta.write_text(f">short\n{SHORT}\n>long\n{LONG}\n")
    plain, _ = scored(words, str(fasta), vcf, tmp_path, capfd)
    assert [found[0], found[3]] == [plain[0], plain[3]]
    assert "1 alternative is no sequence (symbolic): nan" in error
    assert "2 alternatives have a letter in their window that kmer:3 has no token for" in error


def test_sites_without_an_alternative_are_left_out_and_counted(
    run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As of a file of all sites, where most of them are such."""
    rows = [f"short {at} . {SHORT[at - 1]} {'A' if at == 4 else '.'}" for at in range(1, 21)]
    fasta, vcf = files(tmp_path, ["short 10 . T <DEL>", *rows])
    found, error = scored(run, fasta, vcf, tmp_path, capfd)
    assert [(row["position"], row["alt"]) for row in found] == [("10", "<DEL>"), ("4", "A")]
    assert "19 sites have no alternative: left out" in error
    assert "1 alternative is no sequence (symbolic): nan" in error


def test_frame_shifts_are_counted(
    words: str, run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    base = LONG[29]
    rows = [f"long 30 . {base} {base}{'A' * n}" for n in (1, 2, 3)] + ["short 4 . TTGC T"]
    fasta, vcf = files(tmp_path, rows)
    _, error = scored(words, fasta, vcf, tmp_path, capfd)
    assert "2 alternatives shift the frame of kmer:3: both alleles hold different tokens" in error
    assert error.count("alternatives") == 1
    _, error = scored(run, fasta, vcf, tmp_path, capfd)
    assert "alternatives" not in error


@pytest.mark.parametrize(
    ("found", "ref", "as_expected"),
    [
        ("R", "A", True), ("R", "G", True), ("R", "N", True), ("R", "R", True), ("R", "C", False),
        ("N", "T", True), ("U", "T", True), ("ACU", "ACT", True), ("acg", "ACG", True),
        ("A", "N", False), ("A", "R", False), ("A", "AC", False), ("RC", "AC", True),
        ("RC", "AG", False), ("W", "T", True), ("H", "G", False),
    ],
)  # fmt: skip
def test_what_a_reference_may_be_called(found: str, ref: str, as_expected: bool) -> None:
    assert agrees(found, ref) is as_expected


def test_a_reference_of_rna_or_with_other_letters(
    run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The score is that of the base that the VCF names."""
    fasta, vcf = files(tmp_path, ["short 4 . T A", "long 40 . A C".replace("A", LONG[39])])
    expected, _ = scored(run, fasta, vcf, tmp_path, capfd)
    text = Path(fasta).read_text()
    Path(fasta).write_text(text.replace(SHORT, SHORT.replace("T", "U")))
    assert scored(run, fasta, vcf, tmp_path, capfd)[0] == expected
    Path(fasta).write_text(text.replace(SHORT, SHORT[:3] + "Y" + SHORT[4:]))
    assert scored(run, fasta, vcf, tmp_path, capfd)[0] == expected


def test_a_reference_with_gaps_is_refused(
    run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where REF agrees by chance it would score another place; not where no variant is."""
    fasta, vcf = files(tmp_path, ["short 11 . A C", "short 12 . C A"])
    text = Path(fasta).read_text().replace("GGACG", "GG--ACG", 1)
    Path(fasta).write_text(text)
    assert main(["score", run, fasta, "--variants", vcf]) == 0
    capfd.readouterr()
    Path(fasta).write_text(text.replace("ACGTT", "AC-TT", 1))
    assert main(["score", run, fasta, "--variants", vcf]) == 2
    out, error = capfd.readouterr()
    assert "record short has 1 alignment gap (- or .), which stand for no base, and --v" in error
    assert (out, error.count("\n")) == ("", 1)


def test_an_allele_of_rna_is_rna(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """For bytes T and U are two tokens: alleles have the flanks' one."""
    run = str(write_run(make_model(LLAMA, "byte"), tmp_path / "run", "byte"))
    fasta, vcf = files(tmp_path, ["short 4 . T A"])
    path = Path(fasta)
    path.write_text(path.read_text().replace(SHORT, SHORT.replace("T", "U")))
    words = ["score", run, fasta, "--output", str(tmp_path / "s.tsv")]
    path.write_text(f">short\n{SHORT.replace('T', 'U')}\n")
    found, _ = scored(run, fasta, vcf, tmp_path, capfd)
    path.write_text(f">short\n{SHORT[:8].replace('T', 'U')}\n")
    assert main([*words, "--per-position", str(tmp_path / "each.npy")]) == 0
    whole = float((tmp_path / "s.tsv").read_text().split()[-2])
    assert float(found[0]["log_likelihood_ref"]) == pytest.approx(whole, abs=1e-3)
