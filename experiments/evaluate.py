"""Evaluation of a model on the fixed items of a split, without touching the generators of the training run.

Shapes: B batch, n length, N items of a split.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tasks.base import Task
from tasks.loaders import EvalLoader

if TYPE_CHECKING:
    from ressformer.module import SequenceModule


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Means of a split (metrics without a value are left out), and each item's primary metric and weight."""

    metrics: dict[str, float]
    items: list[float | None]
    weights: list[float] | None


class Evaluator:
    """Keeps the collated splits of one task, so that each validation costs no generation."""

    def __init__(self, task: Task, primary: str, batch_size: int, beat: Callable[[], None]) -> None:
        self._task, self._primary, self._batch_size, self._beat = task, primary, batch_size, beat
        self._loaders: dict[str, EvalLoader] = {}

    def __call__(self, module: SequenceModule, split: str) -> Outcome:
        """Evaluate `module` on a split.

        Raises:
            KeyError: the task's score lacks its primary metric.
        """
        task = self._task
        loader = self._loaders.setdefault(split, EvalLoader(task, split, self._batch_size))
        collected: dict[str, list[Tensor]] = {}
        devices = [module.device] if module.device.type == "cuda" else []
        training = module.training
        module.eval()
        try:
            # Models that draw (hash rotations) draw the same at each evaluation.
            with torch.random.fork_rng(devices=devices), torch.no_grad():
                torch.manual_seed(0)
                for batch in loader:
                    found = module.predict({key: value.to(module.device) for key, value in batch.items()})
                    scores = task.score(
                        batch["labels"], found["pred_Bn"].cpu(), found["nll_Bn"].cpu(), batch["input_ids"]
                    )
                    for key, values_B in scores.items():
                        collected.setdefault(key, []).append(values_B)
                    self._beat()
        finally:
            module.train(training)
        scores_N = {key: torch.cat(parts) for key, parts in collected.items()}
        totals = task.aggregate(scores_N) | (self._decoded(module, split) if split.startswith("test/") else {})
        means = {k: v for k, v in totals.items() if math.isfinite(v)}
        primary = scores_N[self._primary].double().tolist()
        weights = scores_N["weight"].double().tolist() if "weight" in scores_N else None
        return Outcome(metrics=means, items=[v if math.isfinite(v) else None for v in primary], weights=weights)

    def _decoded(self, module: SequenceModule, split: str) -> dict[str, float]:
        """Metrics of what the model writes by itself, for the tasks that have some; on test splits only."""

        def predict(batch: dict[str, Tensor]) -> Tensor:
            self._beat()
            found: Tensor = module.predict({key: value.to(module.device) for key, value in batch.items()})["pred_Bn"]
            return found

        devices = [module.device] if module.device.type == "cuda" else []
        training = module.training
        module.eval()
        try:
            with torch.random.fork_rng(devices=devices), torch.no_grad():
                torch.manual_seed(0)
                return self._task.decoded(split, predict)
        finally:
            module.train(training)
