"""The command line of a verb: options that are typed, words `key=value` that are Hydra's, and a page of help.

A verb is a file of this folder. Its docstring is its help: the first sentence, examples (indented), the rest. Its
`add_arguments` says what it takes and its `run` calls what does it. Mistakes are UserErrors that name the nearest word.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from experiments.errors import UserError, unknown
from experiments.planning.hydra_values import quoted

PROGRAM = "python -m experiments"
WIDTH = 110
INDENT = 26
OVERRIDE = re.compile(r"~|\+{0,2}[\w@:./-]*=")
Given = argparse.Namespace


class Parser(argparse.ArgumentParser):
    """argparse with our manners; the positional words are kept apart by `read`."""

    def __init__(self, verb: str, docstring: str) -> None:
        super().__init__(prog=f"{PROGRAM} {verb}", add_help=False, allow_abbrev=False)
        self.verb = verb
        self.summary, self.examples, self.text = parts(docstring)
        self.names: list[tuple[str, str]] = []
        self.most = 0
        self.keys: dict[str, str] = {}
        self.words: dict[str, str] = {}
        self.overrides = ""
        self.add_argument("-h", "--help", action="store_true", help="Print this page and do nothing.")

    def error(self, message: str) -> NoReturn:
        """A complaint of argparse in our words."""
        text = re.sub(r"^argument (\S+): ", r"\1 ", message)
        raise UserError(f"{self.verb} {text.replace('expected one argument', 'needs a value')}")

    def option(self, flag: str, help: str, *, short: str = "", word: str = "", **settings: Any) -> None:
        """An option with its sentence; `word=value` means the same."""
        self.add_argument(*filter(None, (short, flag)), help=help, **settings)
        if word:
            self.words[word] = flag

    def takes(self, metavar: str, help: str, *, most: int = 1) -> None:
        """A name without `=`, or up to `most` of them."""
        self.names.append((metavar, help))
        self.most += most

    def key(self, key: str, metavar: str, help: str) -> None:
        """A word `key=value` that is handed on as it is."""
        self.keys[key] = f"{metavar}\0{help}"

    def takes_overrides(self, help: str) -> None:
        """Other words `key=value` are overrides of conf/config.yaml; Hydra knows which there are."""
        self.overrides = help

    def results_dir(self) -> None:
        """The option that every verb has which reads or writes results."""
        self.option(
            "--results-dir",
            "Folder of runs, plans and exports (default: RESSFORMER_RESULTS, else ./results).",
            word="results_dir",
            metavar="FOLDER",
            type=folder,
        )

    def dry_run(self) -> None:
        """The option of every verb that starts runs."""
        self.option("--dry-run", "Print what would run and cost, freeze the plan, start nothing.", action="store_true")

    def trials(self) -> None:
        """The option of what makes a sweep."""
        self.option(
            "--trials",
            "Trials per model and task of a sweep that tunes, all told.",
            word="trials",
            metavar="N",
            type=whole_number(1),
        )

    def plan_words(self) -> None:
        """The words that name a plan."""
        self.key("table", "NAME", "The plan of that table.")
        self.key("sweep", "NAME", "The plan of that sweep; with table=NAME, that of the table.")
        self.key("plan", "FILE", "A plan as it was frozen.")
        self.takes_overrides("What else chose its runs; launcher=NAME and launcher.* where something is run.")

    def read(self, words: Sequence[str]) -> Given:
        """What was given: options by name, `names` (words without `=`) and `overrides` (the other ones).

        Raises:
            UserError: an option, a word or a value that the verb does not have.
        """
        given, rest = self.parse_known_args([self._spelled(word) for word in words])
        if given.help:
            return given
        flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        for word in rest:
            if re.match(r"-\D", word):
                raise UserError(unknown(f"option of {self.verb}", word.partition("=")[0], flags))
        given.overrides = [word for word in rest if OVERRIDE.match(word)]
        given.names = [word for word in rest if not OVERRIDE.match(word)]
        if not self.overrides:
            for word in given.overrides:
                if (key := word.partition("=")[0]) not in self.keys:
                    raise UserError(unknown(f"argument of {self.verb}", key, [*self.keys, *self.words, *flags]))
        if len(given.names) > self.most:
            extra, example = given.names[self.most], f"e.g. {self.examples[0]}"
            raise UserError(f"{self.verb} cannot read '{extra}': no option and not key=value; {example}")
        for name in ("results_dir", "trials"):  # options that are Hydra's, or the sweep's, further on
            if (value := getattr(given, name, None)) is not None:
                given.overrides.append(f"{name}={quoted(value) if isinstance(value, str) else value}")
        return given

    def _spelled(self, word: str) -> str:
        key, sign, value = word.partition("=")
        return f"{self.words[key]}={value}" if sign and key in self.words else word

    def format_help(self) -> str:
        """The page of the verb, the same on every terminal and Python."""
        rows = [*self.names]
        rows += [(f"{key}={value.partition(chr(0))[0]}", value.partition("\0")[2]) for key, value in self.keys.items()]
        rows += [("key=value ...", self.overrides)] if self.overrides else []
        usage = " ".join([*(metavar for metavar, _ in self.names), "[options]", *(["[key=value ...]"] if rows else [])])
        blocks = [f"usage: {self.prog} {usage}", self.summary, self.text]
        blocks += [section("arguments:", rows)] if rows else []
        blocks += [section("options:", [self._row(action) for action in self._actions])]
        blocks += ["examples:\n" + "\n".join(f"  {example}" for example in self.examples)]
        return "\n\n".join(block for block in blocks if block) + "\n"

    def _row(self, action: argparse.Action) -> tuple[str, str]:
        value = f" {action.metavar}" if action.metavar else ""
        words = [f"{word}={action.metavar}" for word, flag in self.words.items() if flag in action.option_strings]
        return ", ".join([", ".join(action.option_strings) + value, *words]), str(action.help)


def parts(docstring: str) -> tuple[str, list[str], str]:
    """First paragraph, examples (the lines that call the program) and the remaining text of a docstring."""
    paragraphs = textwrap.dedent(docstring).strip().split("\n\n")
    called = [p for p in paragraphs if p.lstrip().startswith(PROGRAM)]
    text = ["\n".join(textwrap.wrap(p, WIDTH)) for p in paragraphs if p not in called]
    return text[0], [line.strip() for p in called for line in p.splitlines()], "\n\n".join(text[1:])


def section(title: str, rows: Sequence[tuple[str, str]], indent: int = INDENT) -> str:
    """A heading and two columns under it, the second from `indent` on."""
    lines = [title]
    for left, right in rows:
        wrapped = textwrap.wrap(right, WIDTH - indent) or [""]
        head = f"  {left}"
        if len(head) > indent - 2:
            lines.append(head)
            head = ""
        lines.append(f"{head:<{indent}}{wrapped[0]}".rstrip())
        lines += [" " * indent + line for line in wrapped[1:]]
    return "\n".join(lines)


def folder(text: str) -> str:
    """The name of a folder; quotes that were meant for Hydra are taken off."""
    bare = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    if bare.strip() in ("", "null", "None"):
        raise argparse.ArgumentTypeError(f"takes a folder, got '{text}'")
    return bare


def number_above_zero(example: str) -> Callable[[str], float]:
    """Converter to a finite number above 0."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"takes a number above 0, e.g. {example}; got '{text}'")
        return value

    return read


def whole_number(least: int) -> Callable[[str], int]:
    """Converter to a whole number of at least `least`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"\d+", text, flags=re.ASCII) or int(text) < least:
            raise argparse.ArgumentTypeError(f"takes a whole number of {least} or more, got '{text}'")
        return int(text)

    return read


def listed(text: str) -> list[str]:
    """Names between commas, in brackets or not."""
    found = [name.strip() for name in text.strip("[]").split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"takes names between commas, got '{text}'")
    return found


def listed_numbers(text: str) -> list[int]:
    """Whole numbers of 1 or more between commas."""
    return [whole_number(1)(name) for name in listed(text)]


def one_of(*options: str) -> Callable[[str], str]:
    """Converter that lets these words pass."""

    def read(text: str) -> str:
        if text not in options:
            raise argparse.ArgumentTypeError(unknown("value", text, list(options)))
        return text

    return read
