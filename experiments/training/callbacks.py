"""What happens between training steps: account, validation, checkpoint, in this order.

`Account` logs and beats, `Selector` validates and keeps the best weights, `Keeper` saves a checkpoint that
includes the state of the two before it, and stops the run when it was told to.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from experiments.planning.settings import TrainerSettings
from experiments.store.records import CostInfo, RunSpec
from experiments.training.checkpoint import LOG, restore_rng, rng_state
from experiments.training.context import Diverged, Effort
from experiments.training.distributed import ALONE, Place, agree
from experiments.training.evaluate import Evaluator
from experiments.training.loader import StepLoader
from experiments.training.loggers import MetricsLog
from experiments.training.signals import Interrupted, StopFlag
from ressformer.layers.native.loader import forget_used, used
from ressformer.module import SequenceModule

Beat = Callable[[str, int, float | None], None]


class Account(L.Callback):
    """Counts steps and their time, writes metrics.jsonl and the heartbeat, and ends a run that diverges."""

    def __init__(self, loader: StepLoader, log: MetricsLog, beat: Beat, log_every: int, keeper: Keeper) -> None:
        self._loader, self._log, self._beat, self._every = loader, log, beat, log_every
        self._keeper = keeper
        self._start = 0.0
        self.seconds = 0.0
        self.step = 0
        self.threads = [torch.get_num_threads()]  # the different counts of all attempts, this one's last
        self._kernels: list[str] = []  # of the attempts before this one
        forget_used()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        pl_module.diagnose = (trainer.global_step + 1) % self._every == 0  # type: ignore[assignment]
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = self._keeper.agree(float(outputs["loss"]))
        self.seconds += time.perf_counter() - self._start
        if not math.isfinite(loss):
            self._keeper.end(trainer, Diverged(trainer.global_step - 1))
        self.step = self._loader.trained = trainer.global_step
        self._beat("train", self.step, loss)
        if self.step % self._every == 0:
            assert isinstance(pl_module, SequenceModule)
            self._log.log(self._metrics(trainer, pl_module, loss), self.step)

    def _metrics(self, trainer: L.Trainer, module: SequenceModule, total: float) -> dict[str, float]:
        loss = agree(self._keeper.place, [float(module.last_loss or 0.0)])[0]
        parts: dict[str, Tensor | float | None] = {"loss": loss, "total_loss": total}
        parts |= module.last_aux | module.last_diagnostics
        parts["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        values = {f"train/{key}": float(value) for key, value in parts.items() if value is not None}
        return {key: value for key, value in values.items() if math.isfinite(value)}

    def state_dict(self) -> dict[str, Any]:
        kernels = list(self._all_kernels())
        return {"seconds": self.seconds, "step": self.step, "threads": self.threads, "kernels": kernels}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.step = float(state_dict["seconds"]), int(state_dict["step"])
        self._loader.trained = self.step
        before = [int(count) for count in state_dict["threads"]]
        self.threads = [count for count in before if count not in self.threads] + self.threads
        self._kernels = [str(name) for name in state_dict.get("kernels", [])]

    def _all_kernels(self) -> tuple[str, ...]:
        return tuple(sorted({*self._kernels, *used()}))

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[LOG] = self._log.state()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._log.rewind(int(checkpoint["global_step"]), int(checkpoint[LOG]["bytes"]))

    def effort(self, cost: CostInfo, accelerator: str) -> Effort:
        """What training has taken so far."""
        threads, kernels = tuple(self.threads), self._all_kernels()
        return Effort(cost, self.step, self.seconds, accelerator, threads, self._log.hash, kernels)


class Selector(L.Callback):
    """Validates every `val_every` steps and at the end, and keeps the weights `trainer.select` asks for."""

    def __init__(
        self, spec: RunSpec, settings: TrainerSettings, evaluate: Evaluator, log: MetricsLog, place: Place = ALONE
    ) -> None:
        self._spec, self._settings, self._evaluate, self._log, self._place = spec, settings, evaluate, log, place
        self.step: int | None = None
        self.metrics: dict[str, float] = {}
        self.weights: dict[str, Tensor] = {}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if (
            trainer.should_stop
            or not self._place.first
            or (step % self._settings.val_every and step < self._spec.steps)
        ):
            return
        assert isinstance(pl_module, SequenceModule)
        metrics = self._evaluate(pl_module, "validation").metrics
        self._log.log({f"val/{key}": value for key, value in metrics.items()}, step)
        if self.step is None or self._settings.select == "last" or self._better(metrics):
            self.step, self.metrics = step, metrics
            self.weights = {key: value.detach().cpu().clone() for key, value in pl_module.state_dict().items()}

    def _better(self, metrics: dict[str, float]) -> bool:
        info = self._spec.task_info
        new, old = metrics.get(info.metric), self.metrics.get(info.metric)
        if new is None or old is None:
            return old is None
        return new > old if info.higher_is_better else new < old

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "metrics": self.metrics, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.step, self.metrics, self.weights = (state_dict[key] for key in ("step", "metrics", "weights"))


class Keeper(L.Callback):
    """Saves a checkpoint by the clock, by steps, at the end and when told to; restores generators."""

    def __init__(self, path: Path, settings: TrainerSettings, stop: StopFlag, steps: int, place: Place = ALONE) -> None:
        self._path, self._settings, self._stop, self._steps, self.place = path, settings, stop, steps, place
        self._saved = time.monotonic()
        self._rng: dict[str, Any] | None = None
        self._late = self._told = False

    def end(self, trainer: L.Trainer, why: Exception) -> None:
        """End the training. The other ranks end at once: Lightning would have them wait for one another.

        Raises:
            Exception: `why`, on the first rank.
        """
        if not self.place.first:
            os._exit(0)
        raise why

    def agree(self, loss: float) -> float:
        """The loss over all ranks; they also agree on whether it is time to save and to stop."""
        self._late = time.monotonic() - self._saved >= self._settings.checkpoint_every_s
        self._told = self._stop.wanted
        if self.place.world > 1:
            first = self.place.first
            loss, late, told = agree(self.place, [loss, float(first and self._late), float(first and self._told)])
            self._late, self._told = late > 0, told > 0
        return loss

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._rng is not None and self.place.first:
            restore_rng(self._rng)
        self._rng = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, every = trainer.global_step, self._settings.checkpoint_every_steps
        due = self._late or step == self._steps or (every is not None and step % every == 0)
        if due or self._told:
            trainer.save_checkpoint(self._path)
            self._saved = time.monotonic()
        if self._told:
            self.end(trainer, Interrupted(step))

    def state_dict(self) -> dict[str, Any]:
        return {"rng": rng_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rng = state_dict["rng"]


def seed_all(seed: int) -> None:
    """Seed the generators of Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
