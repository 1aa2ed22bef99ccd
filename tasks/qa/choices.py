"""Multiple choice over rows of the user's own: the choice that a model finds most likely, against the right one.

    prompt: "{question}"   choices: "{options}"                            gold: "{answer}"
    prompt: ""             choices: "{sentence_good}|{sentence_bad}"       gold: "0"

`choices` are templates between bars, or one column that holds a list. `gold` is an index from 0, the text of a choice,
or its letter, `B` or `(B)`; of a text that may be several of these the choice's own text comes first. Trained is on the
right choice behind its prompt. Evaluated is every choice, an item each; `accuracy` stands at the first item of a row
and is whether the right choice has the highest log-likelihood, its END included (`accuracy_per_byte`: per byte of it).
A tie is no hit.
"""

from __future__ import annotations

import string
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tasks.hub.files import DataError, Row
from tasks.hub.rows import Encoded, Example
from tasks.hub.user_rows import UserConfig, UserRows, columns_of, filled, text_of, value_of
from tasks.item import IGNORE, Item
from tasks.shortcuts import Rule

BAR = "|"


@dataclass(frozen=True, kw_only=True)
class ChoicesConfig(UserConfig):
    """See `UserConfig` and the module. `n_validation`, `n_test`: rows, each of which has several items."""

    n_test: int = 256
    prompt: str = "{prompt}"
    choices: str = "{choices}"
    gold: str = "{answer}"


class Asked(NamedTuple):
    """The choices of a row, and which is right."""

    choices: tuple[str, ...]
    gold: int


