"""What stands behind one cell of a table: the runs with their values, records, sources, machines and configs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from experiments.analysis.significance import summary
from experiments.errors import UserError, unknown
from experiments.planning.plan import plan_files
from experiments.planning.table_plans import plans_of
from experiments.store.records import Record, RunSpec
from experiments.store.store import Store
from experiments.studies.named_plan import has_results, say_which


def why(table: str, row: str, column: str, store: Store) -> int:
    """Print the runs behind a cell of the newest plan of the table, or else of a part of it, that has it and results.

    Raises:
        UserError: no such table, row or column, or a corrupt record.
    """
    folder = store.root / "plans"
    plans = list(plans_of(folder, table))
    if not plans:
        have = sorted(set(plan_files(folder).values()))
        raise UserError(unknown(f"table in {store.root.name}/plans", table, have))
    fits = [plan for plan in plans if any((spec.model, spec.task) == (row, column) for spec in plan.runs)] or plans
    plan = next((plan for plan in fits if has_results(plan, store)), fits[0])
    say_which(store, table, folder / plan.file_name)
    for kind, name, known in (
        ("row", row, [entry.label for entry in plan.table.entries()]),
        ("column", column, plan.table.tasks),
    ):
        if name not in known:
            raise UserError(unknown(f"{kind} of table {table}", name, known))
    specs = [spec for spec in plan.runs if (spec.model, spec.task) == (row, column)]
    records = store.records(spec.id for spec in specs)
    store.require_sound()
    print("\n".join(lines(specs, [records.get(spec.id) for spec in specs], store)))
    return 0


def lines(specs: Sequence[RunSpec], records: Sequence[Record | None], store: Store) -> list[str]:
    """The answer, line by line."""
    first = specs[0]
    metric = first.task_info.metric
    values = [r.metrics["test/id"][metric] for r in records if r is not None and r.status == "done"]
    found = summary(values)
    out = [f"{first.model} on {first.task}: {metric} ({first.task_info.unit}) on test/id"]
    if found.mean is not None:
        interval = "" if found.low is None else f", 95% t-interval [{found.low:.4f}, {found.high:.4f}]"
        out.append(f"  mean {found.mean:.4f} over {found.n} of {len(specs)} runs{interval}")
    residuals = ", ".join(f"{key} {value:+.2%}" for key, value in first.budget.residual.items())
    out.append(f"  budget {first.budget.name} ({first.budget.regime}), residuals: {residuals}")
    out.append(f"  sizes {json.dumps(first.sizes)}")
    out.append(f"  data {first.data_fingerprint}")
    for spec, record in zip(specs, records, strict=True):
        out.append("")
        out.append(f"  run {spec.id}, seed {spec.seed}: {_state(record, metric) if record else store.state(spec.id)}")
        out.append(f"    record  {store.folder(spec.id) / 'record.json'}")
        if record is not None:
            origin = record.provenance
            dirty = " with changes" if origin.git_dirty else ""
            out.append(f"    sources {origin.code_fingerprint}, commit {origin.git_commit or 'none'}{dirty}")
            out.append(f"    machine {origin.cpu}, {origin.accelerator}, torch {origin.versions.get('torch')}")
            out.append(f"    time    {record.measured.started} to {record.measured.finished}")
        out.append(f"    config  {json.dumps(spec.config)}")
    return out


def _state(record: Record, metric: str) -> str:
    if record.status == "done":
        return f"{metric} {record.metrics['test/id'][metric]:.4f}, weights of step {record.selected_step}"
    return f"{record.status}: {record.error.type}: {record.error.message}" if record.error else record.status
