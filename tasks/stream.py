"""Random numbers that depend on nothing but their key.

A stream is a Philox-4x64 counter generator (Salmon et al., SC 2011) keyed by the SHA-256 of its key's parts.
Only `random_raw` is used: numpy promises that a bit generator's raw words never change, while the methods
of `Generator` (integers, permutation, ...) may change between numpy versions. The few draws needed are made
here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

_BLOCK = 64  # raw words fetched at once: most items need one or two blocks


def _philox(key: Iterable[object]) -> np.random.Philox:
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.Philox(key=np.frombuffer(digest[:16], "<u8"))


def _words(bits: np.random.Philox) -> Iterator[int]:
    while True:
        yield from bits.random_raw(_BLOCK).tolist()


class Stream:
    """Uniform draws from one keyed stream. Parts of the key may be anything with a stable `str`."""

    def __init__(self, *key: object) -> None:
        # A bound `__next__`, since draws are most of what generating an item costs.
        self._word = _words(_philox(key)).__next__

    def below(self, bound: int) -> int:
        """Uniform integer in [0, bound); the bias is below bound / 2**64."""
        return (self._word() * bound) >> 64

    def between(self, low: int, high: int) -> int:
        """Uniform integer in [low, high], both ends included."""
        return low + (self._word() * (high - low + 1) >> 64)

    def uniform(self) -> float:
        """Uniform float in [0, 1) with 53 random bits."""
        return (self._word() >> 11) * 2.0**-53

    def choice(self, options: Sequence[T]) -> T:
        """One of `options`, uniformly."""
        return options[(self._word() * len(options)) >> 64]

    def sample(self, options: Iterable[T], count: int) -> list[T]:
        """`count` different members of `options` in random order."""
        pool, word = list(options), self._word
        left = len(pool)
        for _ in range(count):
            chosen = (word() * left) >> 64
            left -= 1
            pool[chosen], pool[left] = pool[left], pool[chosen]
        return pool[left:][::-1]

    def pop(self, pool: list[T]) -> T:
        """Take one member out of `pool`, uniformly; the order of the rest changes."""
        chosen = (self._word() * len(pool)) >> 64
        pool[chosen], pool[-1] = pool[-1], pool[chosen]
        return pool.pop()

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """All of `options` in random order."""
        return self.sample(options, len(options))


def permutation(count: int, *key: object) -> NDArray[np.int64]:
    """0 ... count - 1 in an order that depends on the key alone: int64 [count]."""
    return np.argsort(_philox(key).random_raw(count), kind="stable")


class HasForm(Protocol):
    """An item, or what one can be made of: `split_key`, or without one `canonical`, decides its split."""

    @property
    def canonical(self) -> str: ...
    @property
    def split_key(self) -> str: ...


Form = TypeVar("Form", bound=HasForm)


def partition(canonical: str) -> str:
    """The split ("train", "validation" or "test") that owns a canonical form: 6, 1 and 1 of 8 buckets.

    Two items with the same canonical form can therefore never lie in different splits.
    """
    bucket = hashlib.sha256(canonical.encode()).digest()[0] % 8
    return "train" if bucket < 6 else ("validation" if bucket == 6 else "test")
