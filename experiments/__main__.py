"""The one command: `python -m experiments VERB ...`, or `ressformer VERB ...` where the package is installed."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.commands.parser import PROGRAM, Parser, section
from experiments.errors import UserError, unknown
from experiments.start import start

VERBS = (
    *("train", "reproduce", "sweep", "compare", "depth-curves", "plan", "status", "resume", "retry", "runs", "why"),
    *("evaluate", "sample", "verify", "export", "pack", "unpack", "report", "scale", "time", "check-claims", "spent"),
    *("prune", "sync", "cost", "check", "budget", "tasks"),
)
DESCRIPTION = "Compare sequence models at the same parameters, FLOPs and tuning effort, and say how sure the answer is."
HELP = ("-h", "--help")


def program(words: Sequence[str]) -> int:
    """Hand the words after the verb to its command; 0 all went well, 1 a run failed or something is not sound.

    Raises:
        UserError: no such verb, a word that it does not take, or what the command raises.
    """
    verb, *rest = words or [""]
    if verb in HELP:
        print(overview(), end="")
        return 0
    if verb not in VERBS:
        have = f"available: {', '.join(VERBS)}; VERB --help explains one"
        raise UserError(unknown("verb", verb, list(VERBS)) if verb else f"no verb; {have}")
    parser = parser_of(verb)
    given = parser.read(rest)
    if given.help:
        print(parser.format_help(), end="")
        return 0
    code: int = command(verb).run(given)
    return code


def command(verb: str) -> Any:
    """The module of a verb; by name, so that `status` does not load what only `train` needs."""
    return importlib.import_module(f"experiments.commands.{verb.replace('-', '_')}")


def summary_of(verb: str) -> str:
    """The first line of a verb's file, read without loading it: all of them together take seconds."""
    source = Path(__file__).with_name("commands") / f"{verb.replace('-', '_')}.py"
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def parser_of(verb: str) -> Parser:
    """The parser of a verb."""
    module = command(verb)
    parser = Parser(verb, module.__doc__ or "")
    module.add_arguments(parser)
    return parser


def overview() -> str:
    """The page of the program: a line a verb."""
    verbs = section("verbs:", [(verb, summary_of(verb)) for verb in VERBS], 16)
    more = (
        "Most verbs take overrides of conf/config.yaml in Hydra's form, e.g. table=quick trainer.optim.lr=1e-3.\n"
        f"{PROGRAM} VERB --help explains a verb.\n"
        "Exit codes: 0 all well, 1 a run failed or something is not sound, 2 the input is at fault, 130 interrupted."
    )
    return f"usage: {PROGRAM} VERB [options] [key=value ...]\n\n{DESCRIPTION}\n\n{verbs}\n\n{more}\n"


def entry() -> None:
    """The console script."""
    start(lambda: program(sys.argv[1:]))


if __name__ == "__main__":
    entry()
