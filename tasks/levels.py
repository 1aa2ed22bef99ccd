"""Levels: what can be scored without the skill that a task asks for, per split and metric.

For questions they are the task's rules, fitted on train or its own, on every metric that the rule's hits decide
(`accuracy/hops2`, too); for text the n-grams of `tasks.ngrams` on the windows that a run evaluates; for noise probes
the perfect reader of the noised context. S scored positions.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tasks.base import Task
from tasks.hub.cache import cached
from tasks.hub.corpus import Corpus
from tasks.hub.texts import CLOSED
from tasks.item import EVAL_SEED, IGNORE, Item, collate
from tasks.language.pcfg import PCFG
from tasks.ngrams import NGrams, Symbols
from tasks.noise import perfect_reader
from tasks.shortcuts import Floats, Rule

LARGEST_TEXT = 100_000_000  # bytes of train that n-grams are counted in: of a longer text windows spread over it
PCFG_WINDOWS = 4096
FIT_SEED = EVAL_SEED + 2  # of generated training text, which no evaluation draws
PIECE = 4096  # bytes that stand together where a part of a text is read
CEILING = "perfect_reader"


@dataclass(frozen=True, kw_only=True)
class Level:
    """The score `value` of the rule `name` on a metric of a split."""

    split: str
    metric: str
    name: str
    value: float


def levels(task: Task, seed: int = FIT_SEED, train_bytes: int | None = None) -> list[Level]:
    """Levels of validation, every test split and the noise probes; `seed` draws generated training text.

    With `train_bytes` n-grams are counted in so much of the training text, too: windows spread evenly over it, as many
    different bytes as a model can have read. Raises DataError when the cache folder cannot be written.
    """
    if isinstance(task, PCFG):
        return list(_grammar_levels(task, seed))
    if hasattr(task, "texts"):
        return [*_cached_text(task, None), *part_levels(task, train_bytes)]
    return [level for split in task.splits for level in _rule_levels(task, split)]


def part_levels(task: Task, train_bytes: int | None) -> list[Level]:
    """n-grams of `train_bytes` of the training text; none where the task has no text, or no more than that.

    Raises DataError when the cache folder cannot be written.
    """
    if train_bytes is None or not hasattr(task, "texts") or isinstance(task, PCFG):
        return []
    return _cached_text(task, train_bytes) if train_bytes < min(len(_raw(task)), LARGEST_TEXT) else []


def strongest(found: Iterable[Level], higher_is_better: bool) -> dict[tuple[str, str], Level]:
    """The best level of each (split, metric), a perfect reader left out: it is no shortcut."""
    best: dict[tuple[str, str], Level] = {}
    for level in found:
        key, sign = (level.split, level.metric), 1 if higher_is_better else -1
        if level.name != CEILING and (key not in best or sign * level.value > sign * best[key].value):
            best[key] = level
    return best


def metric_places(task: Task, items: Sequence[Item], split: str) -> list[dict[str, Floats]]:
    """Per item and metric, which of its scored positions [S] count: asked of `score`, a right answer at a time."""
    rows = [(item, place) for item in items for place in np.flatnonzero(item.labels != IGNORE)]
    batch = collate([item for item, _ in rows], range(len(rows)), task.length_of(split), task.pad_id)
    labels_Bn = batch["labels"]
    pred_Bn = torch.full_like(labels_Bn, -1)
    for row, (_, place) in enumerate(rows):
        pred_Bn[row, place] = labels_Bn[row, place]
    scores = task.score(labels_Bn, pred_Bn, torch.zeros(labels_Bn.shape), batch["input_ids"])
    sizes = np.cumsum([int((item.labels != IGNORE).sum()) for item in items])[:-1]
    split_up = {key: np.split((value.nan_to_num() > 0).double().numpy(), sizes) for key, value in scores.items()}
    return [{key: parts[number] for key, parts in split_up.items()} for number in range(len(items))]


def metric_values(task: Task, found: Sequence[Floats], places: Sequence[dict[str, Floats]]) -> dict[str, Floats]:
    """Values [items] per metric of the expected hits of each item ([S], or one figure []); NaN: not of that item.

    `places` are those of `metric_places`; without any, the figures are the primary metric's.
    """
    if task.exact:
        whole = np.array([shares.prod() for shares in found])
        return {"accuracy": whole, "token_accuracy": np.array([shares.mean() for shares in found])}
    if not places or any(shares.shape == () for shares in found):
        return {task.describe().metric: np.array([shares.mean() for shares in found])}
    values: dict[str, list[float]] = defaultdict(list)
    for shares, wanted in zip(found, places, strict=True):
        for metric, chosen in wanted.items():
            values[metric].append(float(shares[chosen > 0].mean()) if chosen.any() else float("nan"))
    return {metric: np.array(some) for metric, some in values.items() if not np.isnan(some).all()}


def rule_values(task: Task, split: str, items: Sequence[Item]) -> dict[tuple[str, str], Floats]:
    """(rule, metric) -> values [items]; NaN: not of that item."""
    found = {}
    places = [] if task.exact or not scores_hits(task) else metric_places(task, items, split)
    for name, rule in task.all_rules.items():
        answers = [per_position(rule, item) for item in items]
        for metric, values in metric_values(task, answers, places).items():
            found[name, metric] = values
    return found


def scores_hits(task: Task) -> bool:
    """Whether the primary metric is a share of right answers."""
    return task.by_position and task.describe().higher_is_better


def _rule_levels(task: Task, split: str) -> Iterator[Level]:
    items = task.eval_items(split)
    if split.startswith("probe/noise"):
        clean = task.eval_items("test/id")
        reads = [perfect_reader(task, *pair) for pair in zip(clean, items, strict=True)]
        known = [found for found in reads if found is not None]
        if len(known) == len(items):
            for metric, values in metric_values(task, known, metric_places(task, items, split)).items():
                yield Level(split=split, metric=metric, name=CEILING, value=float(np.nanmean(values)))
    elif not split.startswith("probe/"):
        for (name, metric), values in rule_values(task, split, items).items():
            yield Level(split=split, metric=metric, name=name, value=float(np.nanmean(values)))


def per_position(rule: Rule, item: Item) -> Floats:
    """Expected hits [S], or one figure [] where the rule knows no positions but the item has several."""
    found = np.asarray(rule(item), dtype=np.float64)
    return found.reshape(1) if found.shape == () and int((item.labels != IGNORE).sum()) == 1 else found


def _name(order: int) -> str:
    return ("unigram", "bigram", "trigram")[order - 1] if order <= 3 else f"{order}-gram"


def _grammar_levels(task: PCFG, seed: int) -> Iterator[Level]:
    """n-grams of PCFG_WINDOWS training windows; the window's first symbol stands in front of it."""
    train = [task.generate("train", seed, index).input_ids for index in range(PCFG_WINDOWS)]
    model = NGrams(train, task.vocab_size)
    for split in task.splits:
        items = task.eval_items(split)
        floor = float(np.mean([item.difficulty["floor"] for item in items]))
        bits = model.bits([item.labels[:-1] for item in items], before=int(items[0].input_ids[0]))
        for order, windows in enumerate(bits, start=1):
            value = float(np.mean([window.mean() for window in windows])) - floor
            yield Level(split=split, metric="excess_bits", name=_name(order), value=value)


