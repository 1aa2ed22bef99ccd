"""Running products in a finite group: after each element, which element is the product so far?

    g7 g2 g2 g9  ->  .  g4 g1 g7

S5 (all permutations of 5 things) and A5 (the even ones) cannot be tracked by a constant number of parallel steps
unless TC0 = NC1 (Barrington 1989; Merrill et al., arXiv 2404.08819); Z60, addition modulo 60, can, and is the control
with as many elements as A5. The first position is not scored: it would be a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import count, permutations

import numpy as np
from torch import Tensor

from tasks.base import TaskCard, require
from tasks.item import IGNORE, Ints, Item
from tasks.probes import ProbeConfig, ProbedTask
from tasks.shortcuts import Floats, Rule, hits
from tasks.stream import Stream

Element = tuple[int, ...]
GROUPS = ("S5", "A5", "Z60")
STANDARD: dict[str, list[Element]] = {  # two elements that generate the group
    "S5": [(1, 0, 2, 3, 4), (1, 2, 3, 4, 0)],
    "A5": [(1, 2, 0, 3, 4), (1, 2, 3, 4, 0)],
    "Z60": [(1,), (7,)],
}


@lru_cache
def elements(group: str) -> list[Element]:
    """The elements in a fixed order: permutations as images of 0..4, numbers as tuples of one."""
    if group == "Z60":
        return [(number,) for number in range(60)]
    everything = list(permutations(range(5)))
    return everything if group == "S5" else [p for p in everything if is_even(p)]


def is_even(p: Element) -> bool:
    """Whether a permutation has an even number of inversions."""
    return sum(p[i] > p[j] for i in range(len(p)) for j in range(i + 1, len(p))) % 2 == 0


def product(first: Element, then: Element) -> Element:
    """Do `first`, then `then`."""
    return tuple(then[place] for place in first) if len(first) > 1 else ((first[0] + then[0]) % 60,)


@lru_cache
def table(group: str) -> list[list[int]]:
    """Index of product(row, column) by the indices of row and column."""
    index = {element: place for place, element in enumerate(elements(group))}
    return [[index[product(a, b)] for b in elements(group)] for a in elements(group)]


@dataclass(frozen=True, kw_only=True)
class StateConfig(ProbeConfig):
    """Sequences of steps_min to `length` elements; test/ood_near up to twice `length`, test/ood_far to `ood_length`.

    `n_generators` elements occur in the input (0: all). Raises ValueError on an unknown group or impossible sizes.
    """

    length: int = 12
    ood_length: int = 64
    steps_min: int = 3
    group: str = "S5"
    n_generators: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.group in GROUPS, f"group={self.group} is unknown: use one of {', '.join(GROUPS)}")
        size = len(elements(self.group))
        require(
            self.n_generators == 0 or 2 <= self.n_generators <= size,
            f"n_generators={self.n_generators} does not fit: use 0 (all) or 2 to {size}",
        )
        require(self.steps_min >= 2, f"steps_min={self.steps_min} is too small: use 2 or more")
        require(
            self.length >= self.steps_min,
            f"length={self.length} is below steps_min={self.steps_min}: use length >= {self.steps_min}",
        )
        require(
            self.ood_length > 2 * self.length,
            f"ood_length={self.ood_length} is too small: use ood_length >= {2 * self.length + 1}",
        )


class StateTracking(ProbedTask):
    """The task `structure/state_tracking`, see the module. Keyword arguments: the fields of `StateConfig`."""

    name = "state_tracking"
    version = 1
    Config = StateConfig
    config: StateConfig
    ordered = True
    buckets = ("steps",)
    ood_splits = ("ood_near", "ood_far")

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        group = self.config.group
        self.vocab_size = 1 + len(elements(group))
        index = {element: place for place, element in enumerate(elements(group))}
        standard = [index[element] for element in STANDARD[group]]
        pool = [*standard, *(place for place in range(len(index)) if place not in standard)]
        self.inputs = pool[: self.config.n_generators or len(pool)]

    def steps(self, level: int) -> tuple[int, int]:
        """Fewest and most steps of a level."""
        c = self.config
        return [(c.steps_min, c.length), (c.length + 1, 2 * c.length), (2 * c.length + 1, c.ood_length)][level]

    def generate(self, split: str, seed: int, index: int) -> Item:
        """See `Task.generate`. Inputs and labels [<= length_of(split)]."""
        steps = self.steps(self.level(split))
        stream = Stream(self.name, self.version, split, seed, index)
        attempts, size = count(), 0
        times = table(self.config.group)

        def propose() -> Item | None:
            nonlocal size
            if next(attempts) % 64 == 0:
                size = stream.between(*steps)
            word = [stream.choice(self.inputs) for _ in range(size)]
            states = [word[0]]
            for element in word[1:]:
                states.append(times[states[-1]][element])
            return Item(
                input_ids=np.array(word, dtype=np.int64) + 1,
                labels=np.array([IGNORE, *(state + 1 for state in states[1:])], dtype=np.int64),
                difficulty={"steps": size},
                canonical=" ".join(map(str, word)),
            )

        return self.draw(split, propose)

    def form(self, item: Item) -> str:
        """See `ProbedTask.form`: the elements."""
        return " ".join(map(str, (item.input_ids - 1).tolist()))

    def check(self, item: Item) -> Ints:
        """Products of permutation matrices, or sums modulo 60."""
        group = self.config.group
        members = np.array(elements(group))
        word = members[item.input_ids - 1]
        if group == "Z60":
            labels = np.cumsum(word[:, 0]) % 60 + 1
        else:
            # Row i of a matrix has its one at the image of i, so that products on the right act later.
            state_55, found = np.eye(5, dtype=np.int64), []
            for images in word:
                state_55 = state_55 @ np.eye(5, dtype=np.int64)[images]
                found.append((members == state_55.argmax(1)).all(1).argmax() + 1)
            labels = np.array(found)
        labels[0] = IGNORE
        return labels

    def score(
        self, labels_Bn: Tensor, pred_Bn: Tensor, nll_Bn: Tensor, input_ids_Bn: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Accuracy [B] over the positions of an item, and `last`: whether its last product is right."""
        scored_Bn = labels_Bn != IGNORE
        later_Bn = scored_Bn.flip(1).cumsum(1).flip(1)
        last_Bn = scored_Bn & (later_Bn == 1)
        last_B = ((pred_Bn == labels_Bn) & last_Bn).any(1).float()
        return super().score(labels_Bn, pred_Bn, nll_Bn) | {"last": last_B}

    def rules(self) -> dict[str, Rule]:
        """The element itself; the product of the last two."""
        times = table(self.config.group)

        def last_two(item: Item) -> Floats:
            ids = (item.input_ids - 1).tolist()
            return hits(times[a][b] + 1 == c for a, b, c in zip(ids, ids[1:], item.labels[1:], strict=False))

        return {
            "last_element": lambda item: hits(item.input_ids[1:] == item.labels[1:]),
            "last_two_elements": last_two,
        }

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        c, near, far = self.config, self.steps(1), self.steps(2)
        return TaskCard(
            summary=f"Running product of elements of {c.group}",
            family="structure",
            train=f"{c.steps_min} to {c.length} elements, all lengths mixed, a label per element",
            in_distribution="as train; sequences of no training item",
            out_of_distribution={
                "test/ood_near": f"{near[0]} to {near[1]} elements",
                "test/ood_far": f"{far[0]} to {far[1]} elements",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of an item's positions",
            looping="helps S5 and A5, whose depth must grow with length; should not matter for Z60",
            licence="Apache-2.0 (generated)",
            citation="own generator; task: Merrill et al., arXiv 2404.08819; Barrington, JCSS 1989",
        )

    def text(self, item: Item) -> str:
        """Elements, then products; permutations as the images of 0..4."""
        members = elements(self.config.group)
        words = ["".join(map(str, members[token - 1])) for token in item.input_ids.tolist()]
        states = ["".join(map(str, members[label - 1])) for label in item.labels[1:].tolist()]
        return f"{' '.join(words)} -> . {' '.join(states)}"
