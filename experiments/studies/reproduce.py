"""Plan a table, run what is missing, print the table.

    python -m experiments reproduce table=quick
    python -m experiments reproduce table=quick table.seeds=[0,1] trainer.optim.lr=1e-3 launcher.n_jobs=1
    python -m experiments reproduce plan=results/plans/quick-0123456789ab.json

Every argument is a Hydra override of conf/config.yaml; `table.*` chooses the runs, the rest applies to each
of them. `plan=FILE` carries out a plan as it was frozen. Exit codes: 0, 1 (a run failed), 2 (input), 130
(interrupted).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.errors import UserError, clipped
from experiments.launching.launch import Launch
from experiments.planning.hydra_config import values_of
from experiments.planning.plan import Plan, Request, load_plan, plan_for, read_request
from experiments.planning.settings import LauncherSettings
from experiments.planning.table_name import preset_of
from experiments.planning.table_plans import reference_of
from experiments.reporting.screen import show
from experiments.reporting.table import build, write
from experiments.store.store import Store
from experiments.studies.run_states import reason
from experiments.training.signals import sigterm_interrupts

REFERENCES = Path("results") / "reference"  # committed results of tables
REASONS = 3  # failed runs whose reason is printed


def reproduce(
    arguments: Sequence[str], table: dict[str, Any] | None = None, references: Path | None = REFERENCES
) -> int:
    """The verb: `arguments` are Hydra overrides, `table` the settings of an ad-hoc table.

    A table that has a reference in `references` ends with what that says, and whether these runs agree with it.

    Raises:
        UserError: see experiments.planning.plan; or a corrupt record, which is set aside first.
    """
    plan, path, store, launcher = prepare(arguments, table)
    if not carry(plan, path, store, launcher):
        return 0
    code = conclude(plan, store)
    if references is not None and reference_of(preset_of(plan.table.name), references) is not None:
        from experiments.studies.reference import reference_lines  # the verdicts take 1 s to load

        for line in reference_lines(plan, store, references):
            print(line)
    return code


def prepare(
    arguments: Sequence[str], table: dict[str, Any] | None = None, *, read: bool = True
) -> tuple[Plan, Path, Store, LauncherSettings]:
    """The plan, its file, the store and the launcher that the arguments ask for.

    Every record is read once, so that a corrupt one shows before anything starts; `read` False leaves that out.
    """
    frozen = values_of("plan", arguments)
    if frozen:
        others = [a for a in arguments if not a.startswith(("plan=", "launcher", "table="))]
        if others:
            raise UserError(f"a plan is frozen: plan=FILE takes launcher options only, not {others[0]}")
        path = Path(frozen[-1]).absolute()
        plan = load_plan(path)
        rest = [a for a in arguments if a.startswith("launcher")]
        request: Request = read_request(rest, plan.table.model_dump())
        store = Store(path.parent.parent)
    else:
        request = read_request(arguments, table)
        store = Store(request.results_dir)
        plan, path = plan_for(request, store)
    if read:
        store.records(spec.id for spec in plan.unique())
        store.require_sound()
    return plan, path, store, request.launcher


def carry(plan: Plan, path: Path, store: Store, launcher: LauncherSettings) -> bool:
    """Run what is missing; say how to go on when interrupted. False if runs were only submitted."""
    launch = Launch(plan, path, store, launcher)
    missing, total = len(launch.missing()), len(plan.unique())
    print(f"plan {path.name}: {total} runs, {total - missing} over, {missing} to do", file=sys.stderr)
    try:
        with sigterm_interrupts():
            launch.go()
    except KeyboardInterrupt:
        left = len(launch.missing())
        print(f"stopped; {left} of {total} runs are left; the same command goes on from there", file=sys.stderr)
        raise
    if not launcher.wait and launch.missing():
        print(f"submitted; python -m experiments status plan={path} shows how it goes", file=sys.stderr)
        return False
    return True


def conclude(plan: Plan, store: Store) -> int:
    """Print and write the table; 1 if a run has no result."""
    report = build(plan, store)
    paths = write(report, plan.table.name, store)
    show(report, plan.table.name)
    print(f"written in {paths[0].parent}: {', '.join(path.name for path in paths)}")
    return failures(plan, store)


def failures(plan: Plan, store: Store) -> int:
    """Say how many runs have no result, and of the first ones why; 1 if there are any."""
    runs = plan.unique()
    bad = sum(store.state(spec.id) != "done" for spec in runs)
    if bad:
        print(
            f"{bad} of {len(runs)} runs failed; see runs/<id>/record.json and log; "
            "launcher.retry_failed=true runs them again",
            file=sys.stderr,
        )
        tell_reasons(plan, store)
    return 1 if bad else 0


def tell_reasons(plan: Plan, store: Store) -> None:
    """A line for each of the first runs that have no result: which, and why."""
    bad = [spec for spec in plan.unique() if store.state(spec.id) != "done"]
    for spec in bad[:REASONS]:
        said = clipped(reason(spec, store) if store.status(spec.id) else store.state(spec.id), 300)
        print(f"  {spec.id} ({spec.model}, {spec.task}, seed {spec.seed}): {said}", file=sys.stderr)
    if len(bad) > REASONS:
        print(f"  and {len(bad) - REASONS} more", file=sys.stderr)
