"""Which lines of the bash files ran, from the traces that trace.sh left: there is no kcov.

python tests/launch/coverage.py FOLDER [LEAST]   prints a table; status 1 under LEAST percent

A statement over several lines (a list, a pipe, a text) counts once, and as run if any of its lines
was traced. Not counted: what bash never traces, such as `else`, `done`, a pattern of a case, the
head of a function, a here-document.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    "install.sh",
    "ALCF/*.sh",
    "ALCF/machines/*.sh",
    "ALCF/launchers/*.sh",
    "ALCF/install/*.sh",
]
TRACED = re.compile(
    rb"^\++(?:[^|\n]*?/)??((?:ALCF/(?:machines/|launchers/|install/)?)?[\w-]+\.sh)\|(\d+)\|", re.M
)
SILENT = re.compile(
    r"""^(?:
        [{}()]+ | \}.* | fi\b.* | done\b.* | esac | else | then | do | ;; | \)\)?.* |
        [\w-]+\(\)\s*[{(].* |          # the head of a function
        (?:\(?[^()\s][^()]*|\*)\)\s*(?:;;)? |  # a pattern of a case
        (?:local|declare)(?:\s+-\w+)?(?:\s+\w+)+ |  # without a value
        while\s+:.* | elif\b.*
    )$""",
    re.VERBOSE,
)
HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")


def strip(line: str, quote: str) -> tuple[str, str]:
    """`line` without comment and quoted text, and the quote that is open at its end."""
    found, index = [], 0
    while index < len(line):
        char = line[index]
        if quote:
            if char == "\\" and quote == '"':
                index += 1
            elif char == quote:
                quote = ""
        elif char == "\\":
            index += 1
        elif char in "'\"":
            quote = char
            found.append("Q")
        elif char == "#" and (index == 0 or line[index - 1] in " \t;"):
            break
        else:
            found.append(char)
        index += 1
    return "".join(found), quote


def statements(text: str) -> list[list[int]]:
    """Numbers of the lines of every statement that bash could trace."""
    found: list[list[int]] = []
    current: list[int] = []
    quote, depth, end = "", 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if end:
            end = "" if line.strip() == end else end
            continue
        was_open = bool(current)
        plain, quote = strip(line, quote)
        depth += len(re.findall(r"(?<![\w)])\(|=\(", plain)) if was_open or "=(" in plain else 0
        depth -= plain.count(")") if depth and (was_open or "=(" in plain) else 0
        depth = max(depth, 0)
        match = HEREDOC.search(line) if "<<" in plain and "<<<" not in plain else None
        end = match[1] if match else ""
        if not was_open and (not plain.strip() or SILENT.match(plain.strip())):
            continue
        current.append(number)
        if not quote and not depth and not re.search(r"(\\|\||&&)$", line.split(" #")[0].rstrip()):
            found.append(current)
            current = []
    return found


def measure(folder: Path) -> dict[str, tuple[list[list[int]], set[int]]]:
    """For every file its statements and the lines that ran."""
    ran: dict[str, set[int]] = defaultdict(set)
    for trace in folder.glob("*.trace"):
        for name, line in set(TRACED.findall(trace.read_bytes())):
            ran[name.decode()].add(int(line))
    paths = sorted(path for pattern in FILES for path in ROOT.glob(pattern))
    paths = [path for path in paths if path.name != "rank.sh"]  # for /bin/sh, which bash is not
    names = [str(path.relative_to(ROOT)) for path in paths]
    return {n: (statements((ROOT / n).read_text()), ran[n]) for n in names}


def main(folder: Path, least: float) -> int:
    all_count = all_ran = 0
    print(f"{'bash file':<32}{'statements':>11}{'run':>6}{'%':>7}  not run (lines)")
    for name, (found, lines) in measure(folder).items():
        missed = [group[0] for group in found if not lines & set(group)]
        all_count, all_ran = all_count + len(found), all_ran + len(found) - len(missed)
        share = 100 * (1 - len(missed) / len(found)) if found else 100.0
        shown = " ".join(map(str, missed[:12])) + (" ..." if len(missed) > 12 else "")
        print(f"{name:<32}{len(found):>11}{len(found) - len(missed):>6}{share:>6.1f}%  {shown}")
    share = 100 * all_ran / max(all_count, 1)
    print(f"{'all':<32}{all_count:>11}{all_ran:>6}{share:>6.1f}%")
    if share < least:
        print(f"bash coverage is under {least:g}%")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
