"""Is the ledger sound? Every record hashed again, every identity derived again, the table made again."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis.trials import RANKING, TRIALS, is_grid, is_sweep_plan, ranking, trial_files
from experiments.errors import UserError
from experiments.planning.plan import Plan, load_plan, plan_files
from experiments.reporting.csv_export import to_csv
from experiments.reporting.table import build
from experiments.store import seal
from experiments.store.identity import identity, without_later
from experiments.store.records import COUNTED, IDENTITY_VERSION, RunSpec, result_hash
from experiments.store.store import Store
from experiments.studies.evidence import differences, evidence


def verify(plan: Plan, path: Path, store: Store) -> int:
    """Print what is wrong with a plan's records and table, and what was checked; 1 if anything is wrong."""
    wrong = list(_archive_faults(store))
    return _said([*wrong, *plan_faults(plan, path, store, derive=not wrong)])


def verify_all(store: Store) -> int:
    """The same of every record and every plan of a results folder, the archive included."""
    wrong, planned = list(_archive_faults(store)), set()
    whole = not wrong
    for path in plan_files(store.root / "plans"):
        try:
            plan = load_plan(path)
        except (UserError, ValueError) as error:
            wrong.append(f"plan {path.name}: {error}")
            continue
        print(f"plan {path.name}: ", end="")
        wrong += [f"plan {path.name}: {fault}" for fault in plan_faults(plan, path, store, derive=whole)]
        planned |= {spec.id for spec in plan.runs}
    others = [run for run in store.ids() if run not in planned]
    found = [(run, fault) for run in others for fault in record_faults(run, store)]
    print(f"{sum(_there(run, store) for run in others)} records of runs that no plan has hashed again")
    return _said([*wrong, *(f"run {run}: {fault}" for run, fault in found)])


def _said(wrong: list[str]) -> int:
    for fault in wrong:
        print(fault)
    print("sound" if not wrong else f"{len(wrong)} faults")
    return 1 if wrong else 0


def _archive_faults(store: Store) -> Iterator[str]:
    if store.archive is not None:
        yield from store.archive.faults()
        print(f"archive: the sha256 of {len(store.archive.files)} files taken again")


def misnamed(plan: Plan) -> Iterator[str]:
    """Runs whose name is not what the rule of today makes of their spec; names by an older rule are passed over."""
    for spec in plan.unique():
        if spec.identity_version == IDENTITY_VERSION and (name := identity(spec)) != spec.id:
            yield f"run {spec.id} ({spec.model}, {spec.task}, seed {spec.seed}): its spec is that of {name}"


def plan_faults(plan: Plan, path: Path, store: Store, *, derive: bool = True) -> Iterator[str]:
    """What is wrong with the records of a plan; if nothing is, with what they give. Says what was checked.

    `derive` False: the archive is damaged, so nothing is derived from it.
    """
    names = list(misnamed(plan))
    yield from names
    specs, sound, checked = plan.unique(), not names, 0
    for spec in specs:
        checked += _there(spec.id, store)
        for fault in record_faults(spec.id, store, spec):
            sound = False
            yield f"run {spec.id} ({spec.model}, {spec.task}, seed {spec.seed}): {fault}"
    print(f"{checked} records of {len(specs)} runs hashed again; {len(specs) - checked} runs have none")
    if sound and checked and derive:
        yield from table_faults(plan, store)
        yield from _evidence_faults(plan, path, store)


def _there(run: str, store: Store) -> bool:
    try:
        return store.raw(run) is not None
    except ValueError:
        return True


