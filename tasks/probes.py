"""Probes: more evaluation splits of a trained model, asked for by `task.probe=permute+noise`, never trained on.

Item i of `probe/KIND` is item i of test/id, changed in a way that should not change what a model knows:

    permute    the parts of an unordered input in another order
    rename     other names for the same things
    noise10..  that share (percent) of the context's tokens replaced by tokens of the same item
    distract   more parts that no question is about
    size       no split: the primary metric of every test split per size

Because items are paired, a probe also has a consistency: how often a model gives the same answer as on test/id,
right or wrong. Labels under noise are those of the clean item, so that accuracy has a ceiling below 1, the same
for every model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from torch import Tensor

from tasks.base import Task, TaskConfig
from tasks.forms import Classes, FirstMention
from tasks.item import IGNORE, Ints, Item
from tasks.shortcuts import Rule, bag_rule
from tasks.stream import Stream

NOISE = (10, 20, 30, 40)  # percent of the context's tokens


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(TaskConfig):
    """`probe` names the probes to evaluate, joined by "+"; empty: none."""

    probe: str = ""


class ProbedTask(Task):
    """A generated task that offers probes; see the module. `probes` lists the kinds it knows.

    Raises ValueError on an unknown probe.
    """

    probes: ClassVar[tuple[str, ...]] = ("size",)
    buckets: ClassVar[tuple[str, ...]] = ()  # keys of `Item.difficulty` that size curves are drawn over
    trivial: ClassVar[tuple[str, ...]] = ("majority", "position", "bag")
    config: ProbeConfig

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.asked = [kind for kind in self.config.probe.split("+") if kind]
        for kind in self.asked:
            if kind not in self.probes:
                raise ValueError(
                    f"task {self.name}: unknown probe '{kind}' in probe={self.config.probe}; "
                    f"join some of {', '.join(self.probes)} by '+'"
                )
        self.order_free = bool(getattr(self.config, "order_free", False))
        self.causal = not (self.order_free or getattr(self.config, "bidirectional", False))
        self.max_length = max(self.length, getattr(self.config, "ood_length", 0))

    def exchangeable(self) -> Classes:
        """Classes of words that may be renamed among each other (`tasks.forms`): see `Task.same_item`."""
        return []

    @cached_property
    def _names(self) -> FirstMention:
        return FirstMention(self.exchangeable())

    def form(self, item: Item) -> str:
        """`Item.canonical` from the inputs alone. Here: words numbered by first mention, order counts."""
        return self._names.form(item.input_ids.tolist())

    @property
    def splits(self) -> dict[str, int]:
        """The evaluation splits, those of the probes last."""
        kinds: list[str] = []
        for kind in self.asked:
            if kind != "size":
                kinds += [f"noise{share}" for share in NOISE] if kind == "noise" else [kind]
        return super().splits | {f"probe/{kind}": self.config.n_test for kind in kinds}

    def length_of(self, split: str) -> int:
        """See `Task.length_of`."""
        return self.max_length if split.startswith(("test/ood", "probe/distract")) else self.length

    def level(self, split: str) -> int:
        """0 for train, validation and test/id; 1, 2, ... for the splits further out. Raises ValueError."""
        known = {"train": 0, "validation": 0, "test/id": 0}
        known |= {f"test/{name}": place for place, name in enumerate(self.ood_splits, start=1)}
        if split not in known:
            raise ValueError(f"task {self.name}: unknown split '{split}'; splits: train, {', '.join(super().splits)}")
        return known[split]

    def item(self, split: str, seed: int, index: int) -> Item:
        """See `Task.item`."""
        if not split.startswith("probe/") or split not in self.splits:
            return self.generate(split, seed, index)
        kind = split.partition("/")[2]
        stream = Stream("probe", self.name, self.version, kind, seed, index)
        clean = self.generate("test/id", seed, index)
        if kind.startswith("noise"):
            return self.noisy(clean, int(kind.removeprefix("noise")) / 100, stream)
        changed: Item = getattr(self, kind)(clean, stream)
        return changed

    def paired(self, split: str) -> str | None:
        """See `Task.paired`."""
        return "test/id" if split.startswith("probe/") else None

    @property
    def chance(self) -> dict[str, float]:
        """See `Task.chance`; that of a probe is test/id's, whose answers it has."""
        measured = super().chance
        return measured | {split: measured["test/id"] for split in self.splits if split.startswith("probe/")}

    def curve(self, split: str, values_N: Tensor) -> dict[str, float]:
        """With `size`: the mean of the primary metric per bucket."""
        if "size" not in self.asked:
            return {}
        found: dict[str, list[float]] = {}
        metric, items = self.describe().metric, self.eval_items(split)
        for key in self.buckets:
            for item, value in sorted(zip(items, values_N.tolist(), strict=True), key=lambda p: p[0].difficulty[key]):
                if value == value:  # NaN: the item has no answer
                    found.setdefault(f"{metric}/{key}{item.difficulty[key]}", []).append(value)
        return {name: float(np.mean(values)) for name, values in found.items()}

    def context(self, item: Item) -> Ints:
        """Positions that noise may hit: by default those before the first label."""
        return np.arange(int((item.labels != IGNORE).argmax()))

    def noisy(self, item: Item, share: float, stream: Stream) -> Item:
        """The item with `share` of its context's tokens replaced by others of the context."""
        places = self.context(item).tolist()
        ids = item.input_ids.copy()
        for place in stream.sample(places, round(share * len(places))):
            ids[place] = item.input_ids[stream.choice(places)]
        return replace(item, input_ids=ids)

    @cached_property
    def all_rules(self) -> dict[str, Rule]:
        """The fitted rules, a bag of tokens, and the task's own."""
        return super().all_rules | {"bag": bag_rule(self)}


def agreement(items: Sequence[Item], answers: Sequence[Ints], base: Sequence[Ints]) -> float:
    """Mean share of an item's answers that are the same as the base item's, renaming undone."""
    shares = []
    for item, new, old in zip(items, answers, base, strict=True):
        shares.append(float(np.mean((new if item.back is None else item.back[new]) == old)))
    return float(np.mean(shares))
