"""Time of the table and of the report over many synthetic records.

    python -m benchmarks.report_scale folder=FOLDER [records=10000]

Makes the records in FOLDER if they are not there, then times `table.build` with its files, and the report (without
PNG and PDF), each in a fresh process. CPU seconds are what counts on a busy machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from experiments.planning.plan import Plan
from experiments.planning.settings import TableSettings
from experiments.store.records import BudgetInfo, CostInfo, Measured, Provenance, Record, RunSpec, TaskInfo
from experiments.store.store import Store

MODELS, TASKS, ITEMS, LINES = 10, 10, 256, 60
COST = dict.fromkeys(("params_total", "params_non_embedding", "params_active"), 200_000) | dict.fromkeys(
    ("flops_forward", "flops_forward_executed", "flops_per_token", "flops_train", "bytes_moved"), 1e9
)
SIZES = {"_target_": "ressformer.models.transformer.TransformerConfig", "d_model": 64, "n_heads": 4, "n_layers": 4}


def spec_of(model: int, task: int, seed: int) -> RunSpec:
    """The spec of one synthetic run."""
    info = {"name": f"task{task}", "version": 1, "metric": "accuracy", "higher_is_better": True, "unit": "share"}
    info |= {"chance": {"test/id": 0.25}, "length": 64, "batch_size": 8, "vocab_size": 32}
    budget = {
        "name": "toy",
        "regime": "train_flops",
        "target": {"train_flops": 1e9},
        "tolerance": {"train_flops": 0.01},
    }
    budget |= {"residual": {"train_flops": 0.001}, "binding": "", "on_budget": True, "notes": []}
    return RunSpec(
        id=f"{model:04x}{task:04x}{seed:08x}",
        model=f"model{model}",
        task=f"task{task}",
        seed=seed,
        config={"model": SIZES, "task": {"length": 64}, "trainer": {}, "seed": seed},
        sizes=SIZES,
        steps=600,
        task_info=TaskInfo.model_validate(info),
        budget=BudgetInfo.model_validate(budget),
        cost=CostInfo.model_validate({**COST, "counted_forward": 1e9, "counted_train": 3e9}),
        data_fingerprint="0" * 64,
    )


def record_of(spec: RunSpec, random: np.random.Generator) -> Record:
    """A record; one in fifty failed."""
    value = float(np.clip(0.5 + 0.03 * random.standard_normal(), 0, 1))
    origin = {"git_commit": "0" * 40, "git_dirty": False, "code_fingerprint": "code", "versions": {"torch": "2"}}
    origin |= {"cpu": "cpu", "cores": 2, "threads": 1, "accelerator": "cpu"}
    clock = {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:01:00+00:00", "wall_seconds": 60.0}
    clock |= {"train_seconds": 50.0, "tokens_per_second": 1e4, "peak_memory_mib": 200.0}
    failed = bool(random.random() < 0.02)
    values = (random.random(ITEMS) < value).astype(float).tolist()
    splits = ("test/id", "test/ood_near", "test/ood_far")
    metrics = {s: {"accuracy": value, "accuracy/hops1": value, "accuracy/hops2": value / 2} for s in splits}
    return Record.model_validate(
        {
            "id": spec.id,
            "status": "failed" if failed else "done",
            "spec": spec,
            "steps_done": spec.steps,
            "selected_step": spec.steps,
            "selection": {},
            "metrics": {} if failed else metrics,
            "items": {} if failed else dict.fromkeys(splits, values),
            "provenance": Provenance.model_validate(origin),
            "measured": Measured.model_validate(clock),
            "error": {"type": "ValueError", "message": "synthetic", "traceback": ""} if failed else None,
        }
    )


def make(folder: Path, records: int) -> None:
    """Write the plan, the records and the logs."""
    store, random = Store(folder), np.random.default_rng(0)
    seeds = range(records // (MODELS * TASKS))
    specs = [spec_of(m, t, s) for t in range(TASKS) for m in range(MODELS) for s in seeds]
    names = {"models": [f"model{m}" for m in range(MODELS)], "tasks": [f"task{t}" for t in range(TASKS)]}
    table = TableSettings.model_validate({"name": "scale", **names, "seeds": list(seeds), "budget": "toy"})
    log = "\n".join(json.dumps({"step": 10 * n, "train/loss": 1.0, "val/accuracy": n / LINES}) for n in range(LINES))
    for spec in specs:
        run = store.folder(spec.id)
        run.mkdir(parents=True, exist_ok=True)
        (run / "record.json").write_text(record_of(spec, random).model_dump_json(indent=1))
        (run / "metrics.jsonl").write_text(log)
    plan = Plan(table=table, code_fingerprint="code", runs=specs)
    (folder / "plans").mkdir(exist_ok=True)
    (folder / "plans" / plan.file_name).write_text(plan.model_dump_json())


def measure(what: str, folder: Path) -> None:
    """Do one of the two and print its seconds; to be called in a process of its own."""
    begun, cpu = time.perf_counter(), time.process_time()
    from experiments.planning.table_plans import newest_plan
    from experiments.reporting.html_page import write_html
    from experiments.reporting.table import build, write

    store = Store(folder)
    plan = newest_plan(folder / "plans", "scale")
    assert plan is not None
    if what == "table":
        write(build(plan, store), "scale", store)
    else:
        size = write_html(plan, store).stat().st_size
        print(f"page {size / 1e6:.2f} MB")
    wall = time.perf_counter() - begun
    print(f"{what} over {len(plan.runs)} records: {time.process_time() - cpu:.1f} CPU s, {wall:.1f} s wall")


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    place = Path(given["folder"])
    if "only" in given:
        measure(given["only"], place)
    else:
        if not (place / "plans").exists():
            make(place, int(given.get("records", "10000")))
        for what in ("table", "report"):
            command = [sys.executable, "-m", "benchmarks.report_scale", f"folder={place}", f"only={what}"]
            subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
