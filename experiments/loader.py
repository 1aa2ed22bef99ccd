"""The training loader as Lightning sees it: finite, and its state is the number of steps really trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from tasks.base import Task
from tasks.loaders import TrainLoader


class StepLoader:
    """Batches of steps `trained` ... `steps` - 1.

    `TrainLoader` counts the batches it handed out, and a fetcher that reads ahead makes that more than were
    trained; what is saved here is what the training loop reported through `trained`.
    """

    def __init__(self, task: Task, seed: int, steps: int) -> None:
        self._loader = TrainLoader(task, task.batch_size, seed, steps)
        self._steps = steps
        self.trained = 0

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        self._loader.load_state_dict({"step": self.trained})
        return iter(self._loader)

    def state_dict(self) -> dict[str, Any]:
        """{"step": steps trained}."""
        return {"step": self.trained}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the batch of step `state["step"]`."""
        self.trained = int(state["step"])
