"""docs/gpu.md, made from what tests/gpu/run.sh has found.

    python -m tests.gpu.page               # from what is kept in docs/measured/
    python -m tests.gpu.page DIR           # keep that there too, where a GPU has found it

Of a row that several have the newest counts; rows of another day stand in a table of their own,
with the rows of that day that their ratios are of.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from longseq.host.atomic_files import replace_file
from tests.gpu.results import short
from tests.gpu.steps import STEPS, Step

PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"
MEASURED = PAGE.parent / "measured"  # a folder for each machine and code, with its results.json
NO_VALUES = ("what", "verdict", "why")  # of a row; the others are what was measured
OURS = "ours"  # begins the names of rows that a `ratio` is of (beside.py)
UNSEEN = "**No GPU has run this.**"

HEAD = """# On a GPU

One command proves and measures every path that needs a GPU, on any machine that has one, in half
an hour:

```
./tests/gpu/run.sh --within 25m
```

It uses the environment of `install.sh` if that sees the GPU, else the machine's own `python3` with
its torch, and adds what is missing from a folder of wheels; the machine's own packages are not
touched. Make that folder on a machine with a network, for the other machine's Python:

```
./install.sh --wheels DIR --python 3.12
./tests/gpu/run.sh --wheels DIR
```

Each step is a process of its own with its share of the time. Steps that measure no time run side by
side if the GPU has 40 GiB or more (3.5 minutes on an H200), the others alone after them. What was
cut off is continued at the next call; what is finished is not run again while the code is the same.
`--steps kernels,repeat` runs those only; `--out DIR` says where `results.json` and each step's
output go. Memory that ran out and failures are results too. Without a GPU the steps run on the CPU
as far as it can show them.

This page is made from the results in docs/measured/, to which `./tests/gpu/run.sh --docs` adds
those of this machine, and `python -m tests.gpu.page DIR` those of another. Of each row it has the
newest result, under the machine, the day and the code; that is why a section may have two tables.
"""


def title(machine: dict[str, Any]) -> str:
    """Where results are from, in a line."""
    versions = machine["packages"]
    commit = machine["commit"]
    code = f"commit {commit['id'][:10]}" if commit else f"code {machine['code']}"
    if commit and commit["changed_files"]:
        code += f" with {commit['changed_files']} files changed (code {machine['code']})"
    where = machine["gpus"][0] if machine["gpu"] and machine["gpus"] else machine["gpu"]
    parts = [where or f"no GPU, {machine['cpu']['model']}", f"torch {versions.get('torch', '?')}"]
    parts += [f"DeepSpeed {versions.get('deepspeed', '?')}", machine["time"][:10], code]
    return "; ".join(parts)


def results_of(
    found: Sequence[dict[str, Any]], step: Step
) -> Iterator[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    """Where a step was run on a GPU, the last first, what became of it, and its rows that no later
    run has, with those that they are compared with.
    """
    shown: set[str] = set()
    for result in reversed(found):
        kept = result["steps"].get(step.name, {})
        new = [row for row in kept.get("rows", ()) if row["what"] not in shown]
        needed = {f"{OURS} {row['tokens']}" for row in new if "ratio" in row}
        needed |= {row["what"] for row in new}
        rows = [row for row in kept.get("rows", ()) if row["what"] in needed]
        if result["machine"]["gpu"] and new:
            shown |= {row["what"] for row in rows}
            yield title(result["machine"]), kept, rows


def rows_table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A table of rows; a column for each value that one of them has."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in NO_VALUES))
    noted = any(row.get("why") for row in rows)
    head = ["what", *columns, "verdict", *(["why"] if noted else [])]
    yield _line(head)
    yield "|" + "---|" * len(head)
    said: set[str] = set()
    for row in rows:
        why_not_run = row.get("why", "") if row["verdict"] == "not run" else ""
        if why_not_run in said:
            continue  # of one kernel in every case
        said |= {why_not_run} - {""}
        values = [short(row[name]) if name in row else "" for name in columns]
        why = [row.get("why", "")[:200]] if noted else []
        yield _line([row["what"], *values, row["verdict"], *why])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def page(found: Sequence[dict[str, Any]]) -> str:
    """The text of docs/gpu.md."""
    lines = [HEAD]
    for step in STEPS:
        lines += [f"## {step.shows[0].upper()}{step.shows[1:]}", ""]
        lines += [f"`./tests/gpu/run.sh --steps {step.name}`", ""]
        results = list(results_of(found, step))
        if step.columns and results:
            lines += [*textwrap.wrap(step.columns, 100, break_on_hyphens=False), ""]
        if not results:
            lines += [UNSEEN, ""]
        for where, kept, rows in results:
            rest = f" {kept['why'][0].upper()}{kept['why'][1:]}." if kept["why"] else ""
            lines += [f"{where}; {kept['seconds']:.0f} s.{rest}", "", *rows_table(rows), ""]
    return "\n".join(lines)


def kept() -> list[dict[str, Any]]:
    """The results in docs/measured/, the newest last."""
    found = [json.loads(path.read_text("utf-8")) for path in MEASURED.glob("*/results.json")]
    return sorted(found, key=lambda result: result["machine"]["time"])


def keep(folder: Path) -> None:
    """Put the results in `folder` into docs/measured/, where they are a GPU's."""
    text = (folder / "results.json").read_text(encoding="utf-8")
    machine = json.loads(text)["machine"]
    if not machine["gpu"]:
        print(f"{folder}: no GPU has found this, so that docs/gpu.md stays as it is")
        return
    name = "-".join(machine["gpu"].lower().removeprefix("nvidia").split())
    target = MEASURED / f"{name}-{machine['code'][:8]}"
    target.mkdir(parents=True, exist_ok=True)
    replace_file(target / "results.json", text)
    write()


def write() -> None:
    """Write docs/gpu.md from the results that are kept."""
    replace_file(PAGE, page(kept()))
    print(f"wrote {PAGE}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR")
    folder = parser.parse_args(argv).folder
    if folder is None:
        write()
    elif (folder / "results.json").exists():
        keep(folder)
    else:
        parser.error(f"{folder} has no results.json: name the --out of tests/gpu/run.sh")
    return 0


if __name__ == "__main__":
    sys.exit(main())
