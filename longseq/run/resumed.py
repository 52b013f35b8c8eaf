"""What the run before was set to: a run that goes on from it takes it over unless told otherwise.

    before = find_before(Path("outputs/RUN/checkpoints"))     # None where no run's folder is there
    before.differences(config)                                # a line for each setting that changed
    python -m longseq.run.resumed LOAD RANKS                  # what ALCF/args.sh reads

Where a run computes and where its files go is its own: device, folders, and the layout on another
number of ranks. Standard library only.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longseq.config.arguments import GROUPS, Config, Layout, part
from longseq.config.companions import idle
from longseq.config.flags import Flag, flags_of
from longseq.errors import EXIT_DONE, EXIT_USER_ERROR, UserError
from longseq.host.atomic_files import reason
from longseq.host.variables import Table, Variable, read_table
from longseq.reports.runs import SUMMARY, read_json, run_of

OWN = frozenset(
    "device deepspeed_config run_dir save load tensorboard_dir profile"
    " pipeline_model_parallel_size".split()
)
NETWORK = ("num_layers", "hidden_size", "num_attention_heads")  # those of MODEL_SIZE_KEY
LAYOUT = ("MPSIZE", "SPSIZE", "RINGSIZE", "USE_SEQUENCE_PARALLEL")
# A length is said where samples change theirs, and positions follow it
NOT_SAID = OWN | {"seq_length", "max_position_embeddings"} | {i.field for i in flags_of(Layout)}
FLAGS: dict[str, Flag] = {item.name: item for cls in GROUPS for item in flags_of(cls)}
DEFAULTS = {item.field: item.default for item in FLAGS.values()}


@dataclass(frozen=True)
class Before:
    """A run's folder, and its flags' values by the fields of longseq.config.arguments."""

    folder: Path
    values: Mapping[str, Any]
    world_size: int
    model: str  # MODEL_SIZE_KEY where it was given

    @property
    def layout(self) -> str:
        """Its layout in a sentence."""
        sizes = {item.field: self.values[item.field] for item in flags_of(Layout)}
        return str(Layout(**sizes, world_size=self.world_size))

    def differences(self, config: Config) -> list[str]:
        """What `config` does otherwise, a line each; the length of samples is said elsewhere."""
        now = config.values
        said = []
        if str(config.layout) != self.layout:
            said.append(f"on {config.layout}; before, {self.layout}")
        now["lr_decay_iters"] = config.training.decay_iters
        for item in FLAGS.values():
            old, new = self.values[item.field], now[item.field]
            if item.field == "lr_decay_iters":
                old = self.schedule()
            if not _same(item, old, new) and item.field not in NOT_SAID | idle(self.values):
                said.append(f"{item.name} {_word(new)}; before, {_word(old)}")
        return said

    def schedule(self) -> int:
        """Iterations of its learning rate's schedule."""
        return int(self.values["lr_decay_iters"] or self.values["train_iters"])


def _same(item: Flag, old: Any, new: Any) -> bool:
    if item.field == "data_path":  # the same file under another of its names is no difference
        old, new = os.path.realpath(old), os.path.realpath(new)
    return bool(old == new)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "not given" if value == "" else str(value)


def find_before(load: Path) -> Before | None:
    """The run that wrote the checkpoints in `load`, from its summary.json."""
    folder = run_of(load)
    return _read(folder) if folder else None


def _read(folder: Path) -> Before:
    summary = read_json(folder / SUMMARY)
    settings = summary.get("settings")
    if not isinstance(settings, dict):
        raise UserError(
            f"LOAD: {folder / SUMMARY} does not say how that run was set: mend it, or move it away"
            " to go on with the settings given now"
        )
    found = {k: v for part in settings.values() if isinstance(part, dict) for k, v in part.items()}
    values = {item.field: found.get(item.field, item.default) for item in FLAGS.values()}
    wrong = [item.name for item in FLAGS.values() if not _fits(item, values[item.field])]
    if wrong:
        raise UserError(f"LOAD: {folder / SUMMARY}: {wrong[0]} has no value that can be")
    values["lr_warmup_fraction"] = _warmup(values, summary.get("warmup_iters"))
    values["data_path"] = _absolute(values["data_path"], str(summary.get("directory", "")))
    return Before(folder, values, int(found.get("world_size", 1)), _model(folder))


def _warmup(values: Mapping[str, Any], iterations: float | None) -> float:
    """The part of the schedule that makes as many iterations of warm-up as that run had: older ones
    had whole ones, and those that did not note them one less where a float was a little below.
    """
    fraction: float = values["lr_warmup_fraction"]
    if values["lr_warmup_iters"]:
        return fraction
    schedule = int(values["lr_decay_iters"] or values["train_iters"])
    had = int(fraction * schedule) if iterations is None else iterations
    return fraction if part(fraction, schedule) == had else had / schedule


def _fits(item: Flag, value: Any) -> bool:
    if item.kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is item.kind


def _absolute(path: str, directory: str) -> str:
    """A path of files that the run before named from its own folder."""
    return os.path.join(directory, path) if path and directory else path


def _model(folder: Path) -> str:
    """MODEL_SIZE_KEY as command.sh keeps it."""
    try:
        lines = (folder / "command.sh").read_text(encoding="utf-8").splitlines()
        name = "export MODEL_SIZE_KEY="
        return next((shlex.split(li[len(name) :])[0] for li in lines if li.startswith(name)), "")
    except (OSError, ValueError, IndexError):
        return ""


