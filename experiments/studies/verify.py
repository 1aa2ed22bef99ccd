"""Is the ledger sound? Every record hashed again, every identity derived again, the table made again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.analysis.trials import RANKING, TRIALS, ranking, trial_files
from experiments.planning.plan import Plan
from experiments.reporting.csv_export import to_csv
from experiments.reporting.table import build
from experiments.store import atomic_files as atomic
from experiments.store.identity import identity
from experiments.store.records import COUNTED, IDENTITY_VERSION, RunSpec, content_hash, result_hash
from experiments.store.store import Store


def verify(plan: Plan, path: Path, store: Store) -> int:
    """Print what is wrong, and what was checked; 1 if anything is wrong. Nothing is changed.

    Raises:
        UserError: a record cannot be read, so that no table can be made.
    """
    wrong = [*frozen_as_named(plan, path), *misnamed(plan)]
    checked = 0
    for spec in plan.unique():
        found = list(record_faults(spec, store))
        checked += store.status(spec.id) is not None
        wrong += [f"run {spec.id} ({spec.model}, {spec.task}, seed {spec.seed}): {fault}" for fault in found]
    for fault in wrong:
        print(fault)
    total = len(plan.unique())
    print(f"{checked} records of {total} runs hashed again; {total - checked} runs have none")
    if not wrong and checked:
        wrong = list(table_faults(plan, store))
        for fault in wrong:
            print(fault)
    print("sound" if not wrong else f"{len(wrong)} faults")
    return 1 if wrong else 0


def frozen_as_named(plan: Plan, path: Path) -> Iterator[str]:
    """The name of a plan file ends in the hash of its content as it was written: fields may have come since."""
    name = f"{plan.table.name}-{atomic.digest(json.loads(path.read_bytes()), 12)}.json"
    if name != path.name:
        yield f"the plan {path.name} is not as it was frozen: its content is that of {name}"


def misnamed(plan: Plan) -> Iterator[str]:
    """Runs whose name is not what the rule of today makes of their spec; names by an older rule are passed over."""
    for spec in plan.unique():
        if spec.identity_version == IDENTITY_VERSION and (name := identity(spec)) != spec.id:
            yield f"run {spec.id} ({spec.model}, {spec.task}, seed {spec.seed}): its spec is that of {name}"


def record_faults(spec: RunSpec, store: Store) -> Iterator[str]:
    """What is wrong with the record of a run."""
    try:
        values = json.loads((store.folder(spec.id) / "record.json").read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        yield f"the record cannot be read ({error})"
        return
    if not isinstance(values, dict) or not isinstance(values.get("spec"), dict):
        yield "the record is not one"
        return
    yield from _hash_faults(values)
    if values.get("id") != spec.id:
        yield f"the record is that of run {values.get('id')}"
    planned, cost = spec.model_dump(mode="json"), values["spec"].get("cost")
    if isinstance(cost, dict):  # counted when the run is made
        planned["cost"] |= {key: cost.get(key) for key in COUNTED if planned["cost"][key] is None}
    differ = [key for key in MATTERS if _less_notes(values["spec"].get(key)) != _less_notes(planned[key])]
    if differ:
        yield f"what was run is not what was planned: {', '.join(differ)} differ"


def _less_notes(value: Any) -> Any:
    """Without the budget's notes, which say how a plan came to its sizes (two plans may share a run), and without null.

    A field that is null says as much as one that an older record lacks.
    """
    if not isinstance(value, dict):
        return value
    return {key: each for key, each in value.items() if key != "notes" and each is not None}


MATTERS = ("id", "seed", "sizes", "steps", "data_fingerprint", "task_info", "budget", "cost")


def _hash_faults(values: dict[str, Any]) -> Iterator[str]:
    if not values.get("content_hash"):
        yield "the record has no hash"
        return
    if content_hash(values) != values["content_hash"]:
        yield "the content of the record does not fit its hash"
    elif result_hash(values) != values.get("result_hash"):
        yield "the result of the record does not fit its hash"


def table_faults(plan: Plan, store: Store) -> Iterator[str]:
    """What differs between the exports and what the records give now; says what agrees."""
    for path, text in derived(plan, store):
        if not path.exists():
            print(f"{path.name}: not written yet")
        elif path.read_text() == text:
            print(f"{path.name}: derived again, the same")
        else:
            yield f"{path.name} is not what the records give; the same table or sweep again writes it anew"


def derived(plan: Plan, store: Store) -> Iterator[tuple[Path, str]]:
    """The exports of the plan that do not depend on the clock, made from the records."""
    folder = store.root / "exports"
    if keys := _tuned(folder / f"{plan.table.name}.csv"):
        records = store.records(spec.id for spec in plan.unique())
        for suffix, (columns, rows) in trial_files(plan, records, keys).items():
            yield folder / f"{plan.table.name}{suffix}.csv", to_csv(columns, rows)
        return
    if plan.table.name.startswith("sweep-"):
        yield (
            folder / f"{plan.table.name}.csv",
            to_csv(RANKING, ranking(plan, store.records(spec.id for spec in plan.unique()))),
        )
        return
    report = build(plan, store)
    yield folder / f"{plan.table.name}.csv", report.cells.to_csv(index=False, lineterminator="\n")


def _tuned(path: Path) -> list[str]:
    """The keys that a tuning searched, from the head of its trials; empty if the file is of no tuning."""
    head = path.read_text().partition("\n")[0].split(",") if path.exists() else []
    return head[len(TRIALS) :] if head[: len(TRIALS)] == TRIALS else []
