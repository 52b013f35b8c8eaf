"""`longseq check` says what the ranks will not say again."""

import argparse
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from longseq.config.arguments import Config
from longseq.config.checks import parse_config
from longseq.errors import UserError
from longseq.run.check import _check_data, _check_file_size, _check_request

FLAGS = "--num-layers 2 --num-attention-heads 4 --hidden-size"
CONFIG = parse_config([*FLAGS.split(), "32"], 1)
LARGER = parse_config([*FLAGS.split(), "2048"], 1)


@pytest.mark.parametrize(
    ("dry_run", "refused", "said"), [(True, False, 1), (False, False, 0), (False, True, 1)]
)
def test_a_checkpoint_that_is_passed_over_is_told_once(
    dry_run: bool, refused: bool, said: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def check_request(_config: Config, _vocabulary: int, warn: Callable[[str], None]) -> None:
        warn("step-2 is damaged")
        if refused:
            raise UserError("step-1 does not fit")

    options = argparse.Namespace(dry_run=dry_run, check_request=check_request)
    try:
        _check_request(options, CONFIG, 0)
        assert not refused
    except UserError:
        assert refused
    assert capsys.readouterr().err == "longseq: warning: step-2 is damaged\n" * said


@pytest.mark.parametrize(
    ("data", "flags", "said"),
    [
        (
            "mix.blend",
            "",
            "--split 949,50,1 leaves nothing of {tiny} for valid: give valid a larger weight",
        ),
        (
            "mix.blend",
            "--split 1,8,9",
            "--split 1,8,9 leaves nothing of {tiny} for train: give train a",
        ),
        ("mix.blend", "--eval-iters 0", ""),
        ("mix.blend", "--split 1,1,1", ""),
        ("mix.blend", "--valid-records r1", ""),
        (
            "tiny.fa",
            "--valid-records t",
            "what is held out by --valid-records leaves nothing for train: name fewer records",
        ),
        (
            "large.fa",
            f"--test-records {','.join(f'r{n}' for n in range(98))}",
            "held out by --test-records leaves nothing for valid: name fewer records, or --eval-i",
        ),
        ("large.fa", "--test-records r1 --split 1,0,0", "--split 1,0,0 leaves nothing for valid"),
        (
            "large.fa",
            "--valid-records ,",
            "--valid-records , names no record: give names, or leave",
        ),
        (
            "tiny.fa",
            "",
            "--split 949,50,1 leaves nothing for valid: give it a larger weight, or --eval-i",
        ),
    ],
)
def test_a_part_without_data_is_found_before_a_rank_starts(
    data: str, flags: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGSEQ_CACHE", str(tmp_path / "cache"))
    (tmp_path / "large.fa").write_text("".join(f">r{n}\n{'ACGT' * 9}\n" for n in range(99)))
    (tmp_path / "tiny.fa").write_text(">t\nACGT\n")
    (tmp_path / "mix.blend").write_text("3 large.fa\n1 tiny.fa\n")
    words = f"--num-layers 2 --hidden-size 32 --num-attention-heads 4 --data-path {tmp_path / data}"
    config = parse_config([*words.split(), *flags.split()], 1)
    if not said:
        _check_data(config)
        return
    with pytest.raises(UserError) as caught:
        _check_data(config)
    tiny = next((tmp_path / "cache").glob("tiny*"), Path()) / "tokens"
    assert said.format(tiny=tiny) in str(caught.value)


@pytest.mark.parametrize(
    ("config", "most", "need"),
    [
        (CONFIG, 100 << 10, "100.0 KiB here, and logs and MPI's shared memory need up to 64.0 MiB"),
        (CONFIG, 64 << 20, ""),
        (LARGER, 64 << 20, "64.0 MiB here, and a rank's part of a checkpoint has 1.1"),
        (LARGER, 2 << 30, ""),
        (LARGER, resource.RLIM_INFINITY, ""),
    ],
)
def test_files_may_be_as_large_as_they_will_be(
    config: Config, most: int, need: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (most, most))
    if not need:
        _check_file_size(config)
        return
    with pytest.raises(UserError, match=f"^ulimit -f: a file may have {need}"):
        _check_file_size(config)
