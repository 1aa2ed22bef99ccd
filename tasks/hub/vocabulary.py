"""From text to ids and back: bytes, a byte-level BPE (Sennrich et al., arXiv 1508.07909), or whole words.

Every id of the first two stands for a known string of bytes, so that a loss over ids is a loss over bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tasks.base import require
from tasks.hub.cache import cached
from tasks.hub.files import DataError
from tasks.item import Ints

SMALLEST_BPE = 256  # the bytes themselves
UNKNOWN = "<unknown>"
BATCH = 1000


class Vocabulary(Protocol):
    """What the tasks need: ids are 0 .. size - 1; `name` goes into the data's fingerprint."""

    size: int
    name: str

    def encode(self, texts: Sequence[str]) -> list[Ints]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class Bytes:
    """UTF-8 bytes: the id is the byte."""

    size = 256
    name = "bytes"

    @cached_property
    def lengths(self) -> Ints:
        """Bytes per id [size]."""
        return np.ones(self.size, dtype=np.int64)

    def encode(self, texts: Sequence[str]) -> list[Ints]:
        """Ids of each text."""
        return [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) for text in texts]

    def raw(self, ids: Sequence[int]) -> bytes:
        """The bytes of some ids."""
        return bytes(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text; broken characters, as a window's ends have them, are replaced."""
        return self.raw(ids).decode(errors="replace")


class BPE:
    """A byte-level BPE of `tokenizers`, read from its file."""

    def __init__(self, file: Path) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(str(file))
        self.size: int = self._tokenizer.get_vocab_size()
        self.name = f"bpe {hashlib.sha256(file.read_bytes()).hexdigest()}"
        self._bytes = [
            bytes(BYTE_OF[char] for char in str(self._tokenizer.id_to_token(token))) for token in range(self.size)
        ]

    @cached_property
    def lengths(self) -> Ints:
        """Bytes per id [size]."""
        return np.array([len(token) for token in self._bytes], dtype=np.int64)

    def encode(self, texts: Sequence[str]) -> list[Ints]:
        """Ids of each text."""
        found: list[Ints] = []
        for start in range(0, len(texts), BATCH):
            done = self._tokenizer.encode_batch_fast(list(texts[start : start + BATCH]), add_special_tokens=False)
            found += [np.array(one.ids, dtype=np.int64) for one in done]
        return found

    def raw(self, ids: Sequence[int]) -> bytes:
        """The bytes of some ids."""
        return b"".join(self._bytes[token] for token in ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text; broken characters, as a window's ends have them, are replaced."""
        return self.raw(ids).decode(errors="replace")


class Words:
    """Whole words, split at blanks. Id 0 is the unknown word."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = [UNKNOWN, *sorted(set(words) - {UNKNOWN})]
        self.size = len(self.words)
        self._id = {word: number for number, word in enumerate(self.words)}
        self.name = f"words {hashlib.sha256(' '.join(self.words).encode()).hexdigest()}"

    def encode(self, texts: Sequence[str]) -> list[Ints]:
        """Ids of each text."""
        return [np.array([self._id.get(word, 0) for word in text.split()], dtype=np.int64) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The words with a blank between."""
        return " ".join(self.words[token] for token in ids)


def learned_bpe(task: str, texts: Sequence[str], size: int, content: str) -> BPE:
    """The BPE of the task named `task`, see `train_bpe`, whose errors then name the task."""
    try:
        return BPE(train_bpe(texts, size, content) / "tokenizer.json")
    except DataError:
        raise
    except ValueError as error:
        raise ValueError(f"task {task}: {error}") from None


def train_bpe(texts: Sequence[str], size: int, content: str) -> Path:
    """The cache entry with `tokenizer.json`: a BPE of at most `size` ids, trained on the texts.

    `content` is the hash of the texts. Raises ValueError when `size` has no room for the bytes.
    """
    require(size >= SMALLEST_BPE, f"bpe_vocab={size} is too small: use {SMALLEST_BPE} (the bytes alone) or more")
    import tokenizers

    def make(folder: Path) -> None:
        tokenizer = bpe_of(texts, size)
        tokenizer.save(str(folder / "tokenizer.json"))

    settings = {"kind": "bpe 1", "size": size, "content": content, "tokenizers": tokenizers.__version__}
    return cached(settings, make)


def bpe_of(texts: Sequence[str], size: int) -> Any:
    """A byte-level BPE trained on the texts: no normalisation, so that it gives every byte back."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _byte_of() -> dict[str, int]:
    """From the characters that byte-level BPEs write for bytes to the bytes.

    Bytes that print stand for themselves; the others are the characters from 256 on, in order.
    """
    printing = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printing]
    return {chr(byte): byte for byte in printing} | {chr(256 + rank): byte for rank, byte in enumerate(others)}


BYTE_OF = _byte_of()
