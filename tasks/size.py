"""How large is a test? Different items of every split, and how many of equal share they are worth.

Items that differ only in what the task lets be renamed (`Task.same_item`) are one item: they have the same `canonical`.
Forms that differ in nothing but what a graph's colouring does not see are counted as one, too, so that no count is too
high. An evaluation split is counted over the very items that a run evaluates, which is exact; train has no end, so that
its count is a lower bound from a sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.base import Task
from tasks.item import EVAL_SEED

TRAIN_ITEMS = 2048
NEEDED = {"validation": 50.0, "test/id": 100.0}  # effective number of items from which a split can carry a verdict


@dataclass(frozen=True, kw_only=True)
class SplitSize:
    """Sizes of a split: `effective` is 1 / sum p^2 over the shares p of its `different` items.

    `documents` is the number of independent texts that the items, then windows, are cut from; None: no text.
    `exact` is False where a sample was counted: the split has at least so many different items.
    """

    split: str
    items: int
    different: int
    effective: float
    documents: int | None
    exact: bool

    def __str__(self) -> str:
        bound = "" if self.exact else " or more"
        if self.documents is not None:
            texts = f"{self.documents} document{'s'[: self.documents != 1]}"
            return f"{self.items} windows of {texts}" if self.exact else texts
        return f"{self.items} items, {self.different} different{bound}, effective {self.effective:.1f}{bound}"


def effective_number(counts: Iterable[int]) -> float:
    """1 / sum p^2 for the shares p of `counts`: n equal shares give n, one share of all gives 1, nothing gives 0."""
    known = list(counts)
    squares = sum(count * count for count in known)
    return sum(known) ** 2 / squares if squares else 0.0


def split_sizes(
    task: Task, seed: int = EVAL_SEED, n: int | None = None, splits: Sequence[str] = ()
) -> dict[str, SplitSize]:
    """Sizes of train and of every evaluation split, or of `splits`; with `n`, of the first `n` items only.

    `seed` draws the sample of train. Evaluation splits have a seed of their own.
    """
    texts = getattr(task, "texts", None)
    found = {}
    for split in splits or ("train", *task.splits):
        if split == "train":
            drawn = range(n or TRAIN_ITEMS)
            counts = Counter(task.generate(split, seed, index).canonical for index in drawn)
        else:
            counts = Counter(item.canonical for item in task.eval_items(split, n))
        found[split] = SplitSize(
            split=split,
            items=sum(counts.values()),
            different=len(counts),
            effective=effective_number(counts.values()),
            documents=None if texts is None else texts[split.partition("/")[0]].documents,
            exact=split != "train",
        )
    return found


def too_small(sizes: Mapping[str, SplitSize]) -> list[str]:
    """What a verdict cannot rest on, a line each: splits whose effective number of items is below NEEDED."""
    return [
        f"{split} has {size.different} different items, effectively {size.effective:.1f}: "
        f"{NEEDED[split]:.0f} or more are needed; widen the task's ranges, or evaluate more items"
        for split, size in sizes.items()
        if split in NEEDED and size.effective < NEEDED[split]
    ]
