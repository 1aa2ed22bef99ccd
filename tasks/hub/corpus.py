"""Language modelling of real text: windows of a token stream, scored in bits per byte of the text.

    input   END t0  t1  ...
    label   t0  t1  t2  ...

Documents stand one after the other, each closed by END. The loss of every label counts, END's too; it is divided by
the bytes of the text that the labels stand for, so that vocabularies compare. B batch, n length, V vocabulary.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tasks.base import TaskCard
from tasks.hub.report import files_read
from tasks.hub.texts import CLOSED, LINE_SHOWN, CorpusData
from tasks.item import IGNORE, Ints, Item
from tasks.shortcuts import Rule
from tasks.stream import Stream

LONG = {
    "test/id": 1.0,
    "test/len_eighth": 0.125,
    "test/len_quarter": 0.25,
    "test/len_half": 0.5,
    "test/len_2x": 2.0,
    "test/len_4x": 4.0,
}
LONGEST = 4
COUNTED_BYTES = 20_000_000  # of train, for the byte statistics


class Corpus(CorpusData):
    """A language modelling task over real text; a subclass says where its documents come from."""

    version = 1
    ordered = True
    about: ClassVar[dict[str, str]]  # summary, licence, citation

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.max_length = self.length * (LONGEST if self.config.long_context else 1)

    @property
    def _tests(self) -> dict[str, float]:
        return LONG if self.config.long_context else {"test/id": 1.0}

    @property
    def splits(self) -> dict[str, int]:
        """Windows of each evaluation split; the last one may be shorter."""
        return {split: self._windows(split)[0] for split in ("validation", *self._tests)}

    def length_of(self, split: str) -> int:
        """The window of a split: `length`, or its multiple."""
        return round(self.length * self._tests.get(split, 1.0))

    def _windows(self, split: str) -> tuple[int, int, int]:
        """Number of windows of a split, and, in windows of a block, of blocks in the text: see `_start`."""
        block, window = self._block, self.length_of(split)
        size = len(self.streams[split.partition("/")[0]])
        total = -(-size // block)
        asked = self.config.n_validation if split == "validation" else self.config.n_test
        wanted = min(total, max(1, asked * self.length // block)) if asked else total
        if wanted < total:
            return wanted * (block // window), wanted, total
        return (total - 1) * (block // window) + -(-(size - (total - 1) * block) // window), wanted, total

    @property
    def _block(self) -> int:
        """Text is taken in blocks of the longest window, so that every length is scored on the same text."""
        return self.length * (LONGEST if self.config.long_context else 1)

    def _start(self, split: str, index: int) -> int:
        """Where a window starts: blocks are spread evenly, so that a part of them stands for the whole text."""
        _, wanted, total = self._windows(split)
        per_block = self._block // self.length_of(split)
        return (index // per_block * total // wanted) * self._block + index % per_block * self.length_of(split)

    def generate(self, split: str, seed: int, index: int) -> Item:
        """A window [<= length_of(split)]: at a random place of the train text, or one of the evaluation text's."""
        if split != "train" and split not in ("validation", *self._tests):
            raise ValueError(f"task {self.name}: unknown split '{split}'; splits: train, {', '.join(self.splits)}")
        stream = self.streams[split.partition("/")[0]]
        if split == "train":
            key = Stream(self.name, self.version, split, seed, index)
            start = key.below(len(stream) - self.length + 1)
        else:
            start = self._start(split, index)
        window = np.array(stream[start : start + self.length_of(split)], dtype=np.int64)
        size = int(self.byte_lengths[window].sum())
        return Item(
            input_ids=np.concatenate([[self.vocabulary.size], window[:-1]]).astype(np.int64),
            labels=window,
            difficulty={"start": start, "bytes": size},
            canonical=f"{split.partition('/')[0]}:{start}",
        )

    def _bytes(self, ids: Ints) -> bytes:
        """The bytes of some ids, END as CLOSED."""
        ends = np.flatnonzero(ids == self.vocabulary.size)
        pieces = [self.vocabulary.raw(part[part != self.vocabulary.size].tolist()) for part in np.split(ids, ends)]
        return CLOSED.join(pieces)

    def check(self, item: Item) -> Ints:
        """The inputs shifted by one, and the last id, if the bytes of both occur so in the text of a split.

        Raises ValueError when they occur in no split, or when the item does not begin with END.
        """
        if item.input_ids[0] != self.vocabulary.size:
            raise ValueError(f"task {self.name}: an item does not begin with END")
        head = self._bytes(item.input_ids[1:])
        for text in self.texts.values():
            place = text.raw.find(head)
            while place >= 0:
                rest = text.raw[place + len(head) : place + len(head) + 256]
                last = self._first_id(rest, int(item.labels[-1]))
                if last is not None:
                    return np.append(item.input_ids[1:], last)
                place = text.raw.find(head, place + 1)
        raise ValueError(f"task {self.name}: the text of an item occurs in no split")

    def _first_id(self, rest: bytes, label: int) -> int | None:
        """The label, if the bytes that follow the window's begin with its bytes."""
        if not 0 <= label < self.vocab_size:
            return None
        return label if rest.startswith(self._bytes(np.array([label]))) else None

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the text of every part, the tokenizer and the windows; no file's name or date."""
        spec = (self.name, self.version, self.length, self.splits, self.content, self.vocabulary.name)
        return hashlib.sha256(repr(spec).encode()).hexdigest()

    def score(
        self, labels_Bn: Tensor, pred_Bn: Tensor, nll_Bn: Tensor, input_ids_Bn: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Bits per byte [B] (NaN without a byte), the bytes as weight; bits and bytes by position in the window."""
        bits_Bn = torch.where(labels_Bn == IGNORE, 0.0, nll_Bn.double() / math.log(2))
        bytes_Bn = torch.where(labels_Bn == IGNORE, 0, torch.from_numpy(self.byte_lengths)[labels_Bn.clamp(min=0)])
        size_B = bytes_Bn.sum(dim=1)
        per_byte_B = torch.where(size_B > 0, bits_Bn.sum(dim=1) / size_B.clamp(min=1), float("nan"))
        found = {"bits_per_byte": per_byte_B, "weight": size_B.float()}
        edges = [0, *(max(1, self.length // 8) * 2**k for k in range(6))]
        length = labels_Bn.shape[1]
        for low, high in pairwise([*(edge for edge in edges if edge < length), length]):
            found[f"bits/at{low}-{high - 1}"] = bits_Bn[:, low:high].sum(dim=1)
            found[f"weight/at{low}-{high - 1}"] = bytes_Bn[:, low:high].sum(dim=1).float()
        return found

    def aggregate(self, scores: Mapping[str, Tensor]) -> dict[str, float]:
        """All bits over all bytes: of the split, and of each range of positions."""
        ranges = [key.removeprefix("bits/") for key in scores if key.startswith("bits/")]
        bits = {key: float(scores[f"bits/{key}"].double().sum()) for key in ranges}
        sizes = {key: float(scores[f"weight/{key}"].double().sum()) for key in ranges}
        totals = {f"bits_per_byte/{key}": bits[key] / sizes[key] if sizes[key] else math.nan for key in ranges}
        whole = float(sum(sizes.values()))
        return {"bits_per_byte": sum(bits.values()) / whole if whole else math.nan} | totals

    @cached_property
    def all_rules(self) -> dict[str, Rule]:
        """Bits per byte of models that only count bytes, whatever the tokenizer: singles, pairs (add one)."""
        raw = np.frombuffer(self.texts["train"].raw[:COUNTED_BYTES], dtype=np.uint8)
        pairs = np.ones((256, 256))
        np.add.at(pairs, (raw[:-1], raw[1:]), 1)
        singles = np.bincount(raw, minlength=256) + 1
        bits_single = -np.log2(singles / singles.sum())
        bits_pair = -np.log2(pairs / pairs.sum(axis=1, keepdims=True))

        def codes(item: Item) -> Ints:
            return np.frombuffer(self._bytes(item.labels), dtype=np.uint8).astype(np.int64)

        def per_byte(bits: Any, item: Item) -> float:
            return float(bits.sum() / max(1, int(self.byte_lengths[item.labels].sum())))

        return {
            "unigram": lambda item: per_byte(bits_single[codes(item)], item),
            "bigram": lambda item: per_byte(bits_pair[np.append(CLOSED[0], codes(item)[:-1]), codes(item)], item),
        }

    @property
    def chance(self) -> dict[str, float]:
        """Bits per byte of the train text's byte frequencies."""
        return {split: level["unigram"] for split, level in self.levels.items()}

    def describe(self) -> TaskCard:
        """See `Task.describe`; sizes are in `card`, as they need the data."""
        return TaskCard(
            summary=self.about["summary"],
            family="language",
            train=f"random windows of {self.length} tokens ({self.config.tokenizer})",
            in_distribution="the whole test text, or windows spread over it, each token once",
            out_of_distribution={
                split: f"the same text in windows of {self.length_of(split)} tokens"
                for split in self._tests
                if split != "test/id"
            },
            metric="bits_per_byte",
            higher_is_better=False,
            unit="bits per byte",
            looping="does not help, and may cost: what counts here is width and memory, not depth",
            licence=self.about["licence"],
            citation=self.about["citation"],
        )

    @cached_property
    def card(self) -> TaskCard:
        """The card with sizes, overlap and measured levels."""
        card = replace(self.describe(), chance=self.chance, shortcuts=self.levels["test/id"])
        sizes = {
            part: ", ".join([f"{len(text.raw) - text.documents} bytes in {text.documents} documents", *text.notes])
            for part, text in self.texts.items()
        }
        shared, lines = self.overlap
        found = f"{shared} of {lines} different test lines of {LINE_SHOWN} bytes or more stand in train, too"
        return replace(
            card,
            train=f"{card.train}; {sizes['train']}; {files_read(self.files)}",
            in_distribution=f"{card.in_distribution}; {sizes['test']} (validation: {sizes['validation']}); {found}",
        )

    def text(self, item: Item) -> str:
        """The window as text, document ends as a line of their own."""
        return self.written(item.labels.tolist())

    def word(self, token: int) -> str:
        """See `Task.word`."""
        return "^" if token == self.vocabulary.size else self.vocabulary.raw([token]).decode("latin-1")

    def prompt(self, text: str) -> list[int]:
        """See `Task.prompt`: the ids of the text, after the end of the document before."""
        return [self.vocabulary.size, *self.vocabulary.encode([text])[0].tolist()]

    def written(self, tokens: Sequence[int]) -> str:
        """See `Task.written`."""
        return self._bytes(np.array(tokens, dtype=np.int64)).replace(CLOSED, b"\n<end>\n").decode(errors="replace")
