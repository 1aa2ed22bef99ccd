"""Nested list operations in prefix form, with one answer at the end.

    [MAX 2 9 [MIN 4 7 ] 0 ] = -> 9

Operators: MIN, MAX, MED (the lower median: of 4 values the second smallest) and SM (sum modulo 10). After
Nangia and Bowman (arXiv 1804.06028), except for how values are drawn: an expression is built from its result
downwards, so that the ten results are equally likely at the root whatever its operator. Built upwards, a MAX
is mostly 8 or 9, and a model that reads nothing but the operator looks skilful.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tasks.base import TaskCard, require
from tasks.item import IGNORE, Ints, Item
from tasks.probes import ProbeConfig, ProbedTask
from tasks.shortcuts import Rule
from tasks.stream import Stream

DIGITS = 1  # 0 pads; the digit d is token 1 + d
OPERATORS = ("MIN", "MAX", "MED", "SM")
FIRST_OPERATOR = 11
CLOSE, EQUALS, VOCAB = 15, 16, 17
LEAF_SHARE = 0.6  # arguments that are digits though the depth would allow an expression

Tree = int | tuple[str, list["Tree"]]


@dataclass(frozen=True, kw_only=True)
class ListOpsConfig(ProbeConfig):
    """Sizes. `length` holds train and test/id, `ood_length` the deeper tests (near +1, far +2 and +3).

    Raises ValueError when the deepest expressions of a split do not fit.
    """

    length: int = 48
    ood_length: int = 48
    depth_max: int = 3
    args_max: int = 4
    n_test: int = 1024
    bidirectional: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.depth_max >= 1, f"depth_max={self.depth_max} is too small: use 1 or more")
        require(self.args_max >= 2, f"args_max={self.args_max} is too small: use 2 or more")
        require(
            self.ood_length >= self.length,
            f"ood_length={self.ood_length} is below length={self.length}: use ood_length >= {self.length}",
        )
        for field, depth in (("length", self.depth_max), ("ood_length", self.depth_max + 3)):
            need = 3 * depth + 6  # the thinnest expression of a depth, "=", and a little room to vary
            require(
                getattr(self, field) >= need,
                f"{field}={getattr(self, field)} is too small for depth {depth}: use {field} >= {need}",
            )


class ListOps(ProbedTask):
    """The task `structure/listops`, see the module. Keyword arguments: the fields of `ListOpsConfig`."""

    name = "listops"
    version = 1
    Config = ListOpsConfig
    config: ListOpsConfig
    same_item = "the order of an operation's arguments"
    ordered = True
    ood_splits = ("ood_near", "ood_far")
    probes = ("permute", "size")
    buckets = ("depth",)
    trivial = ("majority", "position", "bag", "first_digit", "last_digit", "common_digit")

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.vocab_size = VOCAB

    def depths(self, split: str) -> tuple[int, int]:
        """Smallest and largest depth of a split. Raises ValueError when the split is unknown."""
        deepest = self.config.depth_max
        return [(1, deepest), (deepest + 1, deepest + 1), (deepest + 2, deepest + 3)][self.level(split)]

    def generate(self, split: str, seed: int, index: int) -> Item:
        """See `Task.generate`. Inputs and labels [<= length_of(split)]."""
        depths = self.depths(split)
        room = self.length_of(split) - 1
        stream = Stream(self.name, self.version, split, seed, index)
        target = stream.below(10)  # outlives every refusal, so that results are exactly balanced

        def propose() -> Item | None:
            depth = stream.between(*depths)
            for _ in range(100):  # a depth outlives a few trees that are too long
                tree = self._build(stream, target, depth)
                tokens = _tokens(tree)
                if len(tokens) <= room:
                    return _item(tree, tokens, target, depth)
            return None

        return self.draw(split, propose)

    def _build(self, stream: Stream, value: int, depth: int) -> Tree:
        """A tree of exactly this depth with this value."""
        if depth == 0:
            return value
        operator = stream.choice(OPERATORS)
        arguments = draw_arguments(stream, operator, value, stream.between(2, self.config.args_max))
        deepest = stream.below(len(arguments))
        below: list[Tree] = []
        for place, argument in enumerate(arguments):
            if place == deepest:
                below.append(self._build(stream, argument, depth - 1))
            elif depth == 1 or stream.uniform() < LEAF_SHARE:
                below.append(argument)
            else:
                below.append(self._build(stream, argument, stream.between(1, depth - 1)))
        return operator, below

    def check(self, item: Item) -> Ints:
        """The answer by a stack machine that reads the tokens once. Raises ValueError on broken brackets."""
        stack: list[list[int]] = [[]]
        labels = np.full(len(item.input_ids), IGNORE, dtype=np.int64)
        for place, token in enumerate(item.input_ids.tolist()):
            if FIRST_OPERATOR <= token < CLOSE:
                stack.append([token])
            elif token == CLOSE:
                operator, *values = stack.pop()
                stack[-1].append(apply(OPERATORS[operator - FIRST_OPERATOR], values))
            elif token == EQUALS:
                labels[place] = DIGITS + stack[0][0]
            else:
                stack[-1].append(token - DIGITS)
        if len(stack) != 1 or len(stack[0]) != 1:
            raise ValueError("task listops: brackets do not match")
        return labels

    def permute(self, item: Item, stream: Stream) -> Item:
        """Probe: the arguments of every operation in another order."""
        tree = _parse(item.input_ids, stream.shuffled)
        return replace(item, input_ids=np.array([*_tokens(tree), EQUALS], dtype=np.int64))

    def form(self, item: Item) -> str:
        """See `ProbedTask.form`: up to the order of arguments."""
        return canonical_form(_parse(item.input_ids, list))

    def rules(self) -> dict[str, Rule]:
        """Single digits; and, reading some structure, the root's operator over all digits or over its own."""
        return {
            "first_digit": _rule(lambda ids: int(_digits(ids)[0])),
            "last_digit": _rule(lambda ids: int(_digits(ids)[-1])),
            "common_digit": _rule(lambda ids: int(np.bincount(_digits(ids)).argmax())),
            "root_over_all_digits": _rule(lambda ids: apply(_root(ids), _digits(ids).tolist())),
            "root_over_own_digits": _rule(lambda ids: apply(_root(ids), _own_digits(ids) or [0])),
        }

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        c = self.config
        return TaskCard(
            summary="Value of nested MIN, MAX, MED (lower median) and SM (sum mod 10) over digits",
            family="structure",
            train=f"depth 1 to {c.depth_max}, all depths in equal shares, 2 to {c.args_max} arguments, "
            f"at most {c.length} tokens, results balanced",
            in_distribution="as train; expressions of no training item, up to the order of arguments",
            out_of_distribution={
                "test/ood_near": f"depth {c.depth_max + 1}, at most {c.ood_length} tokens",
                "test/ood_far": f"depth {c.depth_max + 2} or {c.depth_max + 3}, same length",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of expressions",
            looping="helps: the deepest parts must be solved first, so depth-bound as expressions deepen",
            licence="Apache-2.0 (generated)",
            citation="own generator; task: Nangia and Bowman, arXiv 1804.06028; depth split: Csordas et al., "
            "arXiv 2110.07732",
        )

    def text(self, item: Item) -> str:
        """The expression, and its value after an arrow."""
        return " ".join(map(self.word, item.input_ids.tolist())) + f" -> {item.labels[-1] - DIGITS}"

    def word(self, token: int) -> str:
        """See `Task.word`."""
        words = {CLOSE: "]", EQUALS: "="} | {FIRST_OPERATOR + i: f"[{name}" for i, name in enumerate(OPERATORS)}
        return words.get(token, str(token - DIGITS))


def apply(operator: str, values: list[int]) -> int:
    """The value of one operation on digits."""
    if operator == "SM":
        return sum(values) % 10
    place = {"MIN": 0, "MED": (len(values) - 1) // 2, "MAX": len(values) - 1}[operator]
    return sorted(values)[place]


def draw_arguments(stream: Stream, operator: str, value: int, n_arguments: int) -> list[int]:
    """Digits in random order whose operation has the given value."""
    if operator == "SM":
        others = [stream.below(10) for _ in range(n_arguments - 1)]
        return stream.shuffled([*others, (value - sum(others)) % 10])
    n_below = {"MIN": 0, "MED": (n_arguments - 1) // 2, "MAX": n_arguments - 1}[operator]
    lower = [stream.between(0, value) for _ in range(n_below)]
    upper = [stream.between(value, 9) for _ in range(n_arguments - 1 - n_below)]
    return stream.shuffled([*lower, value, *upper])


def _item(tree: Tree, tokens: list[int], target: int, depth: int) -> Item:
    labels = np.full(len(tokens) + 1, IGNORE, dtype=np.int64)
    labels[-1] = DIGITS + target
    return Item(
        input_ids=np.array([*tokens, EQUALS], dtype=np.int64),
        labels=labels,
        difficulty={"depth": depth, "tokens": len(tokens) + 1},
        canonical=canonical_form(tree),
    )


def _tokens(tree: Tree) -> list[int]:
    if isinstance(tree, int):
        return [DIGITS + tree]
    inner = [token for argument in tree[1] for token in _tokens(argument)]
    return [FIRST_OPERATOR + OPERATORS.index(tree[0]), *inner, CLOSE]


def _parse(ids: Ints, order: Callable[[list[Tree]], list[Tree]]) -> Tree:
    """The expression, with the arguments of every operation in the order that `order` gives."""
    stack: list[list[Tree]] = [[]]
    operators: list[str] = []
    for token in ids[:-1].tolist():
        if FIRST_OPERATOR <= token < CLOSE:
            operators.append(OPERATORS[token - FIRST_OPERATOR])
            stack.append([])
        elif token == CLOSE:
            arguments = order(stack.pop())
            stack[-1].append((operators.pop(), arguments))
        else:
            stack[-1].append(token - DIGITS)
    return stack[0][0]


def canonical_form(tree: Tree) -> str:
    """The expression with sorted arguments: no operator depends on their order."""
    if isinstance(tree, int):
        return str(tree)
    return f"({tree[0]} {' '.join(sorted(map(canonical_form, tree[1])))})"


def _rule(guess: Callable[[Ints], int]) -> Rule:
    return lambda item: float(DIGITS + guess(item.input_ids) == item.labels[-1])


def _digits(ids: Ints) -> Ints:
    return ids[(ids >= DIGITS) & (ids < FIRST_OPERATOR)] - DIGITS


def _own_digits(ids: Ints) -> list[int]:
    level = np.cumsum((ids >= FIRST_OPERATOR) & (ids < CLOSE)) - np.cumsum(ids == CLOSE)
    return _digits(ids[level == 1]).tolist()


def _root(ids: Ints) -> str:
    return OPERATORS[int(ids[0]) - FIRST_OPERATOR]
