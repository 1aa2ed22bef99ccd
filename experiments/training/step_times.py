"""Step times of the cells of a table, in a process of their own that has the environment of a run.

    python -m experiments.training.step_times < QUESTION

How malloc keeps its pages is worth a factor of 2 to some models and is read before Python starts, hence the process.
All cells of a task take turns, each with the C kernels allowed and forbidden, and so do the matrix products that the
machine's peak is taken from: what the neighbours take hits all of them alike.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.planning.instantiate import build_decoder, build_model_config, build_task
from experiments.start import start
from experiments.store.records import RunSpec
from experiments.store.timings import CellTime, StepTime, step_time_key
from ressformer.layers.native import loader
from ressformer.module import OptimConfig, SequenceModule
from tasks.base import Task
from tasks.loaders import TrainLoader

# Batches of a task that the turns go through: padding differs from one to the next.
BATCHES = 8
PRODUCTS = (256, 512, 1024)  # rows and columns of the square matrices
Clocks = tuple[float, float]  # CPU seconds of this process, seconds on the wall


def interleaved(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Clocks]:
    """Median times of each call, taken in turns; one turn before warms up."""
    taken: dict[str, list[Clocks]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if turn:
                taken[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: (_median(both, 0), _median(both, 1)) for name, both in taken.items()}


def _median(both: Sequence[Clocks], clock: int) -> float:
    return statistics.median(each[clock] for each in both)


def step(spec: RunSpec, task: Task, batches: Sequence[dict[str, Tensor]]) -> Callable[[], object]:
    """One training step of the run, without its trainer: the next batch, forward, backward, clipping, AdamW."""
    torch.manual_seed(spec.seed)
    decoder = build_decoder(build_model_config(spec.sizes, spec.allow_targets), task)
    if spec.config["trainer"].get("compile"):
        decoder.compile()
    module = SequenceModule(decoder, OptimConfig(**spec.config["trainer"]["optim"]), spec.steps)
    half = spec.config["trainer"].get("precision", "32-true") != "32-true"
    adamw, turn = module.configure_optimizers()["optimizer"], itertools.cycle(batches)

    def once() -> None:
        adamw.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = module.training_step(next(turn), 0)
        loss.backward()
        module.configure_gradient_clipping()
        adamw.step()

    return once


def switched(call: Callable[[], object], on: bool, without: Sequence[str] = ()) -> Callable[[], object]:
    """The call, with the C kernels on or off, or without some of them."""

    def once() -> None:
        with loader.use_native(on, without):
            call()

    return once


def products() -> dict[str, Callable[[], object]]:
    """A product of square fp32 matrices for each size, by name."""

    def product(size: int) -> Callable[[], object]:
        a, b = torch.randn(2, size, size).unbind()
        out = torch.empty(size, size)
        return lambda: torch.mm(a, b, out=out)

    return {f"product {size}": product(size) for size in PRODUCTS}


def measure(specs: Sequence[RunSpec], repeats: int) -> tuple[list[CellTime], dict[int, float]]:
    """Times of the cells of one task, and CPU seconds of each matrix product."""
    calls: dict[str, Callable[[], object]] = {}
    ran: dict[str, list[str]] = {}
    drawn: dict[str, tuple[Task, list[dict[str, Tensor]]]] = {}  # rows may have settings of the task of their own
    for spec in specs:
        section = json.dumps(spec.config["task"], sort_keys=True)
        if section not in drawn:
            task = build_task(spec.config["task"], spec.allow_targets)
            drawn[section] = task, list(TrainLoader(task, task.batch_size, spec.data_seed, BATCHES))
        once = step(spec, *drawn[section])
        loader.forget_used()
        switched(once, True)()
        ran[spec.model] = loader.used()
        calls |= {f"{spec.model} on": switched(once, True), f"{spec.model} off": switched(once, False)}
    found = interleaved(calls | products(), repeats)

    def timed(name: str, kernels: list[str]) -> StepTime:
        return StepTime(cpu_seconds=found[name][0], wall_seconds=found[name][1], kernels=kernels)

    cells = [
        CellTime(
            model=spec.model,
            task=spec.task,
            key=step_time_key(spec),
            batch_size=spec.task_info.batch_size,
            length=spec.task_info.length,
            flops=spec.cost.flops_train / spec.steps,
            with_kernels=timed(f"{spec.model} on", ran[spec.model]),
            without_kernels=timed(f"{spec.model} off", []),
        )
        for spec in specs
    ]
    return cells, {size: found[f"product {size}"][0] for size in PRODUCTS}


def load() -> float | None:
    """The load average over a minute; None where the system does not tell."""
    with contextlib.suppress(OSError, AttributeError):
        return os.getloadavg()[0]
    return None


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a pass that are measured, of a question with `specs`, `threads` and `repeats`."""
    torch.set_num_threads(int(question["threads"]))
    specs = [RunSpec.model_validate(values) for values in question["specs"]]
    before, cells, seconds = load(), [], dict.fromkeys(PRODUCTS, float("inf"))
    for name in dict.fromkeys(spec.task for spec in specs):
        mine = [spec for spec in specs if spec.task == name]
        print(f"{name}: {len(mine)} models, {question['repeats']} turns", file=sys.stderr, flush=True)
        found, taken = measure(mine, int(question["repeats"]))
        cells += [cell.model_dump(mode="json") for cell in found]
        seconds = {size: min(seconds[size], taken[size]) for size in PRODUCTS}
    rates = {size: 2 * size**3 / each for size, each in seconds.items()}
    best = max(rates, key=lambda size: rates[size])
    loads = {"load_before": before, "load_after": load()}
    return {"cells": cells, "peak_flops": rates[best], "peak_size": best, **loads}


def main() -> int:
    """Read the question, print the answer as the last line."""
    warnings.simplefilter("ignore")
    print(json.dumps(answer(json.load(sys.stdin))))
    return 0


if __name__ == "__main__":
    start(main)
