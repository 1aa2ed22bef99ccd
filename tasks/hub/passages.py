"""Questions about passages, the answer written out: HotpotQA and its kin.

    TITLE \\n sentences \\n\\n ... Question: ... SEP answer END

Where the passages do not fit into `length`, those that the answer needs stay, and of the others, in their order, each
that still fits; nothing changes its place. That uses knowledge of which ones are needed, and makes an item easier than
the original: the card counts such items, and figures with them must not be set beside published ones.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from tasks.base import require
from tasks.hub.examples import ExampleTask
from tasks.hub.rows import Encoded, Example, ExamplesConfig
from tasks.item import Item
from tasks.qa.answers import Fact, exact_match, f1

OVERFLOW = ("distractors", "skip")


@dataclass(frozen=True, kw_only=True)
class PassagesConfig(ExamplesConfig):
    """See `ExamplesConfig`.

    answer_tokens: longest answer, in ids; longer ones are left out (counted), and decoding stops there.
    overflow: distractors = leave passages out that the answer does not need; skip = leave the item out.
    n_decoded: at most so many items of a test split are answered by greedy decoding; 0 is all.
    """

    length: int = 512
    batch_size: int = 8
    n_validation: int = 64
    tokenizer: str = "bpe"
    bpe_vocab: int = 2048
    answer_tokens: int = 16
    overflow: str = "distractors"
    n_decoded: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.answer_tokens >= 1, f"answer_tokens={self.answer_tokens} is too small: use 1 or more")
        require(self.n_decoded >= 0, f"n_decoded={self.n_decoded} is negative: use 0 (all) or more")
        require(self.overflow in OVERFLOW, f"overflow={self.overflow!r} is unknown: use {' or '.join(OVERFLOW)}")


class Passage(NamedTuple):
    """Title and text, as they stand in the prompt, and whether the answer needs it."""

    title: str
    text: str
    needed: bool

    @property
    def prompt(self) -> str:
        """The passage in the prompt."""
        return f"{self.title}\n{self.text}\n\n"


class Question(NamedTuple):
    """What an example of these tasks carries along: passages, accepted answers, supporting facts."""

    passages: list[Passage]
    question: str
    golds: list[str]
    facts: frozenset[Fact]


class PassageTask(ExampleTask):
    """Answer generation over passages; a subclass reads the rows."""

    config: PassagesConfig
    ordered = False
    tokenizers = ("bpe", "bytes")
    closed_answers: ClassVar[bool] = True  # yes and no match only themselves in F1

    @property
    def roles(self) -> dict[str, str]:
        """The labelled validation part is our test; validation is cut out of train. See `ExampleTask.roles`."""
        return {"train": "train", "test/id": "validation"}

    @abstractmethod
    def question(self, values: dict[str, Any], place: str) -> tuple[Question, str, dict[str, int | float]]:
        """The question of a row, its answer and its difficulty. Raises DataError, Skip."""

    def examples(self, row: Any) -> Iterator[Example]:
        """One example a row."""
        asked, answer, difficulty = self.question(row.values, row.place)
        prompt = "".join(passage.prompt for passage in asked.passages) + asked.question
        key = self.canonical(asked)
        yield Example(prompt=prompt, answer=answer, key=key, place=row.place, difficulty=difficulty, info=asked)

    def canonical(self, asked: Question) -> str:
        """What must not be in two splits: the question."""
        return " ".join(asked.question.split())

    def encode(self, part: str, examples: Sequence[Example]) -> Iterator[Encoded | None]:
        """See `ExampleTask.encode`; passages are encoded one by one, so that some can be left out."""
        for example in examples:
            asked: Question = example.info
            texts = [passage.prompt for passage in asked.passages]
            *passages, question, answer = self.vocabulary.encode(
                [*texts, f"Question: {asked.question.strip()}", example.answer]
            )
            if len(answer) > self.config.answer_tokens:
                self.report.skip(part, f"with an answer longer than answer_tokens={self.config.answer_tokens}")
                yield None
                continue
            room = self.length_of(part) - self.config.answer_tokens - 1 - len(question)
            kept = self._kept(asked.passages, [len(ids) for ids in passages], room)
            if kept is None:
                self.report.skip(part, f"longer than length={self.length_of(part)}")
                yield None
                continue
            if len(kept) < len(passages):
                self.report.note(part, "with passages left out that the answer does not need")
            prompt = np.concatenate([*(passages[number] for number in kept), question])
            yield self.fitted(part, example, prompt, answer)

    def _kept(self, passages: Sequence[Passage], sizes: Sequence[int], room: int) -> list[int] | None:
        """Numbers of the passages that stay, or None where those that must do not fit."""
        if sum(sizes) <= room:
            return list(range(len(passages)))
        needed = [number for number, passage in enumerate(passages) if passage.needed]
        left = room - sum(sizes[number] for number in needed)
        if self.config.overflow == "skip" or left < 0:
            return None
        kept = set(needed)
        for number, size in enumerate(sizes):
            if number not in kept and size <= left:
                kept.add(number)
                left -= size
        return sorted(kept)

    def decoded(self, split: str, predict: Callable[[dict[str, Tensor]], Tensor]) -> dict[str, float]:
        """answer_em and answer_f1: official scores of what greedy decoding writes, up to `answer_tokens` ids."""
        rows = self.parts[split][: self.config.n_decoded or None]
        said = self.answered(split, rows, predict, self.config.answer_tokens)
        scores = [self.judge(text, done.example.info) for text, done in zip(said, rows, strict=True)]
        return {key: float(np.mean([score[key] for score in scores])) for key in scores[0]}

    def judge(self, answer: str, asked: Question) -> dict[str, float]:
        """Official exact match and F1 of an answer."""
        return {
            "answer_em": exact_match(answer, asked.golds),
            "answer_f1": f1(answer, asked.golds, closed=self.closed_answers),
        }

    def rules(self) -> dict[str, Callable[[Item], float]]:
        """The title of the first passage; the title of any passage, at its chance."""
        titles = self._titles

        def first(item: Item) -> float:
            prompt, answer = self.read(item)
            return float(prompt.split("\n", 1)[0] == answer)

        def some(item: Item) -> float:
            prompt, answer = self.read(item)
            found = [title for title in titles.get(prompt.rpartition("Question: ")[2], []) if f"{title}\n" in prompt]
            return found.count(answer) / len(found) if found else 0.0

        return {"first_title": first, "some_title": some}

    @cached_property
    def _titles(self) -> dict[str, list[str]]:
        return {
            done.example.info.question.strip(): [passage.title for passage in done.example.info.passages]
            for rows in self.parts.values()
            for done in rows
        }
