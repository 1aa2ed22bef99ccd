"""Next-token prediction on sentences of a probabilistic grammar whose entropy is known exactly.

Every rule of a non-terminal begins with another terminal (Greibach's form, and deterministic), so a sentence has one
derivation, and the probability of each next token is that of one rule. A model that knows the grammar and keeps a
stack pays exactly those bits; the metric is what a model pays in excess of them, per token. Floor and excess are taken
item by item, so the noise of sampling cancels out.

Sentences follow each other without a sign in between; a window begins with a sentence and may end within one.
"""

from __future__ import annotations

import math
from bisect import bisect
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from tasks.base import TaskCard, require
from tasks.item import IGNORE, Ints, Item, mean_where
from tasks.probes import ProbeConfig, ProbedTask
from tasks.shortcuts import FIT_ITEMS, Rule
from tasks.stream import Stream

BOS, FIRST = 1, 2  # 0 pads
Grammar = list[dict[int, tuple[float, list[int]]]]  # per non-terminal: terminal -> probability, non-terminals after it
CHILDREN = (0, 1, 2)  # non-terminals after the terminal of a non-terminal's first, second, third rule


@dataclass(frozen=True, kw_only=True)
class PCFGConfig(ProbeConfig):
    """Windows of `length`; test/ood_near has 2, test/ood_far 4 times that. Raises ValueError on too few symbols."""

    length: int = 64
    n_nonterminals: int = 8
    n_terminals: int = 12
    grammar_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.length >= 8, f"length={self.length} is too small: use 8 or more")
        require(self.n_nonterminals >= 1, f"n_nonterminals={self.n_nonterminals} is too small: use 1 or more")
        require(self.n_terminals >= 3, f"n_terminals={self.n_terminals} is too small: use 3 or more")
        require(self.grammar_seed >= 0, f"grammar_seed={self.grammar_seed} is negative: use 0 or more")


