"""Random numbers that depend on nothing but their key.

A stream is a Philox-4x64 counter generator (Salmon et al., SC 2011) keyed by the SHA-256 of its key's parts.
Only `random_raw` is used: numpy promises that a bit generator's raw words never change, while the methods
of `Generator` (integers, permutation, ...) may change between numpy versions. The few draws needed are made
here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Ints = NDArray[np.int64]

_BLOCK = 256  # raw words fetched at once: about one item's worth, so that a stream costs about 20 microseconds


class Stream:
    """Uniform draws from one keyed stream. Parts of the key may be anything with a stable `str`."""

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
        self._bits = np.random.Philox(key=np.frombuffer(digest[:16], "<u8"))
        self._words: list[int] = []

    def _word(self) -> int:
        if not self._words:
            self._words = self._bits.random_raw(_BLOCK).tolist()
            self._words.reverse()
        return self._words.pop()

    def below(self, bound: int) -> int:
        """Uniform integer in [0, bound); the bias is below bound / 2**64."""
        return (self._word() * bound) >> 64

    def between(self, low: int, high: int) -> int:
        """Uniform integer in [low, high], both ends included."""
        return low + self.below(high - low + 1)

    def uniform(self) -> float:
        """Uniform float in [0, 1) with 53 random bits."""
        return (self._word() >> 11) * 2.0**-53

    def many(self, bound: int, count: int) -> Ints:
        """`count` uniform integers in [0, bound) at once; bound is at most 2**32, the bias below bound / 2**32."""
        words = self._bits.random_raw(count)
        return ((words >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32)).astype(np.int64)

    def choice(self, options: Sequence[T]) -> T:
        """One of `options`, uniformly."""
        return options[self.below(len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different members of `options` in random order."""
        pool = list(options)
        return [self.pop(pool) for _ in range(count)]

    def pop(self, pool: list[T]) -> T:
        """Take one member out of `pool`, uniformly; the order of the rest changes."""
        last = len(pool) - 1
        chosen = self.below(last + 1)
        pool[chosen], pool[last] = pool[last], pool[chosen]
        return pool.pop()

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """All of `options` in random order."""
        return self.sample(options, len(options))


def partition(canonical: str) -> str:
    """The split ("train", "validation" or "test") that owns a canonical form: 6, 1 and 1 of 8 buckets.

    Two items with the same canonical form can therefore never lie in different splits.
    """
    bucket = hashlib.sha256(canonical.encode()).digest()[0] % 8
    return "train" if bucket < 6 else ("validation" if bucket == 6 else "test")
