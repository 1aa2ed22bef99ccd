"""Offline W&B runs: prints the commands that upload them; the exports of each table become a run of their own.

Nothing is uploaded here. A report's run has the hash of its files as its id, so it is made once per content.
"""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

import pandas as pd

from experiments.planning.settings import LoggerSettings
from experiments.store.wandb_session import close_wandb, open_wandb, prepare_wandb

PICTURES = (".png", ".jpg", ".svg")


def sync(root: Path, settings: LoggerSettings) -> int:
    """Make the runs of the reports below a results folder and print a command per offline run."""
    runs = sorted((root / "runs").glob("*/wandb/offline-run-*"))
    if not runs:
        print(f"no offline run in {root}; logger=wandb makes them")
        return 0
    for table in sorted((root / "exports").glob("*.csv")):
        if not table.stem.endswith("-timing"):
            log_report(table.stem, root, settings)
    for path in [*runs, *sorted((root / "exports").glob("wandb/offline-run-*"))]:
        print(f"wandb sync --project {shlex.quote(settings.project)} {shlex.quote(str(path))}")
    return 0


def log_report(name: str, root: Path, settings: LoggerSettings) -> None:
    """A run of its own with the tables, plots and pages that were exported under `name`, unless there is one."""
    folder = root / "exports"
    files = sorted(path for path in folder.glob(f"{name}*") if path.is_file())
    files += sorted(path for path in (folder / name).rglob("*") if path.is_file()) if (folder / name).is_dir() else []
    total = hashlib.sha256()
    for path in files:
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    identity = total.hexdigest()[:16]
    if list(folder.glob(f"wandb/offline-run-*-{identity}")):
        return
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
