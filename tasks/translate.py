"""Base of the tasks that write a sequence for a sequence: all of the output must be right.

    walk twice and jump => WALK WALK JUMP .

The output is in the input, shifted by one, and scored by `exact`: if every label is the most probable token given
the true ones before it, then greedy decoding writes the same output, and the other way round.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from tasks.forms import Classes
from tasks.item import IGNORE, Ints, Item
from tasks.probes import ProbeConfig, ProbedTask
from tasks.stream import Stream

ARROW, END, FIRST = 1, 2, 3  # 0 pads


class Translation(ProbedTask):
    """See the module. A subclass sets `words_in` and `words_out`, draws pairs, and translates a second time."""

    exact = True
    ordered = True
    words_in: ClassVar[tuple[str, ...]]
    words_out: ClassVar[tuple[str, ...]]
    classes: ClassVar[Mapping[str, Mapping[str, str]]] = {}  # of words that behave alike: word -> what it means
    config: ProbeConfig

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.words = ("", "=>", ".", *self.words_in, *self.words_out)
        self.vocab_size = len(self.words)
        first_out = FIRST + len(self.words_in)
        self._token_in = {word: FIRST + place for place, word in enumerate(self.words_in)}
        self._token_out = {word: first_out + place for place, word in enumerate(self.words_out)}

    @abstractmethod
    def pair(self, stream: Stream, split: str) -> tuple[str, str, dict[str, int | float]] | None:
        """Input, output and difficulty of a proposal; None is a failed one."""

    @abstractmethod
    def translate(self, source: Sequence[str]) -> list[str]:
        """The output by a second method. Raises ValueError where the input is not of the language."""

    @cached_property
    def _meaning(self) -> dict[str, tuple[str, str]]:
        return {word: (name, says) for name, words in self.classes.items() for word, says in words.items()}

    def _form(self, source: Sequence[str]) -> str:
        """The input with the words of a class numbered by first mention."""
        seen: dict[str, list[str]] = {}
        out = []
        for word in source:
            name, says = self._meaning.get(word, (word, ""))
            if says:
                known = seen.setdefault(name, [])
                if says not in known:
                    known.append(says)
                name += str(known.index(says))
            out.append(name)
        return " ".join(out)

    def form(self, item: Item) -> str:
        """See `ProbedTask.form`."""
        arrow = item.input_ids.tolist().index(ARROW)
        return self._form([self.words[token] for token in item.input_ids[:arrow].tolist()])

    def exchangeable(self) -> Classes:
        """See `ProbedTask.exchangeable`: a word of a class is what it is called in the input and in the output."""
        found = []
        for words in self.classes.values():
            called: dict[str, list[int]] = {}
            for word, says in words.items():
                called.setdefault(says, []).append(self._token_in[word])
            found.append([(*tokens, self._token_out[says]) for says, tokens in called.items()])
        return found

    def always_train(self, source: str) -> bool:
        """Whether an input belongs to training wherever its canonical form falls; evaluation then has none of it."""
        return False

    def generate(self, split: str, seed: int, index: int) -> Item:
        """See `Task.generate`. Inputs and labels [<= length_of(split)]."""
        self.level(split)
        stream = Stream(self.name, self.version, split, seed, index)
        taught = False

        def propose() -> Item | None:
            nonlocal taught
            drawn = self.pair(stream, split)
            if drawn is None:
                return None
            source, target, difficulty = drawn
            taught = self.always_train(source)
            if taught and split != "train":
                return None
            reading = [self._token_in[word] for word in source.split()]
            writing = [*(self._token_out[word] for word in target.split()), END]
            if len(reading) + len(writing) > self.length_of(split):
                return None
            return Item(
                input_ids=np.array([*reading, ARROW, *writing[:-1]], dtype=np.int64),
                labels=np.array([*[IGNORE] * len(reading), *writing], dtype=np.int64),
                difficulty=difficulty | {"written": len(writing)},
                canonical=self._form(source.split()),
                split_key=source,
            )

        if split == "train":
            item = propose()
            if item is not None and taught:
                return item
        return self.draw(split, propose)

    def check(self, item: Item) -> Ints:
        """See `Task.check`: the input, read up to the arrow, translated a second time."""
        arrow = item.input_ids.tolist().index(ARROW)
        target = self.translate([self.words[token] for token in item.input_ids[:arrow].tolist()])
        return np.array([*[IGNORE] * arrow, *(self._token_out[word] for word in target), END], dtype=np.int64)

    @property
    def end_id(self) -> int | None:
        """See `Task.end_id`."""
        return END

    def word(self, token: int) -> str:
        """See `Task.word`."""
        return self.words[token]

    def prompt(self, text: str) -> list[int]:
        """See `Task.prompt`: the words of the input, and the arrow behind them."""
        tokens = super().prompt(text)
        return tokens if ARROW in tokens else [*tokens, ARROW]

    def text(self, item: Item) -> str:
        """Input and output."""
        arrow = item.input_ids.tolist().index(ARROW)
        tokens = [*item.input_ids[: arrow + 1].tolist(), *item.labels[arrow:].tolist()]
        return " ".join(self.words[token] for token in tokens)
