"""The rows of an example task: read, dealt to splits, turned into ids; what does not fit is counted."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from tasks.base import Task, TaskConfig, require
from tasks.hub.files import DataError, Row, Skip
from tasks.hub.report import Report
from tasks.hub.source import Opened, Place, Source, open_splits, place_of
from tasks.hub.validation_split import owner_of
from tasks.hub.vocabulary import Bytes, Vocabulary, Words, learned_bpe
from tasks.item import Ints


@dataclass(frozen=True, kw_only=True)
class ExamplesConfig(TaskConfig):
    """Sizes. `n_train`, `n_validation`, `n_test`: at most so many rows, chosen by their hash; 0 is all.

    path: the folder of the data; empty: where `tasks.hub.source` looks.
    subset: the hub's configuration name.
    tokenizer: words | bytes | bpe (with at most `bpe_vocab` ids); the last is trained on the training part.
    ood_length: length of the splits test/ood...; 0: `length`.
    """

    places: ClassVar[tuple[str, ...]] = ("path", "download")

    length: int = 128
    n_train: int = 0
    n_validation: int = 256
    n_test: int = 0
    path: str = ""
    download: bool = False
    subset: str = ""
    tokenizer: str = "words"
    bpe_vocab: int = 1024
    ood_length: int = 0

    def __post_init__(self) -> None:
        for name in ("n_train", "n_validation", "n_test", "ood_length"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)} is negative: use 0 (all) or more")
        require(self.batch_size >= 1, f"batch_size={self.batch_size} is too small: use 1 or more")
        require(self.length >= 4, f"length={self.length} is too small: use 4 or more")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A prompt and its answer. `key` names what must not be in two splits; `info` is for the task itself."""

    prompt: str
    answer: str
    key: str
    place: str
    part: str = ""  # the split, where the row itself tells it
    difficulty: dict[str, int | float] = field(default_factory=dict)
    info: Any = None


class Encoded(NamedTuple):
    """An example as ids."""

    prompt: Ints
    answer: Ints
    example: Example


class ExampleData(Task):
    """The part of an example task that holds the rows; a subclass says how a row becomes examples."""

    config: ExamplesConfig
    source: ClassVar[Source]
    one_word: ClassVar[bool] = False
    subsets: ClassVar[tuple[str, ...]] = ()  # empty: any
    outside: ClassVar[dict[str, str]] = {}  # what the splits test/ood... are

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.place: Place = place_of(self.name, self.config, free=not self.subsets)

    @abstractmethod
    def examples(self, row: Row) -> Iterator[Example]:
        """The examples of a row. Raises DataError on a bad row, Skip on one that the field leaves out."""

    @property
    def roles(self) -> dict[str, str]:
        """Our splits and the data set's they are read from; what is missing of the first three is cut out of train."""
        return {"train": "train", "validation": "validation", "test/id": "test"}

    @property
    def _names(self) -> list[str]:
        tests = [*self.roles, *self.outside]
        return ["train", "validation", "test/id", *dict.fromkeys(n for n in tests if n.startswith("test/ood"))]

    @cached_property
    def report(self) -> Report:
        """What was read and what was left out; filled while the data are loaded."""
        return Report(self.name)

    @cached_property
    def opened(self) -> Opened:
        """The splits of the data set, their files and the folder they lie in. Raises DataError."""
        return open_splits(self.source, self.place)

    @cached_property
    def _read(self) -> dict[str, list[Example]]:
        """The examples of each of our splits, in the order of the hash of their keys where they are cut."""
        rows = self.opened.rows
        self.report.files = self.opened.files
        carved = [part for part in ("validation", "test/id") if part not in self.roles]
        found: dict[str, list[Example]] = {part: [] for part in self._names}
        for part, split in self.roles.items():
            for row in rows[split]():
                try:
                    examples = list(self.examples(row))
                except Skip as reason:
                    self.report.skip(part, str(reason))
                    continue
                for example in examples:
                    owner = owner_of(example.key, carved) if part == "train" else example.part or part
                    found[owner].append(example)
        for part, examples in found.items():
            limit = self._limit(part)
            if limit and limit < len(examples):
                found[part] = sorted(examples, key=lambda e: _digest(e.key + "\x1f" + e.prompt))[:limit]
        return found

    def _limit(self, part: str) -> int:
        c = self.config
        return {"train": c.n_train, "validation": c.n_validation}.get(part, c.n_test)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Bytes, or what is learned from the training part; behind its ids stand SEP and END."""
        train = self._read["train"]
        texts = [text for example in train for text in (example.prompt, example.answer)]
        if self.config.tokenizer == "words":
            return Words(word for text in texts for word in text.split())
        if self.config.tokenizer == "bytes":
            return Bytes()
        return learned_bpe(self.name, texts, self.config.bpe_vocab, _digest("\x1e".join(texts)))

    @cached_property
    def vocab_size(self) -> int:  # type: ignore[override]
        """Ids of the vocabulary, SEP and END."""
        return self.vocabulary.size + 2

    @cached_property
    def parts(self) -> dict[str, list[Encoded]]:
        """The examples of each split that fit, as ids. Raises DataError when none is left in a split."""
        found: dict[str, list[Encoded]] = {}
        for part, examples in self._read.items():
            found[part] = [done for done in self.encode(part, examples) if done is not None]
            self.report.kept[part] = len(found[part])
            if not found[part]:
                raise DataError(f"task {self.name}: split '{part}' is empty: {self.report.line(part)}")
        train = {done.example.key for done in found["train"]}
        for part in self._names[2:]:
            shared = sum(done.example.key in train for done in found[part])
            self.report.overlap[part] = (shared, len(found[part]))
        for part, kept in found.items():
            once = {(done.prompt.tobytes(), done.answer.tobytes()) for done in kept}
            self.report.doubles[part] = len(kept) - len(once)
        self.report.print()
        return found

    def encode(self, part: str, examples: Sequence[Example]) -> Iterator[Encoded | None]:
        """Each example as ids, or None where it does not fit into the split's length (counted)."""
        prompts = self.vocabulary.encode([example.prompt for example in examples])
        answers = self.vocabulary.encode([example.answer for example in examples])
        for example, prompt, answer in zip(examples, prompts, answers, strict=True):
            yield self.fitted(part, example, prompt, answer)

    def fitted(self, part: str, example: Example, prompt: Ints, answer: Ints) -> Encoded | None:
        """The example, or None, counted, when it is too long. Unknown words are counted.

        Raises DataError when the answer is empty, or no single word where it must be one.
        """
        if not len(answer) or (self.one_word and len(answer) != 1):
            what = "one word" if self.one_word else "a text"
            raise DataError(f"{example.place}: the answer must be {what}, found {example.answer!r:.60}")
        length = self.length_of(part)
        if len(prompt) + len(answer) + 1 > length:
            self.report.skip(part, f"longer than length={length}")
            return None
        if isinstance(self.vocabulary, Words):
            if 0 in answer:
                self.report.note(part, "answers with a word that train lacks (kept: counted as wrong)")
            if 0 in prompt:
                self.report.note(part, "prompts with a word that train lacks (kept)")
        return Encoded(prompt, answer, example)

    def length_of(self, split: str) -> int:
        """`length`, or `ood_length` for the splits test/ood..."""
        return (self.config.ood_length or self.length) if split.startswith("test/ood") else self.length


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