def _cached_text(task: Task, train_bytes: int | None) -> list[Level]:
    """The levels of text from the cache, whose key is the fingerprint of the data."""

    def make(folder: Path) -> None:
        found = [[level.split, level.metric, level.name, level.value] for level in _text_levels(task, train_bytes)]
        (folder / "levels.json").write_text(json.dumps(found))

    key = {"kind": "n-grams 2", "data": task.fingerprint(), "train_bytes": train_bytes, "largest": LARGEST_TEXT}
    rows = json.loads((cached(key, make) / "levels.json").read_text())
    return [Level(split=split, metric=metric, name=name, value=value) for split, metric, name, value in rows]


def _text_levels(task: Task, train_bytes: int | None) -> Iterator[Level]:
    raw = _raw(task)
    size = LARGEST_TEXT if train_bytes is None else train_bytes
    yield from _counted(task, spread(raw, size), f" of {size} bytes" if size < len(raw) else "")


def _raw(task: Task) -> Symbols:
    return np.frombuffer(task.texts["train"].raw, dtype=np.uint8)  # type: ignore[attr-defined]


def spread(raw: Symbols, size: int) -> list[Symbols]:
    """`size` bytes of a text in pieces of PIECE spread evenly over it; all of it in one piece if it has no more."""
    if len(raw) <= size:
        return [raw]
    pieces = -(-size // PIECE)
    starts = [index * (len(raw) - PIECE) // max(1, pieces - 1) for index in range(pieces)]
    lengths = [PIECE] * (pieces - 1) + [size - PIECE * (pieces - 1)]
    return [raw[start : start + length] for start, length in zip(starts, lengths, strict=True)]


def _counted(task: Task, train: Sequence[Symbols], label: str) -> Iterator[Level]:
    model = NGrams(train, 256)
    for split in task.splits:
        items = task.eval_items(split)
        size = sum(item.difficulty["bytes"] for item in items)
        for order, windows in enumerate(model.bits([_bytes(task, item) for item in items]), start=1):
            value = float(sum(window.sum() for window in windows)) / size
            yield Level(split=split, metric="bits_per_byte", name=_name(order) + label, value=value)


def _bytes(task: Task, item: Item) -> Symbols:
    """The bytes of a window, the ends of documents included, whatever the tokenizer."""
    if not isinstance(task, Corpus):
        return item.labels
    ends = np.flatnonzero(item.labels == task.vocabulary.size)
    pieces = [part[part != task.vocabulary.size].tolist() for part in np.split(item.labels, ends)]
    return np.frombuffer(CLOSED.join(task.vocabulary.raw(piece) for piece in pieces), dtype=np.uint8)
