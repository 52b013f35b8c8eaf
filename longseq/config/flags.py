"""One declaration a flag: a dataclass field says its type, default and help; the parser follows.

    @dataclass(frozen=True)
    class Batch:
        micro_batch_size: int = flag(1, "samples a rank works on at once", low=1)

`parse((Batch, ...), argv)` returns one instance of each class; `--help` prints the flags by
subject. A value out of range or of another type is a `UserError` that names the flag and the value;
so are flags that nobody declared, all of them at once, each with the flag that was meant where one
is near, or what megatron.py knows of it. The same declarations make docs/flags.md and the help of
every verb that takes them.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, NoReturn, TypeVar, get_type_hints

from longseq.config import megatron
from longseq.errors import UserError

T = TypeVar("T")
PLAIN = re.compile("[!-^`-~]+")  # Python's numbers take blanks, _ and the digits of all scripts
DIGITS = 18  # of the largest numbers that count anything
LARGEST = 2**63 - 1  # what arrays of whole numbers hold
SHORTEST, ALIKE = 5, 0.83  # letters of a name that was cut off; likeness of one misspelled
METAVARS = {int: "N", float: "X", str: "TEXT"}


def flag(
    default: Any,
    help_text: str,
    *,
    name: str = "",
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field that is a command-line flag; of its bounds `below` is not inclusive."""
    bounds = {"low": low, "high": high, "below": below}
    return dataclasses.field(
        default=default,
        metadata={"help": help_text, "name": name, "choices": choices, **bounds},
    )


@dataclasses.dataclass(frozen=True)
class Flag:
    """What one flag accepts, as docs and parser need it."""

    name: str
    field: str
    kind: type
    default: Any
    help: str
    choices: tuple[str, ...]
    low: float | None
    high: float | None
    below: float | None


@cache
def flags_of(cls: type) -> tuple[Flag, ...]:
    """The flags that the fields of `cls` declare, in their order. Kept, as a search for a layout
    asks for them thousands of times, and reading annotations took half of it.
    """
    hints = get_type_hints(cls)
    return tuple(
        _flag(field, hints[field.name]) for field in dataclasses.fields(cls) if field.metadata
    )


def _flag(field: dataclasses.Field[Any], kind: type) -> Flag:
    meta = dict(field.metadata)
    name = meta.pop("name") or "--" + field.name.replace("_", "-")
    return Flag(name, field.name, kind, field.default, **meta)


class Parser(argparse.ArgumentParser):
    """Wrong usage is a UserError like any other mistake; help is as wide as the screen."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **more})
        self._intermixed = False
        self._negative_number_matcher = re.compile(r"-\.?\d")  # argparse's own knows no -1e5

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """A list of names may stand in several places between the flags: argparse by itself takes
        its first place for all of it, which in `RUN --flag FILE` is empty, right behind RUN.
        """
        lists = any(one.nargs in ("*", "+") for one in self._get_positional_actions())
        if self._intermixed or not lists or "--" in (args or ()):
            return super().parse_known_args(args, namespace)
        self._intermixed = True  # what follows calls this once more in some versions of Python
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: see {self.prog} --help")

    def print_help(self, file: Any = None) -> None:
        """Raises OSError where it finds no room, of which argparse's own says nothing."""
        print(self.format_help(), end="", file=file, flush=True)

    def takes_value(self, name: str) -> bool:
        """Whether an option is given with a value behind it."""
        return self._option_string_actions[name].nargs != 0

    def options(self) -> list[str]:
        """The long options it takes."""
        return [name for name in self._option_string_actions if name.startswith("--")]


def whole(text: str) -> int:
    """The number above 0 that `text` writes in digits alone; 0 where it is none, or so long that
    it counts nothing: Python refuses to read one of thousands of digits.
    """
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= DIGITS else 0


def _value(item: Flag, text: str) -> Any:
    """`text` as the flag's type, inside its bounds, or a UserError that says what is accepted."""
    if item.kind is str:
        if item.choices and text not in item.choices:
            raise UserError(f"{item.name} {text!r} is not one of {', '.join(item.choices)}")
        return text
    try:
        number = item.kind(text if PLAIN.fullmatch(text) else "")
    except ValueError:
        noun = "a whole number" if item.kind is int else "a number"
        raise UserError(f"{item.name} {text!r} is not {noun}") from None
    if item.kind is float and not math.isfinite(number):
        raise UserError(f"{item.name} {text!r} is not a finite number")
    high = LARGEST if item.high is None and item.kind is int else item.high
    form, given = "d" if item.kind is int else "g", f"{item.name} {text[:24]}"
    if item.low is not None and number < item.low:
        raise UserError(f"{given} is too small: give {item.low:{form}} or more")
    if high is not None and number > high:
        raise UserError(f"{given} is too large: give {high:{form}} or less")
    if item.below is not None and number >= item.below:
        raise UserError(f"{given} is too large: give less than {item.below:{form}}")
    return number


def add_flags(
    parser: argparse.ArgumentParser, classes: Sequence[type], but: Collection[str] = ()
) -> None:
    """Give `parser` the flags of `classes`, each class a subject of its help; but: fields."""
    for cls in classes:
        group = parser.add_argument_group(subject(cls))
        for item in (item for item in flags_of(cls) if item.field not in but):
            text = meaning(item).replace("%", "%%")
            if item.kind is bool:
                group.add_argument(
                    item.name, dest=item.field, action="store_true", default=None, help=text
                )
            else:
                group.add_argument(
                    item.name, dest=item.field, metavar=METAVARS[item.kind], help=text
                )


