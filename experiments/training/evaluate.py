"""Evaluation of a model on the fixed items of a split, without touching the generators of the training run.

Shapes: B batch, n length, N items of a split.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from experiments.store.records import ValidationScores
from tasks.base import Task
from tasks.item import IGNORE, Ints
from tasks.loaders import EvalLoader
from tasks.probes import agreement

if TYPE_CHECKING:
    from ressformer.module import SequenceModule


Scored = tuple[dict[str, Tensor], list[Ints]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Means of a split (metrics without a value are left out), and each item's primary metric and weight."""

    metrics: dict[str, float]
    items: list[float | None]
    weights: list[float] | None


class Evaluator:
    """Keeps the collated splits of one task, so that each validation costs no generation."""

    def __init__(self, task: Task, primary: str, batch_size: int, beat: Callable[[], None]) -> None:
        self.task, self._primary, self._batch_size, self._beat = task, primary, batch_size, beat
        self._loaders: dict[str, EvalLoader] = {}

    def __call__(self, module: SequenceModule, split: str) -> Outcome:
        """Evaluate `module` on one split, see `all`."""
        return self.all(module, [split])[split]

    def all(self, module: SequenceModule, splits: Sequence[str]) -> dict[str, Outcome]:
        """Evaluate `module` on each split; one that is paired with another also gets a consistency.

        The model sees a split once, however many others are paired with it.

        Raises:
            KeyError: the task's score lacks its primary metric.
        """
        run = cache(lambda split: self._run(module, split))
        return {split: self._outcome(module, split, run) for split in splits}

    def validation(self, module: SequenceModule) -> ValidationScores:
        """What `module` scores on each validation item, and which items are one up to renaming."""
        found = self(module, "validation")
        names = [item.canonical for item in self.task.eval_items("validation")]
        number = {name: form for form, name in enumerate(dict.fromkeys(names))}
        forms = [number[name] for name in names]
        return ValidationScores(scores=found.items, weights=found.weights, forms=forms)

    def _outcome(self, module: SequenceModule, split: str, run: Callable[[str], Scored]) -> Outcome:
        task, pair = self.task, self.task.paired(split)
        scores_N, answers = run(split)
        means = task.aggregate(scores_N) | task.curve(split, scores_N[self._primary])
        means |= self._decoded(module, split) if split.startswith("test/") else {}
        if pair is not None:
            means["consistency"] = agreement(task.eval_items(split), answers, run(pair)[1])
        primary = scores_N[self._primary].double().tolist()
        weights = scores_N["weight"].double().tolist() if "weight" in scores_N else None
        return Outcome(
            metrics={key: value for key, value in means.items() if math.isfinite(value)},
            items=[value if math.isfinite(value) else None for value in primary],
            weights=weights,
        )

    def _run(self, module: SequenceModule, split: str) -> Scored:
        """Outcomes per item [N], and each item's predictions at its scored positions."""
        task = self.task
        loader = self._loaders.setdefault(split, EvalLoader(task, split, self._batch_size))
        collected: dict[str, list[Tensor]] = {}
        answers: list[Ints] = []
        with evaluating(module):
            for batch in loader:
                found = module.predict({key: value.to(module.device) for key, value in batch.items()})
                labels_Bn, pred_Bn = batch["labels"], found["pred_Bn"].cpu()
                scores = task.score(labels_Bn, pred_Bn, found["nll_Bn"].cpu(), batch["input_ids"])
                for key, values_B in scores.items():
                    collected.setdefault(key, []).append(values_B)
                pairs = zip(pred_Bn, labels_Bn, strict=True)
                answers += [pred_n[labels_n != IGNORE].numpy() for pred_n, labels_n in pairs]
                self._beat()
        return task.combine(split, {key: torch.cat(parts) for key, parts in collected.items()}), answers

    def _decoded(self, module: SequenceModule, split: str) -> dict[str, float]:
        """Metrics of what the model writes by itself, for the tasks that have some; on test splits only."""

        def predict(batch: dict[str, Tensor]) -> Tensor:
            self._beat()
            found: Tensor = module.predict({key: value.to(module.device) for key, value in batch.items()})["pred_Bn"]
            return found

        with evaluating(module):
            return self.task.decoded(split, predict)


@contextlib.contextmanager
def evaluating(module: SequenceModule) -> Iterator[None]:
    """No gradients, evaluation mode, and draws (hash rotations) that are the same at each evaluation."""
    devices = [module.device] if module.device.type == "cuda" else []
    training = module.training
    module.eval()
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(0)
            yield
    finally:
        module.train(training)
