"""The table of variables as Python sees it, and what of an environment belongs to a run.

    table = read_table()
    kept = table.keep(os.environ, REPEAT)        # what RUN/command.sh sets
    lines = kept.lines()                         # … as lines of a shell script

The table is `ALCF/variables.txt`, and `ALCF/secrets.txt` says what may be secret; bash reads the
same two files (`ALCF/variables.sh`). As a program it prints the settings of a job, for
`ALCF/freeze.sh`. Standard library only, and nothing of ours: it runs on login nodes, by the path
of this file.
"""

import fnmatch
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "ALCF"
SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
JOB, REPEAT = "job", "repeat"


@dataclass(frozen=True)
class Variable:
    """A row of ours."""

    name: str
    type: str
    default: str
    flags: str
    marks: frozenset[str]
    meaning: str


@dataclass(frozen=True)
class Kept:
    """What a script sets and unsets, and the names that it leaves out as they may be secret."""

    values: dict[str, str]
    unset: list[str]
    secret: list[str]

    def lines(self) -> list[str]:
        """These as lines of bash."""
        found = [f"export {name}={shlex.quote(value)}" for name, value in self.values.items()]
        if self.unset:
            found.append(f"unset {' '.join(self.unset)}")
        if self.secret:
            found.append(f"# left out, as they may be secret: {' '.join(self.secret)}")
        return found


@dataclass(frozen=True)
class Table:
    """Our variables by name, patterns and marks of those of other programs, what is secret."""

    ours: dict[str, Variable]
    others: tuple[tuple[str, frozenset[str]], ...]
    secret_name: re.Pattern[str]
    secret_value: re.Pattern[str]

    def is_secret(self, name: str, value: str = "") -> bool:
        """Whether an environment variable may hold a key, token or password."""
        if self.secret_value.search(value.upper()):
            return True
        if name in self.ours:
            return "secret" in self.ours[name].marks
        if any(name == pattern for pattern, _ in self.others):
            return False
        return bool(self.secret_name.search(name.upper()))

    def marks_of_other(self, name: str) -> frozenset[str]:
        """Where a variable of another program goes."""
        for pattern, marks in self.others:
            if fnmatch.fnmatchcase(name, pattern):
                return marks
        return frozenset()

    def is_path(self, variable: Variable) -> bool:
        """Whether the value is the path of a file or folder."""
        main = self.ours.get(variable.type.removeprefix("same "))
        return (main or variable).type == "path"

    def keep(self, environ: Mapping[str, str], where: str) -> Kept:
        """What of `environ` a run depends on, for a job or for a repeat.

        An empty variable of ours counts as not set, and is unset; one of another program is kept
        as it is.
        """
        kept = Kept({}, [], [])
        for name, variable in self.ours.items():
            left_out = {"once", "here"} if where == JOB else {"once"}
            value = "" if variable.marks & left_out else environ.get(name, "")
            if self.is_secret(name, value):
                kept.secret.extend([name] if value else [])
            elif value:
                kept.values[name] = value
            else:
                kept.unset.append(name)
        for name, value in sorted(environ.items()):
            if name in self.ours or where not in self.marks_of_other(name):
                continue
            if not SHELL_NAME.match(name):
                continue
            if self.is_secret(name, value):
                kept.secret.append(name)
            else:
                kept.values[name] = value
        return kept

    def with_paths_from(self, kept: Kept, folder: Path) -> Kept:
        """The same, with every path of ours absolute: another folder will be the current one."""
        paths = {name for name, variable in self.ours.items() if self.is_path(variable)}
        values = {
            name: os.path.join(folder, value) if name in paths else value
            for name, value in kept.values.items()
        }
        return replace(kept, values=values)


def read_table(folder: Path = FOLDER) -> Table:
    """Read `variables.txt` and `secrets.txt`; raises OSError where they are not."""
    ours: dict[str, Variable] = {}
    others: list[tuple[str, frozenset[str]]] = []
    for line in (folder / "variables.txt").read_text(encoding="utf-8").splitlines():
        row = line.split(" | ")
        if line.startswith(("#", "[")) or len(row) < 3 or row[1] == "likely":
            continue
        if row[1] == "others":
            others += [(pattern, frozenset(row[2].split())) for pattern in row[0].split()]
        else:
            name, kind, default, flags, marks, meaning = row
            ours[name] = Variable(name, kind, default, flags, frozenset(marks.split()), meaning)
    secrets = (folder / "secrets.txt").read_text(encoding="utf-8").splitlines()
    return Table(ours, tuple(others), _any_of(secrets, "name "), _any_of(secrets, "value "))


def _any_of(lines: list[str], kind: str) -> re.Pattern[str]:
    return re.compile("|".join(line[len(kind) :] for line in lines if line.startswith(kind)))


if __name__ == "__main__":
    table = read_table()
    print("\n".join(table.with_paths_from(table.keep(os.environ, JOB), Path.cwd()).lines()))
    sys.exit(0)