def taken_over(
    before: Before, ranks: int, told: Iterable[str], table: Table
) -> tuple[dict[str, str], list[str]]:
    """Values of our variables, and flags that no variable makes, as `before` had them.

    ranks: of this run. told: names of variables that are set now, which are left out.
    """
    given = _main_names(told, table)
    variables: dict[str, str] = {}
    words: list[str] = []
    zero: set[str] = set()  # what a run can have and its variable cannot say
    left = {item.field for item in FLAGS.values()} - OWN - set(NETWORK) - {"lr_decay_iters"}
    left -= idle(before.values)
    for variable in table.ours.values():
        fields = _fields(variable)
        if not fields:
            continue
        if variable.name in given or not left.issuperset(fields):
            left -= set(fields)
        elif variable.type == "count" and before.values[fields[0]] == 0:
            zero |= set(fields)
        elif (value := _value(variable, fields, before.values)) is not None:
            variables[variable.name] = value
            one = ":" not in variable.flags  # the value is that of the first flag, mostly of all
            left -= {f for f in fields if not one or before.values[f] == before.values[fields[0]]}
    _batch_and_layout(before, ranks, given, variables)
    left -= {item.field for item in flags_of(Layout)} | {"global_batch_size"}
    for item in FLAGS.values():
        value = before.values[item.field]
        if item.field in left and (value != item.default or item.field in zero):
            words += [item.name] if item.kind is bool else [item.name, str(value)]
    words += ["--lr-decay-iters", str(before.schedule())]
    if "MODEL_SIZE_KEY" not in given:
        variables |= {"MODEL_SIZE_KEY": before.model} if before.model else {}
        variables["LONGSEQ_NETWORK"] = " ".join(str(before.values[name]) for name in NETWORK)
    return variables, words


def _main_names(told: Iterable[str], table: Table) -> set[str]:
    """Each name with the one that counts, where it is another name or an older spelling of it."""
    found = set()
    for name in told:
        if name in table.ours:
            kind, _, of = table.ours[name].type.partition(" ")
            found.add(of.split("=")[0] if kind in ("same", "older") else name)
    return found


def _fields(variable: Variable) -> list[str]:
    return [FLAGS[word].field for word in variable.flags.split() if word in FLAGS]


def _value(variable: Variable, fields: list[str], values: Mapping[str, Any]) -> str | None:
    """The variable's value that makes these values of its flags; None where there is none."""
    if ":" not in variable.flags:
        value = values[fields[0]]
        if variable.type == "switch":
            return str(int(value))
        return str(value) if value != "" else None
    made: dict[str, dict[str, Any]] = {}
    choice = ""
    for word in variable.flags.split():
        if word.endswith(":"):
            choice = word[:-1]
            made[choice] = {}
        elif word in FLAGS:
            made[choice][FLAGS[word].field] = True
        else:
            made[choice][list(made[choice])[-1]] = word
    choices = variable.type.removeprefix("choice ").split()
    for choice in choices if variable.type.startswith("choice") else made:
        wanted = {field: DEFAULTS[field] for field in fields} | made.get(choice, {})
        if all(values[field] == value for field, value in wanted.items()):
            return choice
    return None


def _batch_and_layout(
    before: Before, ranks: int, told: set[str], variables: dict[str, str]
) -> None:
    """The batch stays whole; the layout does on as many ranks where none is asked for."""
    values = before.values
    batch = values["global_batch_size"] or values["micro_batch_size"] * _dp(before)
    if not told & {"GLOBAL_BATCH", "GAS"}:
        variables["GLOBAL_BATCH"] = str(batch)
    if ranks == before.world_size and not told & {"SP_TYPE", *LAYOUT}:
        return
    for name in LAYOUT:
        variables.pop(name, None)
    if "SP_TYPE" not in told:
        ulysses, ring = values["ds_sequence_parallel_size"], values["context_parallel_size"]
        if values["tensor_model_parallel_size"] == 1 and ulysses * ring > 1:
            variables["SP_TYPE"] = "ds" if ulysses > 1 else "ring"


def _dp(before: Before) -> int:
    values = before.values
    sizes = (values["tensor_model_parallel_size"], values["ds_sequence_parallel_size"])
    return max(1, before.world_size // (sizes[0] * sizes[1] * values["context_parallel_size"]))


def main(load: str, ranks: str) -> int:
    """Print NAME=VALUE and flag=WORD, a NUL after each; nothing where no run is there."""
    try:
        before = find_before(Path(load))
    except UserError as error:
        print(f"longseq: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except OSError as error:
        print(f"longseq: LOAD={load}: {reason(error)}: give another folder", file=sys.stderr)
        return EXIT_USER_ERROR
    if before is not None:
        told = [name for name, value in os.environ.items() if value]
        variables, words = taken_over(before, int(ranks), told, read_table())
        entries = [f"{name}={value}" for name, value in variables.items()]
        sys.stdout.write("".join(f"{entry}\0" for entry in entries + [f"flag={w}" for w in words]))
    elif os.path.exists(load):
        print(
            f"longseq: LOAD={load}: no run's {SUMMARY} is there: the settings are those given now",
            file=sys.stderr,
        )
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
