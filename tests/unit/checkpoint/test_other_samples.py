"""What the numbers of samples mean, held against the samples themselves; and what a run that goes
on says and leaves out where they mean others.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from longseq.checkpoint.left_out import AllLeftOut, LeftOut
from longseq.checkpoint.other_samples import UNKNOWN, Compared, compare, idle, of_all
from longseq.config.checks import parse_config
from longseq.data.numbering import numbering
from longseq.data.opening import open_data
from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.sources.inputs import expand
from longseq.errors import UserError
from longseq.parallel.agreement import Ranks
from longseq.run.resumed import Before

LENGTH = 16
# Enough records to be cut by group, so that the seed of the split draws them
TEXT = "".join(f">r{i}\n{'ACGTTGCAAC'[i % 7 :] * (3 + i % 5)}{'C' * i}\n" for i in range(40))

Found = tuple[dict[str, Any], list[list[int]]]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    (folder / "in.fa").write_text(TEXT)
    made = str(folder / "out")
    prepare(expand([str(folder / "in.fa")]), made, Settings(Recipe(), 1, "auto", 0), True, quiet)
    return made


def config_of(prefix: str, *words: str) -> Any:
    network = "--num-layers 2 --hidden-size 32 --num-attention-heads 4 --use-flash-attn-sdpa"
    line = f"{network} --seq-length {LENGTH} --device cpu --eval-iters 0 --data-path {prefix}"
    return parse_config([*line.split(), *words], 1)


def found(prefix: str, *words: str) -> Found:
    """What is noted of the samples, and the tokens of the first of them."""
    config = config_of(prefix, *words)
    data = open_data(config.data, LENGTH, config.training.seed)
    assert data.train is not None
    rows = [data.train.row(number, [(0, LENGTH)]).tokens.tolist() for number in range(60)]
    return numbering(data.cuts, config.data, config.training.seed), rows


@pytest.mark.parametrize(
    "words",
    [
        "--seed 7",
        "--split 500,400,100",
        "--split 9490,500,10",
        "--split-seed 5",
        "--valid-records r3",
        "--test-records r3,r4",
        "--sample-overlap 4",
        "--no-cross-document",
        "--reverse-complement-prob 0.5",
        "--eod-mask-loss",
        "--reset-position-ids",
        "--lr 1e-3",
    ],
)
def test_the_hash_is_the_same_where_the_samples_are(prefix: str, words: str) -> None:
    (first, tokens), (other, others) = found(prefix), found(prefix, *words.split())
    assert (first["sha256"] == other["sha256"]) == (tokens == others)
    assert first["files"] == other["files"]


def test_ranks_that_opened_other_data_do_not_train(prefix: str) -> None:
    """As where `prepare --overwrite` comes between two ranks that start."""
    now, _ = found(prefix)
    assert of_all(now, Ranks(1, 2, lambda mine: [mine, mine])) == now
    with pytest.raises(UserError, match=f"{prefix} .*: rank 2 has opened other data than rank 0"):
        of_all(now, Ranks(0, 3, lambda mine: [mine, mine, "other"]))


def compared(prefix: str, words: str, then: dict[str, Any], before: str | None) -> Compared:
    """A run with `words` goes on from what says `then`; before: how that run was set."""
    now = found(prefix, *words.split())[0]
    values = None if before is None else config_of(prefix, *before.split()).values
    run = None if values is None else Before(Path(), values, 1, "")
    return compare(then, now, run, config_of(prefix, *words.split()))


def old(now: dict[str, Any]) -> dict[str, Any]:
    """As manifests were before they said how samples are taken out of the data."""
    return {"sha256": now["files"], "sets": now["sets"]}


OTHERS = ": samples are others from here on, and some come twice or never"
VALIDATION = "; validation may hold tokens that were trained on"
PART = "part of the data for training"


@pytest.mark.parametrize("manifest", ["new", "old"])
def test_what_is_said(prefix: str, manifest: str) -> None:
    now = found(prefix)[0]
    then, before = (now, None) if manifest == "new" else (old(now), "")
    for words, said in (
        ("", ()),
        ("--lr 1e-3 --eod-mask-loss", ()),
        ("--seed 7", (f"another --seed{OTHERS}",)),
        ("--split 500,400,100", (f"another {PART}{OTHERS}{VALIDATION}",)),
        ("--split-seed 5", (f"another {PART}{OTHERS}{VALIDATION}",)),
        (
            "--seed 7 --sample-overlap 4 --test-records r3",
            (f"another --seed and --sample-overlap and {PART}{OTHERS}{VALIDATION}",),
        ),
    ):
        result = compared(prefix, words, then, before)
        assert result.notes == said, words
        same = result.meaning == found(prefix, *words.split())[0]["sha256"]
        assert same == (not said), words


def test_a_batch_is_left_out_where_its_numbers_mean_what_they_did(prefix: str) -> None:
    now = found(prefix)[0]
    batch = LeftOut(44, 45, LENGTH, 20, "x")
    for then, before, hashes in (
        (now, None, (now["sha256"], "")),
        (old(now), "", (now["files"], "")),
    ):
        for words, at in (("", 46), ("--seed 7", 44), ("--split 500,400,100", 44)):
            meant = found(prefix, *words.split())[0]["sha256"]
            for data in hashes:
                result = compared(prefix, words, then, before)
                kept = result.read(AllLeftOut((replace(batch, data=data),)))
                assert kept.next_sample(44, 2, LENGTH, meant) == at, (words, data)
                said = idle(kept, 40, LENGTH, meant)
                assert len(said) == (at == 44)
                assert not idle(kept, 46, LENGTH, meant)  # it is behind


def test_what_is_not_known_does_not_act_and_is_said(prefix: str) -> None:
    """An old manifest without its run's summary: no alarm of other samples, and no wrong skip."""
    now = found(prefix)[0]
    batches = AllLeftOut(
        (
            LeftOut(44, 45, LENGTH, 20, "x", now["files"]),
            LeftOut(46, 47, LENGTH, 20, "x"),
            LeftOut(48, 49, LENGTH, 20, "x", "of other data"),
        )
    )
    result = compared(prefix, "", old(now), None)
    kept = result.read(batches)
    assert result.notes == ()
    assert [asdict(one)["data"] for one in kept.batches] == [UNKNOWN, UNKNOWN, "of other data"]
    assert kept.next_sample(44, 2, LENGTH, now["sha256"]) == 44
    assert idle(kept, 40, LENGTH, now["sha256"]) == [
        "left-out.json: 1 batch of other samples: not left out here",
        "left-out.json: 2 batches of before its seed and split were noted, and no summary.json of"
        " that run tells them: not left out here",
    ]
    # Handed on to the run's own checkpoints they do not become known
    again = compare(now, now, None, config_of(prefix)).read(kept)
    assert again.next_sample(44, 2, LENGTH, now["sha256"]) == 44
