"""What training needs of a run, and what it hands back.

`fit` takes a `RunContext` and writes nothing into it: the run's own process and the other ranks of a distributed run
offer the same few things. What training found out comes back in an `Effort`, with the result or with the exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from experiments.planning.settings import TrainerSettings
from experiments.store.records import CostInfo, RunSpec
from experiments.training.loggers import Mirror
from experiments.training.signals import StopFlag


class RunContext(Protocol):
    """One execution of a run, as training sees it.

    Attributes:
        spec: what is trained on what, for how long.
        settings: the trainer's section of its config.
        folder: where checkpoints and logs go.
        stop: whether somebody asked to stop.
    """

    @property
    def spec(self) -> RunSpec: ...

    @property
    def settings(self) -> TrainerSettings: ...

    @property
    def folder(self) -> Path: ...

    @property
    def stop(self) -> StopFlag: ...

    def beat(self, phase: str, step: int, loss: float | None) -> None:
        """Show that the run lives, and where it is."""

    def mirror(self) -> Mirror:
        """The logger that the run's config asks for."""


@dataclass(frozen=True)
class Effort:
    """What training took.

    Attributes:
        cost: the run's cost with torch's count of its FLOPs; None if training ended before it was counted.
        steps_done: optimiser steps, those before a resume included.
        seconds: spent in training steps, those before a resume included.
        accelerator: the device's name; `cpu` until training has begun.
        threads: the different thread counts of all attempts, in their order; empty until training has begun.
        log_hash: of metrics.jsonl; empty if nothing was logged.
        native_kernels: C kernels that ran in any attempt; None until training has begun.
    """

    cost: CostInfo | None = None
    steps_done: int = 0
    seconds: float = 0.0
    accelerator: str = "cpu"
    threads: tuple[int, ...] = ()
    log_hash: str = ""
    native_kernels: tuple[str, ...] | None = None


class TrainingEnded(Exception):
    """Training ended before its last step. `cause` is the exception that ended it, `effort` what it took until then."""

    def __init__(self, cause: Exception, effort: Effort) -> None:
        super().__init__(str(cause))
        self.cause, self.effort = cause, effort


class Diverged(Exception):
    """The loss is not finite. `step` is the last good step."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not finite at step {step + 1}; the last good step is {step}")
        self.step = step
