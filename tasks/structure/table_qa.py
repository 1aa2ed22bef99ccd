"""Questions about a table whose rows and columns stand in any order.

    sequence    COLUMNS c2 ref c0  ROW r4 v1 r7 v9  ROW r7 v3 r4 v0  |  lookup r4 c2 -> v1
    set         <cell r4 c2 v1> <ref r4 r7> ...     |  <lookup r4 c2> -> v1

    lookup r c   the value of column c in row r
    count c v    the number of rows with value v in column c
    argmax c     the row with the largest value of column c (it is unique)
    join r c     the value of column c in the row that row r refers to

Row and column names are drawn anew for each item; values are digits with an order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.base import TaskCard, require
from tasks.codec import Fact
from tasks.facts import FactTask
from tasks.graphs import table_name
from tasks.item import Item
from tasks.puzzles import Asked, FactConfig, Puzzle
from tasks.shortcuts import Floats, Rule, hits
from tasks.stream import Stream

VALUES = 10
Grid = list[list[int]]  # values by row and column


@dataclass(frozen=True, kw_only=True)
class TableConfig(FactConfig):
    """Sizes: test/ood_near has up to 1.5 rows_max, test/ood_far 2 to 3 rows_max rows.

    Raises ValueError when there are too few names for the largest table.
    """

    length: int = 64
    ood_length: int = 128
    rows_min: int = 2
    rows_max: int = 5
    columns_max: int = 3
    n_row_names: int = 16
    n_column_names: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rows_min >= 2, f"rows_min={self.rows_min} is too small: use 2 or more")
        require(
            self.rows_max >= self.rows_min,
            f"rows_max={self.rows_max} is below rows_min={self.rows_min}: use {self.rows_min} or more",
        )
        for field, need in (("n_row_names", 3 * self.rows_max), ("n_column_names", self.columns_max)):
            require(getattr(self, field) >= need, f"{field}={getattr(self, field)} is too small: use {need} or more")
        require(self.columns_max >= 1, f"columns_max={self.columns_max} is too small: use 1 or more")


class TableQA(FactTask):
    """The task `structure/table_qa`, see the module. Keyword arguments: the fields of `TableConfig`."""

    name = "table_qa"
    version = 2
    answers: ClassVar[dict[str, str]] = {"lookup": "value", "count": "number", "argmax": "row", "join": "value"}
    renamed = ("row", "column")
    same_item = "rows and columns, their order, and the questions"
    buckets = ("rows",)
    Config = TableConfig
    config: TableConfig

    def alphabets(self) -> dict[str, int]:
        """See `FactTask.alphabets`."""
        c = self.config
        return {"row": c.n_row_names, "column": c.n_column_names, "value": VALUES, "number": c.rows_max + 1}

    def kinds(self) -> dict[str, tuple[str, ...]]:
        """See `FactTask.kinds`; in a sequence a cell's marker opens a row, that of a reference names its column."""
        return {
            "cell": ("row", "column", "value"),
            "ref": ("row", "row"),
            "lookup": ("row", "column"),
            "count": ("column", "value"),
            "argmax": ("column",),
            "join": ("row", "column"),
        }

    def rows(self, level: int) -> tuple[int, int]:
        """Fewest and most rows of a level."""
        c = self.config
        near = -(-3 * c.rows_max // 2)
        return [(c.rows_min, c.rows_max), (c.rows_max + 1, near), (2 * c.rows_max, 3 * c.rows_max)][level]

    def largest(self, level: int) -> int:
        """See `FactTask.largest`."""
        rows, columns = self.rows(level)[1], self.config.columns_max
        return rows * (columns + 1) + 1 if self.order_free else columns + 1 + rows * (columns + 3) + 3

    def sizes(self, stream: Stream, level: int) -> tuple[int, ...]:
        """Rows and columns."""
        return stream.between(*self.rows(level)), stream.between(1, self.config.columns_max)

    def puzzle(self, stream: Stream, sizes: tuple[int, ...], split: str) -> Puzzle | None:
        """See `FactTask.puzzle`."""
        rows, columns = sizes
        # Few different values per column, so that counts above 1 are common.
        palettes = [stream.sample(range(VALUES), stream.between(2, min(rows + 1, VALUES))) for _ in range(columns)]
        grid = [[stream.choice(palette) for palette in palettes] for _ in range(rows)]
        refs = [(row + stream.between(1, rows - 1)) % rows for row in range(rows)]
        name = table_name(grid, refs)
        if not self.owns(split, name):
            return None
        facts: list[Fact] = [("cell", (r, c, v)) for r, line in enumerate(grid) for c, v in enumerate(line)]
        facts += [("ref", pair) for pair in enumerate(refs)]
        left = self._questions(stream, grid, refs)
        asked: list[Asked] = []
        for _ in range(self.seats(facts, list(self.answers), split)):
            open_kinds = [kind for kind, some in left.items() if some]
            if open_kinds:
                asked.append(stream.pop(left[stream.choice(open_kinds)]))
        return Puzzle(
            facts=facts,
            questions=asked,
            difficulty={"rows": rows, "columns": columns},
            canonical=name,
        )

    def name_of(self, facts: Sequence[Fact], questions: Sequence[Fact]) -> str:
        """See `FactTask.name_of`: the table alone, whatever is asked about it."""
        rows = list(dict.fromkeys(args[0] for _, args in facts))
        columns = list(dict.fromkeys(args[1] for kind, args in facts if kind == "cell"))
        cells = {args[:2]: args[2] for kind, args in facts if kind == "cell"}
        refs = {args[0]: rows.index(args[1]) for kind, args in facts if kind == "ref"}
        return table_name([[cells[row, column] for column in columns] for row in rows], [refs[row] for row in rows])

    def _questions(self, stream: Stream, grid: Grid, refs: list[int]) -> dict[str, list[Asked]]:
        """Every question of each kind that may be asked; per column one count with the answer 0."""
        cells = [(row, column) for row in range(len(grid)) for column in range(len(grid[0]))]
        found: dict[str, list[Asked]] = {
            "lookup": [("lookup", (r, c), grid[r][c]) for r, c in cells],
            "join": [("join", (r, c), grid[refs[r]][c]) for r, c in cells],
            "count": [],
            "argmax": [],
        }
        for column in range(len(grid[0])):
            values = [line[column] for line in grid]
            counts = Counter(values)
            found["count"] += [("count", (column, v), n) for v, n in counts.items() if n <= self.config.rows_max]
            absent = [v for v in range(VALUES) if v not in counts]
            if absent:
                found["count"].append(("count", (column, stream.choice(absent)), 0))
            if counts[max(values)] == 1:
                found["argmax"].append(("argmax", (column,), values.index(max(values))))
        return found

    def space(self, facts: Sequence[Fact]) -> int:
        """See `FactTask.space`: the header, and per row a marker, a name and the cells."""
        if self.order_free:
            return len(facts)
        rows = sum([kind == "ref" for kind, _ in facts])
        return len(facts) // rows + len(facts) + 2 * rows

    def write(self, facts: Sequence[Fact]) -> list[int]:
        """See `FactTask.write`; as a sequence: the header, then rows, both in the order the facts mention them."""
        codec = self.codec
        if self.order_free:
            return codec.write(facts)
        cells = {(args[0], args[1]): codec.token("value", args[2]) for kind, args in facts if kind == "cell"}
        cells |= {(args[0], -1): codec.token("row", args[1]) for kind, args in facts if kind == "ref"}
        columns = list(dict.fromkeys(args[1] if kind == "cell" else -1 for kind, args in facts))
        rows = list(dict.fromkeys(args[0] for _, args in facts))
        tokens = [codec.kind_first["ref"] if column < 0 else codec.token("column", column) for column in columns]
        for row in rows:
            tokens += [codec.kind_first["cell"], codec.token("row", row), *(cells[row, column] for column in columns)]
        return tokens

    def read(self, tokens: Sequence[int]) -> list[Fact]:
        """See `FactTask.read`."""
        codec = self.codec
        if self.order_free:
            return codec.read(tokens)
        width = list(tokens).index(codec.kind_first["cell"])
        columns = [
            -1 if token == codec.kind_first["ref"] else token - codec.first["column"] for token in tokens[:width]
        ]
        facts: list[Fact] = []
        for start in range(width, len(tokens), width + 2):
            row = tokens[start + 1] - codec.first["row"]
            for column, token in zip(columns, tokens[start + 2 : start + 2 + width], strict=True):
                if column < 0:
                    facts.append(("ref", (row, token - codec.first["row"])))
                else:
                    facts.append(("cell", (row, column, token - codec.first["value"])))
        return facts

    def solve(self, facts: list[Fact], questions: list[Fact]) -> list[int]:
        """See `FactTask.solve`: by one-hot arrays."""
        c = self.config
        cell_RCV = np.zeros((c.n_row_names, c.n_column_names, VALUES), dtype=np.int64)
        ref_RR = np.zeros((c.n_row_names, c.n_row_names), dtype=np.int64)
        for kind, args in facts:
            (cell_RCV if kind == "cell" else ref_RR)[args] += 1
        joined_RCV = np.einsum("rs,scv->rcv", ref_RR, cell_RCV)
        height_CR = (cell_RCV * np.arange(1, VALUES + 1)).sum(2).T
        found = []
        for kind, args in questions:
            if kind == "count":
                found.append(int(cell_RCV[:, args[0], args[1]].sum()))
            elif kind == "argmax":
                found.append(int(height_CR[args[0]].argmax()))
            else:
                found.append(int((cell_RCV if kind == "lookup" else joined_RCV)[args].argmax()))
        return found

    def legible(self, facts: Sequence[Fact], tokens: Sequence[int]) -> list[Fact]:
        """See `FactTask.legible`: cells whose row, column and value are all of their kinds."""
        codec, c = self.codec, self.config
        if self.order_free:
            return super().legible(facts, tokens)
        width = len({args[1] if kind == "cell" else -1 for kind, args in facts})
        found: list[Fact] = []
        for start in range(width, len(tokens), width + 2):
            row = tokens[start + 1] - codec.first["row"]
            for head, token in zip(tokens[:width], tokens[start + 2 : start + 2 + width], strict=True):
                column, value = head - codec.first["column"], token - codec.first["value"]
                other = token - codec.first["row"]
                if not 0 <= row < c.n_row_names:
                    continue
                if head == codec.kind_first["ref"] and 0 <= other < c.n_row_names:
                    found.append(("ref", (row, other)))
                elif 0 <= column < c.n_column_names and 0 <= value < VALUES:
                    found.append(("cell", (row, column, value)))
        return found

    def options(self, facts: list[Fact], question: Fact) -> list[int]:
        """See `FactTask.options`: every value that a look-up or a join finds."""
        kind, args = question
        if kind in ("count", "argmax"):
            return self.solve(facts, [question])
        rows = [args[0]] if kind == "lookup" else [ref[1] for name, ref in facts if name == "ref" and ref[0] == args[0]]
        cells = [cell for name, cell in facts if name == "cell"]
        return [cell[2] for row in rows for cell in cells if cell[:2] == (row, args[1])]

    def extra(self, facts: list[Fact], questions: list[Fact], stream: Stream) -> list[Fact]:
        """Columns that no question is about: rows would change counts and maxima."""
        rows = sorted({args[0] for _, args in facts})
        used = {args[1] for kind, args in facts if kind == "cell"}
        spare = [column for column in range(self.config.n_column_names) if column not in used]
        chosen = stream.sample(spare, min(len(used), len(spare)))
        room = self.max_length - len(self.laid_out(facts, questions, [0] * len(questions))[0])
        chosen = chosen[: max(0, room // (len(rows) + 1))]
        return [("cell", (row, column, stream.below(VALUES))) for column in chosen for row in rows]

    def rules(self) -> dict[str, Rule]:
        """Answers that look at one row or column only, and at none of the other."""
        return {
            "row_value": self._rule(lambda facts, kind, args: _values(facts, 0, args) if kind != "count" else []),
            "column_value": self._rule(lambda facts, kind, args: _values(facts, 1, args[::-1])),
            "one_row": self._rule(lambda facts, kind, args: [1] if kind == "count" else []),
        }

    def _rule(self, guess: Callable[[list[Fact], str, tuple[int, ...]], list[int]]) -> Rule:
        def expected(item: Item) -> Floats:
            facts, questions = self.parts(item)
            shares = []
            for kind, args, place in questions:
                answer = int(item.labels[place]) - self.codec.first[self.answers[kind]]
                found = guess(facts, kind, args)
                shares.append(found.count(answer) / len(found) if found else 0.0)
            return hits(shares)

        return expected

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        (low, high), near, far = self.rows(0), self.rows(1), self.rows(2)
        return TaskCard(
            summary="Look-up, count, argmax and join over a table in any order of rows and columns",
            family="structure",
            train=f"{low} to {high} rows, 1 to {self.config.columns_max} columns and one of references",
            in_distribution="as train; tables of no training item, up to names and order",
            out_of_distribution={
                "test/ood_near": f"{near[0]} to {near[1]} rows",
                "test/ood_far": f"{far[0]} to {far[1]} rows",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of an item's questions",
            looping="helps a little: a join needs two look-ups, one after the other",
            licence="Apache-2.0 (generated)",
            citation="own generator; in the spirit of WikiTableQuestions (Pasupat and Liang, arXiv 1508.00305)",
        )


def _values(facts: list[Fact], axis: int, args: tuple[int, ...]) -> list[int]:
    return [cell[2] for kind, cell in facts if kind == "cell" and cell[axis] == args[0]]
