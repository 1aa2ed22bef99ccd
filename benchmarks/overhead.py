"""What the harness costs: CPU time of a run's training against a bare PyTorch loop with the same model, data and steps.

    python benchmarks/overhead.py --steps 1000

Both train in this process, on one thread, in turns of `--turn` steps, so that a busy machine slows both alike; the
figure is the ratio of the sums of their CPU times (the harness's other threads included). Start-up, validation and
the last evaluation are left out of both; logging, heartbeat and checkpoints are in.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT)]

import torch

from experiments.planning.hydra_config import composed, composer
from experiments.planning.instantiate import build_task
from experiments.planning.plan import run_spec
from experiments.planning.run_spec import Pricer
from experiments.planning.settings import TrainerSettings
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.training import callbacks
from experiments.training.fit import build_module
from tasks.loaders import TrainLoader


class Turns:
    """Lets two threads train in turns and adds up the CPU time of each one's turns."""

    def __init__(self, turn: int) -> None:
        self.turn, self.baton = turn, threading.Condition()
        self.whose, self.spent = 0, [0.0, 0.0]
        self.over = [False, False]
        self._since = time.process_time()

    def begin(self, me: int) -> None:
        """Wait for the turn."""
        with self.baton:
            self.baton.wait_for(lambda: self.whose == me)
            self._since = time.process_time()

    def end(self, me: int, over: bool = False) -> None:
        """Give the turn to the other."""
        with self.baton:
            self.spent[me] += time.process_time() - self._since
            self.over[me] = over
            self.whose = 1 - me if not self.over[1 - me] else me
            self.baton.notify_all()


def bare(spec: RunSpec, turns: Turns) -> None:
    """The loop that everybody writes: batch, loss, backward, clip, step, schedule."""
    settings = TrainerSettings.model_validate(spec.config["trainer"])
    task = build_task(spec.config["task"])
    module = build_module(spec, settings, task)
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    loader = iter(TrainLoader(task, task.batch_size, spec.seed, spec.steps))
    turns.begin(1)
    for step in range(1, spec.steps + 1):
        batch = next(loader)
        optimizer.zero_grad()
        loss = module.training_step(batch, step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), settings.optim["grad_clip"])
        optimizer.step()
        schedule.step()
        if step % turns.turn == 0 and step < spec.steps:
            turns.end(1)
            turns.begin(1)
    turns.end(1, over=True)


def harness(spec: RunSpec, turns: Turns, folder: Path) -> None:
    """The harness's own training; turns change between its batches."""
    from experiments.training.run import execute

    keeper: Any = callbacks.Keeper
    after = keeper.on_train_batch_end
    select, start = callbacks.Selector.on_train_batch_end, callbacks.Account.on_train_start

    def begin(self: Any, *rest: Any) -> None:
        turns.begin(0)
        start(self, *rest)

    def change(self: Any, trainer: Any, *rest: Any) -> None:
        after(self, trainer, *rest)
        step = trainer.global_step
        if step == spec.steps:
            turns.end(0, over=True)
        elif step % turns.turn == 0:
            turns.end(0)
            turns.begin(0)

    def validate(self: Any, *rest: Any) -> None:
        before = time.process_time()
        select(self, *rest)
        turns.spent[0] -= time.process_time() - before

    keeper.on_train_batch_end, callbacks.Account.on_train_start = change, begin  # type: ignore[method-assign]
    callbacks.Selector.on_train_batch_end = validate  # type: ignore[method-assign]
    try:
        end = execute(spec, Store(folder))
        if end != "done":
            raise SystemExit(f"the run has ended as {end}")
    finally:
        turns.end(0, over=True) if not turns.over[0] else None


def main() -> int:
    """The program; 1 if the harness costs more than 5 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--turn", type=int, default=20)
    parser.add_argument("--model", default="transformer_rope")
    parser.add_argument("--task", default="chain")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with composer():
        words = [f"model={asked.model}", f"task={asked.task}", "budget=tiny", "trainer.accelerator=cpu"]
        spec = run_spec(composed(words), asked.model, asked.task, 0, Pricer())
    words = {**spec.config, "trainer": {**spec.config["trainer"], "val_every": asked.steps}}
    spec = spec.model_copy(update={"steps": asked.steps, "config": words})
    turns = Turns(asked.turn)
    with tempfile.TemporaryDirectory() as folder:
        other = threading.Thread(target=bare, args=(spec, turns), daemon=True)
        other.start()
        harness(spec, turns, Path(folder))
        other.join()
    ours, theirs = turns.spent
    print(
        f"{asked.model} on {asked.task}, {asked.steps} steps of {spec.cost.params_non_embedding:,} parameters: "
        f"bare {theirs / asked.steps * 1e3:.2f} ms a step, harness {ours / asked.steps * 1e3:.2f} ms, "
        f"overhead {(ours / theirs - 1) * 100:+.1f} %"
    )
    return 1 if ours / theirs > 1.05 else 0


if __name__ == "__main__":
    sys.exit(main())
