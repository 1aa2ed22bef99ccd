"""How is one person related to another, when only the steps between them are told?

    mother p7 p2   brother p4 p7   |  p2 p4 -> uncle      ("p7 is the mother of p2", "p4 is the brother of p7")

In the spirit of CLUTRR (Sinha et al., arXiv 1908.06177): trained on few steps, tested on many. Facts are in any order,
names are drawn anew for each item. What holds: two names are two persons, a couple has all its children together, and
nobody marries twice; so each answer follows from the facts.

An item is a walk through a family, a new person per step: U to a parent, B to a sibling, D to a child, S to the spouse.
The generator shortens the walk's letters by rules ("a parent's child is a sibling", UD -> B); the checker rebuilds
the families from the facts and looks for the way from one person to the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import ClassVar

from tasks.base import TaskCard, require
from tasks.codec import Fact
from tasks.facts import FactTask
from tasks.graphs import graph_name
from tasks.item import Item
from tasks.puzzles import Asked, FactConfig, Puzzle
from tasks.shortcuts import Floats, Rule, hits
from tasks.stream import Stream

STEPS = {"U": ("father", "mother"), "D": ("son", "daughter"), "B": ("brother", "sister"), "S": ("husband", "wife")}
NAMED = STEPS | {  # shortened walk -> what a man, a woman at its end is called
    "UU": ("grandfather", "grandmother"),
    "DD": ("grandson", "granddaughter"),
    "UB": ("uncle", "aunt"),
    "UBS": ("uncle", "aunt"),
    "BD": ("nephew", "niece"),
    "SBD": ("nephew", "niece"),
    "SU": ("father_in_law", "mother_in_law"),
    "DS": ("son_in_law", "daughter_in_law"),
    "SB": ("brother_in_law", "sister_in_law"),
    "BS": ("brother_in_law", "sister_in_law"),
}
SHORTER = {"UD": "B", "US": "U", "BU": "U", "BB": "B", "SD": "D", "DB": "D", "DU": "S"}
Couple = tuple[str, int]  # "own" or "origin", and a person
RELATIONS = list(dict.fromkeys(word for pair in NAMED.values() for word in pair))


@dataclass(frozen=True, kw_only=True)
class KinshipConfig(FactConfig):
    """Up to hops_max steps; test/ood_near to hops_max + 2, test/ood_far to hops_max + 6; distractors: other relatives.

    Raises ValueError when there are too few names.
    """

    length: int = 56
    ood_length: int = 72
    hops_max: int = 4
    distractors_max: int = 4
    n_names: int = 20
    n_questions: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.hops_max >= 1, f"hops_max={self.hops_max} is too small: use 1 or more")
        require(self.distractors_max >= 0, f"distractors_max={self.distractors_max} is negative: use 0 or more")
        need = self.hops_max + 7 + self.distractors_max
        require(self.n_names >= need, f"n_names={self.n_names} is too small: use n_names >= {need}")


@dataclass
class Family:
    """Persons by number: sex (0 man, 1 woman), the couple they come from, the couple they are part of; -1: unknown."""

    sex: list[int] = field(default_factory=list)
    origin: list[int] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    couples: list[list[int]] = field(default_factory=list)  # how many husbands and wives are known, 0 or 1 each

    def person(self, sex: int, origin: int, own: int) -> int:
        """A new person."""
        self.sex.append(sex)
        self.origin.append(origin)
        self.own.append(own)
        if own >= 0:
            self.couples[own][sex] = 1
        return len(self.sex) - 1

    def couple(self, places: list[int], person: int, member: bool) -> int:
        """The person's couple in `places` (origin or own); a new one if it is unknown."""
        if places[person] < 0:
            places[person] = len(self.couples)
            self.couples.append([0, 0])
            if member:
                self.couples[places[person]][self.sex[person]] = 1
        return places[person]

    def step(self, stream: Stream, person: int, letter: str) -> int | None:
        """A new person one step away; None where there can be no further one."""
        sex = stream.below(2)
        member = letter not in "UB"
        couple = self.couple(self.own if member else self.origin, person, member)
        if letter in "BD":
            return self.person(sex, couple, -1)
        sex = 1 - self.sex[person] if letter == "S" else sex
        return None if self.couples[couple][sex] else self.person(sex, -1, couple)