def read_flags(classes: Sequence[type], given: argparse.Namespace) -> list[Any]:
    """One instance of each class from what argparse found; UserError for a value that cannot be."""
    found = {field: text for field, text in vars(given).items() if text is not None}
    return [_build(cls, found) for cls in classes]


def given_flags(cls: type, values: Mapping[str, Any]) -> list[str]:
    """The words that give the fields of `cls` these values, where they differ from the defaults."""
    words: list[str] = []
    for item in flags_of(cls):
        value = values.get(item.field, item.default)
        if value != item.default:
            words += [item.name] if item.kind is bool else [item.name, str(value)]
    return words


def parse(classes: Sequence[type], argv: Sequence[str], prog: str = "pretrain_gpt.py") -> list[Any]:
    """One instance of each class from `argv`; the last of a repeated flag wins.

    Raises UserError for an unknown flag, a missing value or a value that does not fit.
    """
    parser = Parser(prog=prog, usage="%(prog)s [--flag VALUE ...]")
    add_flags(parser, classes)
    if "--" in argv:
        raise UserError("-- among the arguments: leave it out (./ALCF/train-gpt3.sh takes one)")
    found, rest = parser.parse_known_args(list(argv))
    if rest:
        raise UserError(unknown(rest, parser, argv))
    return read_flags(classes, found)


def subject(cls: type) -> str:
    """What the flags of a class are about."""
    return (cls.__doc__ or "").splitlines()[0].rstrip(".")


def meaning(item: Flag) -> str:
    """What a flag does, with its choices and its default."""
    choices = f"; {', '.join(item.choices)}" if item.choices else ""
    default = "off" if item.kind is bool else str(item.default) or "none"
    return f"{item.help}{choices} (default {default})"


def _build(cls: type[T], given: dict[str, Any]) -> T:
    """An instance of `cls`; a field that was not given keeps the dataclass' default."""
    values = {}
    declaring: type = cls
    for item in flags_of(declaring):
        if item.field in given:
            text = given[item.field]
            values[item.field] = text if item.kind is bool else _value(item, text)
    return cls(**values)


def unknown(words: Sequence[str], parser: Parser, argv: Sequence[str]) -> str:
    """That `words`, what argparse left of argv, are no arguments, all of them at once: what to do
    instead, or which of the parser's was meant.
    """
    known = parser.options()
    trained = "--num-layers" in known  # else Megatron's words mean nothing
    behind = _behind(words, parser, argv)
    surplus = [word for some in behind.values() for word in some]
    names = _names([word for word in words if word not in surplus])
    parts = [_too_many(name, some, parser, argv) for name, some in behind.items()]
    return "; ".join(([_none_here(names, known, trained)] if names else []) + parts)


def _behind(words: Sequence[str], parser: Parser, argv: Sequence[str]) -> dict[str, list[str]]:
    """Options of the parser → those of `words` behind them that they do not take."""
    found: dict[str, list[str]] = {}
    last, room = "", False
    for word in argv:
        name, equals, _ = word.partition("=")
        if word.startswith("--"):
            last = name if name in parser.options() else ""
            room = bool(last) and not equals and parser.takes_value(name)
        elif last and not room and word in words:
            found.setdefault(last, []).append(word)
        else:
            room = False
    return found


def _too_many(name: str, surplus: Sequence[str], parser: Parser, argv: Sequence[str]) -> str:
    """What to do about words behind an option that does not take them."""
    if name == "--data-path":
        at = max(at for at, word in enumerate(argv) if word.partition("=")[0] == name)
        first = argv[at].partition("=")[2] or argv[at + 1]
        return f"{name} takes one name: {megatron.mixture([first, *surplus])}"
    takes = "one value" if parser.takes_value(name) else "no value"
    return f"{name} takes {takes}: leave {' '.join(map(repr, surplus))} out"


def _none_here(names: Sequence[str], known: Sequence[str], trained: bool) -> str:
    """What to do about names that nobody declared; trained: whether `known` are the trainer's."""
    if len(names) == 1:
        name = names[0]
        if answer := megatron.told(name) if trained else "":
            return f"{name} is no argument here: {answer}"
        near = _nearest(name, known)
        return f"unknown argument {name!r}" + (
            f"; did you mean {near}?" if near else ": --help lists what there is"
        )
    said: dict[str, list[str]] = {}  # what is to be done → those it is true of
    for name in names:
        near = _nearest(name, known)
        answer = f"did you mean {near}?" if near else "--help lists what there is"
        said.setdefault((megatron.told(name) if trained else "") or answer, []).append(name)
    parts = [f"{', '.join(some)}: {answer}" for answer, some in said.items()]
    return f"{len(names)} arguments that are none here; {'; '.join(parts)}"


def _names(words: Sequence[str]) -> list[str]:
    """The arguments among `words`, each once; what follows one of them is its value."""
    found: list[str] = []
    for at, word in enumerate(words):
        name = word.split("=", 1)[0]
        if (word.startswith("--") or at == 0) and name not in found:
            found.append(name)
    return found


def _nearest(name: str, known: Sequence[str]) -> str:
    """The one that was meant, where there is no doubt: misspelled, or not written to its end."""
    import difflib

    longer = [other for other in known if other.startswith(name)]
    if len(longer) == 1 and len(name) > SHORTEST:
        return longer[0]
    return next(iter(difflib.get_close_matches(name, known, 1, ALIKE)), "")
