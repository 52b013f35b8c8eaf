"""`longseq check`, for either trainer: what can go wrong goes wrong before a rank starts.

For Megatron-DeepSpeed: the checkout, what it cannot do, the checkpoint; and upstream-arguments.txt
in the run's folder, the argument list that it is given, beside DeepSpeed's settings for it.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from longseq.checkpoint import request
from longseq.checkpoint.fit import check_fit, check_vocabulary
from longseq.checkpoint.format.folder import find_latest, is_theirs
from longseq.checkpoint.format.manifest import Manifest
from longseq.config.arguments import UPSTREAM, Config
from longseq.config.flags import Parser
from longseq.errors import UserError
from longseq.parallel.agreement import Ranks
from longseq.run import check
from longseq.upstream.arguments import upstream_arguments, upstream_settings
from longseq.upstream.checkout import checked
from longseq.upstream.faults import lines_for

ARGUMENTS = "upstream-arguments.txt"


def add_arguments(parser: Parser) -> None:
    """Those of `longseq check`."""
    check.add_arguments(parser, check_request)
    parser.set_defaults(files=files_of)


def check_request(config: Config, vocabulary: int, warn: Callable[[str], None]) -> None:
    """Refuse what the trainer that is asked for cannot do; vocabulary: 0 where it is not known."""
    if config.run.trainer != UPSTREAM:
        request.check_request(config, vocabulary, warn)
        return
    upstream_arguments(config, vocabulary)
    checked(Path(config.run.megatron_deepspeed_dir))
    if config.training.device == "cuda" and vocabulary:
        _check_apex()
    _check_load(config, vocabulary, warn)
    if not vocabulary:
        for line in lines_for(config):
            print(f"longseq: Megatron-DeepSpeed: {line}", file=sys.stderr)


def _check_apex() -> None:
    if find_spec("apex") is None:
        raise UserError(
            "TRAINER=megatron-deepspeed needs NVIDIA's apex on GPUs, and it is not installed:"
            " ./install.sh --megatron-deepspeed builds it"
        )


def _check_load(config: Config, vocabulary: int, warn: Callable[[str], None]) -> None:
    """One of its own is its to check; one of ours must be whole and fit."""
    ours = find_ours(config, warn, Ranks(), hashes=False)
    if ours and vocabulary:
        check_vocabulary(*ours, vocabulary)


def find_ours(
    config: Config, warn: Callable[[str], None], ranks: Ranks, hashes: bool = True
) -> tuple[Path, Manifest] | None:
    """What --load names, if it is a checkpoint of ours; raises UserError where it does not fit."""
    load = config.run.load
    if not load or is_theirs(Path(load)):
        return None
    path, manifest = find_latest(Path(load), warn, ranks, hashes)
    check_fit(path, manifest, config)
    return path, manifest


def files_of(config: Config, vocabulary: int) -> dict[str, str]:
    """What the ranks find in the run's folder."""
    if config.run.trainer != UPSTREAM:
        return check.files_of(config)
    lines: list[str] = []
    for word in upstream_arguments(config, vocabulary):
        if word.startswith("--"):
            lines.append(word)
        else:
            lines[-1] += f" {shlex.quote(word)}"
    settings = json.dumps(upstream_settings(config), indent=2)
    return {check.DS_CONFIG: settings + "\n", ARGUMENTS: "\n".join(lines) + "\n"}