class Kinship(FactTask):
    """The task `qa/kinship`, see the module. Keyword arguments: the fields of `KinshipConfig`."""

    name = "kinship"
    version = 2
    answers: ClassVar[dict[str, str]] = {"ask": "relation"}
    renamed = ("person",)
    same_item = "persons, the order of facts and that of questions"
    buckets = ("hops", "distractors")
    Config = KinshipConfig
    config: KinshipConfig

    def alphabets(self) -> dict[str, int]:
        """See `FactTask.alphabets`."""
        return {"person": self.config.n_names, "relation": len(RELATIONS)}

    def kinds(self) -> dict[str, tuple[str, ...]]:
        """See `FactTask.kinds`."""
        words = [word for pair in STEPS.values() for word in pair]
        return dict.fromkeys((*words, "ask"), ("person", "person"))

    def hops(self, level: int) -> tuple[int, int]:
        """Fewest and most steps of a level."""
        most = self.config.hops_max
        return [(1, most), (most + 1, most + 2), (most + 3, most + 6)][level]

    def largest(self, level: int) -> int:
        """See `FactTask.largest`."""
        facts = self.hops(level)[1] + self.config.distractors_max
        return facts * self.codec.width("father") + self.codec.width("ask")

    def sizes(self, stream: Stream, level: int) -> tuple[int, ...]:
        """Steps of the walk, fewest steps of a question, distractors."""
        low, high = self.hops(level)
        return stream.between(low, high), low, stream.between(0, self.config.distractors_max)

    def puzzle(self, stream: Stream, sizes: tuple[int, ...], split: str) -> Puzzle | None:
        """See `FactTask.puzzle`."""
        hops, fewest, distractors = sizes
        family = Family()
        family.person(stream.below(2), -1, -1)
        facts: list[Fact] = []
        letters = walked = ""
        for here in range(hops):
            letter = stream.choice("UBDS")
            walked = longer(walked, letter)
            if walked not in NAMED or family.step(stream, here, letter) is None:
                return None
            letters += letter
            facts.append((STEPS[letter][family.sex[-1]], (here + 1, here)))
        ways = named_ways(letters, fewest)
        for _ in range(distractors):
            here, letter = stream.below(len(family.sex)), stream.choice("UBDS")
            if family.step(stream, here, letter) is not None:
                facts.append((STEPS[letter][family.sex[-1]], (len(family.sex) - 1, here)))
        left: dict[int, list[tuple[int, int, str]]] = {}
        for way in ways:
            left.setdefault(way[1] - way[0], []).append(way)
        asked: list[Asked] = []
        for _ in range(min(len(ways), self.seats(facts, ["ask"], split))):
            i, j, short = stream.pop(left[stream.choice([apart for apart, some in left.items() if some])])
            asked.append(("ask", (i, j), RELATIONS.index(NAMED[short][family.sex[j]])))
        return Puzzle(
            facts=facts,
            questions=asked,
            difficulty={"hops": max([j - i for _, (i, j), _ in asked]), "distractors": len(facts) - hops},
            canonical=self.name_of(facts, [(kind, pair) for kind, pair, _ in asked]),
        )

    def name_of(self, facts: Sequence[Fact], questions: Sequence[Fact]) -> str:
        """See `FactTask.name_of`."""
        edges = [(pair[0], RELATIONS.index(kind), pair[1]) for kind, pair in facts]
        return graph_name([*edges, *[(pair[0], len(RELATIONS), pair[1]) for _, pair in questions]])

    def solve(self, facts: list[Fact], questions: list[Fact]) -> list[int]:
        """See `FactTask.solve`: merge what must be one couple, then walk from person to couple to person.

        Raises ValueError when a relation does not follow from the facts.
        """
        merged: dict[Couple, Couple] = {}

        def root(couple: Couple) -> Couple:
            while couple in merged:
                couple = merged[couple]
            return couple

        woman: dict[int, bool] = {}
        letter_of = {word: (letter, sex) for letter, pair in STEPS.items() for sex, word in enumerate(pair)}
        for kind, (who, whose) in facts:
            letter, sex = letter_of[kind]
            woman[who] = bool(sex)
            one = ("own", who) if letter in "US" else ("origin", who)
            other = ("origin", whose) if letter in "UB" else ("own", whose)
            if root(one) != root(other):
                merged[root(one)] = root(other)
        persons = sorted({person for _, pair in facts for person in pair})
        return [RELATIONS.index(_relation(start, end, persons, root, woman)) for _, (start, end) in questions]

    def extra(self, facts: list[Fact], questions: list[Fact], stream: Stream) -> list[Fact]:
        """See `FactTask.extra`: a family of its own."""
        used = {person for _, pair in facts for person in pair}
        spare = stream.shuffled([person for person in range(self.config.n_names) if person not in used])
        return [(stream.choice(STEPS["B"]), (who, whose)) for whose, who in pairwise(spare[: len(facts) + 1])]

    def rules(self) -> dict[str, Rule]:
        """What the asked person is called in a fact; any name that is told."""

        def last_step(item: Item) -> Floats:
            facts, questions = self.parts(item)
            first = self.codec.first["relation"]
            called = {args[0]: kind for kind, args in facts}
            return hits(called.get(q[1]) == RELATIONS[item.labels[place] - first] for _, q, place in questions)

        return {"last_step": last_step}

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        near, far = self.hops(1), self.hops(2)
        return TaskCard(
            summary="The relation between two persons from the steps between them",
            family="qa",
            train=f"1 to {self.config.hops_max} steps, up to {self.config.distractors_max} other relatives",
            in_distribution="as train; families and questions of no training item, up to names and order",
            out_of_distribution={
                "test/ood_near": f"{near[0]} to {near[1]} steps",
                "test/ood_far": f"{far[0]} to {far[1]} steps",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of an item's questions",
            looping="helps: relations are composed one after the other",
            licence="Apache-2.0 (generated)",
            citation="own generator; in the spirit of CLUTRR (Sinha et al., arXiv 1908.06177)",
        )

    def symbol(self, alphabet: str, index: int) -> str:
        """See `FactTask.symbol`."""
        return RELATIONS[index] if alphabet == "relation" else super().symbol(alphabet, index)


@cache
def longer(short: str, letter: str) -> str:
    """A walk without detours and one more step, without detours again."""
    short += letter
    while short[-2:] in SHORTER:
        short = short[:-2] + SHORTER[short[-2:]]
    return short


def named_ways(letters: str, fewest: int) -> list[tuple[int, int, str]]:
    """Parts of a walk, of `fewest` steps or more, that have a name: first person, last person, shortened letters."""
    ways = []
    for i in range(len(letters)):
        short = ""
        for j in range(i, len(letters)):
            short = longer(short, letters[j])
            if j + 1 - i >= fewest and short in NAMED:
                ways.append((i, j + 1, short))
    return ways


def _relation(
    start: int, end: int, persons: list[int], root: Callable[[Couple], Couple], woman: dict[int, bool]
) -> str:
    """What `end` is to `start`: the shortest way over persons and their couples, breadth first."""
    queue, seen = deque([(start, "")]), {start}
    while queue:
        here, letters = queue.popleft()
        if here == end:
            pair = NAMED.get(letters)
            if pair is None:
                break
            return pair[woman[end]]
        origin, own = root(("origin", here)), root(("own", here))
        for other in persons:
            if other in seen:
                continue
            ways = {
                "U": root(("own", other)) == origin,
                "B": root(("origin", other)) == origin,
                "S": root(("own", other)) == own,
                "D": root(("origin", other)) == own,
            }
            letter = next((letter for letter, open_ in ways.items() if open_), None)
            if letter:
                seen.add(other)
                queue.append((other, letters + letter))
    raise ValueError("task kinship: the facts do not name a relation that was asked for")
