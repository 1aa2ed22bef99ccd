"""What a task is: items, a card, fixed evaluation splits, an independent checker, a score.

B batch, n length.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from tasks.item import EVAL_SEED, IGNORE, Ints, Item, item_bytes, mean_where
from tasks.shortcuts import Rule, fitted_rules, measure_shortcuts
from tasks.stream import Form, partition

REDRAWS = 10_000  # attempts at an item before its configuration is declared impossible


@dataclass(frozen=True, kw_only=True)
class TaskCard:
    """What a reader of the table must know about a task. Levels are on the scale of `metric`.

    `chance` is, per split, the best of the rules that read no structure; `shortcuts` holds every rule that
    was measured on test/id, those included that read some of it.
    """

    summary: str
    family: str
    train: str
    in_distribution: str
    out_of_distribution: dict[str, str] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)
    shortcuts: dict[str, float] = field(default_factory=dict)
    metric: str
    higher_is_better: bool
    unit: str
    looping: str
    licence: str
    citation: str


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Fields that every task has.

    `places` names those that say where the data lie, not what they are.
    """

    places: ClassVar[tuple[str, ...]] = ()

    length: int = 64
    batch_size: int = 32
    n_validation: int = 256
    n_test: int = 512

    def __post_init__(self) -> None:
        for name in ("length", "batch_size", "n_validation", "n_test"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} is too small: use 1 or more")


def require(condition: bool, message: str) -> None:
    """Raise ValueError(message) unless the condition holds."""
    if not condition:
        raise ValueError(message)