class Choices(UserRows):
    """The task `qa/choices`, see the module. Keyword arguments: the fields of `ChoicesConfig`."""

    name = "choices"
    Config = ChoicesConfig
    config: ChoicesConfig
    templates = ("prompt", "choices", "gold")
    lists = ("choices",)
    tokenizers = ("bytes", "bpe")
    trivial = ("majority", "random")
    by_position = False
    unit = "share of the rows"
    about = {  # noqa: RUF012
        "summary": "Find the right choice by its likelihood, rows of your own: task.path=FILE",
        "family": "qa",
        "looping": "depends on the data",
        "licence": "the user's to state",
        "citation": "the user's to state",
    }

    def examples(self, row: Row) -> Iterator[Example]:
        """One example a row: its answer is the right choice."""
        prompt, choices = filled(self.config.prompt, row), self._choices(row)
        if len(set(choices)) < max(2, len(choices)) or not all(choices):
            raise DataError(f"{row.place}: needs two or more different choices, found {choices!r:.80}")
        asked = Asked(choices, self._gold(row, choices))
        key = "\x1f".join([" ".join(prompt.split()), *sorted(choices)])
        yield Example(prompt=prompt, answer=choices[asked.gold], key=key, place=row.place, info=asked)

    def _choices(self, row: Row) -> tuple[str, ...]:
        names = columns_of(self.config.choices)
        value = value_of(row, names[0]) if len(names) == 1 else None
        if isinstance(value, dict) and isinstance(value.get("text"), list):
            value = value["text"]  # the hub's usual form: {"text": [...], "label": [...]}
        if isinstance(value, list):
            return tuple(text_of(row, names[0], one) for one in value)
        return tuple(filled(template, row) for template in self.config.choices.split(BAR))

    def _gold(self, row: Row, choices: Sequence[str]) -> int:
        names = columns_of(self.config.gold)
        value = value_of(row, names[0]) if self.config.gold == f"{{{names[0] if names else ''}}}" else None
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else filled(self.config.gold, row)
        if not isinstance(value, int) or isinstance(value, bool):
            letter = text.strip("(). ").upper()
            if text in choices:
                return choices.index(text)
            if len(letter) == 1 and letter in string.ascii_uppercase[: len(choices)]:
                return string.ascii_uppercase.index(letter)
        if text.isdecimal() and int(text) < len(choices):
            return int(text)
        raise DataError(
            f"{row.place}: gold must be an index from 0 to {len(choices) - 1}, a choice's letter or its text, "
            f"found {text!r:.60}"
        )

    def encode(self, part: str, examples: Sequence[Example]) -> Iterator[Encoded | None]:
        """See `ExampleTask.encode`; a row is left out, counted, when any of its choices does not fit."""
        for example in examples:
            (prompt, *choices) = self.vocabulary.encode([example.prompt, *example.info.choices])
            if len(prompt) + 1 + max(map(len, choices)) > self.length_of(part):
                self.report.skip(part, f"longer than length={self.length_of(part)}")
                yield None
            else:
                yield Encoded(prompt, choices[example.info.gold], example)

    @cached_property
    def _ends(self) -> dict[str, list[int]]:
        """Per split, the number of items up to each row's last."""
        return {
            part: list(accumulate(len(done.example.info.choices) for done in rows)) for part, rows in self.parts.items()
        }

    @property
    def splits(self) -> dict[str, int]:
        """Items of each evaluation split: every choice of every row."""
        return {part: self._ends[part][-1] for part in self._names if part != "train"}

    def generate(self, split: str, seed: int, index: int) -> Item:
        """Train: the right choice of a row. Evaluation: choice after choice of row after row."""
        if split == "train" or split not in self._names:
            return super().generate(split, seed, index)
        place = bisect_right(self._ends[split], index)
        done = self.parts[split][place]
        number = index - (self._ends[split][place - 1] if place else 0)
        (choice,) = self.vocabulary.encode([done.example.info.choices[number]])
        item = self.encoded_item(Encoded(done.prompt, choice, done.example))
        return replace(item, difficulty=item.difficulty | {"choice": number})

    @cached_property
    def _answers(self) -> dict[str, set[str]]:
        """The choices that may stand behind each prompt."""
        found: dict[str, set[str]] = {}
        for rows in self.parts.values():
            for done in rows:
                prompt = self.vocabulary.decode(done.prompt.tolist())
                found.setdefault(prompt, set()).update(done.example.info.choices)
        return found

    @property
    def metric(self) -> str:
        """Name of the primary metric."""
        return "accuracy"

    def score(
        self, labels_Bn: Tensor, pred_Bn: Tensor, nll_Bn: Tensor, input_ids_Bn: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Of each choice its nats, and those per byte of its text (END stands for none) [B]; see `combine`."""
        lengths_V = torch.from_numpy(np.append(self.vocabulary.lengths, [0, 0]))  # type: ignore[attr-defined]
        scored_Bn = labels_Bn != IGNORE
        bytes_B = torch.where(scored_Bn, lengths_V[labels_Bn.clamp(min=0)], 0).sum(dim=1)
        nats_B = torch.where(scored_Bn, nll_Bn.double(), 0.0).sum(dim=1)
        return {"nats": nats_B, "nats_per_byte": nats_B / bytes_B.clamp(min=1)}

    def combine(self, split: str, scores: dict[str, Tensor]) -> dict[str, Tensor]:
        """From each choice's nats [N] to hits [N]: at the first item of every row, NaN at the others."""
        names = {"nats": "accuracy", "nats_per_byte": "accuracy_per_byte"}
        hits = {name: torch.full_like(scores["nats"], float("nan")) for name in names.values()}
        start = 0
        for done, end in zip(self.parts[split], self._ends[split], strict=True):
            for key, name in names.items():
                nats_K = scores[key][start:end]
                gold = done.example.info.gold
                others_K = torch.cat([nats_K[:gold], nats_K[gold + 1 :]])
                hits[name][start] = float(nats_K[gold] < others_K.min())
            start = end
        return hits

    @cached_property
    def all_rules(self) -> dict[str, Rule]:
        """The place that is right most often in train, a choice at random, the longest and the shortest choice."""
        places = Counter(done.example.info.gold for done in self.parts["train"])
        common = min(places, key=lambda place: (-places[place], place))
        asked = {done.example.key: done.example.info for rows in self.parts.values() for done in rows}

        def extreme(item: Item, sign: int) -> float:
            sizes = [sign * len(text.encode()) for text in asked[item.canonical].choices]
            return (sizes[asked[item.canonical].gold] == max(sizes)) / sizes.count(max(sizes))

        return {
            "majority": lambda item: float(asked[item.canonical].gold == common),
            "random": lambda item: 1 / len(asked[item.canonical].choices),
            "longest": lambda item: extreme(item, 1),
            "shortest": lambda item: extreme(item, -1),
        }
