"""ListOps (Nangia and Bowman, arXiv 1804.06028), real files with the columns of LRA (Tay et al., arXiv 2011.04006).

    [SM 9 1 6 [MAX 2 9 0 ] 4 ] SEP -> 9

Source is an expression, Target its value. The round brackets of the files only pair neighbours; they are left out, as
in LRA. Subset d20s has MIN, MAX, MED and SM (sum modulo 10), subset d8 MIN, MAX, FIRST and LAST. LRA's own files
(basic_train.tsv, basic_val.tsv, basic_test.tsv) load with `task.subset=""`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.hub.examples import ExampleTask
from tasks.hub.files import DataError, Row
from tasks.hub.rows import Example, ExamplesConfig
from tasks.hub.source import Source
from tasks.hub.vocabulary import UNKNOWN

APPLY: dict[str, Callable[[list[int]], int]] = {
    "[MIN": min,
    "[MAX": max,
    "[FIRST": lambda values: values[0],
    "[LAST": lambda values: values[-1],
    "[SM": lambda values: sum(values) % 10,
    # The middle, or the mean of the two middle ones, rounded down.
    "[MED": lambda values: sum(sorted(values)[(len(values) - 1) // 2 : len(values) // 2 + 1]) // (2 - len(values) % 2),
}


@dataclass(frozen=True, kw_only=True)
class ListOpsRealConfig(ExamplesConfig):
    """See `ExamplesConfig`. `bidirectional`: every position sees the whole expression."""

    length: int = 96
    subset: str = "d20s"
    bidirectional: bool = False


OPERATORS = {
    "d8": {"[MIN", "[MAX", "[FIRST", "[LAST"},
    "d20s": {"[MIN", "[MAX", "[MED", "[SM"},
}


def looks(subset: str, split: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether expressions have the operators of the subset only, and the target is the value."""
    known = OPERATORS.get(subset, OPERATORS["d20s"])
    for row in rows:
        words, target = [word for word in str(row["Source"]).split() if word not in ("(", ")")], str(row["Target"])
        odd = next((word for word in words if word not in known and word != "]" and not word.isdigit()), None)
        if odd is not None:
            return f"{odd!r:.40} is none of {' '.join(sorted(known))} ] and digits"
        if words and len(target) == 1 and target.isdigit():
            try:
                right = value(" ".join(words))
            except ValueError:
                return f"{' '.join(words)!r:.60} is no expression"
            if right != target:
                return f"the value of {' '.join(words)!r:.60} is {right}, not {target}"
    return ""


class ListOpsReal(ExampleTask):
    """The task `structure/listops_real`, see the module. Keyword arguments: the fields of `ListOpsRealConfig`."""

    name = "listops_real"
    Config = ListOpsRealConfig
    source = Source(
        hub="",
        folder="listops",
        columns=("Source", "Target"),
        splits=("train", "validation", "test"),
        home="https://github.com/google-research/long-range-arena (lra_release.gz, folder listops-1000)",
        stand_in="listops",
        looks=looks,
        others=("d8", "d20s"),
        noise=("basic",),
    )
    tokenizers = ("words",)
    one_word = True
    about = {  # noqa: RUF012
        "summary": "Value of nested list operations over digits, the real ListOps files",
        "family": "structure",
        "looping": "helps: an expression is evaluated level by level, so depth-bound as the nesting grows",
        "licence": "MIT-style, New York University (nyu-mll/spinn); LRA: Apache-2.0",
        "citation": "Nangia and Bowman, ListOps, arXiv 1804.06028; Tay et al., Long Range Arena, arXiv 2011.04006",
    }

    def examples(self, row: Row) -> Iterator[Example]:
        """One example a row."""
        words = [word for word in row.need("Source", str).split() if word not in ("(", ")")]
        target = str(row.values["Target"])
        if not words:
            raise DataError(f"{row.place}: Source is empty")
        if target not in set("0123456789"):
            raise DataError(f"{row.place}: Target must be a digit, found {target!r:.40}")
        depth = deepest = 0
        for word in words:
            depth += word.startswith("[") - (word == "]")
            deepest = max(depth, deepest)
        text = " ".join(words)
        yield Example(prompt=text, answer=target, key=text, place=row.place, difficulty={"depth": deepest})

    def solve(self, prompt: str) -> set[str]:
        """The value. Raises ValueError when the prompt is no expression."""
        return {value(prompt)}

    def rules(self) -> dict[str, Callable[..., float]]:
        """The first operator on the digits that stand on the top level, and the first digit."""

        def top(prompt: str) -> str:
            words, depth, digits = prompt.split(), 0, []
            for word in words:
                depth += word.startswith("[") - (word == "]")
                if depth == 1 and word.isdigit():
                    digits.append(int(word))
            return str(APPLY[words[0]](digits)) if digits and words[0] in APPLY else "0"

        return {
            "top_level": lambda item: float(top(self.read(item)[0]) == self.read(item)[1]),
            "first_digit": lambda item: float(
                next((w for w in self.read(item)[0].split() if w.isdigit()), "") == self.read(item)[1]
            ),
        }


def value(prompt: str) -> str:
    """The value of an expression without round brackets. Raises ValueError when it is none."""
    stack: list[list[int | str]] = [[]]
    for word in prompt.split():
        if word in APPLY:
            stack.append([word])
        elif word == "]" and len(stack) > 1 and len(stack[-1]) > 1:
            operator, *values = stack.pop()
            stack[-1].append(APPLY[str(operator)]([int(value) for value in values]))
        elif word.isdigit() and word != UNKNOWN:
            stack[-1].append(int(word))
        else:
            raise ValueError(f"task listops_real: no expression: {prompt!r:.80}")
    if len(stack) != 1 or len(stack[0]) != 1:
        raise ValueError(f"task listops_real: no expression: {prompt!r:.80}")
    return str(stack[0][0])
