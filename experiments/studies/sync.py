"""Offline W&B runs: prints the commands that upload them; the exports of each table become a run of their own.

Nothing is uploaded here. A report's run has the hash of its files as its id, so it is made once per content.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from pathlib import Path

import pandas as pd

from experiments.planning.plan import Plan
from experiments.planning.settings import LoggerSettings
from experiments.store.wandb_session import close_wandb, open_wandb, prepare_wandb

PARTS = ("-timing", "-runs", "-wide", "-aggregate", "-table")  # what the names of a table's other files end in
PICTURES = (".png", ".jpg", ".svg")


def sync(root: Path, settings: LoggerSettings, plan: Plan | None = None) -> int:
    """Make the runs of the reports below a results folder and print a command per offline run that is not uploaded.

    Args:
        root: the results folder.
        settings: the project.
        plan: the table or sweep whose runs and report are meant; None = all that there are.
    """
    names = ["*"] if plan is None else [spec.id for spec in plan.unique()]
    runs = sorted(path for name in names for path in (root / "runs").glob(f"{name}/wandb/offline-run-*"))
    if not runs:
        of = f" of {plan.table.name}" if plan is not None else ""
        print(f"no offline run{of} in {root}; logger=wandb makes them")
        return 0
    reports = []
    for table in sorted((root / "exports").glob("*.csv")):
        if table.stem == plan.table.name if plan is not None else not table.stem.endswith(PARTS):
            reports.append(f"wandb/offline-run-*-{log_report(table.stem, root, settings)}")
    made = ["wandb/offline-run-*"] if plan is None else reports
    runs += sorted(path for name in made for path in (root / "exports").glob(name))
    fresh = [path for path in runs if not list(path.glob("*.wandb.synced"))]
    for path in fresh:
        print(f"wandb sync --project {shlex.quote(settings.project)} {shlex.quote(str(path))}")
    if len(fresh) < len(runs):
        print(f"{len(runs) - len(fresh)} runs are uploaded already", file=sys.stderr)
    return 0


def log_report(name: str, root: Path, settings: LoggerSettings) -> str:
    """Make a run of the tables, plots and pages that were exported under `name`, unless there is one; its id."""
    folder = root / "exports"
    files = sorted(path for path in folder.glob(f"{name}*") if path.is_file() and _of(name, path.name))
    files += sorted(path for path in (folder / name).rglob("*") if path.is_file()) if (folder / name).is_dir() else []
    total = hashlib.sha256()
    for path in files:
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    identity = total.hexdigest()[:16]
    if list(folder.glob(f"wandb/offline-run-*-{identity}")):
        return identity
    prepare_wandb(root)
    import wandb  # 0.9 s, and only where there is something to upload

    options = {"id": identity, "name": f"report-{name}", "job_type": "report", "tags": ["report"]}
    run = open_wandb(settings.project, folder, group=name, **options)
    for path in files:
        if path.suffix == ".csv":
            run.log({f"tables/{path.stem}": wandb.Table(dataframe=pd.read_csv(path).astype(object))})
        elif path.suffix in PICTURES[:2]:
            run.log({f"plots/{path.stem}": wandb.Image(str(path))})
        elif path.suffix == ".html":
            run.log({f"pages/{path.stem}": wandb.Html(str(path), inject=False)})
    close_wandb(run, True)
    return identity


def _of(name: str, file: str) -> bool:
    """Whether a file of the exports is of this table, and not of one whose name begins alike."""
    rest = file.removeprefix(name)
    return rest.startswith(".") or rest.partition(".")[0] in PARTS
