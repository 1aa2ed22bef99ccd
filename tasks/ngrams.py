"""n-gram models of orders 1 to 6 with Witten-Bell interpolation: what a text gives to a model that only counts.

    p_k(w | h) = (c(hw) + T(h) p_{k-1}(w | h')) / (c(h) + T(h)),    p_0 = 1 / V

c counts in the training text, T(h) is the number of different symbols seen after h, h' is h without its oldest symbol,
and a context that was never seen leaves p_{k-1} as it is (Witten and Bell 1991; Chen and Goodman 1999, section 2.5).

All orders come from one sort: the 6-grams as integers, oldest symbol in the highest digits, so that the first k digits
of the sorted 6-grams are the sorted k-grams, and a count is the length of a run. N symbols, W windows, n length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.shortcuts import Floats

ORDERS = 6
BITS = 9  # of a symbol: 0 ends a text, s + 1 is the symbol s, so that 511 symbols fit, and ORDERS of them into 64 bits

Symbols = NDArray[np.integer]
_Grams = NDArray[np.uint64]


class NGrams:
    """Counts of one or more training texts, each a sequence of symbols below `vocab_size` (at most 511).

    No n-gram reaches from one text into the next.
    """

    def __init__(self, texts: Iterable[Symbols], vocab_size: int) -> None:
        if vocab_size >= 1 << BITS:
            raise ValueError(f"n-grams of {vocab_size} symbols: at most {(1 << BITS) - 1} fit")
        self.vocab_size = vocab_size
        end = np.zeros(1, dtype=np.uint16)
        parts = [part for text in texts for part in (text.astype(np.uint16) + 1, end)]
        grams = _grams(np.concatenate([*parts, *[end] * ORDERS]) if parts else end)
        grams.sort()
        self._contexts: list[tuple[_Grams, NDArray[np.int64], NDArray[np.int64]]] = []  # per length: context, c, T
        self._counts: list[tuple[_Grams, NDArray[np.int64]]] = []  # per order: n-gram, c
        for order in range(1, ORDERS + 1):
            known, counts = _runs(grams >> np.uint64(BITS * (ORDERS - order)))
            whole = (known & np.uint64((1 << BITS) - 1)) > 0  # a text's end at the last place: it did not go on
            for place in range(1, order):
                whole &= ((known >> np.uint64(BITS * place)) & np.uint64((1 << BITS) - 1)) > 0
            known, counts = known[whole], counts[whole]
            heads, starts = np.unique(known >> np.uint64(BITS), return_index=True)
            after = np.diff(np.append(starts, len(known)))
            totals = np.add.reduceat(counts, starts) if len(known) else counts
            self._counts.append((known, counts))
            self._contexts.append((heads, totals, after))

    def bits(self, windows: Sequence[Symbols], before: int | None = None) -> list[list[Floats]]:
        """Bits of every symbol of every window [n], per order from 1; contexts do not reach out of a window.

        `before` is a symbol that stands in front of each window and is not scored, such as the end of a text.
        """
        lead = [] if before is None else [before + 1]
        rows = [np.concatenate([lead, window.astype(np.int64) + 1]).astype(np.uint64) for window in windows]
        padded = [np.concatenate([np.zeros(ORDERS - 1, dtype=np.uint64), row]) for row in rows]
        sizes = [len(row) for row in rows]
        p_N = np.full(sum(sizes), 1 / self.vocab_size)
        found = []
        for order in range(1, ORDERS + 1):
            gram_N, valid_N = self._eval_grams(padded, order)
            p_N = self._step(p_N, gram_N, valid_N, order)
            bits_N = -np.log2(p_N)
            pieces = np.split(bits_N, np.cumsum(sizes)[:-1])
            found.append([piece[len(lead) :] for piece in pieces])
        return found

    def _eval_grams(self, padded: Sequence[_Grams], order: int) -> tuple[_Grams, NDArray[np.bool_]]:
        """The n-gram that ends at each place [N], and whether its window holds all of it."""
        grams, valid = [], []
        for row in padded:
            size = len(row) - ORDERS + 1
            gram = np.zeros(size, dtype=np.uint64)
            whole = np.ones(size, dtype=bool)
            for back in range(order - 1, -1, -1):
                symbol = row[ORDERS - 1 - back : ORDERS - 1 - back + size]
                gram = (gram << np.uint64(BITS)) | symbol
                whole &= symbol > 0
            grams.append(gram)
            valid.append(whole)
        return np.concatenate(grams), np.concatenate(valid)

    def _step(self, lower_N: Floats, gram_N: _Grams, valid_N: NDArray[np.bool_], order: int) -> Floats:
        """p_k from p_{k-1}, where the context was seen."""
        heads, totals, after = self._contexts[order - 1]
        known, counts = self._counts[order - 1]
        if not len(known):
            return lower_N
        head_N = gram_N >> np.uint64(BITS)
        place_N = np.minimum(np.searchsorted(heads, head_N), len(heads) - 1)
        seen_N = valid_N & (heads[place_N] == head_N)
        spot_N = np.minimum(np.searchsorted(known, gram_N), len(known) - 1)
        count_N = np.where(known[spot_N] == gram_N, counts[spot_N], 0)
        mixed_N = (count_N + after[place_N] * lower_N) / (totals[place_N] + after[place_N])
        return np.where(seen_N, mixed_N, lower_N)


def _grams(text_N: NDArray[np.uint16]) -> _Grams:
    """The ORDERS symbols that begin at each place [N - ORDERS + 1], as one integer."""
    size = max(0, len(text_N) - ORDERS + 1)
    grams = np.zeros(size, dtype=np.uint64)
    for place in range(ORDERS):
        grams <<= np.uint64(BITS)
        grams |= text_N[place : place + size]
    return grams


def _runs(ordered: _Grams) -> tuple[_Grams, NDArray[np.int64]]:
    """The different values of a sorted array, and how often each stands there."""
    if not len(ordered):
        return ordered, np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.diff(np.append(starts, len(ordered)))
