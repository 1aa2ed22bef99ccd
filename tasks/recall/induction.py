"""What followed this token before? A list of different tokens, then some of them again.

    s4 s9 s1 s7 s2 |  s1 s4 s7  ->  s7 s9 s2

The look-back of Olsson et al. (arXiv 2209.11895): unlike in `mqar`, nothing marks what is a key and what a value. No
answer is fed back.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from tasks.base import TaskCard, require
from tasks.forms import Classes
from tasks.item import IGNORE, Ints, Item
from tasks.probes import ProbeConfig, ProbedTask
from tasks.shortcuts import Floats, Rule, hits
from tasks.stream import Stream

BAR, FIRST = 1, 2  # 0 pads


@dataclass(frozen=True, kw_only=True)
class InductionConfig(ProbeConfig):
    """Lists of tokens_min to tokens_max tokens; test/ood_near has up to 2, test/ood_far up to 4 tokens_max.

    Raises ValueError when there are fewer tokens than the longest list needs, or an item does not fit.
    """

    length: int = 32
    ood_length: int = 80
    tokens_min: int = 4
    tokens_max: int = 16
    n_tokens: int = 64
    n_questions: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.tokens_min >= 3, f"tokens_min={self.tokens_min} is too small: use 3 or more")
        require(self.n_questions >= 1, f"n_questions={self.n_questions} is too small: use 1 or more")
        require(
            self.tokens_max >= self.tokens_min,
            f"tokens_max={self.tokens_max} is below tokens_min={self.tokens_min}: use {self.tokens_min} or more",
        )
        require(
            self.n_tokens >= 4 * self.tokens_max,
            f"n_tokens={self.n_tokens} is too small for lists of {4 * self.tokens_max}: use {4 * self.tokens_max}",
        )
        for field, times in (("length", 1), ("ood_length", 4)):
            need = times * self.tokens_max + 1 + self.n_questions
            require(getattr(self, field) >= need, f"{field}={getattr(self, field)} is too small: use {need} or more")


class Induction(ProbedTask):
    """The task `recall/induction`, see the module. Keyword arguments: the fields of `InductionConfig`."""

    name = "induction"
    version = 1
    Config = InductionConfig
    config: InductionConfig
    same_item = "the tokens"
    ordered = True
    buckets = ("tokens",)
    probes = ("rename", "size")
    ood_splits = ("ood_near", "ood_far")
    trivial = ("majority", "position", "bag", "random_token")

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.vocab_size = FIRST + self.config.n_tokens

    def sizes(self, level: int) -> tuple[int, int]:
        """Shortest and longest list of a level."""
        most = self.config.tokens_max
        return [(self.config.tokens_min, most), (most + 1, 2 * most), (2 * most + 1, 4 * most)][level]

    def generate(self, split: str, seed: int, index: int) -> Item:
        """See `Task.generate`. Inputs and labels [<= length_of(split)]."""
        sizes = self.sizes(self.level(split))
        stream = Stream(self.name, self.version, split, seed, index)
        attempts, size = count(), 0

        def propose() -> Item | None:
            nonlocal size
            if next(attempts) % 64 == 0:
                size = stream.between(*sizes)
            told = stream.sample(range(FIRST, self.vocab_size), size)
            places = stream.sample(range(size - 1), min(size - 1, self.config.n_questions))
            tokens = [*told, BAR, *(told[place] for place in places)]
            return Item(
                input_ids=np.array(tokens, dtype=np.int64),
                labels=np.array([IGNORE] * (size + 1) + [told[place + 1] for place in places], dtype=np.int64),
                difficulty={"tokens": size},
                canonical=self._names.form(tokens),
                split_key=" ".join(map(str, [*told, *sorted(places)])),
            )

        return self.draw(split, propose)

    def exchangeable(self) -> Classes:
        """See `ProbedTask.exchangeable`: the tokens; where they stand, and which are asked in what order, counts."""
        return [[(token,) for token in range(FIRST, self.vocab_size)]]

    def check(self, item: Item) -> Ints:
        """One-hot products: where was this token, and what stands one further."""
        (bar,) = np.nonzero(item.input_ids == BAR)[0].tolist()
        told, asked = item.input_ids[:bar], item.input_ids[bar + 1 :]
        match_QT = asked[:, None] == told[None, :-1]
        if not (match_QT.sum(1) == 1).all():
            raise ValueError("task induction: a token was not told once")
        return np.concatenate([np.full(bar + 1, IGNORE), match_QT @ told[1:]]).astype(np.int64)

    def rename(self, item: Item, stream: Stream) -> Item:
        """Probe: the same list of other tokens."""
        forth = np.arange(self.vocab_size)
        forth[FIRST:] = stream.shuffled(range(FIRST, self.vocab_size))
        back = np.argsort(forth)
        labels = np.where(item.labels == IGNORE, IGNORE, forth[item.labels.clip(0)])
        return Item(
            input_ids=forth[item.input_ids],
            labels=labels,
            difficulty=item.difficulty,
            canonical=item.canonical,
            split_key=item.split_key,
            back=back,
        )

    def rules(self) -> dict[str, Rule]:
        """A token of the list that is not the asked one."""

        def random_token(item: Item) -> Floats:
            return hits([1 / (item.difficulty["tokens"] - 1)] * int((item.labels != IGNORE).sum()))

        return {"random_token": random_token}

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        (low, high), near, far = self.sizes(0), self.sizes(1), self.sizes(2)
        return TaskCard(
            summary="The token that followed the asked one in a list of different tokens",
            family="recall",
            train=f"{low} to {high} tokens, up to {self.config.n_questions} questions, sizes mixed",
            in_distribution="as train; lists or questions of no training item",
            out_of_distribution={
                "test/ood_near": f"{near[0]} to {near[1]} tokens",
                "test/ood_far": f"{far[0]} to {far[1]} tokens",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of an item's questions",
            looping="should not matter: two attention layers do it",
            licence="Apache-2.0 (generated)",
            citation="own generator; task: Olsson et al., arXiv 2209.11895",
        )

    def text(self, item: Item) -> str:
        """The list, the questions, the answers."""
        shown = " ".join("|" if token == BAR else f"s{token - FIRST}" for token in item.input_ids.tolist())
        return f"{shown} -> {' '.join(f's{label - FIRST}' for label in item.labels.tolist() if label != IGNORE)}"