def build_config(config_class: type[TaskConfig], values: Mapping[str, Any], task: str) -> Any:
    """A `config_class` from plain values. Raises ValueError on unknown keys and on values of a wrong type."""
    defaults = {f.name: f.default for f in fields(config_class)}
    typed = dict(values)
    for key, value in values.items():
        if key not in defaults:
            raise ValueError(f"task {task}: unknown key '{key}'; known keys: {', '.join(sorted(defaults))}")
        wanted = type(defaults[key])
        if wanted is float and type(value) is int:
            typed[key] = value = float(value)
        if type(value) is not wanted:
            raise ValueError(f"task {task}: {key}={value!r} must be of type {wanted.__name__}, e.g. {defaults[key]!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"task {task}: {key}={value!r} must be a finite number, e.g. {defaults[key]!r}")
    try:
        return config_class(**typed)
    except ValueError as error:
        raise ValueError(f"task {task}: {error}") from None


class Task(ABC):
    """A data set that is a pure function of (split, seed, index), or real text with the same face.

    A subclass sets the class attributes, `vocab_size`, and the abstract methods. `generate` must depend on
    its arguments and the configuration only, never on the batch, the process or what was drawn before.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    Config: ClassVar[type[TaskConfig]]
    same_item: ClassVar[str] = "nothing"  # what may be renamed or reordered without making another item
    ordered: ClassVar[bool]  # False: some parts of the input may be permuted without changing the answer
    pad_id: ClassVar[int] = 0
    ood_splits: ClassVar[tuple[str, ...]] = ()
    trivial: ClassVar[tuple[str, ...]] = ("majority", "position")  # rules that read no structure: chance

    by_position: ClassVar[bool] = True  # False: no label by itself is right or wrong, see `combine`
    exact: ClassVar[bool] = False  # True: an item counts only if every label is right

    config: TaskConfig
    vocab_size: int
    causal: bool = True
    order_free: bool = False  # True: an item is a set of tokens, in whatever order they stand

    def __init__(self, **values: Any) -> None:
        self.config = build_config(self.Config, values, self.name)
        self.length = self.config.length
        self.max_length = self.config.length
        self.batch_size = self.config.batch_size

    @property
    def splits(self) -> dict[str, int]:
        """Evaluation splits and their numbers of items; train is endless."""
        tests = {f"test/{name}": self.config.n_test for name in ("id", *self.ood_splits)}
        return {"validation": self.config.n_validation, **tests}

    def length_of(self, split: str) -> int:
        """The fixed, padded length of a split's batches."""
        return self.length

    @abstractmethod
    def generate(self, split: str, seed: int, index: int) -> Item:
        """Item `index` of a split. Raises ValueError when the split is unknown."""

    @abstractmethod
    def check(self, item: Item) -> Ints:
        """Labels [<= n] from `item.input_ids` alone, by a method that shares nothing with `generate`."""

    def item(self, split: str, seed: int, index: int) -> Item:
        """Item `index` of any split, those included that a task derives from others (`tasks.probes`)."""
        return self.generate(split, seed, index)

    def paired(self, split: str) -> str | None:
        """The split whose item i differs from item i of this one in nothing that should change an answer."""
        return None

    def curve(self, split: str, values_N: Tensor) -> dict[str, float]:
        """More figures of a split from the primary metric of its items [N], such as one mean per size."""
        return {}

    @abstractmethod
    def describe(self) -> TaskCard:
        """The card without its levels: cheap."""

    @cached_property
    def card(self) -> TaskCard:
        """The card, with levels measured on this configuration's own items (seconds, once)."""
        return replace(self.describe(), chance=self.chance, shortcuts=self.levels["test/id"])

    @abstractmethod
    def text(self, item: Item) -> str:
        """The item for a reader."""

    def word(self, token: int) -> str:
        """One token for a reader."""
        return str(token)

    def prompt(self, text: str) -> list[int]:
        """The tokens that an item with this text begins with; here words between blanks, as `word` spells them.

        Raises ValueError for a word that is none.
        """
        known: dict[str, int] = {}
        for token in range(self.vocab_size):
            known.setdefault(self.word(token), token)
        if strange := [word for word in text.split() if word not in known]:
            near = difflib.get_close_matches(strange[0], list(known), n=1)
            some = ", ".join([word for word in known if word][:40])
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ValueError(f"task {self.name}: '{strange[0]:.40}' is no word of it{hint}; words: {some}")
        return [known[word] for word in text.split()]

    def written(self, tokens: Sequence[int]) -> str:
        """What a model wrote, for a reader."""
        return " ".join(map(self.word, tokens))

    @property
    def end_id(self) -> int | None:
        """The token that ends what a model writes; None where answers are one token, or have no end."""
        return None

    def rules(self) -> Mapping[str, Rule]:
        """This task's own shortcuts, beside the two fitted ones: name -> expected score on one item."""
        return {}

    @cached_property
    def all_rules(self) -> dict[str, Rule]:
        """Every shortcut that is measured; fitted once."""
        return {**fitted_rules(self), **self.rules()}

    @cached_property
    def levels(self) -> dict[str, dict[str, float]]:
        """Measured shortcuts of every test split: split -> rule -> score."""
        return {split: measure_shortcuts(self, split) for split in self.splits if split.startswith("test/")}

    @property
    def chance(self) -> dict[str, float]:
        """Per test split, the best of the `trivial` rules."""
        return {split: max(level[name] for name in self.trivial) for split, level in self.levels.items()}

    def score(
        self, labels_Bn: Tensor, pred_Bn: Tensor, nll_Bn: Tensor, input_ids_Bn: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Per-item outcomes [B], NaN where an item has none. A key "weight" weighs items in `aggregate`.

        `input_ids_Bn` is optional and only serves finer keys (such as one accuracy per number of hops).
        """
        share_B = mean_where(pred_Bn == labels_Bn, labels_Bn != IGNORE)
        if self.exact:
            all_B = torch.where(share_B.isnan(), share_B, (share_B == 1).float())
            return {"accuracy": all_B, "token_accuracy": share_B}
        return {"accuracy": share_B}

    def combine(self, split: str, scores: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outcomes [N] of a whole split's items from what `score` gave: the same, unless a task compares items.

        NaN where an item has none of its own.
        """
        return scores

    def decoded(self, split: str, predict: Callable[[dict[str, Tensor]], Tensor]) -> dict[str, float]:
        """Further metrics of a test split, from what a model writes by itself: none, unless a task has some.

        `predict` gives the most probable tokens [B, n] of a batch.
        """
        return {}

    def aggregate(self, scores: Mapping[str, Tensor]) -> dict[str, float]:
        """Means over the items [N] of a split: weighted by "weight" where present, NaN items left out."""
        weight_N = scores.get("weight")
        totals: dict[str, float] = {}
        for key, values_N in scores.items():
            if key == "weight":
                continue
            known_N = ~values_N.isnan()
            w_N = (torch.ones_like(values_N) if weight_N is None else weight_N).double()[known_N]
            totals[key] = float((values_N.double()[known_N] * w_N).sum() / w_N.sum()) if len(w_N) else float("nan")
        return totals

    @cached_property
    def _eval_items(self) -> dict[str, list[Item]]:
        return {}

    def eval_items(self, split: str, count: int | None = None) -> list[Item]:
        """The first `count` items (default: all) of an evaluation split; drawn once, then kept in memory."""
        if split not in self.splits:
            raise ValueError(f"task {self.name}: unknown split '{split}'; splits: {', '.join(self.splits)}")
        total = self.splits[split] if count is None else min(count, self.splits[split])
        items = self._eval_items.setdefault(split, [])
        items.extend(self.item(split, EVAL_SEED, index) for index in range(len(items), total))
        return items[:total]

    def owns(self, split: str, key: str) -> bool:
        """Whether an item of this key (`draw`) may be in the split; "test/ood_..." are kept apart by their sizes."""
        return split.startswith("test/ood") or partition(key) == split.partition("/")[0]

    def draw(self, split: str, propose: Callable[[], Form | None]) -> Form:
        """The first proposal that belongs to the split by `split_key`, else `canonical`; None is one that failed.

        Raises ValueError after REDRAWS refusals in a row (the configuration leaves the split empty).
        """
        for _ in range(REDRAWS):
            proposal = propose()
            if proposal is not None and self.owns(split, proposal.split_key or proposal.canonical):
                return proposal
        raise ValueError(
            f"task {self.name}: no item for split '{split}' in {REDRAWS} draws: "
            "this configuration has too few different items; widen its ranges or its length"
        )

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the generator's version, and size, length and first items of every split: what the data are.

        The settings that made them are not in it, so that a new one which changes no item changes no fingerprint.
        """
        sizes = {split: [count, self.length_of(split)] for split, count in self.splits.items()}
        digest = hashlib.sha256(json.dumps([self.name, self.version, self.length, sizes]).encode())
        for split in ("train", *self.splits):
            for index in range(8):
                digest.update(item_bytes(self.item(split, EVAL_SEED, index)))
        return digest.hexdigest()
