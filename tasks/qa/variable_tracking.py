"""What is the value of a variable after a program of assignments?

    set x3 v7   copy x1 x3   set x3 v2   ask x1 -> v7   ask x3 -> v2

In the spirit of RULER's variable tracking (Hsieh et al., arXiv 2404.06654), with variables that are assigned again, so
that order counts. Variable names are drawn anew for each item. A variable is as many hops deep as copies led to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.base import TaskCard, require
from tasks.codec import Fact
from tasks.facts import FactTask
from tasks.item import Item
from tasks.puzzles import AskConfig, Asked, Puzzle
from tasks.shortcuts import Rule, hits
from tasks.stream import Stream

COPIES = 0.55  # share of statements that copy


@dataclass(frozen=True, kw_only=True)
class VariableConfig(AskConfig):
    """Programs of 4 to lines_max lines; test/ood_near up to 1.5 times, test/ood_far 2 to 3 times as many.

    Raises ValueError when there are too few names.
    """

    length: int = 56
    ood_length: int = 128
    lines_max: int = 12
    n_variables: int = 24
    n_values: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.lines_max >= 5, f"lines_max={self.lines_max} is too small: use 5 or more")
        for field in ("n_variables", "n_values"):
            require(getattr(self, field) >= 2, f"{field}={getattr(self, field)} is too small: use 2 or more")


class VariableTracking(FactTask):
    """The task `qa/variable_tracking`, see the module. Keyword arguments: the fields of `VariableConfig`."""

    name = "variable_tracking"
    version = 3
    answers: ClassVar[dict[str, str]] = {"ask": "value"}
    renamed = ("variable",)
    same = ("variable", "value")
    same_item = "variables, values, and the order of questions"
    shuffled = False
    ordered = True
    probes = ("rename", "noise", "distract", "size")
    buckets = ("lines", "hops")
    Config = VariableConfig
    config: VariableConfig
    trivial = ("majority", "position", "bag", "random_value", "last_value")

    def alphabets(self) -> dict[str, int]:
        """See `FactTask.alphabets`."""
        return {"variable": self.config.n_variables, "value": self.config.n_values}

    def kinds(self) -> dict[str, tuple[str, ...]]:
        """See `FactTask.kinds`."""
        return {"set": ("variable", "value"), "copy": ("variable", "variable"), "ask": ("variable",)}

    def lines(self, level: int) -> tuple[int, int]:
        """Fewest and most lines of a level."""
        most = self.config.lines_max
        near = -(-3 * most // 2)
        return [(4, most), (most + 1, near), (2 * most, 3 * most)][level]

    def largest(self, level: int) -> int:
        """See `FactTask.largest`."""
        return 3 * self.lines(level)[1] + 2

    def sizes(self, stream: Stream, level: int) -> tuple[int, ...]:
        """Lines, and variables used."""
        lines = stream.between(*self.lines(level))
        most = max(2, min(lines, self.config.n_variables * 3 // 4))
        return lines, stream.between(max(2, most // 2), most)

    def puzzle(self, stream: Stream, sizes: tuple[int, ...], split: str) -> Puzzle | None:
        """See `FactTask.puzzle`: run forwards."""
        lines, variables = sizes
        state: dict[int, tuple[int, int]] = {}  # value and hops
        facts: list[Fact] = []
        for _ in range(lines):
            target = stream.below(variables)
            sources = [name for name in state if name != target]
            if sources and stream.uniform() < COPIES:
                source = stream.choice(sources)
                state[target] = (state[source][0], state[source][1] + 1)
                facts.append(("copy", (target, source)))
            else:
                state[target] = (stream.below(self.config.n_values), 0)
                facts.append(("set", (target, state[target][0])))
        order = {name: place for place, name in enumerate(dict.fromkeys(args[0] for _, args in facts))}
        told: list[Fact] = [
            (kind, (order[a], order[b] if kind == "copy" else b)) for kind, (a, b) in facts
        ]  # named by first mention: programs that differ in names only are then the same
        by_hops: dict[int, list[int]] = {}
        for name in sorted(state):
            by_hops.setdefault(state[name][1], []).append(name)
        asked: list[int] = []
        for _ in range(min(len(state), self.seats(told, ["ask"], split))):
            hops = stream.choice([hops for hops, names in by_hops.items() if names])
            asked.append(stream.pop(by_hops[hops]))
        questions: list[Asked] = [("ask", (order[name],), state[name][0]) for name in asked]
        return Puzzle(
            facts=told,
            questions=questions,
            difficulty={"lines": lines, "hops": max(state[name][1] for name in asked)},
            canonical=self.name_of(told, [(kind, args) for kind, args, _ in questions]),
        )

    def name_of(self, facts: Sequence[Fact], questions: Sequence[Fact]) -> str:
        """See `FactTask.name_of`: variables and values numbered by first mention, questions in any order."""
        variables, values = dict[int, int](), dict[int, int]()
        told = []
        for kind, (target, source) in facts:
            name = variables.setdefault(target, len(variables))
            known = values if kind == "set" else variables
            told.append((kind, name, known.setdefault(source, len(known))))
        return repr((told, sorted(variables[args[0]] for _, args in questions)))

    def solve(self, facts: list[Fact], questions: list[Fact]) -> list[int]:
        """See `FactTask.solve`: backwards from each question."""
        found = []
        for _, (wanted,) in questions:
            answer = -1
            for kind, (target, source) in reversed(facts):
                if target == wanted:
                    if kind == "set":
                        answer = source
                        break
                    wanted = source
            if answer < 0:
                raise ValueError("task variable_tracking: a variable was never set")
            found.append(answer)
        return found

    def extra(self, facts: list[Fact], questions: list[Fact], stream: Stream) -> list[Fact]:
        """See `FactTask.extra`: assignments to variables of their own."""
        used = {args[0] for _, args in facts}
        spare = [name for name in range(self.config.n_variables) if name not in used]
        count = len(facts) if spare else 0
        return [("set", (stream.choice(spare), stream.below(self.config.n_values))) for _ in range(count)]

    def rules(self) -> dict[str, Rule]:
        """Values that are there; the value of the last line that sets the variable itself."""
        return {
            "random_value": lambda item: hits(np.mean(np.array(v) == a) for v, _, a in self._seen(item)),
            "last_value": lambda item: hits(v[-1] == a for v, _, a in self._seen(item)),
            "own_value": lambda item: hits(own[-1:] == [a] for _, own, a in self._seen(item)),
        }

    def _seen(self, item: Item) -> list[tuple[list[int], list[int], int]]:
        """Per question: values set anywhere, values set to the variable, the answer."""
        facts, questions = self.parts(item)
        values = [args[1] for kind, args in facts if kind == "set"]
        seen = []
        for _, (name,), place in questions:
            own = [args[1] for kind, args in facts if kind == "set" and args[0] == name]
            seen.append((values, own, int(item.labels[place]) - self.codec.first["value"]))
        return seen

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        (low, high), near, far = self.lines(0), self.lines(1), self.lines(2)
        return TaskCard(
            summary="Value of a variable after a program of assignments and copies",
            family="qa",
            train=f"{low} to {high} lines, all sizes mixed",
            in_distribution="as train; programs and questions of no training item, up to names",
            out_of_distribution={
                "test/ood_near": f"{near[0]} to {near[1]} lines",
                "test/ood_far": f"{far[0]} to {far[1]} lines",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of an item's questions",
            looping="helps: a chain of copies has to be followed link by link",
            licence="Apache-2.0 (generated)",
            citation="own generator; in the spirit of RULER (Hsieh et al., arXiv 2404.06654)",
        )
