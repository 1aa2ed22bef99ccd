"""Loaders whose batches are a function of (seed, step) alone, so that a resumed run sees the same data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from tasks.base import Task
from tasks.item import collate
from tasks.stream import permutation


class TrainLoader:
    """Training batches without end. Batch s holds items s * batch_size ... of the run's data seed.

    With `steps` it ends there and has a length; Lightning fetches one batch ahead from a loader of unknown
    length and would then save a step that is one too high, so hand it `steps`. With `order` the items of these
    steps, all in all the same, come in an order of that seed's.
    """

    def __init__(
        self, task: Task, batch_size: int, seed: int, steps: int | None = None, order: int | None = None
    ) -> None:
        if order is not None and steps is None:
            raise ValueError("this TrainLoader is endless; give it steps=... for an order of its items")
        self.task, self.batch_size, self.seed, self.steps = task, batch_size, seed, steps
        self.step = 0
        self._order = None if order is None or steps is None else permutation(steps * batch_size, "order", order)

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of a step, by itself."""
        first = step * self.batch_size
        indices: Sequence[int] = range(first, first + self.batch_size)
        if self._order is not None:
            indices = self._order[first : first + self.batch_size].tolist()
        items = [self.task.generate("train", self.seed, index) for index in indices]
        return collate(items, indices, self.task.length, self.task.pad_id)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while self.steps is None or self.step < self.steps:
            self.step += 1
            yield self.batch(self.step - 1)

    def __len__(self) -> int:
        if self.steps is None:
            raise TypeError("this TrainLoader is endless; give it steps=... for a length")
        return self.steps

    def state_dict(self) -> dict[str, Any]:
        """{"step": number of batches handed out}."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after state["step"] batches."""
        self.step = int(state["step"])


class EvalLoader:
    """The fixed items 0..N-1 of an evaluation split, in order; collated once, then kept in memory."""

    def __init__(self, task: Task, split: str, batch_size: int) -> None:
        self.task, self.split, self.batch_size = task, split, batch_size
        if split not in task.splits:
            raise ValueError(f"task {task.name}: unknown split '{split}'; splits: {', '.join(task.splits)}")
        self._batches: list[dict[str, Tensor]] | None = None

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        if self._batches is None:
            items = self.task.eval_items(self.split)
            length, pad_id = self.task.length_of(self.split), self.task.pad_id
            self._batches = [
                collate(
                    items[i : i + self.batch_size],
                    range(i, min(i + self.batch_size, len(items))),
                    length,
                    pad_id,
                )
                for i in range(0, len(items), self.batch_size)
            ]
        return iter(self._batches)

    def __len__(self) -> int:
        return -(-self.task.splits[self.split] // self.batch_size)