class PCFG(ProbedTask):
    """The task `language/pcfg`, see the module. Keyword arguments: the fields of `PCFGConfig`."""

    name = "pcfg"
    version = 1
    Config = PCFGConfig
    config: PCFGConfig
    ordered = True
    ood_splits = ("ood_near", "ood_far")
    trivial = ("unigram",)

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.vocab_size = FIRST + self.config.n_terminals
        self.max_length = 4 * self.length
        self.grammar = self._grammar()
        self._rules = [_cumulative(options) for options in self.grammar]

    def _grammar(self) -> Grammar:
        c = self.config
        stream = Stream(self.name, self.version, "grammar", c.n_nonterminals, c.n_terminals, c.grammar_seed)
        grammar: Grammar = []
        for _ in range(c.n_nonterminals):
            # Fewer than one non-terminal per rule on average, so that sentences end.
            one = 0.2 + 0.2 * stream.uniform()
            two = 0.15 + 0.1 * stream.uniform()
            starts = stream.sample(range(FIRST, self.vocab_size), len(CHILDREN))
            after = [[stream.below(c.n_nonterminals) for _ in range(count)] for count in CHILDREN]
            chances = (1 - one - two, one, two)
            grammar.append({s: (p, rest) for s, p, rest in zip(starts, chances, after, strict=True)})
        return grammar

    def length_of(self, split: str) -> int:
        """See `Task.length_of`."""
        return self.length * (1, 2, 4)[self.level(split)]

    def generate(self, split: str, seed: int, index: int) -> Item:
        """See `Task.generate`. Inputs and labels [length_of(split)]; the last position has no label."""
        size = self.length_of(split) - 1
        stream = Stream(self.name, self.version, split, seed, index)

        def propose() -> Item:
            tokens: list[int] = []
            stack: list[int] = []
            bits, sentences = 0.0, 0
            while len(tokens) < size:
                if not stack:
                    stack.append(0)
                    sentences += 1
                draw = stream.uniform()
                bounds, options = self._rules[stack.pop()]
                token, cost, children = options[bisect(bounds, draw)]
                tokens.append(token)
                bits += cost
                stack += children
            return Item(
                input_ids=np.array([BOS, *tokens], dtype=np.int64),
                labels=np.array([*tokens, IGNORE], dtype=np.int64),
                difficulty={"sentences": sentences, "floor": bits / size},
                canonical=" ".join(map(str, tokens)),
            )

        return self.draw(split, propose)

    def form(self, item: Item) -> str:
        """See `ProbedTask.form`: the tokens."""
        return " ".join(map(str, item.input_ids[1:].tolist()))

    def check(self, item: Item) -> Ints:
        """The inputs shifted by one, if a recursive-descent reader accepts them.

        Raises ValueError where a token cannot stand, or BOS is missing.
        """
        ids = item.input_ids.tolist()
        if ids[0] != BOS:
            raise ValueError("task pcfg: an item does not begin with BOS")

        def read(symbol: int, place: int) -> int:
            if place == len(ids):
                return place
            if ids[place] not in self.grammar[symbol]:
                raise ValueError(f"task pcfg: the token at {place} is not of the language")
            children = self.grammar[symbol][ids[place]][1]
            place += 1
            for child in children:
                place = read(child, place)
            return place

        place = 1
        while place < len(ids):
            place = read(0, place)
        return np.array([*ids[1:], IGNORE], dtype=np.int64)

    def floor(self, tokens: list[int]) -> float:
        """Bits that the grammar itself pays for a window's tokens."""
        stack: list[int] = []
        bits = 0.0
        for token in tokens:
            probability, children = self.grammar[stack.pop() if stack else 0][token]
            bits -= math.log2(probability)
            stack += reversed(children)
        return bits

    @cached_property
    def entropy_rate(self) -> float:
        """Bits per token in the long run: expected bits over expected tokens of a sentence, by linear equations."""
        size = self.config.n_nonterminals
        spawn_NN, bits_N = np.zeros((size, size)), np.zeros(size)
        for symbol, options in enumerate(self.grammar):
            for probability, children in options.values():
                bits_N[symbol] -= probability * math.log2(probability)
                for child in children:
                    spawn_NN[symbol, child] += probability
        uses_N = np.linalg.solve((np.eye(size) - spawn_NN).T, np.eye(size)[0])
        return float(uses_N @ bits_N / uses_N.sum())

    def score(
        self, labels_Bn: Tensor, pred_Bn: Tensor, nll_Bn: Tensor, input_ids_Bn: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Excess bits per token [B], the bits themselves, and the tokens as weight."""
        scored_Bn = labels_Bn != IGNORE
        rows = zip(labels_Bn, scored_Bn, strict=True)
        floors_B = torch.tensor([self.floor(row[kept].tolist()) / max(1, int(kept.sum())) for row, kept in rows])
        bits_B = mean_where(nll_Bn / math.log(2), scored_Bn)
        return {"excess_bits": bits_B - floors_B, "bits_per_token": bits_B, "weight": scored_Bn.sum(1).float()}

    @cached_property
    def all_rules(self) -> dict[str, Rule]:
        """Excess bits of models that only count: single tokens, and pairs (add-one smoothed)."""
        size = self.vocab_size
        pairs = np.ones((size, size))
        for index in range(FIT_ITEMS):
            ids = self.generate("train", 0, index).input_ids
            np.add.at(pairs, (ids[:-1], ids[1:]), 1)
        single_bits = -np.log2(pairs.sum(0) / pairs.sum())
        pair_bits = -np.log2(pairs / pairs.sum(1, keepdims=True))

        def unigram(item: Item) -> float:
            return float(single_bits[item.labels[:-1]].mean()) - item.difficulty["floor"]

        def bigram(item: Item) -> float:
            return float(pair_bits[item.input_ids[:-1], item.labels[:-1]].mean()) - item.difficulty["floor"]

        return {"unigram": unigram, "bigram": bigram}

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        c = self.config
        return TaskCard(
            summary="Next token of a probabilistic grammar of known entropy: bits paid in excess of it",
            family="language",
            train=f"windows of {c.length - 1} tokens; {c.n_nonterminals} non-terminals, {c.n_terminals} terminals; "
            f"entropy rate {self.entropy_rate:.4f} bits per token",
            in_distribution="as train; windows of no training item",
            out_of_distribution={
                "test/ood_near": f"windows of {2 * c.length - 1} tokens",
                "test/ood_far": f"windows of {4 * c.length - 1} tokens",
            },
            metric="excess_bits",
            higher_is_better=False,
            unit="bits per token above the entropy",
            looping="may help a little: the stack is a chain of steps, but most tokens need its top only",
            licence="Apache-2.0 (generated)",
            citation="own generator; deterministic Greibach form",
        )

    def text(self, item: Item) -> str:
        """The window, a letter per token."""
        return "".join(chr(ord("a") + token - FIRST) for token in item.input_ids[1:].tolist())


def _cumulative(options: dict[int, tuple[float, list[int]]]) -> tuple[list[float], list[tuple[int, float, list[int]]]]:
    """Per rule: upper bounds of the draws that choose it; its terminal, bits, and non-terminals, the last first."""
    bounds = [*accumulate(probability for probability, _ in options.values())]
    rules = [(token, -math.log2(probability), rest[::-1]) for token, (probability, rest) in options.items()]
    return bounds[:-1], rules
