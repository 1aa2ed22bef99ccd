"""Copy the symbols that stand between blanks, in order.

    . . s3 . s7 . . s3  ? ? ?  ->  s3 s7 s3

After Jing et al. (arXiv 1906.12320) and Gu and Dao (arXiv 2312.00752). The i-th slot asks for the i-th symbol; no
answer is fed back.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from tasks.base import TaskCard, require
from tasks.forms import Classes
from tasks.item import IGNORE, Ints, Item
from tasks.probes import ProbeConfig, ProbedTask
from tasks.shortcuts import Rule, hits
from tasks.stream import Stream

BLANK, SLOT, FIRST = 1, 2, 3  # 0 pads


@dataclass(frozen=True, kw_only=True)
class CopyConfig(ProbeConfig):
    """`symbols_max` symbols in up to context_max places; test/ood_near has up to 2, test/ood_far up to 4 context_max.

    Raises ValueError when an item does not fit.
    """

    length: int = 32
    ood_length: int = 104
    symbols_max: int = 8
    context_max: int = 24
    n_symbols: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_symbols >= 2, f"n_symbols={self.n_symbols} is too small: use 2 or more")
        require(self.symbols_max >= 2, f"symbols_max={self.symbols_max} is too small: use 2 or more")
        require(
            self.context_max > self.symbols_max,
            f"context_max={self.context_max} is too small: use {self.symbols_max + 1} or more",
        )
        for field, times in (("length", 1), ("ood_length", 4)):
            need = times * self.context_max + self.symbols_max
            require(getattr(self, field) >= need, f"{field}={getattr(self, field)} is too small: use {need} or more")


class SelectiveCopy(ProbedTask):
    """The task `recall/selective_copy`, see the module. Keyword arguments: the fields of `CopyConfig`."""

    name = "selective_copy"
    version = 1
    Config = CopyConfig
    config: CopyConfig
    same_item = "the symbols"
    ordered = True
    buckets = ("context",)
    ood_splits = ("ood_near", "ood_far")
    trivial = ("majority", "position", "bag", "random_symbol", "last_symbol")

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.vocab_size = FIRST + self.config.n_symbols

    def contexts(self, level: int) -> tuple[int, int]:
        """Fewest and most places of a level."""
        most = self.config.context_max
        return [(self.config.symbols_max, most), (most + 1, 2 * most), (2 * most + 1, 4 * most)][level]

    def generate(self, split: str, seed: int, index: int) -> Item:
        """See `Task.generate`. Inputs and labels [<= length_of(split)]."""
        contexts = self.contexts(self.level(split))
        stream = Stream(self.name, self.version, split, seed, index)
        attempts = count()
        sizes = (0, 0)

        def propose() -> Item | None:
            nonlocal sizes
            if next(attempts) % 64 == 0:
                sizes = (stream.between(*contexts), stream.between(1, self.config.symbols_max))
            context, symbols = sizes
            tokens = [BLANK] * context
            chosen = [FIRST + stream.below(self.config.n_symbols) for _ in range(symbols)]
            for place, symbol in zip(sorted(stream.sample(range(context), symbols)), chosen, strict=True):
                tokens[place] = symbol
            return Item(
                input_ids=np.array([*tokens, *[SLOT] * symbols], dtype=np.int64),
                labels=np.array([*[IGNORE] * context, *chosen], dtype=np.int64),
                difficulty={"context": context, "symbols": symbols},
                canonical=self._names.form([*tokens, *[SLOT] * symbols]),
                split_key=" ".join(map(str, tokens)),
            )

        return self.draw(split, propose)

    def exchangeable(self) -> Classes:
        """See `ProbedTask.exchangeable`: the symbols; where they stand counts."""
        return [[(token,) for token in range(FIRST, self.vocab_size)]]

    def check(self, item: Item) -> Ints:
        """Slots filled by rank: slot i takes the symbol before which i others stand."""
        ids_n = item.input_ids
        symbol_n, slot_n = ids_n >= FIRST, ids_n == SLOT
        if symbol_n.sum() != slot_n.sum():
            raise ValueError("task selective_copy: slots and symbols differ in number")
        rank_n = np.cumsum(symbol_n) * symbol_n
        labels = np.full(len(ids_n), IGNORE, dtype=np.int64)
        for place in np.nonzero(slot_n)[0].tolist():
            labels[place] = ids_n[rank_n == slot_n[: place + 1].sum()][0]
        return labels

    def rules(self) -> dict[str, Rule]:
        """Symbols that are there."""
        return {
            "random_symbol": lambda item: hits(np.mean(_symbols(item) == s) for s in _symbols(item)),
            "last_symbol": lambda item: hits(_symbols(item) == _symbols(item)[-1]),
        }

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        near, far = self.contexts(1), self.contexts(2)
        return TaskCard(
            summary="Copy the symbols between blanks, in order",
            family="recall",
            train=f"1 to {self.config.symbols_max} symbols in up to {self.config.context_max} places, sizes mixed",
            in_distribution="as train; contexts of no training item",
            out_of_distribution={
                "test/ood_near": f"{near[0]} to {near[1]} places",
                "test/ood_far": f"{far[0]} to {far[1]} places",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of an item's symbols",
            looping="should not matter: selection and counting, no chain of steps",
            licence="Apache-2.0 (generated)",
            citation="own generator; task: Jing et al., arXiv 1906.12320; Gu and Dao, arXiv 2312.00752",
        )

    def text(self, item: Item) -> str:
        """The places, then the answers."""
        words = {BLANK: ".", SLOT: "?"}
        shown = " ".join(words.get(token, f"s{token - FIRST}") for token in item.input_ids.tolist())
        return f"{shown} -> {' '.join(f's{symbol - FIRST}' for symbol in _symbols(item).tolist())}"


def _symbols(item: Item) -> Ints:
    return item.input_ids[item.input_ids >= FIRST]
