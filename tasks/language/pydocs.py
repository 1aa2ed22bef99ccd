"""Byte-level modelling of the English prose that every CPython carries: the help topics of `pydoc`.

    input   BOS I f   a  ...
    label   I   f  _  t  ...

About half a million characters of real text without a file or a network. The text differs between Python
versions, so `fingerprint` is the hash of the text itself, and levels are measured when asked for.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pydoc_data.topics import topics

import numpy as np
from torch import Tensor

from tasks.base import Task, TaskCard, TaskConfig, require
from tasks.hub.texts import Text
from tasks.item import IGNORE, Ints, Item, mean_where
from tasks.shortcuts import Rule
from tasks.stream import Stream

BOS = 256
SHARED_PARAGRAPH = 60  # characters from which a paragraph in two topics is a quotation and not a commonplace


@dataclass(frozen=True, kw_only=True)
class PyDocsConfig(TaskConfig):
    """Sizes. `n_validation` and `n_test` are at most so many windows; 0 is the whole split.

    Raises ValueError when a window is too short to hold context, or longer than the text of a split.
    """

    length: int = 256
    n_validation: int = 64
    n_test: int = 0

    def __post_init__(self) -> None:
        for name in ("n_validation", "n_test"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)} is negative: use 0 (all) or more")
        require(self.batch_size >= 1, f"batch_size={self.batch_size} is too small: use 1 or more")
        shortest = min(len(text) for text in split_texts().values())
        require(2 <= self.length <= shortest, f"length={self.length} does not fit: use 2 to {shortest}")


@lru_cache(maxsize=1)
def split_groups() -> dict[str, list[list[str]]]:
    """The groups of topics of each split, about 80 : 10 : 10 by bytes.

    Going by the hash of their names, groups are dealt to test, then to validation, while they fit; train
    takes the rest.
    """
    groups = sorted(topic_groups(), key=lambda names: hashlib.sha256(names[0].encode()).digest())
    share = sum(len(text.encode()) for text in topics.values()) / 10
    parts: dict[str, list[list[str]]] = {"train": [], "validation": [], "test": []}
    used = {"test": 0, "validation": 0}
    for names in groups:
        size = sum(len(topics[name].encode()) for name in names)
        owner = next((split for split in used if used[split] + size <= share), "train")
        if owner in used:
            used[owner] += size
        parts[owner].append(names)
    return parts


@lru_cache(maxsize=1)
def split_texts() -> dict[str, bytes]:
    """The UTF-8 text of each split, its topics in the order of their names."""
    found = {split: sorted(chain.from_iterable(groups)) for split, groups in split_groups().items()}
    return {split: "\n\n".join(topics[name] for name in names).encode() for split, names in found.items()}


def topic_groups() -> list[list[str]]:
    """Names of topics, grouped so that no long paragraph is in two groups.

    Topics quote each other: "compound" is a chapter whose sections are the topics "if", "while", "try", ...
    Split by topic alone, most of a test topic could stand in train word for word.
    """
    group = {name: [name] for name in sorted(topics)}
    owner: dict[str, str] = {}
    for name in sorted(topics):
        for paragraph in topics[name].split("\n\n"):
            words = " ".join(paragraph.split())
            if len(words) < SHARED_PARAGRAPH:
                continue
            first = owner.setdefault(words, name)
            if group[first] is not group[name]:
                group[first] += group[name]
                for member in group[name]:
                    group[member] = group[first]
    return [names for names in {id(names): sorted(names) for names in group.values()}.values()]


class PyDocs(Task):
    """The task `language/pydocs`, see the module. Keyword arguments: the fields of `PyDocsConfig`."""

    name = "pydocs"
    version = 1
    Config = PyDocsConfig
    config: PyDocsConfig
    ordered = True
    vocab_size = 257

    @property
    def splits(self) -> dict[str, int]:
        """Windows of each evaluation split; the last one may be shorter."""
        wanted = {"validation": self.config.n_validation, "test/id": self.config.n_test}
        windows = {split: -(-len(self._bytes(split)) // self.length) for split in wanted}
        return {split: min(n or windows[split], windows[split]) for split, n in wanted.items()}

    @cached_property
    def texts(self) -> dict[str, Text]:
        """The text of each part; a document is a group of topics."""
        return {part: Text(raw, len(split_groups()[part])) for part, raw in split_texts().items()}

    def _bytes(self, split: str) -> bytes:
        if split not in ("train", "validation", "test/id"):
            raise ValueError(f"task pydocs: unknown split '{split}'; splits: train, validation, test/id")
        return split_texts()[split.partition("/")[0]]

    def generate(self, split: str, seed: int, index: int) -> Item:
        """A window [<= length]: at a random place of the train text, or one of the evaluation text's."""
        text = self._bytes(split)
        if split == "train":
            start = Stream(self.name, self.version, split, seed, index).below(len(text) - self.length + 1)
        else:
            # Spread evenly, so that a part of the windows stands for the whole text.
            windows = -(-len(text) // self.length)
            start = (index * windows // self.splits[split]) * self.length
        window = np.frombuffer(text[start : start + self.length], dtype=np.uint8).astype(np.int64)
        return Item(
            input_ids=np.concatenate([[BOS], window[:-1]]).astype(np.int64),
            labels=window,
            difficulty={"start": start, "bytes": len(window)},
            canonical=f"{split.partition('/')[0]}:{start}",
        )

    def check(self, item: Item) -> Ints:
        """The inputs shifted by one, and the last byte looked up where this text occurs in a split.

        Raises ValueError when the window is not in any split, or begins without BOS.
        """
        head = bytes(item.input_ids[1:].tolist())
        if item.input_ids[0] != BOS:
            raise ValueError("task pydocs: an item does not begin with BOS")
        for text in split_texts().values():
            place = text.find(head)
            while place >= 0:
                last = text[place + len(head) : place + len(head) + 1]
                if last and last[0] == item.labels[-1]:
                    return np.array([*head, *last], dtype=np.int64)
                place = text.find(head, place + 1)
        raise ValueError("task pydocs: the text of an item occurs in no split")

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the text of every split and the window's length."""
        digest = hashlib.sha256(f"{self.name} {self.version} {self.length} {self.splits}".encode())
        for split, text in split_texts().items():
            digest.update(f"{split} {len(text)} ".encode() + text)
        return digest.hexdigest()

    def score(
        self, labels_Bn: Tensor, pred_Bn: Tensor, nll_Bn: Tensor, input_ids_Bn: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Bits per byte [B] and, as weight, the bytes: `aggregate` then gives those of the whole text."""
        scored_Bn = labels_Bn != IGNORE
        return {
            "bits_per_byte": mean_where(nll_Bn / math.log(2), scored_Bn),
            "weight": scored_Bn.sum(dim=1).float(),
        }

    @cached_property
    def all_rules(self) -> dict[str, Rule]:
        """Bits per byte of models that only count: single bytes, and pairs of bytes (add-one smoothed)."""
        train = np.frombuffer(split_texts()["train"], dtype=np.uint8)
        pairs = np.ones((257, 256))
        np.add.at(pairs, (train[:-1], train[1:]), 1)
        singles = np.bincount(train, minlength=256) + 1
        bits_single = -np.log2(singles / singles.sum())
        bits_pair = -np.log2(pairs / pairs.sum(axis=1, keepdims=True))
        return {
            "unigram": lambda item: float(bits_single[item.labels].mean()),
            "bigram": lambda item: float(bits_pair[item.input_ids, item.labels].mean()),
        }

    @property
    def chance(self) -> dict[str, float]:
        """Bits per byte of the train text's byte frequencies."""
        return {split: level["unigram"] for split, level in self.levels.items()}

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        sizes = {split: len(text) for split, text in split_texts().items()}
        return TaskCard(
            summary="Next byte of the English prose of Python's own help topics",
            family="language",
            train=f"random windows of {self.length} bytes from {sizes['train']} bytes: so few that small networks need "
            "more bits than a counter with 4 bytes of context, so that it shows that a path works and cannot say which "
            "model reads better (task=pycode)",
            in_distribution=f"{sizes['test']} bytes of other topics (validation: {sizes['validation']})",
            metric="bits_per_byte",
            higher_is_better=False,
            unit="bits per byte",
            looping="does not help, and may cost: what counts here is width and memory, not depth",
            licence="PSF-2.0 (text of the Python documentation, read from the running interpreter)",
            citation="Python Software Foundation, pydoc_data.topics",
        )

    def text(self, item: Item) -> str:
        """The window as text."""
        return bytes(item.labels.tolist()).decode(errors="replace")

    def prompt(self, text: str) -> list[int]:
        """See `Task.prompt`: BOS and the bytes."""
        return [BOS, *text.encode()]

    def written(self, tokens: Sequence[int]) -> str:
        """See `Task.written`."""
        return bytes(token for token in tokens if token != BOS).decode(errors="replace")

    def word(self, token: int) -> str:
        """See `Task.word`."""
        return "^" if token == BOS else chr(token)
