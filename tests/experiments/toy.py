"""Small, quick things to run: a toy model and a toy task that really train, and specs made of them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from experiments.planning.instantiate import build_task
from experiments.planning.plan import Plan
from experiments.planning.settings import TableSettings
from experiments.store import atomic_files as atomic
from experiments.store import records
from experiments.store.identity import named
from experiments.store.records import (
    IDENTITY_VERSION,
    BudgetInfo,
    CostInfo,
    Measured,
    Provenance,
    Record,
    RunSpec,
    TaskInfo,
)
from experiments.store.store import Store
from experiments.store.timings import CellTime, StepTime, Timings, step_time_key

TASK = {"_target_": "tasks.qa.chain.Chain", "batch_size": 8, "n_validation": 16, "n_test": 16}
MODEL = {
    "_target_": "ressformer.models.transformer.TransformerConfig",
    "d_model": 16,
    "n_heads": 2,
    "n_layers": 1,
    "d_ff": 32,
}
VALUES = {"a": {0: 0.90, 1: 0.91, 2: 0.92}, "b": {0: 0.50, 1: 0.52, 2: 0.51}}
TRAINER: dict[str, Any] = {
    "optim": {"lr": 0.01},
    "accelerator": "cpu",
    "val_every": 5,
    "log_every": 2,
    "checkpoint_every_s": 1e9,
    "checkpoint_every_steps": 3,
}


def make_spec(
    *,
    seed: int = 0,
    steps: int = 12,
    model: str = "toy",
    task: str = "chain",
    trainer: dict[str, Any] | None = None,
    **config: Any,
) -> RunSpec:
    """A spec of a run of a second: a tiny transformer on small chains."""
    values: dict[str, Any] = {
        "task": TASK,
        "model": MODEL,
        "budget": {"name": "toy"},
        "trainer": {**TRAINER, **(trainer or {})},
        "logger": {"kind": "none"},
        "seed": seed,
        **config,
    }
    info = {"name": "chain", "version": 1, "metric": "accuracy", "higher_is_better": True, "unit": "share"}
    shape = {"length": 64, "batch_size": 8, "vocab_size": 32}
    spec = RunSpec(
        id="",
        identity_version=IDENTITY_VERSION,
        model=model,
        task=task,
        seed=seed,
        config=values,
        sizes=values["model"],
        steps=steps,
        task_info=TaskInfo.model_validate({**info, **shape, "chance": {"test/id": 0.25}}),
        budget=BudgetInfo(
            name="toy",
            regime="train_flops",
            target={"params": 1000.0, "train_flops": 1e9},
            tolerance={"params": 0.02, "train_flops": 0.01},
            residual={"params": 0.001, "train_flops": -0.002},
            binding="",
            on_budget=True,
            notes=[],
        ),
        cost=CostInfo(
            params_total=1500,
            params_non_embedding=1001,
            params_active=1001,
            flops_forward=6400.0,
            flops_forward_executed=6500.0,
            flops_per_token=100.0,
            flops_train=1e9,
            counted_forward=6500.0,
            counted_train=19500.0,
            bytes_moved=0.0,
        ),
        data_fingerprint=fingerprint_of(json.dumps(values["task"])),
    )
    return named(spec)


@functools.cache
def fingerprint_of(section: str) -> str:
    """The fingerprint of the task that a section (JSON) describes."""
    return build_task(json.loads(section)).fingerprint()


def make_record(spec: RunSpec, value: float | None = 0.5, **changes: Any) -> Record:
    """A record of `spec` with the primary metric `value` on test/id; None = failed."""
    done = value is not None
    fields: dict[str, Any] = {
        "id": spec.id,
        "status": "done" if done else "failed",
        "spec": spec,
        "steps_done": spec.steps,
        "selected_step": spec.steps if done else None,
        "selection": {"accuracy": value} if done else {},
        "metrics": {"test/id": {"accuracy": value}, "test/ood": {"accuracy": 0.1}} if done else {},
        "items": {"test/id": [value, None]} if done else {},
        "provenance": Provenance(
            git_commit=None,
            git_dirty=None,
            code_fingerprint="code",
            versions={"python": "3"},
            cpu="cpu",
            cores=2,
            threads=1,
            accelerator="cpu",
        ),
        "measured": Measured(
            started="t0",
            finished="t1",
            wall_seconds=2.0,
            train_seconds=1.0,
            tokens_per_second=1000.0 + spec.seed,
            peak_memory_mib=10.0 + spec.seed,
        ),
        "error": None if done else records.ErrorInfo(type="ValueError", message="no", traceback="at x"),
    }
    return Record(**{**fields, **changes})


def frozen_plan(store: Store, runs: list[RunSpec]) -> tuple[Plan, Path]:
    """A plan of runs, and its file in the store."""
    settings = TableSettings(name="toy", models=["toy"], tasks=["chain"], seeds=[0], budget="toy")
    plan = Plan(table=settings, code_fingerprint="code", runs=runs)
    path = store.root / "plans" / plan.file_name
    atomic.write_text(path, plan.model_dump_json())
    return plan, path


def table_plan(models: tuple[str, ...] = ("a", "b"), seeds: tuple[int, ...] = (0, 1, 2)) -> Plan:
    """A plan of some models and seeds on one task."""
    settings = {
        "name": "toy",
        "models": list(models),
        "tasks": ["chain"],
        "seeds": list(seeds),
        "budget": "toy",
        "bold_seeds": 3,
    }
    runs = [make_spec(model=m, seed=s, labelled=m) for m in models for s in seeds]
    return Plan(table=TableSettings.model_validate(settings), code_fingerprint="code", runs=runs)


def fill(store: Store, plan: Plan) -> None:
    """Give every run of the plan a record with the value of `VALUES`."""
    for spec in plan.runs:
        store.write_record(make_record(spec, VALUES[spec.model][spec.seed]))


def timed(spec: RunSpec, cpu: float, without: float) -> CellTime:
    """Step times of the run's cell, in seconds, with and without C kernels."""
    return CellTime(
        model=spec.model,
        task=spec.task,
        key=step_time_key(spec),
        batch_size=8,
        length=64,
        flops=spec.cost.flops_train / spec.steps,
        with_kernels=StepTime(cpu_seconds=cpu, wall_seconds=2 * cpu, kernels=["topk"]),
        without_kernels=StepTime(cpu_seconds=without, wall_seconds=without, kernels=[]),
    )


def a_pass(*cells: CellTime, table: str = "toy", load: float = 0.1) -> Timings:
    """A pass over these cells."""
    fixed = {"date": "2026-01-02T03:04:05+00:00", "cpu": "a processor", "cores": 2, "threads": 1, "torch": "2"}
    fixed |= {"code_fingerprint": "code", "load_before": load, "load_after": load + 1, "repeats": 3}
    return Timings(table=table, peak_flops=1e10, peak_size=1024, cells=list(cells), **fixed)
