"""The training loader as Lightning sees it: finite, and its state is the number of steps really trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from experiments.training.distributed import ALONE, Place, share
from tasks.base import Task
from tasks.loaders import TrainLoader


class StepLoader:
    """Batches of steps `trained` ... `steps` - 1.

    `TrainLoader` counts the batches it handed out, and a fetcher that reads ahead makes that more than were
    trained; what is saved here is what the training loop reported through `trained`.
    """

    def __init__(self, task: Task, seed: int, steps: int, place: Place = ALONE, order: int | None = None) -> None:
        self._loader = TrainLoader(task, task.batch_size, seed, steps, order)
        self._steps, self._place = steps, place
        self.trained = 0

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        self._loader.load_state_dict({"step": self.trained})
        return iter(self._loader) if self._place.world == 1 else self._shares()

    def _shares(self) -> Iterator[dict[str, Tensor]]:
        for batch in self._loader:
            rows, weight = share(batch, self._place)
            yield {**rows, "loss_weight": torch.tensor(weight)}

    def state_dict(self) -> dict[str, Any]:
        """{"step": steps trained}."""
        return {"step": self.trained}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the batch of step `state["step"]`."""
        self.trained = int(state["step"])
