"""The published line of 2023 for the second trainer: its dry run, and its own parser's opinion.

After a change that is meant:  UPDATE_GOLDEN=1 ./tests/run.sh tests/launch/test_upstream.py
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from longseq.config.checks import parse_config
from longseq.upstream.arguments import upstream_arguments
from tests.launch.test_machines import allocation, compare, dry_run
from tests.upstream_checkout import upstream_checkout

PUBLISHED = {
    "MODEL_SIZE_KEY": "GPT25B",
    "SEQ_LEN": "128000",
    "USE_FLASH_ATTN": "1",
    "MICRO_BATCH": "1",
    "GAS": "1",
    "SP_TYPE": "megatron",
    "ZERO_STAGE": "1",
    "TRAINER": "megatron-deepspeed",
}
OTHERS = (
    "--trainer megatron-deepspeed --device cpu --pipeline-model-parallel-size 2 --swiglu"
    " --normalization rmsnorm --untie-embeddings-and-output-weights --disable-bias-linear"
    " --eod-mask-loss --recompute-granularity selective --use-rotary-position-embeddings"
    " --rotary-percent 0.5 --rope-theta 500000 --save y --save-interval 5"
)
PARSE = """
import json, sys
from pathlib import Path
from longseq.upstream import stand_ins
stand_ins.provide(Path(sys.argv[1]))
from megatron.arguments import parse_args
for words in json.loads(sys.stdin.read()):
    sys.argv = ["pretrain_gpt.py", *words]
    found = vars(parse_args())
    print(json.dumps({k: v for k, v in found.items() if isinstance(v, (int, float, str))}))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return upstream_checkout(tmp_path_factory.mktemp("checkout"))


def parsed(checkout: Path, *lists: list[str]) -> list[dict[str, Any]]:
    """What its own parser makes of each list; fails where it does not know a word."""
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(checkout)],
        input=json.dumps(lists),
        env=os.environ | {"DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("profile", ["thetagpu", "polaris"])
def test_the_published_line(profile: str, checkout: Path, tmp_path: Path) -> None:
    env = PUBLISHED | {"MACHINE": profile, "MEGATRON_DEEPSPEED_DIR": str(checkout)}
    text = dry_run(tmp_path, env | allocation(profile, tmp_path))
    compare(f"{profile}-megatron-deepspeed.txt", text.replace(str(checkout), "CHECKOUT"))


def test_its_own_parser_takes_every_word(checkout: Path) -> None:
    """Of the published line, and of one with the flags that it has not."""
    golden = Path(__file__).with_name("golden") / "polaris-megatron-deepspeed.txt"
    _, _, rest = golden.read_text().partition("# upstream-arguments.txt\n")
    ours = parse_config(OTHERS.split(), 2)
    published, other = parsed(
        checkout, shlex.split(rest.partition("# command\n")[0]), upstream_arguments(ours, 16)
    )
    assert {
        "num_layers": 54,
        "hidden_size": 6144,
        "num_attention_heads": 64,
        "seq_length": 128000,
        "tensor_model_parallel_size": 32,
        "sequence_parallel": True,
        "use_flash_attn_v2": True,
        "micro_batch_size": 1,
        "global_batch_size": 1,
        "zero_stage": 1,
        "bf16": True,
        "no_pipeline_parallel": True,
        "checkpoint_activations": True,
        "deepspeed": True,
    }.items() <= published.items()
    assert {
        "pipeline_model_parallel_size": 2,
        "no_pipeline_parallel": False,
        "swiglu": True,
        "normalization": "rmsnorm",
        "add_bias_linear": False,
        "untie_embeddings_and_output_weights": True,
        "eod_mask_loss": True,
        "recompute_granularity": "selective",
        "rotary_percent": 0.5,
        "rope_theta": 500000,
        "vocab_size": 16,
    }.items() <= other.items()
