"""Base of the tasks that ask questions about facts whose order means nothing: graphs, tables, key-value lists.

A subclass draws a `Puzzle` over small integers; this base draws names anew for each item, shuffles the facts, writes
them in either encoding of `tasks.codec`, and offers the probes. Questions follow the facts; the label sits on a
question's last token, and no answer is fed back, so that questions do not depend on each other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import ClassVar

import numpy as np
from torch import Tensor

from tasks.base import require
from tasks.codec import Codec, Fact
from tasks.forms import Classes
from tasks.item import IGNORE, Ints, Item, mean_where
from tasks.probes import ProbedTask
from tasks.puzzles import AskConfig, Puzzle
from tasks.stream import Stream

RESIZE = 64  # proposals of one size before another size is tried: some splits own no item of some small sizes


class FactTask(ProbedTask):
    """See the module. A subclass sets `answers`, `renamed`, `alphabets`, `kinds`, `asks` and the abstract methods."""

    ordered = False
    probes: ClassVar[tuple[str, ...]] = ("permute", "rename", "noise", "distract", "size")
    answers: ClassVar[dict[str, str]]  # kind of question -> alphabet of its answers
    renamed: ClassVar[tuple[str, ...]] = ()  # alphabets whose symbols the base draws anew for each item
    same: ClassVar[tuple[str, ...]] = ()  # alphabets whose symbols make no other item; empty: those above
    probe_renames: ClassVar[tuple[str, ...]] = ()  # alphabets that the probe `rename` renames; empty: those above
    shuffled: ClassVar[bool] = True  # False: facts are written in the order of the puzzle
    ood_splits = ("ood_near", "ood_far")
    config: AskConfig

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        try:
            self.codec = Codec(self.alphabets(), self.kinds(), self.order_free)
        except ValueError as error:
            raise ValueError(f"task {self.name}: {error}") from None
        self.vocab_size = self.codec.size
        for split, largest in (("test/id", 0), ("test/ood_far", 2)):
            need = self.largest(largest)
            field = "length" if largest == 0 else "ood_length"
            require(
                self.length_of(split) >= need,
                f"task {self.name}: {field}={self.length_of(split)} is too small for the largest items of {split}: "
                f"use {field} >= {need}",
            )

    @abstractmethod
    def alphabets(self) -> dict[str, int]:
        """Alphabet -> number of symbols."""

    @abstractmethod
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Kind of fact or question -> alphabets of its arguments."""

    @abstractmethod
    def largest(self, level: int) -> int:
        """Tokens that the largest facts of a level (see `ProbedTask.level`) and one question take."""

    @abstractmethod
    def sizes(self, stream: Stream, level: int) -> tuple[int, ...]:
        """Sizes of an item, drawn anew only now and then, so that refusals do not skew their mix."""

    @abstractmethod
    def puzzle(self, stream: Stream, sizes: tuple[int, ...], split: str) -> Puzzle | None:
        """A puzzle of these sizes that fits into an item of the split; None is a failed proposal.

        One that the split does not own may be given up early, before questions are drawn.
        """

    def seats(self, facts: Sequence[Fact], kinds: Sequence[str], split: str) -> int:
        """Questions of these kinds that certainly fit behind the facts, at most `n_questions`."""
        spare = self.length_of(split) - self.space(facts)
        return min(self.config.n_questions, spare // max(self.codec.width(kind) for kind in kinds))

    def generate(self, split: str, seed: int, index: int) -> Item:
        """See `Task.generate`. Inputs and labels [<= length_of(split)]."""
        level = self.level(split)
        stream = Stream(self.name, self.version, split, seed, index)
        attempts = count()
        sizes: tuple[int, ...] = ()

        def propose() -> Puzzle | None:
            nonlocal sizes
            if next(attempts) % RESIZE == 0:
                sizes = self.sizes(stream, level)
            puzzle = self.puzzle(stream, sizes, split)
            return puzzle if puzzle and puzzle.questions else None

        return self.build(stream, self.draw(split, propose))

    def build(self, stream: Stream, puzzle: Puzzle) -> Item:
        """The item: names drawn, facts shuffled."""
        names = {name: stream.shuffled(range(self.codec.alphabets[name])) for name in self.renamed}
        facts = stream.shuffled(puzzle.facts) if self.shuffled else puzzle.facts
        labels = []
        for kind, _, answer in puzzle.questions:
            alphabet = self.answers[kind]
            labels.append(self.codec.token(alphabet, names[alphabet][answer] if alphabet in names else answer))
        named = self._named([*facts, *[(kind, arguments) for kind, arguments, _ in puzzle.questions]], names)
        ids_n, labels_n = self.laid_out(named[: len(facts)], named[len(facts) :], labels)
        return Item(
            input_ids=ids_n,
            labels=labels_n,
            difficulty=puzzle.difficulty | {"questions": len(labels)},
            canonical=puzzle.canonical,
            split_key=puzzle.split_key,
        )

    def exchangeable(self) -> Classes:
        """See `ProbedTask.exchangeable`: the names of a sequence; a set's tokens are products of them."""
        if self.order_free:
            return []
        ranges = [(self.codec.first[name], self.codec.alphabets[name]) for name in self.same or self.renamed]
        return [[(first + symbol,) for symbol in range(size)] for first, size in ranges]

    @abstractmethod
    def name_of(self, facts: Sequence[Fact], questions: Sequence[Fact]) -> str:
        """The form of facts and questions, the same under all names."""

    def form(self, item: Item) -> str:
        """See `ProbedTask.form`."""
        facts, questions = self.parts(item)
        return self.name_of(facts, [(kind, arguments) for kind, arguments, _ in questions])

    def laid_out(self, facts: Sequence[Fact], questions: Sequence[Fact], labels: Sequence[int]) -> tuple[Ints, Ints]:
        """Inputs and labels [n] of facts and questions; `labels` are one token per question."""
        tokens = [*self.write(facts), *self.codec.write(questions)]
        widths = [self.codec.width(kind) for kind, _ in questions]
        labels_n = np.full(len(tokens), IGNORE, dtype=np.int64)
        labels_n[len(tokens) - sum(widths) - 1 + np.cumsum(widths)] = labels
        return np.array(tokens, dtype=np.int64), labels_n

    def _named(self, facts: Sequence[Fact], names: Mapping[str, Sequence[int]]) -> list[Fact]:
        """The facts with the symbols of the alphabets in `names` replaced."""
        codec = self.codec
        same = {name: names[name] if name in names else range(size) for name, size in codec.alphabets.items()}
        maps = {kind: [same[name] for name in alphabets] for kind, alphabets in codec.kinds.items()}
        return [
            (kind, tuple([new[old] for new, old in zip(maps[kind], arguments, strict=True)]))
            for kind, arguments in facts
        ]

    def space(self, facts: Sequence[Fact]) -> int:
        """Tokens that the facts take."""
        width = self.codec.width
        return sum([width(kind) for kind, _ in facts])

    def write(self, facts: Sequence[Fact]) -> list[int]:
        """Tokens of the facts."""
        return self.codec.write(facts)

    def read(self, tokens: Sequence[int]) -> list[Fact]:
        """Facts of the tokens before the first question."""
        return self.codec.read(tokens)

    def parts(self, item: Item) -> tuple[list[Fact], list[tuple[str, tuple[int, ...], int]]]:
        """Facts; and the questions as (kind, arguments, place of the label), from the inputs alone."""
        tokens = item.input_ids.tolist()
        start = next(place for place, token in enumerate(tokens) if self._asks(token))
        place, questions = start - 1, []
        for kind, arguments in self.codec.read(tokens[start:]):
            place += self.codec.width(kind)
            questions.append((kind, arguments, place))
        return self.read(tokens[:start]), questions

    def _asks(self, token: int) -> bool:
        return any(
            self.codec.kind_first[kind] <= token < self.codec.kind_first[kind] + self._span(kind)
            for kind in self.answers
        )

    def _span(self, kind: str) -> int:
        return int(np.prod([self.codec.alphabets[name] for name in self.codec.kinds[kind]])) if self.order_free else 1

    def check(self, item: Item) -> Ints:
        """See `Task.check`: answers from `solve`, which shares nothing with `puzzle`."""
        facts, questions = self.parts(item)
        labels = np.full(len(item.input_ids), IGNORE, dtype=np.int64)
        found = self.solve(facts, [(kind, arguments) for kind, arguments, _ in questions])
        for (kind, _, place), answer in zip(questions, found, strict=True):
            labels[place] = self.codec.token(self.answers[kind], answer)
        return labels

    @abstractmethod
    def solve(self, facts: list[Fact], questions: list[Fact]) -> list[int]:
        """Answers by a second method."""

    def context(self, item: Item) -> Ints:
        """See `ProbedTask.context`: the facts."""
        return np.arange(next(place for place, token in enumerate(item.input_ids.tolist()) if self._asks(token)))

    def legible(self, facts: Sequence[Fact], tokens: Sequence[int]) -> list[Fact]:
        """What can be read of noised tokens where `facts` stood: see `tasks.noise`."""
        return self.codec.legible(facts, tokens, self.answers)

    def options(self, facts: list[Fact], question: Fact) -> list[int]:
        """Answers that are equally likely from what was read of noised facts; none where the facts give none."""
        try:
            return self.solve(facts, [question])
        except (ValueError, KeyError):
            return []

    def permute(self, item: Item, stream: Stream) -> Item:
        """Probe: the facts in another order."""
        facts, questions = self.parts(item)
        return self._rewritten(item, stream.shuffled(facts), questions)

    def _rewritten(
        self, item: Item, facts: Sequence[Fact], questions: Sequence[tuple[str, tuple[int, ...], int]]
    ) -> Item:
        asked = [(kind, arguments) for kind, arguments, _ in questions]
        ids_n, labels_n = self.laid_out(facts, asked, item.labels[item.labels != IGNORE].tolist())
        return replace(item, input_ids=ids_n, labels=labels_n)

    def rename(self, item: Item, stream: Stream) -> Item:
        """Probe: the same facts in the same order, under other names."""
        chosen = self.probe_renames or self.renamed
        names = {name: stream.shuffled(range(self.codec.alphabets[name])) for name in chosen}
        forth = np.arange(self.vocab_size)
        for name, new in names.items():
            first = self.codec.first[name]
            forth[first : first + len(new)] = first + np.array(new)
        back = np.empty_like(forth)
        back[forth] = np.arange(len(forth))
        facts, questions = self.parts(item)
        ids_n, labels_n = self.laid_out(
            self._named(facts, names),
            self._named([(kind, arguments) for kind, arguments, _ in questions], names),
            forth[item.labels[item.labels != IGNORE]].tolist(),
        )
        return replace(item, input_ids=ids_n, labels=labels_n, back=back)

    @abstractmethod
    def extra(self, facts: list[Fact], questions: list[Fact], stream: Stream) -> list[Fact]:
        """Facts that change no answer, about as many as there are."""

    def distract(self, item: Item, stream: Stream) -> Item:
        """Probe: facts that no question is about between the others."""
        facts, questions = self.parts(item)
        more = self.extra(facts, [(kind, arguments) for kind, arguments, _ in questions], stream)
        room = self.max_length - len(item.input_ids) + len(self.write(facts))
        while more and len(self.write([*facts, *more])) > room:
            more = more[:-1]
        if self.shuffled:
            return self._rewritten(item, stream.shuffled([*facts, *more]), questions)
        for fact in more:
            facts.insert(stream.below(len(facts) + 1), fact)
        return self._rewritten(item, facts, questions)

    def score(
        self, labels_Bn: Tensor, pred_Bn: Tensor, nll_Bn: Tensor, input_ids_Bn: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Accuracy [B], the mean over an item's questions; given `input_ids_Bn` also per kind of question."""
        right_Bn, scored_Bn = pred_Bn == labels_Bn, labels_Bn != IGNORE
        scores = {"accuracy": mean_where(right_Bn, scored_Bn)}
        if input_ids_Bn is not None and len(self.answers) > 1:
            for kind in self.answers:
                # The marker of a question stands width - 1 before its label.
                head_Bn = input_ids_Bn.roll(self.codec.width(kind) - 1, dims=1) - self.codec.kind_first[kind]
                asked_Bn = scored_Bn & (head_Bn >= 0) & (head_Bn < self._span(kind))
                scores[f"accuracy/{kind}"] = mean_where(right_Bn, asked_Bn)
        return scores

    def text(self, item: Item) -> str:
        """Facts, then questions, with the answers after an arrow."""
        facts, questions = self.parts(item)
        lines = ["; ".join(self.phrase(fact) for fact in facts)]
        for kind, arguments, place in questions:
            alphabet = self.answers[kind]
            answer = self.symbol(alphabet, int(item.labels[place]) - self.codec.first[alphabet])
            lines.append(f"{self.phrase((kind, arguments))} -> {answer}")
        return "\n".join(lines)

    def phrase(self, fact: Fact) -> str:
        """A fact for a reader."""
        kind, arguments = fact
        names = self.codec.kinds[kind]
        return f"{kind} " + " ".join(self.symbol(n, a) for n, a in zip(names, arguments, strict=True))

    def word(self, token: int) -> str:
        """See `Task.word`."""
        return self.codec.word(token, self.symbol)

    def symbol(self, alphabet: str, index: int) -> str:
        """A symbol for a reader."""
        return f"{alphabet[0]}{index}"
