"""Apply functions, given as tables to learn by heart, one after the other.

    s3 f1 f6 f2 = -> s5        f2(f6(f1(s3)))

Compositional table look-up (Liska et al., arXiv 1802.06467; split by depth as in Csordas et al., arXiv 2110.07732). The
functions are bijections, drawn once, the same in every item. All compositions of one or two functions belong to
training, as a table that was never shown cannot be known; evaluation begins at depth 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.base import TaskCard, require
from tasks.item import IGNORE, Ints, Item
from tasks.probes import ProbeConfig, ProbedTask
from tasks.shortcuts import Rule
from tasks.stream import Stream

EQUALS, FIRST = 1, 2  # 0 pads
TAUGHT = 2  # depth up to which every composition is in train


@dataclass(frozen=True, kw_only=True)
class LookupConfig(ProbeConfig):
    """Depth 1 to depth_max in train; test/ood_near to depth_max + 2, test/ood_far to 2 depth_max.

    Raises ValueError when the deepest do not fit.
    """

    length: int = 8
    ood_length: int = 16
    n_symbols: int = 8
    n_functions: int = 8
    depth_max: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_symbols >= 2, f"n_symbols={self.n_symbols} is too small: use 2 or more")
        require(self.n_functions >= 2, f"n_functions={self.n_functions} is too small: use 2 or more")
        require(self.depth_max >= 3, f"depth_max={self.depth_max} is too small: use 3 or more")
        for field, depth in (("length", self.depth_max), ("ood_length", 2 * self.depth_max)):
            require(
                getattr(self, field) >= depth + 2,
                f"{field}={getattr(self, field)} is too small for depth {depth}: use {field} >= {depth + 2}",
            )


class TableLookup(ProbedTask):
    """The task `structure/table_lookup`, see the module. Keyword arguments: the fields of `LookupConfig`."""

    name = "table_lookup"
    version = 1
    Config = LookupConfig
    config: LookupConfig
    ordered = True
    buckets = ("depth",)
    ood_splits = ("ood_near", "ood_far")

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        c = self.config
        self.first_function = FIRST + c.n_symbols
        self.vocab_size = self.first_function + c.n_functions
        stream = Stream(self.name, self.version, "tables", c.n_symbols, c.n_functions)
        self.tables = [stream.shuffled(range(c.n_symbols)) for _ in range(c.n_functions)]

    def depths(self, split: str) -> tuple[int, int]:
        """Smallest and largest depth of a split."""
        deepest, level = self.config.depth_max, self.level(split)
        shallow = 1 if split == "train" else TAUGHT + 1
        return [(shallow, deepest), (deepest + 1, deepest + 2), (deepest + 3, 2 * deepest)][level]

    def generate(self, split: str, seed: int, index: int) -> Item:
        """See `Task.generate`. Inputs and labels [<= length_of(split)]."""
        low, high = self.depths(split)
        stream = Stream(self.name, self.version, split, seed, index)
        depth = stream.between(min(low, high), high)

        def propose() -> Item:
            symbol = value = stream.below(self.config.n_symbols)
            chain = [stream.below(self.config.n_functions) for _ in range(depth)]
            for function in chain:
                value = self.tables[function][value]
            tokens = [FIRST + symbol, *(self.first_function + function for function in chain), EQUALS]
            return Item(
                input_ids=np.array(tokens, dtype=np.int64),
                labels=np.array([IGNORE] * (depth + 1) + [FIRST + value], dtype=np.int64),
                difficulty={"depth": depth},
                canonical=" ".join(map(str, tokens)),
            )

        return propose() if depth <= TAUGHT else self.draw(split, propose)

    def form(self, item: Item) -> str:
        """See `ProbedTask.form`: the tokens."""
        return " ".join(map(str, item.input_ids.tolist()))

    def check(self, item: Item) -> Ints:
        """Products of permutation matrices, from the last function to the first."""
        symbols = self.config.n_symbols
        matrix_SS = np.eye(symbols, dtype=np.int64)
        for token in item.input_ids[-2:0:-1].tolist():
            matrix_SS = np.eye(symbols, dtype=np.int64)[self.tables[token - self.first_function]] @ matrix_SS
        labels = np.full(len(item.input_ids), IGNORE, dtype=np.int64)
        labels[-1] = FIRST + int(matrix_SS[item.input_ids[0] - FIRST].argmax())
        return labels

    def rules(self) -> dict[str, Rule]:
        """The symbol itself; one function instead of all."""

        def one(item: Item, place: int) -> float:
            table = self.tables[int(item.input_ids[place]) - self.first_function]
            return float(FIRST + table[int(item.input_ids[0]) - FIRST] == item.labels[-1])

        return {
            "symbol": lambda item: float(item.input_ids[0] == item.labels[-1]),
            "first_function": lambda item: one(item, 1),
            "last_function": lambda item: one(item, -2),
        }

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        c, near, far = self.config, self.depths("test/ood_near"), self.depths("test/ood_far")
        return TaskCard(
            summary=f"Value of a chain of {c.n_functions} learned functions on {c.n_symbols} symbols",
            family="structure",
            train=f"depth 1 to {c.depth_max}, all depths in equal shares; all compositions up to depth {TAUGHT}",
            in_distribution=f"depth {TAUGHT + 1} to {c.depth_max}; compositions of no training item",
            out_of_distribution={
                "test/ood_near": f"depth {near[0]} to {near[1]}",
                "test/ood_far": f"depth {far[0]} to {far[1]}",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of items",
            looping="helps: each function needs the last one's result",
            licence="Apache-2.0 (generated)",
            citation="own generator; task: Liska et al., arXiv 1802.06467; Csordas et al., arXiv 2110.07732",
        )

    def text(self, item: Item) -> str:
        """The chain, and its value after an arrow."""
        words = [f"s{item.input_ids[0] - FIRST}", *(f"f{t - self.first_function}" for t in item.input_ids[1:-1])]
        return f"{' '.join(words)} = -> s{item.labels[-1] - FIRST}"
