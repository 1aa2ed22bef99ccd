"""Balanced brackets of k types: where a bracket closes, which one does?

    ( [ ] ( ) ) [ ...       after "( [ ] ( )" the next bracket closes the first: ")"

The label stands on the token before a closing bracket, and only if that token closes a bracket too: right after an
opening bracket the answer would be a look at the last token. So every answer needs the stack. Metric after Hewitt et
al. (arXiv 2010.07515), depth split.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import count, pairwise

import numpy as np

from tasks.base import TaskCard, require
from tasks.forms import Classes
from tasks.item import IGNORE, Ints, Item
from tasks.probes import ProbeConfig, ProbedTask
from tasks.shortcuts import Floats, Rule, hits
from tasks.stream import Stream

SIGNS = ("()", "[]", "{}", "<>")


@dataclass(frozen=True, kw_only=True)
class DyckConfig(ProbeConfig):
    """`n_types` brackets, nested 2 to depth_max deep, at most `length` + 1 of them.

    test/ood_near goes to depth_max + 2, test/ood_far to 2 depth_max + 1, in at most `ood_length` + 1 brackets.
    Raises ValueError when the deepest of a split do not fit.
    """

    length: int = 31
    ood_length: int = 63
    n_types: int = 3
    depth_max: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_types >= 2, f"n_types={self.n_types} is too small: use 2 or more")
        require(self.depth_max >= 2, f"depth_max={self.depth_max} is too small: use 2 or more")
        for field, depth in (("length", self.depth_max), ("ood_length", 2 * self.depth_max + 1)):
            require(
                getattr(self, field) >= 4 * depth - 1,
                f"{field}={getattr(self, field)} is too small for depth {depth}: use {field} >= {4 * depth - 1}",
            )


class Dyck(ProbedTask):
    """The task `structure/dyck`, see the module. Keyword arguments: the fields of `DyckConfig`."""

    name = "dyck"
    version = 1
    Config = DyckConfig
    config: DyckConfig
    same_item = "the types of brackets"
    ordered = True
    buckets = ("depth",)
    ood_splits = ("ood_near", "ood_far")
    trivial = ("majority", "position", "bag", "last_opened", "random_opened")

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.vocab_size = 1 + 2 * self.config.n_types

    def depths(self, level: int) -> tuple[int, int]:
        """Smallest and largest depth of a level."""
        deepest = self.config.depth_max
        return [(2, deepest), (deepest + 1, deepest + 2), (deepest + 3, 2 * deepest + 1)][level]

    def generate(self, split: str, seed: int, index: int) -> Item:
        """See `Task.generate`. Inputs and labels [<= length_of(split)]."""
        depths, longest = self.depths(self.level(split)), (self.length_of(split) + 1) // 2
        stream = Stream(self.name, self.version, split, seed, index)
        attempts = count()
        depth = pairs = 0

        def propose() -> Item | None:
            nonlocal depth, pairs
            if next(attempts) % 64 == 0:
                depth = stream.between(*depths)
                pairs = stream.between(min(depth + 1, longest), longest)
            return self._item(self._brackets(stream, depth, pairs), depth)

        return self.draw(split, propose)

    def _brackets(self, stream: Stream, depth: int, pairs: int) -> list[int]:
        """A balanced sequence that reaches `depth` at a random place and never exceeds it; empty if it does not."""
        kinds, open_kinds, word = self.config.n_types, list[int](), list[int]()
        left, reached = pairs, 0
        while left or open_kinds:
            opens = not open_kinds or (left > 0 and len(open_kinds) < depth and stream.below(20) < 11)
            if opens:
                kind = stream.below(kinds)
                open_kinds.append(kind)
                word.append(1 + kind)
                left -= 1
                reached = max(reached, len(open_kinds))
            else:
                word.append(1 + kinds + open_kinds.pop())
        return word if reached == depth else []

    def _item(self, word: list[int], depth: int) -> Item | None:
        kinds = self.config.n_types
        labels = [after if after > kinds and token > kinds else IGNORE for token, after in pairwise(word)]
        if all(label == IGNORE for label in labels):
            return None
        return Item(
            input_ids=np.array(word[:-1], dtype=np.int64),
            labels=np.array(labels, dtype=np.int64),
            difficulty={"depth": depth, "pairs": len(word) // 2},
            canonical=_form(word, kinds),
        )

    def exchangeable(self) -> Classes:
        """See `ProbedTask.exchangeable`: the types of brackets."""
        kinds = self.config.n_types
        return [[(1 + kind, 1 + kinds + kind) for kind in range(kinds)]]

    def form(self, item: Item) -> str:
        """See `ProbedTask.form`: of the brackets and the one that is still to close."""
        kinds, open_kinds = self.config.n_types, list[int]()
        for token in item.input_ids.tolist():
            if token <= kinds:
                open_kinds.append(token)
            else:
                open_kinds.pop()
        return _form([*item.input_ids.tolist(), open_kinds[0] + kinds], kinds)

    def check(self, item: Item) -> Ints:
        """By levels instead of a stack: the bracket to close is the last one that opened at the present level.

        Raises ValueError on a sequence that more than one bracket would complete.
        """
        kinds, ids_n = self.config.n_types, item.input_ids
        level_n = np.cumsum(np.where(ids_n <= kinds, 1, -1))
        if level_n[-1] != 1 or level_n.min() < 0:
            raise ValueError("task dyck: brackets do not match")
        labels = np.full(len(ids_n), IGNORE, dtype=np.int64)
        closes_n = np.append(ids_n[1:] > kinds, True)
        for place in np.nonzero(closes_n & (ids_n > kinds))[0].tolist():
            opened = np.nonzero((ids_n[: place + 1] <= kinds) & (level_n[: place + 1] == level_n[place]))[0]
            labels[place] = ids_n[opened[-1]] + kinds
        return labels

    def rules(self) -> dict[str, Rule]:
        """The bracket that opened last; any that was ever opened; the first one."""
        kinds = self.config.n_types

        def rule(pick: str, item: Item) -> Floats:
            shares = []
            for place in np.nonzero(item.labels != IGNORE)[0].tolist():
                before = item.input_ids[: place + 1]
                opened = before[before <= kinds] + kinds
                chosen = {"last": opened[-1:], "first": opened[:1], "random": opened}[pick]
                shares.append(float(np.mean(chosen == item.labels[place])))
            return hits(shares)

        return {f"{pick}_opened": partial(rule, pick) for pick in ("last", "first", "random")}

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        c, near, far = self.config, self.depths(1), self.depths(2)
        return TaskCard(
            summary=f"Which of {c.n_types} brackets closes next, where the last token closed one",
            family="structure",
            train=f"depth 2 to {c.depth_max}, at most {c.length + 1} brackets",
            in_distribution="as train; sequences of no training item, up to the names of the types",
            out_of_distribution={
                "test/ood_near": f"depth {near[0]} to {near[1]}, at most {c.ood_length + 1} brackets",
                "test/ood_far": f"depth {far[0]} to {far[1]}, at most {c.ood_length + 1} brackets",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of an item's closing brackets",
            looping="helps at depth: innermost pairs have to be cancelled before outer ones",
            licence="Apache-2.0 (generated)",
            citation="own generator; metric: Hewitt et al., arXiv 2010.07515",
        )

    def text(self, item: Item) -> str:
        """The brackets; scored answers after an arrow."""
        kinds = self.config.n_types
        names = [*(SIGNS[i][0] if i < 4 else f"<{i}" for i in range(kinds))]
        names += [SIGNS[i][1] if i < 4 else f"{i}>" for i in range(kinds)]
        answers = [names[label - 1] for label in item.labels.tolist() if label != IGNORE]
        return " ".join(names[token - 1] for token in item.input_ids.tolist()) + f" -> {' '.join(answers)}"


def _form(word: list[int], kinds: int) -> str:
    """The brackets with their types numbered by first mention."""
    order = {kind: place for place, kind in enumerate(dict.fromkeys((token - 1) % kinds for token in word))}
    return "".join([("<" if token <= kinds else ">") + str(order[(token - 1) % kinds]) for token in word])
