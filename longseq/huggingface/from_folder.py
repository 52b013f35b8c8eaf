"""A folder of transformers → a checkpoint of ours with weights alone, to go on training.

    network, tokenizer = bring_in(Path("exported"), Path("imported"))

One tensor is in memory at a time. The optimizer starts anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from longseq.attention.kernel import kernel
from longseq.checkpoint.fit import network
from longseq.checkpoint.format.boxes import as_matrix
from longseq.checkpoint.format.manifest import PROGRESS, Manifest, describe, list_files
from longseq.checkpoint.format.tensor_files import Record, header, write
from longseq.checkpoint.state.load import TABLES
from longseq.checkpoint.state.share import file_name
from longseq.config.arguments import Network
from longseq.data.tokenizers.base import Tokenizer
from longseq.data.tokenizers.kinds import CONFIG, FILE, TAGGED
from longseq.data.tokenizers.registry import tokenizer_from, write_tokenizer
from longseq.data.tokenizers.tagged import FILE as TAGS
from longseq.data.tokenizers.tagged import Tagged, read_tags
from longseq.data.tokenizers.text import end_named, huggingface
from longseq.errors import UserError
from longseq.huggingface.families.choosing import family_of
from longseq.huggingface.families.moves import Move
from longseq.huggingface.families.values import check_network
from longseq.huggingface.tokenizer_file import OURS, vocabulary, vocabulary_of
from longseq.huggingface.weights import Weights, read_json, shown
from longseq.model.gpt import GPT
from longseq.run.environment import package_versions

SHOWN = 8  # tokens that are named


def bring_in(source: Path, folder: Path) -> tuple[Network, Tokenizer]:
    """Write what is in `source` as a checkpoint into `folder`, which is there and empty.

    Raises UserError where its network is none of ours, or a file of it is missing or damaged.
    """
    config = read_json(source / "config.json")
    try:
        family = family_of(config)
        net = family.network(config)
        check_network(net)
    except KeyError as missing:
        raise UserError(f"{source / 'config.json'} has no {missing}") from None
    except UserError as error:  # of families, which know no folder
        raise UserError(f"{source / 'config.json'}: {error}") from None
    tokenizer = _tokenizer(source, folder)
    if config.get("vocab_size", 0) < tokenizer.vocab_size:
        raise UserError(
            f"{source / 'config.json'}: vocab_size {config.get('vocab_size')}, and the tokenizer"
            f" has {tokenizer.vocab_size} tokens"
        )
    with ExitStack() as stack:
        weights = Weights(source, stack)
        if net.num_layers > weights.count:  # before a name is made for each
            raise UserError(f"{source} holds {weights.count} tensors for {net.num_layers} layers")
        moves = family.moves(net, config["vocab_size"])
        shapes = _shapes(weights, moves)
        weights.check_taken(moves)
        _check_shapes(source, net, config["vocab_size"], shapes)
        records = [Record(f"weight/{name}@0:0", "F32", as_matrix(shapes[name])) for name in shapes]
        write(folder / file_name(0), _chunks(weights, moves, records))
    write_tokenizer(tokenizer, folder)
    manifest = Manifest(
        progress=dict.fromkeys(PROGRESS, 0),
        network=network(net),
        optimizer="",
        vocabulary=tokenizer.vocab_size,
        tokenizer=tokenizer.specification,
        layout={"seq_length": net.seq_length},
        versions=package_versions(),
        tensors={f"weight/{name}": shape for name, shape in shapes.items()},
        files={name: describe(folder / name) for name in list_files(folder)},
    )
    manifest.write(folder)
    return net, tokenizer


def _shapes(weights: Weights, moves: Sequence[Move]) -> dict[str, tuple[int, ...]]:
    """The shapes of our tensors, in the order of the moves."""
    shapes: dict[str, tuple[int, ...]] = {}
    for move in moves:
        empty = [torch.empty(weights.shape(name), device="meta") for name in move.theirs]
        try:
            ours = dict(zip(move.ours, move.back(empty), strict=True))
        except (RuntimeError, ValueError):
            raise UserError(
                f"{weights.folder}: {move.theirs[0]} has shape {tuple(empty[0].shape)}, which"
                " config.json makes another"
            ) from None
        shapes |= {name: tuple(tensor.shape) for name, tensor in ours.items()}
    return shapes


def _check_shapes(
    source: Path, net: Network, rows: int, found: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise UserError where the tensors are not those of the network that config.json names; tables
    may have more rows than these, which pad them.
    """
    with torch.device("meta"):
        model = GPT(net, rows, kernel("sdpa"), 0)
    for name, parameter in model.named_parameters():
        shape, wanted = found.get(name, ()), tuple(parameter.shape)
        if name in TABLES:
            wanted = (max((rows, *shape[:1])), *wanted[1:])
        if shape != wanted:
            raise UserError(f"{source}: {name} has shape {shape} and config.json makes it {wanted}")


