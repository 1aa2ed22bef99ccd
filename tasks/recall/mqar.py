"""Multi-query associative recall: keys with values, then keys in any order; the answer is the key's value.

    PAIR k1 v4  PAIR k7 v2  ASK k7 -> v2  ASK k1 -> v4

After Arora et al. (arXiv 2312.04927). Keys and values are drawn anew for each item, from alphabets of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from tasks.base import TaskCard, require
from tasks.codec import Fact
from tasks.facts import FactTask
from tasks.item import Item
from tasks.puzzles import FactConfig, Puzzle
from tasks.shortcuts import Rule, hits
from tasks.stream import Stream


@dataclass(frozen=True, kw_only=True)
class MQARConfig(FactConfig):
    """Sizes: test/ood_near has up to 2 pairs_max, test/ood_far up to 4 pairs_max pairs.

    Raises ValueError when there are fewer keys than the largest items need.
    """

    length: int = 48
    ood_length: int = 128
    n_questions: int = 8
    pairs_min: int = 2
    pairs_max: int = 8
    n_keys: int = 32
    n_values: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.pairs_min >= 1, f"pairs_min={self.pairs_min} is too small: use 1 or more")
        require(
            self.pairs_max >= self.pairs_min,
            f"pairs_max={self.pairs_max} is below pairs_min={self.pairs_min}: use {self.pairs_min} or more",
        )
        need = 4 * self.pairs_max
        require(
            self.n_keys >= need,
            f"n_keys={self.n_keys} is too small for the {need} pairs of test/ood_far: use n_keys >= {need}",
        )
        require(self.n_values >= 2, f"n_values={self.n_values} is too small: use 2 or more")


class MQAR(FactTask):
    """The task `recall/mqar`, see the module. Keyword arguments: the fields of `MQARConfig`."""

    name = "mqar"
    version = 2
    answers: ClassVar[dict[str, str]] = {"ask": "value"}
    probe_renames = ("key", "value")
    same = ("key", "value")
    same_item = "keys and values, each among themselves"
    buckets = ("pairs",)
    Config = MQARConfig
    config: MQARConfig
    trivial = ("majority", "position", "bag", "random_value", "last_value")

    def alphabets(self) -> dict[str, int]:
        """See `FactTask.alphabets`."""
        return {"key": self.config.n_keys, "value": self.config.n_values}

    def kinds(self) -> dict[str, tuple[str, ...]]:
        """See `FactTask.kinds`."""
        return {"pair": ("key", "value"), "ask": ("key",)}

    def pairs(self, level: int) -> tuple[int, int]:
        """Fewest and most pairs of a level."""
        c = self.config
        most = c.pairs_max
        return [(c.pairs_min, most), (most + 1, 2 * most), (2 * most + 1, 4 * most)][level]

    def largest(self, level: int) -> int:
        """See `FactTask.largest`."""
        return self.pairs(level)[1] * self.codec.width("pair") + self.codec.width("ask")

    def sizes(self, stream: Stream, level: int) -> tuple[int, ...]:
        """Pairs."""
        return (stream.between(*self.pairs(level)),)

    def puzzle(self, stream: Stream, sizes: tuple[int, ...], split: str) -> Puzzle | None:
        """See `FactTask.puzzle`."""
        c = self.config
        pairs = [(key, stream.below(c.n_values)) for key in stream.sample(range(c.n_keys), sizes[0])]
        facts: list[Fact] = [("pair", pair) for pair in pairs]
        asked = stream.sample(pairs, min(len(pairs), self.seats(facts, ["ask"], split)))
        return Puzzle(
            facts=facts,
            questions=[("ask", (key,), value) for key, value in asked],
            difficulty={"pairs": sizes[0]},
            canonical="",  # `build` knows the order
            split_key=repr((sorted(pairs), sorted(asked))),
        )

    def build(self, stream: Stream, puzzle: Puzzle) -> Item:
        """See `FactTask.build`."""
        item = super().build(stream, puzzle)
        return replace(item, canonical=self.form(item))

    def name_of(self, facts: Sequence[Fact], questions: Sequence[Fact]) -> str:
        """See `FactTask.name_of`: keys and values numbered by first mention, where they stand counts.

        As a set it is, per value, how many keys have it and how many of those are asked.
        """
        asked = [args[0] for _, args in questions]
        if self.order_free:
            groups: dict[int, list[bool]] = {}
            for _, (key, value) in facts:
                groups.setdefault(value, []).append(key in asked)
            return repr(sorted((len(group), sum(group)) for group in groups.values()))
        values: dict[int, int] = {}
        places = {args[0]: place for place, (_, args) in enumerate(facts)}
        return repr(([values.setdefault(args[1], len(values)) for _, args in facts], [places[key] for key in asked]))

    def solve(self, facts: list[Fact], questions: list[Fact]) -> list[int]:
        """See `FactTask.solve`: by one-hot products."""
        table_KV = np.zeros((self.config.n_keys, self.config.n_values), dtype=np.int64)
        for _, (key, value) in facts:
            table_KV[key, value] += 1
        asked_QV = table_KV[[key for _, (key,) in questions]]
        if not (asked_QV.sum(1) == 1).all():
            raise ValueError("task mqar: a key has no value, or several")
        return asked_QV.argmax(1).tolist()

    def options(self, facts: list[Fact], question: Fact) -> list[int]:
        """See `FactTask.options`: every value that is told of the key."""
        return [value for _, (key, value) in facts if key == question[1][0]]

    def extra(self, facts: list[Fact], questions: list[Fact], stream: Stream) -> list[Fact]:
        """See `FactTask.extra`: other keys."""
        used = {arguments[0] for _, arguments in facts}
        spare = [key for key in range(self.config.n_keys) if key not in used]
        chosen = stream.sample(spare, min(len(facts), len(spare)))
        return [("pair", (key, stream.below(self.config.n_values))) for key in chosen]

    def rules(self) -> dict[str, Rule]:
        """Values that are there."""
        return {
            "random_value": lambda item: hits(vs.count(v) / len(vs) for vs, v in self._values(item)),
            "last_value": lambda item: hits(vs[-1] == v for vs, v in self._values(item)),
        }

    def _values(self, item: Item) -> list[tuple[list[int], int]]:
        facts, questions = self.parts(item)
        values = [arguments[1] for _, arguments in facts]
        first = self.codec.first["value"]
        return [(values, int(item.labels[place]) - first) for *_, place in questions]

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        (low, high), near, far = self.pairs(0), self.pairs(1), self.pairs(2)
        return TaskCard(
            summary="Value of each asked key in a list of key-value pairs",
            family="recall",
            train=f"{low} to {high} pairs, up to {self.config.n_questions} questions, all sizes mixed",
            in_distribution="as train; other pairs or questions than any training item, order aside",
            out_of_distribution={
                "test/ood_near": f"{near[0]} to {near[1]} pairs",
                "test/ood_far": f"{far[0]} to {far[1]} pairs",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of an item's questions",
            looping="should not matter: one look-up",
            licence="Apache-2.0 (generated)",
            citation="own generator; task: Arora et al., arXiv 2312.04927",
        )
