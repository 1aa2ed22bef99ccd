"""Every registered claim and its verdict, with the runs behind it and the commit that registered it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from experiments.analysis.claims import judge, load_claims
from experiments.analysis.registration import claims_frame, registrations
from experiments.errors import UserError, unknown
from experiments.reporting.screen import wide_console
from experiments.store import atomic_files as atomic
from experiments.store.store import Store


def check_claims(store: Store, names: Sequence[str] = (), benchmarks: Path | None = None) -> int:
    """Judge the claims of these names (none: all), write exports/claims.csv, print it.

    Args:
        store: the records.
        names: claims of claims.yaml.
        benchmarks: folder of the CSV files of benchmarks/; None = that of the store.

    Raises:
        UserError: an unknown name, claims.yaml, or a record that is at fault.
    """
    claims = load_claims()
    for name in names:
        if name not in claims:
            raise UserError(unknown("claim", name, list(claims)))
    folder, names = benchmarks or store.root / "benchmarks", names or list(claims)
    findings = [judge(name, claims[name], store, folder) for name in names]
    store.require_sound()
    frame = claims_frame(findings, registrations(claims), claims)
    target = store.root / "exports" / "claims.csv"
    atomic.write_text(target, frame.to_csv(index=False, lineterminator="\n"))
    show(frame)
    for line in dates(frame):
        print(line)
    print(f"written: {target}")
    return 0


def show(frame: pd.DataFrame, console: Console | None = None) -> None:
    """Print the verdicts; a pipe gets the whole width."""
    console = wide_console(console)
    table = Table(title="Claims", title_justify="left")
    for column in (
        "claim",
        "statement",
        "verdict",
        r"effect \[interval], p",
        "hardest comparison",
        "registered",
        "runs",
    ):
        table.add_column(column)
    for row in frame.to_dict("records"):
        effect = row["why"]
        if not pd.isna(row["effect"]):
            p = "" if pd.isna(row["p"]) else f", p = {row['p']:.2g}"
            effect = f"{row['effect']:.4f} [{row['low']:.4f}, {row['high']:.4f}]{p}"
        registered = f"{row['hash']} in {'no commit' if pd.isna(row['registered']) else row['registered']}"
        registered += f"; {row['warning']}" if row["warning"] else ""
        runs = str(len(row["runs"].split())) if row["runs"] else ""
        verdict = {"supported": "[green]", "refuted": "[red]"}.get(row["verdict"], "") + row["verdict"]
        table.add_row(row["claim"], row["statement"], verdict, effect, row["hardest"], registered, runs)
    console.print(table)


def dates(frame: pd.DataFrame) -> list[str]:
    """Per claim, a line of what happened when: changes of its text, registration, preset, first run; wrong orders."""
    lines = ["When each was registered, changed and run:"]
    for row in frame.to_dict("records"):
        said = [str(row["changes"])] if row["changes"] else []
        if not pd.isna(row["registered"]):
            said.append(f"registered {row['registered_at'][:10]} in {row['registered']}")
        if not pd.isna(row["preset"]):
            since = "in no commit" if pd.isna(row["preset_at"]) else f"since {' '.join(row['preset_at'].split())}"
            said.append(f"preset {row['preset']} {since}")
        if not pd.isna(row["first_run"]):
            said.append(f"first run {row['first_run']}")
        said += [f"WRONG ORDER OR CHANGED: {row['warning']}"] if row["warning"] else []
        lines.append(f"  {row['claim']}: {'; '.join(said) or 'no history'}")
    return lines
