"""`longseq check` says what the ranks will not say again."""

import argparse
from collections.abc import Callable

import pytest

from longseq.config.arguments import Config
from longseq.config.checks import parse_config
from longseq.errors import UserError
from longseq.run.check import _check_request

CONFIG = parse_config("--num-layers 2 --hidden-size 32 --num-attention-heads 4".split(), 1)


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
