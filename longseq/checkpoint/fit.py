"""Whether a checkpoint fits a run: its network, optimizer and end; everything else may differ.

    network(config.network)                  # what the network is, as a manifest keeps it
    check_fit(path, manifest, config)        # raises UserError in one line

Layout, stage, offload, precision, batch and schedule are the run's own. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from longseq.checkpoint.format.manifest import Manifest
from longseq.config.arguments import Config, Network
from longseq.config.companions import ROTARY
from longseq.errors import UserError


def network(net: Network) -> dict[str, Any]:
    """Everything that decides which parameters there are and what they mean."""
    return {
        "num_layers": net.num_layers,
        "hidden_size": net.hidden_size,
        "num_attention_heads": net.num_attention_heads,
        "num_key_value_heads": net.key_value_heads,
        "ffn_hidden_size": net.ffn_size,
        "swiglu": net.swiglu,
        "normalization": net.normalization,
        "layernorm_epsilon": net.layernorm_epsilon,
        "disable_bias_linear": net.disable_bias_linear,
        "untie_embeddings_and_output_weights": net.untie_embeddings_and_output_weights,
        "use_rotary_position_embeddings": net.use_rotary_position_embeddings,
        # Rotary positions serve any length
        "max_position_embeddings": 0 if net.use_rotary_position_embeddings else net.positions,
        "rotary_percent": net.rotary_percent,
        "rope_theta": net.rope_theta,
    }


def _acting(net: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of a network, without what means nothing there."""
    rotary = net.get("use_rotary_position_embeddings", True)
    return {key: value for key, value in net.items() if rotary or key not in ROTARY}


def check_fit(path: Path, manifest: Manifest, config: Config) -> None:
    """Raise UserError where the run has another network or optimizer than the checkpoint, or ends
    before it; one that ends with it has nothing left to do, which is no mistake in a chain.
    """
    ours, theirs = _acting(network(config.network)), _acting(manifest.network)
    if manifest.optimizer:  # else there are weights only
        ours |= {"optimizer": config.training.optimizer}
        theirs |= {"optimizer": manifest.optimizer}
    _compare(path, theirs, ours, "flags")
    at, total = manifest.progress["iteration"], config.training.train_iters
    if at > total:
        raise UserError(
            f"--load {path} (LOAD or RESUME) is of iteration {at}, and --train-iters {total}"
            " (TRAIN_ITERS) ends before it: give more iterations, or an earlier checkpoint"
        )


def check_vocabulary(
    path: Path, manifest: Manifest, vocabulary: int, tokenizer: str | None = None
) -> None:
    """The same for the data's tokens; tokenizer: None where only their number is known."""
    theirs = {"vocabulary": manifest.vocabulary, "tokenizer": manifest.tokenizer}
    ours = {"vocabulary": vocabulary, "tokenizer": tokenizer or manifest.tokenizer}
    _compare(path, theirs, ours, "tokenizer")


def same_network(path: Path, manifest: Manifest, first_path: Path, first: Manifest) -> None:
    """Raise UserError where two checkpoints are of different networks."""
    theirs, ours = _acting(manifest.network), _acting(first.network)
    differing = [k for k in ours if theirs.get(k) != ours[k]]
    if manifest.vocabulary != first.vocabulary:
        differing.append("the vocabulary")
    if not differing and _weights(manifest) != _weights(first):
        differing.append("the vocabulary's padding")
    if differing:
        names = ", ".join(differing)
        raise UserError(f"{path} and {first_path} differ in {names}: average those of one network")


def _weights(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    return {name: s for name, s in manifest.tensors.items() if name.startswith("weight/")}


def _compare(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any], remedy: str) -> None:
    differing = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    if differing:
        then = ", ".join(f"{key}={theirs.get(key)}" for key in differing)
        now = ", ".join(f"{key}={ours.get(key)}" for key in differing)
        other = "start anew without it"
        if differing == ["optimizer"]:
            convert = f"./longseq.sh checkpoint convert {quote(str(path))} --output FOLDER"
            other = f"with the weights alone: {convert} --weights-only, then LOAD=FOLDER"
        raise UserError(
            f"--load {path} (LOAD or RESUME) was written with {then}; this run has {now}: use"
            f" the same {remedy}, or {other}"
        )
