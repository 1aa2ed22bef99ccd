"""The raw records as CSV: one file each for runs, metrics, items, steps and costs (docs/exports.md).

runs.csv has a row per record, metrics.csv per run x split x metric, items.csv per run x split x item, steps.csv per
run x logged step x key, costs.csv per model x task x module. Columns are `COLUMNS`; `id` joins all but costs.csv.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.analysis.frames import VALUE_COLUMNS, item_interval, metrics_frame, names_of, rows_of
from experiments.analysis.run_details import flops_of_step, module_rows
from experiments.analysis.run_log import log_lines
from experiments.errors import UserError
from experiments.planning.instantiate import helps
from experiments.planning.levels import level_columns, perfect_reader
from experiments.planning.plan import plan_files
from experiments.store import atomic_files as atomic
from experiments.store import plan_file
from experiments.store.identity import told_sizes
from experiments.store.records import Provenance, Record, RunSpec
from experiments.store.store import Store

RUN_COLUMNS = [
    *("id", "status", "model", "task", "seed", "budget", "regime", "on_budget", "steps", "steps_done"),
    *("selected_step", "params", "params_total", "params_active", "flops_forward", "flops_forward_executed"),
    *("flops_per_token", "train_flops", "counted_forward", "counted_train", "bytes_moved", "helps"),
    *("data_fingerprint", "code_fingerprint", "git_commit", "git_dirty", "cpu", "cores", "threads"),
    *("accelerator", "python", "torch", "started", "finished", "wall_seconds", "train_seconds"),
    *(
        "tokens_per_second",
        "peak_memory_mib",
        "error_type",
        "error_message",
        "eval_depth",
        "flops_eval",
        "native_kernels",
        "tables",
        "plans",
    ),
]
METRIC_COLUMNS = [
    *(*VALUE_COLUMNS, "items_low", "items_high", "chance", "best_rule", "best_rule_value", "ngram", "ngram_value"),
    *("perfect_reader", "different_items", "effective_items"),
]
ITEM_COLUMNS = ["id", "model", "task", "seed", "split", "metric", "item", "value", "weight"]
FLATTENED = ("config.", "sizes.")  # prefixes of the columns that follow, as many as the configs have keys
STEP_COLUMNS = ["id", "model", "task", "seed", "step", "train_flops", "key", "value"]
COST_COLUMNS = [
    *("model", "task", "id", "module", "depth", "repeats", "params", "flops_forward", "flops_forward_executed"),
    *("flops_train", "bytes_moved"),
]
COLUMNS = {
    "runs.csv": RUN_COLUMNS,
    "metrics.csv": METRIC_COLUMNS,
    "items.csv": ITEM_COLUMNS,
    "steps.csv": STEP_COLUMNS,
    "costs.csv": COST_COLUMNS,
}


def export(store: Store) -> list[Path]:
    """Write the five files into <results_dir>/exports.

    Raises:
        UserError: a record is corrupt (it is set aside first).
    """
    records = sorted(store.records(store.ids()).values(), key=lambda r: (r.spec.task, r.spec.model, r.spec.seed, r.id))
    store.require_sound()
    folder = store.root / "exports"
    runs = [run_row(record) | configured(record.spec) for record in records]
    for row, (tables, plans) in zip(runs, membership(store, [record.id for record in records]), strict=True):
        row |= {"tables": ";".join(tables), "plans": ";".join(plans)}
    files: dict[str, Iterable[dict[str, Any]]] = {
        "runs.csv": runs,
        "metrics.csv": metric_rows(records),
        "items.csv": item_rows(records),
        "steps.csv": step_rows(records, store),
        "costs.csv": cost_rows(records),
    }
    flat = sorted({key for row in runs for key in row if key.startswith(FLATTENED)}, key=lambda k: (k[:7], k))
    for name, rows in files.items():
        atomic.write_text(folder / name, to_csv([*COLUMNS[name], *(flat if name == "runs.csv" else [])], rows))
    return [folder / name for name in files]


def to_csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """CSV text; a key that is not a column is an error."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def configured(spec: RunSpec) -> dict[str, Any]:
    """The config of a run and its solved sizes in columns of their own: `config.trainer.optim.lr`, `sizes.d_model`."""

    def flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                yield from flat(f"{prefix}.{key}", inner)
        else:
            yield prefix, json.dumps(value) if isinstance(value, list | dict) else value

    return dict([*flat("config", spec.config), *flat("sizes", spec.sizes)])


