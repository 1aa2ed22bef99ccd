"""The text of a corpus task: its three parts, their bytes, its vocabulary and its ids, the last two cached on disk."""

from __future__ import annotations

import hashlib
import sys
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.base import Task, TaskConfig, require
from tasks.hub.cache import cached
from tasks.hub.files import DataError
from tasks.hub.report import files_read
from tasks.hub.source import Place, place_of
from tasks.hub.vocabulary import BPE, Bytes, learned_bpe
from tasks.item import Ints

PARTS = ("train", "validation", "test")
TOKENIZERS = ("bytes", "bpe")
CLOSED = b"\xff"  # closes a document in the raw bytes: no UTF-8 text has this byte
LINE_SHOWN = 60  # characters from which a line in two splits is an overlap and not a commonplace


@dataclass(frozen=True, kw_only=True)
class CorpusConfig(TaskConfig):
    """Sizes. `n_validation` and `n_test`: at most so many windows of `length`; 0 is all. `train_bytes`: likewise.

    path: the folder of the data; empty: where `tasks.hub.source` looks.
    tokenizer: bytes | bpe, trained on the training text with at most `bpe_vocab` ids.
    long_context: more test splits, with windows of 1/8, 1/4, 1/2, 2 and 4 lengths over the same text.
    """

    places: ClassVar[tuple[str, ...]] = ("path", "download")

    length: int = 256
    n_validation: int = 64
    n_test: int = 0
    path: str = ""
    download: bool = False
    tokenizer: str = "bytes"
    bpe_vocab: int = 1024
    train_bytes: int = 0
    long_context: bool = False

    def __post_init__(self) -> None:
        for name in ("n_validation", "n_test", "train_bytes"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)} is negative: use 0 (all) or more")
        require(self.batch_size >= 1, f"batch_size={self.batch_size} is too small: use 1 or more")
        require(self.length >= 2, f"length={self.length} is too small: use 2 or more")
        require(
            self.length % 8 == 0 or not self.long_context,
            f"length={self.length}: use a multiple of 8 with long_context=true",
        )
        require(self.tokenizer in TOKENIZERS, f"tokenizer={self.tokenizer!r} is unknown: use {' or '.join(TOKENIZERS)}")


class Text(NamedTuple):
    """One part of a corpus: UTF-8 with CLOSED after each document, and what was left out of it."""

    raw: bytes
    documents: int
    notes: tuple[str, ...] = ()


class CorpusData(Task):
    """The part of a corpus task that holds the text; a subclass says where its documents come from."""

    config: CorpusConfig

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.place: Place = place_of(self.name, self.config)
        self.files: dict[str, list[str]] = {}  # by split of the data set, once they are read

    @abstractmethod
    def documents(self) -> Mapping[str, Iterable[str]]:
        """The documents of train, validation and test. Raises DataError, also while they are iterated."""

    @cached_property
    def texts(self) -> dict[str, Text]:
        """The three parts. Raises DataError when one is empty."""
        found = self.documents()
        texts = {part: self._text(part, found[part]) for part in PARTS}
        for part, text in texts.items():
            for note in text.notes:
                print(f"task {self.name}: {part}: {note}", file=sys.stderr)
        return texts

    def _text(self, part: str, documents: Iterable[str]) -> Text:
        limit = self.config.train_bytes if part == "train" else 0
        pieces: list[bytes] = []
        size = empty = 0
        cut = False
        seen: set[bytes] = set()
        doubles = 0
        for document in documents:
            data = document.encode()
            if limit and size + len(data) > limit:
                # Cut where a character begins.
                data = data[: limit - size].decode(errors="ignore").encode()
                cut = True
            if not data:
                empty += 1
            else:
                digest = hashlib.sha256(data).digest()
                doubles += digest in seen
                seen.add(digest)
                pieces.append(data + CLOSED)
                size += len(data)
            if cut:
                break
        if not pieces:
            read = files_read(self.files)
            raise DataError(f"task {self.name}: split '{part}' is empty: {empty} documents, no text; {read}")
        raw = b"".join(pieces)
        twice = _lines_twice(raw) if len(pieces) == 1 else 0
        told = {
            f"the first {limit} bytes": cut,
            f"{empty} empty documents left out": empty,
            f"{doubles} documents stand there more than once (kept)": doubles,
            f"{twice} lines of {LINE_SHOWN} bytes or more stand there more than once (kept)": twice,
        }
        return Text(raw, len(pieces), (*(note for note, count in told.items() if count), *self.remarks(part, raw)))

    def remarks(self, part: str, raw: bytes) -> tuple[str, ...]:
        """More to say of the text of a part."""
        return ()

    @cached_property
    def content(self) -> dict[str, str]:
        """SHA-256 (hex) of the text of each part."""
        return {part: hashlib.sha256(text.raw).hexdigest() for part, text in self.texts.items()}

    @cached_property
    def vocabulary(self) -> Bytes | BPE:
        """The tokenizer; the id after its last one is END."""
        if self.config.tokenizer == "bytes":
            return Bytes()
        train = _documents(self.texts["train"].raw)
        return learned_bpe(self.name, train, self.config.bpe_vocab, self.content["train"])

    @cached_property
    def vocab_size(self) -> int:  # type: ignore[override]
        """Ids of the tokenizer, and END."""
        return self.vocabulary.size + 1

    @cached_property
    def streams(self) -> dict[str, NDArray[np.int32]]:
        """The ids of each part. Raises DataError when one has no window."""
        if self.config.tokenizer == "bytes":
            ids = {part: np.frombuffer(text.raw, dtype=np.uint8).astype(np.int32) for part, text in self.texts.items()}
            for stream in ids.values():
                stream[stream == CLOSED[0]] = self.vocabulary.size
        else:
            ids = self._bpe_streams()
        for part, stream in ids.items():
            if len(stream) < self.length:
                raise DataError(
                    f"task {self.name}: split '{part}' has {len(stream)} tokens, less than length={self.length}; "
                    "lower task.length or bring more text"
                )
        return ids

    def _bpe_streams(self) -> dict[str, NDArray[np.int32]]:
        """The ids of each part, from the cache: encoding takes a second or two per megabyte."""
        vocabulary = self.vocabulary

        def make(folder: Path) -> None:
            for part, text in self.texts.items():
                end = np.array([vocabulary.size], dtype=np.int32)
                pieces = [piece for ids in vocabulary.encode(_documents(text.raw)) for piece in (ids, end)]
                np.save(folder / f"{part}.npy", np.concatenate(pieces).astype(np.int32))

        folder = cached({"kind": "tokens 1", "content": self.content, "tokenizer": vocabulary.name}, make)
        return {part: np.load(folder / f"{part}.npy", mmap_mode="r") for part in PARTS}

    @cached_property
    def byte_lengths(self) -> Ints:
        """Bytes of text that each id stands for [V]; END stands for none."""
        return np.append(self.vocabulary.lengths, 0)

    @cached_property
    def overlap(self) -> tuple[int, int]:
        """Different test lines of LINE_SHOWN characters or more that are in train, too, and all such lines."""
        train, test = (
            {line for line in self.texts[part].raw.split(b"\n") if len(line) >= LINE_SHOWN}
            for part in ("train", "test")
        )
        return len(train & test), len(test)


def _lines_twice(raw: bytes) -> int:
    """Long lines of one document that stand there before."""
    lines = [hash(line) for line in raw.split(b"\n") if len(line) >= LINE_SHOWN]
    return len(lines) - len(set(lines))


def _documents(raw: bytes) -> list[str]:
    return [document.decode() for document in raw.split(CLOSED)[:-1]]
