"""Seconds of a run, from some steps of training and one batch of evaluation, within a bound on the time it takes.

A step too large for the bound is timed on fewer sequences and scaled up; where a single sequence is too large, there
is no answer. How large is too large is guessed from the step's FLOPs and `SLOWEST`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import torch
from torch import Tensor

from experiments.planning.instantiate import build_task
from experiments.planning.settings import TrainerSettings
from experiments.store.records import RunSpec
from experiments.training.fit import build_module
from tasks.loaders import TrainLoader

STEPS = 3
SLOWEST = 1e10  # FLOPs per second of a CPU core in training; measured ones are faster
CELL_SECONDS = 3.0  # a cell may take, of the time that is left for all


def time_cell(spec: RunSpec, seconds: float) -> float | None:
    """Seconds of one run, or None if a step of one sequence is not expected to end within `seconds` (or CELL_SECONDS).

    The bound is on what is expected: a step that has begun is not cut off.
    """
    settings = TrainerSettings.model_validate(spec.config["trainer"])
    cuda = settings.accelerator != "cpu" and torch.cuda.is_available()
    part = spec.task_info.batch_size if cuda else sequences(spec, min(seconds, CELL_SECONDS))
    if part < 1:
        return None
    device = torch.device("cuda" if cuda else "cpu")
    # Of one thread, the CPU's time: what a core to itself would take, whatever else the machine does now.
    clock = time.process_time if device.type == "cpu" and settings.threads == 1 else time.perf_counter
    begun = clock()
    torch.set_num_threads(settings.threads)
    task = build_task(spec.config["task"], spec.allow_targets)
    module = build_module(spec, settings, task).to(device)
    building = clock() - begun
    loader = TrainLoader(task, task.batch_size, spec.seed)
    optimizer = module.configure_optimizers()["optimizer"]
    step, forward = [], 0.0
    for number in range(STEPS + 1):
        begun = clock()
        batch = shortened(loader.batch(number), part, device)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision != "32-true"):
            loss = module.training_step(batch, number)
        loss.backward()
        optimizer.step()
        _finish(cuda)
        step.append(clock() - begun)
        begun = clock()
        module.eval().predict(batch)
        _finish(cuda)
        forward, _ = clock() - begun, module.train()
        if step[-1] * 2 > seconds:
            break
    validations = -(-spec.steps // settings.val_every)
    tests = sum(n for name, n in task.splits.items() if name != "validation")
    # Sequences of a test split may be longer than those of training: taken as if all were.
    items = validations * task.splits["validation"] + tests * max(1.0, task.max_length / task.length)
    training = spec.steps * statistics.median(step[1:] or step) * task.batch_size / part
    return building + training + items / part * forward


def sequences(spec: RunSpec, seconds: float) -> int:
    """How many sequences of a batch can be timed in `seconds`; 0 if not even one."""
    batch = spec.task_info.batch_size
    each = spec.cost.flops_train / spec.steps / batch / SLOWEST
    return int(min(batch, seconds / (each * (STEPS + 1))))


def shortened(batch: Mapping[str, Tensor], part: int, device: torch.device) -> dict[str, Tensor]:
    """The first sequences of a batch, on the device."""
    return {key: value[:part].to(device) for key, value in batch.items()}


def _finish(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()