def membership(store: Store, runs: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    """For each run the tables and the plan files that it belongs to; a file that is no plan is left out."""
    found: dict[str, tuple[list[str], list[str]]] = {run: ([], []) for run in runs}
    for path, table in sorted(plan_files(store.root / "plans").items()):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            for run in {spec["id"] for spec in json.loads(plan_file.read(path))["runs"]} & found.keys():
                tables, plans = found[run]
                tables += [] if table in tables else [table]
                plans.append(path.name)
    return [found[run] for run in runs]


def run_row(record: Record) -> dict[str, Any]:
    """A row of runs.csv."""
    spec, cost, origin, measured = record.spec, record.spec.cost, record.provenance, record.measured
    return {
        **names_of(record.spec),
        "status": record.status,
        "budget": spec.budget.name,
        "regime": spec.budget.regime,
        "on_budget": spec.budget.on_budget,
        "steps": spec.steps,
        "steps_done": record.steps_done,
        "selected_step": record.selected_step,
        "params": cost.params_non_embedding,
        "params_total": cost.params_total,
        "params_active": cost.params_active,
        "flops_forward": cost.flops_forward,
        "flops_forward_executed": cost.flops_forward_executed,
        "flops_per_token": cost.flops_per_token,
        "train_flops": cost.flops_train,
        "counted_forward": cost.counted_forward,
        "counted_train": cost.counted_train,
        "bytes_moved": cost.bytes_moved,
        "eval_depth": cost.eval_depth,
        "flops_eval": cost.flops_eval,
        "helps": helps(spec.sizes, spec.allow_targets),
        "data_fingerprint": spec.data_fingerprint,
        **origin.model_dump(exclude={"versions", "attempt_threads", "native_kernels"}),
        "native_kernels": kernels_of(origin),
        "python": origin.versions.get("python"),
        "torch": origin.versions.get("torch"),
        **measured.model_dump(),
        "error_type": record.error.type if record.error else None,
        "error_message": record.error.message if record.error else None,
    }


def kernels_of(origin: Provenance) -> str | None:
    """The C kernels that ran, joined by `;`; `none`; None where the record does not say."""
    return None if origin.native_kernels is None else ";".join(origin.native_kernels) or "none"


def metric_rows(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Rows of metrics.csv, with what the number of items leaves open in the primary metric, and the levels."""
    by_id = {record.id: record for record in records}
    for row in rows_of(metrics_frame(records)):
        info, split, metric = by_id[row["id"]].spec.task_info, row["split"], row["metric"]
        interval = item_interval(by_id[row["id"]], split) if row["primary"] else None
        levels = level_columns(info, split, metric) | {"perfect_reader": perfect_reader(info, split, metric)}
        levels |= {"chance": info.chance.get(split) if row["primary"] else None}
        yield row | levels | ({"items_low": interval.low, "items_high": interval.high} if interval else {})


def item_rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Rows of items.csv: the primary metric of each test item; items are paired across models and seeds."""
    for record in records:
        for split, values in record.items.items():
            weights = record.item_weights.get(split) or [1.0] * len(values)
            for item, (value, weight) in enumerate(zip(values, weights, strict=True)):
                names = {**names_of(record.spec), "split": split, "metric": record.spec.task_info.metric}
                yield {**names, "item": item, "value": value, "weight": weight}


def step_rows(records: Iterable[Record], store: Store) -> Iterator[dict[str, Any]]:
    """Rows of steps.csv: all that the run logged, with the training FLOPs spent by then."""
    for record in records:
        for line in log_lines(store, record.id):
            step = line.pop("step")
            flops = flops_of_step(record.spec, step)
            for key, value in line.items():
                yield {**names_of(record.spec), "step": int(step), "train_flops": flops, "key": key, "value": value}


def cost_rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Rows of costs.csv: the modules of each distinct solved model; `id` is one of the runs that have it."""
    seen: set[str] = set()
    for record in records:
        spec = record.spec
        key = json.dumps([spec.model, spec.task, told_sizes(spec), spec.task_info.length], sort_keys=True)
        if key in seen:
            continue
        seen.add(key)
        with contextlib.suppress(UserError):  # a class that is gone has no closed form any more
            for row in module_rows(spec):
                yield {"model": spec.model, "task": spec.task, "id": record.id, **row}
