"""Damage to a checkpoint of its is one line that names the file and what is wrong in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from longseq.errors import UserError
from longseq.upstream.converting.theirs import Theirs
from tests.unit.upstream.converting import cut
from tests.unit.upstream.converting.made import (
    ENCODER,
    FIRST,
    PLACE,
    Files,
    Made,
    fp32,
    pipeline,
    write,
    zero,
)

DOWN = "layers.1.mlp.dense_4h_to_h.weight"


def read(folder: Path, files: Files) -> dict[str, torch.Tensor]:
    return Theirs(write(folder, files)).tensors(16)


def encoder(files: Files) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = files[FIRST]["module"]["language_model"]["encoder"]
    files[FIRST]["optimizer"] = None
    return found


def args(**values: object) -> Callable[[Files], None]:
    return lambda files: vars(files[FIRST]["args"]).update(values)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda files: encoder(files).pop(DOWN), "lacks weight/layers.1.mlp.down.weight of 2"),
        (
            lambda files: encoder(files).update({DOWN: torch.zeros(4, 16)}),
            r"layers.1.mlp.down.weight of rank 0 has shape \(4, 16\), and \(8, 16\) by its args",
        ),
        (
            lambda files: encoder(files)[DOWN].fill_(float("nan")),
            "layers.1.mlp.down.weight of rank 0 is not finite",
        ),
        (
            lambda files: encoder(files).update({"layers.1.mlp.router.weight": torch.zeros(3)}),
            f"{FIRST} holds a tensor {ENCODER}layers.1.mlp.router.weight, which our network has",
        ),
        (
            lambda files: encoder(files).update({"layers.2.mlp.dense_4h_to_h.bias": torch.ones(8)}),
            "has weight/layers.2.mlp.down.bias, which its args' network of 2 layers has not",
        ),
        (args(num_layers=3), "lacks exp_avg/layers.2.attention_norm.weight|lacks weight/layers.2"),
        (args(num_layers="x"), f"{FIRST}: --num-layers 'x' is not a whole number"),
        (args(consumed_train_samples=None), "consumed_samples None does not say how far it was"),
        (args(consumed_train_tokens=-1), "consumed_tokens -1 does not say how far it was"),
        (args(tensor_model_parallel_size=0), "tensor_model_parallel_size 0 is no number of ranks"),
        (args(tensor_model_parallel_size=2), "lacks mp_rank_01_model_states.pt of its 2 tensor"),
        (args(zero_stage=3), "was saved at ZeRO stage 3"),
        (args(tensor_model_parallel_size=3), "num_attention_heads=2 does not divide by its 3"),
        (lambda files: delattr(files[FIRST]["args"], "num_layers"), "do not say num_layers"),
        (lambda files: files[FIRST].pop("args"), f"{FIRST} does not say what it was .*no args"),
        (lambda files: files[FIRST].update(iteration=-5), f"{FIRST}: iteration -5 does not say"),
        (lambda files: files[FIRST].pop("module"), f"{FIRST} holds no weights: it has no module"),
        (lambda files: files[FIRST].update(module=None), f"{FIRST} holds no weights"),
        (
            lambda files: files[FIRST]["optimizer"]["state"].pop(5),
            f"{FIRST}: its optimizer's state lacks 5",
        ),
        (
            lambda files: files[FIRST]["optimizer"]["state"][5].update(exp_avg=None),
            "exp_avg of .* is no tensor",
        ),
        (
            lambda files: files[FIRST]["optimizer"]["param_groups"].pop(),
            f"{FIRST}: exp_avg is of 1 groups, and 2 are here",
        ),
        (
            lambda files: files[FIRST]["optimizer"]["param_groups"][0]["params"].pop(),
            f"{FIRST}: exp_avg is of 9 parameters, and 10 are here",
        ),
        (
            lambda files: files[FIRST].update(optimizer={"state": 3}),
            f"{FIRST}: its optimizer's state lacks 'param_groups'",
        ),
        (
            lambda files: files[FIRST]["optimizer"].update(fp32_groups=[3]),
            f"{FIRST}: its optimizer's state is none of DeepSpeed's",
        ),
        (
            lambda files: files[FIRST].update(param_shapes=[{"a.weight": (2, 2)}]),
            rf"{FIRST}: its param_shapes name a\.weight, and it holds none",
        ),
    ],
)
def test_damage_is_one_line(damage: Callable[[Files], None], said: str, tmp_path: Path) -> None:
    files = fp32(Made())
    damage(files)
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path / "its", files)
    assert str(tmp_path) in str(caught.value)


def test_a_lost_layer_of_a_pipeline(tmp_path: Path) -> None:
    files = pipeline(Made())
    del files["layer_03-model_00-model_states.pt"]
    with pytest.raises(UserError, match=r"lacks weight/layers\.1\..* and 11 more of 2 layers"):
        read(tmp_path / "its", files)


@pytest.mark.parametrize("rank", range(3))
def test_a_lost_part_of_a_replica(rank: int, tmp_path: Path) -> None:
    files = zero(Made(), 3)
    lost = f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
    del files[lost]
    with pytest.raises(UserError, match=f"{PLACE} lacks {lost}, one of 3 parts"):
        read(tmp_path / "its", files)


def test_all_parts_of_one_rank_are_lost(tmp_path: Path) -> None:
    files = cut.files("zero-3-replicas", groups=4, by_head=False)
    for replica in range(3):
        del files[f"bf16_zero_pp_rank_{replica}_mp_rank_01_optim_states.pt"]
    with pytest.raises(UserError, match="lacks bf16_zero_pp_rank_0_mp_rank_01_optim_states"):
        read(tmp_path / "its", files)


def test_a_file_that_is_cut_short_is_one_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "its", fp32(Made()))
    path = folder / PLACE / FIRST
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=f"{FIRST} cannot be read, as if cut short") as caught:
        Theirs(folder)
    assert "\n" not in str(caught.value)


def test_what_older_versions_did_not_say_yet_is_as_it_was(tmp_path: Path) -> None:
    """Those of 2021 had layer norms, learned positions, biases and no ZeRO among their arguments,
    and counted no tokens.
    """
    made = Made()
    later = "add_position_embedding num_key_value_heads num_experts ds_sequence_parallel_fpdt"
    for name in later.split():
        delattr(made.args, name)
    del made.args.consumed_train_tokens
    theirs = Theirs(write(tmp_path / "its", fp32(made)))
    assert len(theirs.tensors(16)) == 3 * 28
    assert theirs.network.normalization == "layernorm"
    assert not theirs.network.disable_bias_linear
    assert theirs.progress["consumed_tokens"] == 36


def mixed(name: str, other: str, **changes: object) -> Callable[[Files], None]:
    """Puts a copy of file `other` in the place of `name`."""

    def damage(files: Files) -> None:
        files[name] = {**files[other], **changes}

    return damage


def another_step(name: str) -> Callable[[Files], None]:
    def damage(files: Files) -> None:
        state = files[name]["optimizer_state_dict"]["base_optimizer_state"]["state"]
        for group in state.values():
            group["step"] = group["step"] + 1

    return damage


SECOND = "mp_rank_01_model_states.pt"
OF_PARTS = "bf16_zero_pp_rank_{}_mp_rank_{:02}_optim_states.pt"
PART, OTHER = OF_PARTS.format(1, 0), OF_PARTS.format(2, 0)


@pytest.mark.parametrize(
    ("form", "damage", "said"),
    [
        (
            "fp32",
            lambda files: files[SECOND].update(iteration=2),
            f"{SECOND} is of iteration 2, and {FIRST} beside it of 3",
        ),
        ("fp32", mixed(SECOND, FIRST), r"tokens.weight is the same on its ranks 0 and 1"),
        (
            "pipeline",
            mixed("layer_02-model_01-model_states.pt", "layer_02-model_00-model_states.pt"),
            r"weight/layers\.0\..* is the same on its ranks 0 and 1",
        ),
        ("zero-3-replicas", mixed(OTHER, PART), f"{OTHER}: .* in fp32 is not what was .* copy of"),
        ("zero-3-replicas", mixed(OF_PARTS.format(0, 1), OF_PARTS.format(0, 0)), "in fp32 is not"),
        ("zero-3-replicas", another_step(PART), f"{PART}: its Adam has taken 4 steps, and that of"),
        (
            "zero-3-replicas",
            lambda files: [another_step(OF_PARTS.format(n, 1))(files) for n in range(3)],
            "its Adam has taken 4 steps, and that of rank 0 3: they are of two iterations",
        ),
    ],
)
def test_files_of_two_checkpoints_are_not_mixed(
    form: str, damage: Callable[[Files], None], said: str, tmp_path: Path
) -> None:
    files = cut.files(form, groups=4, by_head=False)
    damage(files)
    with pytest.raises(UserError, match=said):
        read(tmp_path / "its", files)