def record_faults(run: str, store: Store, spec: RunSpec | None = None) -> Iterator[str]:
    """What is wrong with the record of a run and what lies beside it; and whether it ran `spec`."""
    try:
        if (data := store.raw(run)) is None:
            return
        values = json.loads(data)
        values.pop("seal", None)
    except (OSError, ValueError, AttributeError) as error:
        yield f"the record cannot be read ({error})"
        return
    if not isinstance(values, dict) or not isinstance(values.get("spec"), dict):
        yield "the record is not one"
        return
    yield from _hash_faults(data, values)
    yield from store.log_faults(run, data)
    if values.get("id") != run:
        yield f"the record is that of run {values.get('id')}"
    if spec is None:
        return
    ran, planned = without_later(values["spec"]), without_later(spec.model_dump(mode="json"))
    cost = ran.get("cost")
    if isinstance(cost, dict):  # counted when the run is made
        planned["cost"] |= {key: cost.get(key) for key in COUNTED if planned["cost"][key] is None}
    differ = [key for key in MATTERS if _less_notes(ran.get(key)) != _less_notes(planned[key])]
    if differ:
        yield f"what was run is not what was planned: {', '.join(differ)} differ"


def _less_notes(value: Any) -> Any:
    """Without the budget's notes, which say how a plan came to its sizes (two plans may share a run), and what is
    empty.

    A field that is null or empty says as much as one that an older record lacks.
    """
    if not isinstance(value, dict):
        return value
    return {key: each for key, each in value.items() if key != "notes" and each not in (None, {}, [])}


MATTERS = ("id", "seed", "sizes", "steps", "data_fingerprint", "task_info", "budget", "cost")


def _hash_faults(data: bytes, values: dict[str, Any]) -> Iterator[str]:
    try:
        seal.record_in(data)
    except ValueError as error:
        yield f"of the record: {error}"
    else:
        if result_hash(values) != values.get("result_hash"):
            yield "the result of the record does not fit its hash"


def table_faults(plan: Plan, store: Store) -> Iterator[str]:
    """What differs between the exports and what the records give now; says what agrees."""
    for name, text in derived(plan, store):
        found = store.export(name)
        if found is None:
            print(f"{name}: not written yet")
        elif found in (text, _less_new_columns(text, found)):
            print(f"{name}: derived again, the same")
        else:
            yield f"{name} is not what the records give; the same table or sweep again writes it anew"


def _less_new_columns(text: str, found: str) -> str:
    """The CSV `text` in the columns that `found` has: an older export lacks those that have come since."""
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    kept = [name for name in found.partition("\n")[0].split(",") if name in frame.columns]
    return str(frame[kept].to_csv(index=False, lineterminator="\n"))


def _evidence_faults(plan: Plan, path: Path, store: Store) -> Iterator[str]:
    """What differs between the cells, item intervals and curves that were packed and those that the records give."""
    if store.archive is None or path.name not in store.archive.plans:
        return
    # Under the name of the file: a plan that was frozen before some field came would be named otherwise now.
    before = store.archive.derived(path.stem)
    if not before and not is_sweep_plan(plan, store.export(f"{plan.table.name}.csv") or ""):
        yield f"{plan.table.name}: what the records gave was not packed"
    now = evidence(plan, store) if before else {}
    for name, text in before.items():
        wrong = list(differences(text, now.get(name, "")))
        yield from (f"{plan.table.name}: {name}: {fault}" for fault in wrong)
        if not wrong:
            print(f"{name}: {text.count(chr(10)) - 1} rows derived again, the same")


def derived(plan: Plan, store: Store) -> Iterator[tuple[str, str]]:
    """The exports of the plan that do not depend on the clock, made from the records."""
    name = plan.table.name
    if keys := _tuned(store.export(f"{name}.csv") or ""):
        records = store.records(spec.id for spec in plan.unique())
        for suffix, (columns, rows) in trial_files(plan, records, keys).items():
            yield f"{name}{suffix}.csv", to_csv(columns, rows)
        return
    if is_grid(name, store.export(f"{name}.csv") or ""):
        rows = ranking(plan, store.records(spec.id for spec in plan.unique()))
        yield f"{name}.csv", to_csv(RANKING, rows)
        return
    yield f"{name}.csv", build(plan, store, pace=False).cells.to_csv(index=False, lineterminator="\n")


def _tuned(text: str) -> list[str]:
    """The keys that a tuning searched, from the head of its trials; empty if the file is of no tuning."""
    head = text.partition("\n")[0].split(",")
    return head[len(TRIALS) :] if head[: len(TRIALS)] == TRIALS else []
