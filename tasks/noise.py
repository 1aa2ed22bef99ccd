"""What a perfect reader of a noised context scores: the ceiling of the noise probes.

Noise replaces tokens of the facts, while the answers stay those of the clean item. The reader knows where each fact
stands, drops facts that noise has made unreadable, believes the others, and draws where they give several answers. A
question to which they give none counts as wrong.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from tasks.facts import FactTask
from tasks.item import Item
from tasks.shortcuts import Floats, hits


@runtime_checkable
class ReadsNoise(Protocol):
    """A task that reads its noised items itself."""

    def read_noised(self, clean: Item, noised: Item) -> Floats:
        """Expected hits [scored positions] of the reader."""
        ...


def perfect_reader(task: object, clean: Item, noised: Item) -> Floats | None:
    """Expected hits [scored positions] of the reader on a noised item; None where the task has no facts to read."""
    if isinstance(task, ReadsNoise):
        return task.read_noised(clean, noised)
    if not isinstance(task, FactTask):
        return None
    facts, questions = task.parts(clean)
    left = task.legible(facts, noised.input_ids[: task.space(facts)].tolist())
    found = []
    for kind, arguments, place in questions:
        options = task.options(left, (kind, arguments))
        answer = int(clean.labels[place]) - task.codec.first[task.answers[kind]]
        found.append(options.count(answer) / len(options) if options else 0.0)
    return hits(found)