def _chunks(
    weights: Weights, moves: Sequence[Move], records: Sequence[Record]
) -> Iterator[memoryview | bytes]:
    yield header(records)
    for move in moves:
        for tensor in move.back([weights.tensor(name) for name in move.theirs]):
            yield tensor.contiguous().flatten().view(torch.uint8).numpy().data


def _tokenizer(source: Path, folder: Path) -> Tokenizer:
    """Ours where an export of ours says which one, else its tokenizer.json."""
    whole = source / FILE
    if not whole.exists():
        raise UserError(
            f"{source} has no {FILE}: copy it and {CONFIG} from the export"
            " that the model was made of, or write them with its tokenizer's save_pretrained"
        )
    beside = source / CONFIG
    facts = read_json(beside) if beside.exists() else {}
    ours = str(facts.get(OURS) or "")
    kind = ours.removeprefix(TAGGED)
    tags = read_tags(str(source / TAGS), "copy it from the export") if kind != ours else None
    text = not kind or kind.startswith(("huggingface", "gpt2"))
    if not text:
        inner = tokenizer_from(kind)
    else:
        inner = tokenizer_from(f"huggingface:{whole}")
        if tags:
            inner = _without(tags, whole, folder / FILE, end_named(facts))
    tokenizer = inner if tags is None else Tagged(inner, tags)
    if tags or not text:  # else the file is the tokenizer, with all that it has
        _check_tokens(tokenizer, whole)
    return tokenizer


def _check_tokens(tokenizer: Tokenizer, whole: Path) -> None:
    """Raise UserError where tokens were added to an export, or others put in their place: import
    would leave their rows out, like those that only pad a table.
    """
    ours, theirs = vocabulary(tokenizer), vocabulary_of(whole)
    named = f"{tokenizer.specification} ({OURS} in {CONFIG} beside it)"
    back = "copy both files from the export"
    if added := [name for name in theirs if ours.get(name) != theirs[name]]:
        keep = f"; to keep them take {OURS} out of it" * (not isinstance(tokenizer, Tagged))
        raise UserError(
            f"{whole} has tokens that {named} has not, {shown(added, SHOWN)}: to leave them out"
            f" {back}{keep}"
        )
    if gone := [name for name in ours if name not in theirs]:
        raise UserError(f"{whole} lacks tokens that {named} has, {shown(gone, SHOWN)}: {back}")


def _without(tags: list[str], whole: Path, path: Path, end: str) -> Tokenizer:
    """What an exported tokenizer was before its tags were added, and whatever came behind them, in
    a file of its own.
    """
    facts = read_json(whole)
    known = facts.get("added_tokens", [])
    first = min((one["id"] for one in known if one["content"] in tags), default=math.inf)
    facts["added_tokens"] = [one for one in known if one["id"] < first]
    path.write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
    return huggingface(str(path), end)
