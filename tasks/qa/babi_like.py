"""Where is somebody, where is a thing, where was it before? Stories of persons who move, take and leave things.

    went person1 place3   took person1 thing2   went person1 place0
    person person1 -> place0    object thing2 -> place0    before thing2 place0 -> place3

In the spirit of bAbI's tasks 1, 2 and 3 (Weston et al., arXiv 1502.05698): one, two and three supporting facts. Names
are drawn anew for each item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from tasks.base import TaskCard, require
from tasks.codec import Fact
from tasks.facts import FactTask
from tasks.item import Item
from tasks.puzzles import AskConfig, Asked, Puzzle
from tasks.shortcuts import Floats, Rule, hits
from tasks.stream import Stream


@dataclass(frozen=True, kw_only=True)
class StoryConfig(AskConfig):
    """Stories of 3 to events_max events; test/ood_near to 1.5, test/ood_far 2 to 3 times as many.

    Raises ValueError when there are too few names.
    """

    length: int = 56
    ood_length: int = 128
    events_max: int = 12
    n_persons: int = 6
    n_objects: int = 6
    n_places: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.events_max >= 4, f"events_max={self.events_max} is too small: use 4 or more")
        for name, least in (("n_persons", 2), ("n_objects", 1), ("n_places", 3)):
            require(getattr(self, name) >= least, f"{name}={getattr(self, name)} is too small: use {least} or more")


class BabiLike(FactTask):
    """The task `qa/babi_like`, see the module. Keyword arguments: the fields of `StoryConfig`."""

    name = "babi_like"
    version = 2
    answers: ClassVar[dict[str, str]] = {"person": "place", "object": "place", "before": "place"}
    renamed = ("who", "what", "place")
    same_item = "persons, things, places, and the order of questions"
    shuffled = False
    ordered = True
    probes = ("rename", "noise", "distract", "size")
    buckets = ("events",)
    Config = StoryConfig
    config: StoryConfig
    trivial = ("majority", "position", "bag", "last_place", "random_place")

    def alphabets(self) -> dict[str, int]:
        """See `FactTask.alphabets`."""
        return {"who": self.config.n_persons, "what": self.config.n_objects, "place": self.config.n_places}

    def kinds(self) -> dict[str, tuple[str, ...]]:
        """See `FactTask.kinds`."""
        events = {"went": ("who", "place"), "took": ("who", "what"), "left": ("who", "what")}
        return events | {"person": ("who",), "object": ("what",), "before": ("what", "place")}

    def events(self, level: int) -> tuple[int, int]:
        """Fewest and most events of a level."""
        most = self.config.events_max
        near = -(-3 * most // 2)
        return [(3, most), (most + 1, near), (2 * most, 3 * most)][level]

    def largest(self, level: int) -> int:
        """See `FactTask.largest`."""
        return 3 * self.events(level)[1] + 3

    def sizes(self, stream: Stream, level: int) -> tuple[int, ...]:
        """Events, persons and objects."""
        c = self.config
        return stream.between(*self.events(level)), stream.between(1, c.n_persons - 1), stream.between(1, c.n_objects)

    def puzzle(self, stream: Stream, sizes: tuple[int, ...], split: str) -> Puzzle | None:
        """See `FactTask.puzzle`: told forwards."""
        events, persons, objects = sizes
        at: dict[int, int] = {}
        holder: dict[int, int] = {}
        been: dict[int, list[int]] = {what: [] for what in range(objects)}  # places of an object, in order
        facts: list[Fact] = []
        for _ in range(events):
            who, action = stream.below(persons), stream.uniform()
            held = [what for what, owner in holder.items() if owner == who]
            # A thing never taken is anywhere; one that was left is where it was left.
            free = [what for what in been if what not in holder and (not been[what] or been[what][-1] == at.get(who))]
            if who in at and free and action < 0.35:
                what = stream.choice(free)
                holder[what] = who
                facts.append(("took", (who, what)))
                if not been[what]:
                    been[what].append(at[who])
            elif held and action < 0.45:
                what = stream.choice(held)
                del holder[what]
                facts.append(("left", (who, what)))
            else:
                places = [place for place in range(self.config.n_places) if place != at.get(who)]
                at[who] = stream.choice(places)
                facts.append(("went", (who, at[who])))
                for what in held:
                    been[what].append(at[who])
        left = _questions(at, been)
        asked: list[Asked] = []
        for _ in range(self.seats(facts, list(self.answers), split)):
            kinds = [kind for kind, some in left.items() if some]
            if kinds:
                asked.append(stream.pop(left[stream.choice(kinds)]))
        return Puzzle(
            facts=facts,
            questions=asked,
            difficulty={"events": events},
            canonical=self.name_of(facts, [(kind, args) for kind, args, _ in asked]),
        )

    def name_of(self, facts: Sequence[Fact], questions: Sequence[Fact]) -> str:
        """See `FactTask.name_of`."""
        return _canonical(facts, questions)

    def solve(self, facts: list[Fact], questions: list[Fact]) -> list[int]:
        """See `FactTask.solve`: backwards from the end."""
        return [_find(facts, kind, args) for kind, args in questions]

    def extra(self, facts: list[Fact], questions: list[Fact], stream: Stream) -> list[Fact]:
        """See `FactTask.extra`: moves of persons who are not in the story."""
        used = {args[0] for _, args in facts}
        spare = [who for who in range(self.config.n_persons) if who not in used]
        count = len(facts) if spare else 0
        return [("went", (stream.choice(spare), stream.below(self.config.n_places))) for _ in range(count)]

    def rules(self) -> dict[str, Rule]:
        """Places that were named; where the last one went who touched the object."""

        def places(item: Item) -> tuple[list[int], list[int]]:
            facts, questions = self.parts(item)
            first = self.codec.first["place"]
            return [a[1] for k, a in facts if k == "went"], [int(item.labels[p]) - first for *_, p in questions]

        def last(item: Item) -> Floats:
            told, answers = places(item)
            return hits(told[-1] == answer for answer in answers)

        def some(item: Item) -> Floats:
            told, answers = places(item)
            return hits((answer in told) / len(set(told)) for answer in answers)

        return {"last_place": last, "random_place": some}

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        (low, high), near, far = self.events(0), self.events(1), self.events(2)
        return TaskCard(
            summary="Where persons and things are, or were, after a story of moves",
            family="qa",
            train=f"{low} to {high} events, questions of one, two and three supporting facts in equal shares",
            in_distribution="as train; stories and questions of no training item, up to names",
            out_of_distribution={
                "test/ood_near": f"{near[0]} to {near[1]} events",
                "test/ood_far": f"{far[0]} to {far[1]} events",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of an item's questions",
            looping="helps with two and three supporting facts",
            licence="Apache-2.0 (generated)",
            citation="own generator; in the spirit of bAbI (Weston et al., arXiv 1502.05698)",
        )

    def symbol(self, alphabet: str, index: int) -> str:
        """See `FactTask.symbol`."""
        return {"who": "person", "what": "thing"}.get(alphabet, alphabet) + str(index)


def _questions(at: dict[int, int], been: dict[int, list[int]]) -> dict[str, list[Asked]]:
    """Every question of each kind; `before` names a place that the object was in once, and not first."""
    found: dict[str, list[Asked]] = {
        "person": [("person", (who,), place) for who, place in at.items()],
        "object": [("object", (what,), places[-1]) for what, places in been.items() if places],
        "before": [],
    }
    for what, places in been.items():
        for before, place in pairwise(places):
            if places.count(place) == 1:
                found["before"].append(("before", (what, place), before))
    return found


def _find(facts: list[Fact], kind: str, args: tuple[int, ...]) -> int:
    """The answer by looking backwards. Raises ValueError where the story does not tell."""
    if kind == "person":
        for event, (who, where) in reversed(facts):
            if event == "went" and who == args[0]:
                return where
        raise ValueError("task babi_like: a person never went anywhere")
    touched = [place for place, (event, pair) in enumerate(facts) if event != "went" and pair[1] == args[0]]
    if not touched:
        raise ValueError("task babi_like: a thing was never touched")
    if kind == "object":
        event, (who, _) = facts[touched[-1]]
        return _find(facts if event == "took" else facts[: touched[-1]], "person", (who,))
    # Go back over the story's beginnings to the last one in which the thing was not yet there.
    arrived = False
    for end in range(len(facts), touched[0], -1):
        here = _find(facts[:end], "object", (args[0],))
        if arrived and here != args[1]:
            return here
        arrived = arrived or here == args[1]
    raise ValueError("task babi_like: the thing was nowhere before")


def _canonical(facts: Sequence[Fact], questions: Sequence[Fact]) -> str:
    """Persons, things and places numbered by first mention: names do not count, order does."""
    names: dict[tuple[str, int], int] = {}

    def name(kind: str, index: int) -> int:
        return names.setdefault((kind, index), len(names))

    told = [(kind, name("who", a), name("place" if kind == "went" else "what", b)) for kind, (a, b) in facts]
    asked = []
    for kind, args in questions:
        what = name("who" if kind == "person" else "what", args[0])
        asked.append((kind, what, *(name("place", place) for place in args[1:])))
    return repr((told, sorted(asked)))
