"""A run, a folder of checkpoints or one of them → what was trained: its network and its tokens.

    trained = find_trained(Path("outputs/RUN"), warn, ranks)    # raises UserError
    trained.network, trained.tokenizer, trained.length

Nothing is asked of the user that the checkpoint says itself. No torch here.
"""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longseq.checkpoint.fit import check_vocabulary
from longseq.checkpoint.format.folder import ALONE, find_latest
from longseq.checkpoint.format.manifest import Manifest
from longseq.config.arguments import Network
from longseq.data.tokenizers.base import Tokenizer
from longseq.data.tokenizers.registry import tokenizer_from
from longseq.data.tokenizers.tagged import FILE as TAGS
from longseq.data.tokenizers.tagged import KIND as TAGGED
from longseq.data.tokenizers.tagged import Tagged, read_tags
from longseq.errors import UserError
from longseq.parallel.agreement import Ranks
from longseq.reports.runs import SUMMARY, nested, read_json, run_of

VOCABULARY = "vocabulary.json"
# tokenizers of text → the files they are made from, beside the weights
FILES = {"huggingface": ("tokenizer.json",), "gpt2": ("vocab.json", "merges.txt")}


@dataclass(frozen=True)
class Trained:
    """A whole checkpoint, and what its manifest says. `length`: tokens of a training sample."""

    path: Path
    manifest: Manifest
    network: Network
    tokenizer: Tokenizer

    @property
    def length(self) -> int:
        return self.network.seq_length

    @property
    def name(self) -> str:
        """The run and the step, as tables and headers show it."""
        folder = self.path.resolve()
        run = folder.parent.parent if folder.parent.name == "checkpoints" else folder.parent
        return f"{run.name}/{folder.name}"


def find_trained(
    given: Path, warn: Callable[[str], None], ranks: Ranks, hashes: bool = True
) -> Trained:
    """The newest whole checkpoint of `given`; every rank calls it. Raises UserError in one line.

    Without `hashes` only names and sizes of its files are looked at.
    """
    if not given.is_dir():
        raise UserError(
            f"{given}: no such folder: name a run's folder, its checkpoints, or one of them"
        )
    path, manifest = newest(given, warn, ranks, hashes)
    return Trained(path, manifest, _network(path, manifest), _tokenizer(path, manifest))


def newest(
    given: Path, warn: Callable[[str], None], ranks: Ranks = ALONE, hashes: bool = True
) -> tuple[Path, Manifest]:
    """The newest whole checkpoint of a run, a folder of checkpoints, or `given` itself; UserError
    where there is none says where the run saved, if that was elsewhere.
    """
    inner = given / "checkpoints"
    folder = inner if inner.is_dir() else given
    try:
        return find_latest(folder, warn, ranks, hashes, asked=str(given))
    except UserError as error:
        raise UserError(f"{error}{_saved_elsewhere(folder)}") from None


def _saved_elsewhere(folder: Path) -> str:
    """What to add where `folder`, a run's, has no whole checkpoint and --save named another: then
    it is a copy, if there is any.
    """
    run = run_of(folder)
    summary = read_json(run / SUMMARY) if run else {}
    save = nested(summary, "settings", "run", "save")
    if not isinstance(save, str) or not save:
        return ""
    path = Path(str(summary.get("directory", "")), save)
    if path.absolute() == folder.absolute() or path.resolve() == folder.resolve():
        return ""
    if any(folder.glob("step-*")):
        return f"; its run saved in {path}: if this is a copy, not all of it came: copy it again"
    where = f"; its run saved in {path} (--save)"
    return f"{where}: name that" if path.is_dir() else f"{where}, which is not there any more"


def _network(path: Path, manifest: Manifest) -> Network:
    try:
        return Network(**{**manifest.network, "seq_length": int(manifest.layout["seq_length"])})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: its manifest describes no network of this version ({error}): use the version"
            " that wrote it"
        ) from None


def _kind(specification: str, folder: Path) -> str:
    """What makes the tokenizer again, of letters alone, from its files in a checkpoint."""
    kind = specification.removeprefix(TAGGED)
    if kind in FILES:
        kind += ":" + ",".join(str(folder / name) for name in FILES[kind])
    return kind


def prepared_alike(specification: str, folder: Path) -> str:
    """What to give `prepare` for data of a checkpoint's tokens."""
    words = f"--tokenizer {shlex.quote(_kind(specification, folder))}"
    if specification.startswith(TAGGED):
        words += f" and the tags of {folder / TAGS} in their order"
    return words


def _tokenizer(path: Path, manifest: Manifest) -> Tokenizer:
    """The tokenizer of the training, from what lies beside the weights."""
    tokenizer = tokenizer_from(_kind(manifest.tokenizer, path))
    if manifest.tokenizer.startswith(TAGGED):
        tokenizer = Tagged(tokenizer, read_tags(str(path / TAGS)))
    if tokenizer.vocab_size != manifest.vocabulary or tokenizer.names() != _names(path):
        raise UserError(
            f"{path} was trained on other tokens than its tokenizer {manifest.tokenizer} has in"
            " this version: use the version that wrote it"
        )
    return tokenizer


def _names(path: Path) -> Any:
    try:
        return json.loads((path / VOCABULARY).read_text(encoding="utf-8"))["tokens"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path / VOCABULARY} cannot be read ({error})") from None


def same_tokens(trained: Trained, tokenizer: Tokenizer, prefix: str) -> None:
    """Raise UserError where prepared data have other tokens than the network was trained on."""
    if tokenizer.names() != trained.tokenizer.names():
        ours, theirs = trained.tokenizer, tokenizer
        raise UserError(
            f"{prefix} holds {theirs.specification} tokens (vocabulary {theirs.vocab_size}) and"
            f" {trained.path} was trained on {ours.specification} ({ours.vocab_size}): prepare it"
            f" with {prepared_alike(ours.specification, trained.path)}, or give the FASTA file"
        )


def same_tokenizer(path: Path, manifest: Manifest, first_path: Path, first: Manifest) -> None:
    """Raise UserError where two checkpoints are of different tokens, though of as many."""
    names = {VOCABULARY, TAGS, *itertools.chain(*FILES.values())}
    ours, theirs = ({n: one.files.get(n) for n in names} for one in (first, manifest))
    if ours == theirs and manifest.tokenizer == first.tokenizer:
        return
    if _tokenizer(path, manifest).definition() != _tokenizer(first_path, first).definition():
        raise UserError(
            f"{path} ({manifest.tokenizer}) and {first_path} ({first.tokenizer}) have other tokens"
            " under the same numbers: average those of one tokenizer"
        )


def check_tokenizer(path: Path, manifest: Manifest, tokenizer: Tokenizer) -> None:
    """Raise UserError where a run's data have other tokens than the checkpoint that it goes on
    from. What a tokenizer is called and made from may differ, as a gpt2 that was exported and
    imported: what counts is that it gives the same ids.
    """
    kind = manifest.tokenizer.removeprefix(TAGGED)
    kept = {VOCABULARY, *FILES.get(kind, ())} <= manifest.files.keys()
    by_name = manifest.tokenizer == tokenizer.specification and not tokenizer.files
    looked_at = kept and not by_name
    if looked_at and _tokenizer(path, manifest).definition() == tokenizer.definition():
        return
    check_vocabulary(path, manifest, tokenizer.vocab_size, tokenizer.specification)
    if looked_at:
        raise UserError(
            f"--load {path} (LOAD or RESUME) was written with another tokenizer"
            f" {manifest.tokenizer} than the data were: prepare them with"
            f" {prepared_alike(manifest.tokenizer, path)}, or start anew without it"
        )
