"""`longseq completion bash|zsh`: what a shell completes, from the tables that the rest reads.

./longseq.sh completion bash > FILE        and `source FILE` in ~/.bashrc

Verbs and their arguments for longseq.sh; for the scripts in ALCF/ their options, behind `--` the
trainer's arguments, and in bash 5 our variables in front of a command.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable

from longseq.config.arguments import GROUPS
from longseq.config.flags import Parser, flags_of
from longseq.errors import EXIT_DONE
from longseq.host.variables import read_table

OPTIONS = {  # those of bench.sh and use.sh are the verbs'
    "train-gpt3.sh": "--help --list-models --list-variables --",
    "submit.sh": "-q -n -t -A --chain --bench --use --dry-run --help --",
    "status.sh": "--all --help",
}
ON_RANKS = ("score", "generate", "embed", "evaluate")  # of use.sh

# In place of shtab's own, which names another
WHERE = """# ./longseq.sh completion bash > ~/.longseq-completion
# source ~/.longseq-completion       a line for ~/.bashrc (docs/install.md)
"""
BASH = """
_longseq_flags={flags}
_longseq_variables={variables}
_longseq_options() {{ # _longseq_options SCRIPT WORD: what it takes, behind that
    case "$1 $2" in
{options}
    esac
}}
_longseq_choices() {{ # the values of an argument of the trainer's
    case $1 in
{choices}
    esac
}}
_longseq_script() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words script first
    local before="${{COMP_WORDS[*]:0:COMP_CWORD}} "
    before="${{1##*/}} ${{before#* }}"
    case $before in # behind -- stands what the job runs
        'submit.sh '*'--bench'*' -- '*) before="bench.sh ${{before#* -- }}" ;;
        'submit.sh '*'--use'*' -- '*) before="use.sh ${{before#* -- }}" ;;
    esac
    read -r script first _ <<<"$before"
    words=$(_longseq_options "$script" "$first")
    if [[ $before == *' -- '* ]]; then
        words=$(_longseq_choices "${{COMP_WORDS[COMP_CWORD - 1]}}")
        words=${{words:-$_longseq_flags}}
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}}
complete -o bashdefault -o default -F _longseq_script {scripts}
_longseq_variable() {{ # in front of a command; else whatever bash would complete
    local word=${{COMP_WORDS[COMP_CWORD]}}
    COMPREPLY=()
    [[ $word != [A-Z]?* ]] ||
        mapfile -t COMPREPLY < <(compgen -S = -W "$_longseq_variables" -- "$word")
    ((! ${{#COMPREPLY[@]}})) || compopt -o nospace
}}
((BASH_VERSINFO[0] < 5)) || complete -o bashdefault -o default -I -F _longseq_variable
"""

ZSH = """
_longseq_script() {{
    local flags={flags} options first=
    (( CURRENT < 3 )) || first=$words[2]
    case "${{service:t}} $first" in
{options}
    esac
    if (( ${{words[(I)--]}} && CURRENT > ${{words[(I)--]}} )); then
        compadd -- ${{=flags}}
    else
        compadd -- ${{=options}}
    fi
}}
compdef _longseq_script {scripts}
"""


def add_arguments(parser: Parser) -> None:
    """Which shell."""
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell that completes")
    parser.set_defaults(run_verb=completion)


def completion(options: argparse.Namespace) -> int:
    """Print the script; `options.all_verbs` makes the parser of every verb."""
    import shtab

    parser = options.all_verbs()
    parser.prog = "longseq.sh"
    text = shtab.complete(parser, shell=options.shell)
    if options.shell == "bash":  # zsh wants its first line first
        text = WHERE + "\n".join(line for line in text.splitlines() if line[:1] != "#")
    print(text)
    print(scripts(options.shell, options_of_scripts(parser)))
    return EXIT_DONE


def options_of_scripts(parser: Parser) -> dict[str, str]:
    """What each script takes; of use.sh after a verb under `use.sh VERB`. parser: of all verbs."""
    (verbs,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    found = {f"use.sh {verb}": " ".join(verbs.choices[verb].options()) for verb in ON_RANKS}
    found["use.sh"] = " ".join((*ON_RANKS, "--help"))
    found["bench.sh"] = " ".join((*verbs.choices["bench"].options(), "--"))
    return OPTIONS | found


def scripts(shell: str, takes: dict[str, str]) -> str:
    """The part about the scripts in ALCF/."""
    flags = [item for cls in GROUPS for item in flags_of(cls)]
    choices = {item.name: item.choices for item in flags if item.choices}
    table = read_table()
    names = [name for name, row in table.ours.items() if row.type.split()[0] in KINDS]
    act = "options=" if shell == "zsh" else "echo "
    options = [
        f"        {pattern}) {act}{shlex.quote(words)} ;;"
        for name, words in takes.items()
        for pattern in [f"'{name}'" if " " in name else f"'{name} '*"]
    ]
    return (BASH if shell == "bash" else ZSH).format(
        flags=_words(item.name for item in flags),
        variables=_words(names),
        options="\n".join(options),
        choices="\n".join(
            f"        {name}) echo {_words(one)} ;;" for name, one in choices.items()
        ),
        scripts=" ".join(name for name in takes if " " not in name),
    )


KINDS = frozenset("count whole number tokens time switch port host text path words choice".split())


def _words(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))
