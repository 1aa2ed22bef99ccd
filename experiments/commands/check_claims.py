"""Every registered claim and its verdict, with the runs behind it and the commit that registered it.

    python -m experiments.commands.check_claims [results_dir=FOLDER] [benchmarks=FOLDER] [claims=C1,R2]

Writes exports/claims.csv. `benchmarks` (default: <results_dir>/benchmarks) holds the CSV files of benchmarks/.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from experiments.analysis.claims import FILE, Claim, Finding, judge, load_claims
from experiments.command_line import main, unknown
from experiments.errors import UserError
from experiments.store import atomic_files as atomic
from experiments.store.provenance import ROOT
from experiments.store.store import Store

COLUMNS = [
    *("claim", "statement", "verdict", "effect", "low", "high", "p", "hardest", "why"),
    *("hash", "registered", "registered_at", "warning", "runs"),
]


@dataclass(frozen=True)
class Registration:
    """The first commit whose claims.yaml says what the claim says now, and whether it said something else before."""

    commit: str
    date: datetime
    edited: bool


def registrations(claims: dict[str, Claim], root: Path = ROOT, file: Path = FILE) -> dict[str, Registration]:
    """Per claim, where git first saw it as it is; a claim that is not committed is absent."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=60, check=False)
        return done.stdout if done.returncode == 0 else ""

    name = file.resolve().relative_to(root.resolve()).as_posix()
    found: dict[str, Registration] = {}
    earlier: dict[str, set[str]] = {}
    for line in git("log", "--reverse", "--format=%H %cI", "--", name).splitlines():
        commit, date = line.split(" ", 1)
        try:
            old = load_claims(file, git("show", f"{commit}:{name}"))
        except UserError:
            continue  # an older form of the file, which registers nothing
        for key, claim in old.items():
            if key in claims and claim.hash == claims[key].hash and key not in found:
                edited = bool(earlier.get(key))
                found[key] = Registration(commit[:12], datetime.fromisoformat(date), edited)
            earlier.setdefault(key, set()).add(claim.hash)
    return found


def warning(finding: Finding, registered: Registration | None) -> str:
    """What is wrong with the order of events, or nothing."""
    if finding.started is None:
        return "" if registered else "not committed"
    if registered is None:
        return "not committed: nothing says that it came before its runs"
    if datetime.fromisoformat(finding.started) < registered.date:
        return "edited after its runs began" if registered.edited else "registered after its runs began"
    return ""


def check(arguments: Sequence[str]) -> int:
    """Judge, print, write.

    Raises:
        UserError: an argument, claims.yaml, or a record that is at fault.
    """
    given = {key: value for key, _, value in (argument.partition("=") for argument in arguments)}
    for key in given:
        if key not in ("results_dir", "benchmarks", "claims"):
            raise UserError(unknown("argument", key, ["results_dir", "benchmarks", "claims"]))
    claims = load_claims()
    names = [name for name in given.get("claims", "").strip("[]").split(",") if name] or list(claims)
    for name in names:
        if name not in claims:
            raise UserError(unknown("claim", name, list(claims)))
    store = Store(given.get("results_dir", "results"))
    folder = Path(given.get("benchmarks", str(store.root / "benchmarks")))
    findings = [judge(name, claims[name], store, folder) for name in names]
    store.require_sound()
    frame = claims_frame(findings, registrations(claims))
    target = store.root / "exports" / "claims.csv"
    atomic.write_text(target, frame.to_csv(index=False, lineterminator="\n"))
    show(frame)
    print(f"written: {target}")
    return 0


def claims_frame(findings: Sequence[Finding], registered: dict[str, Registration]) -> pd.DataFrame:
    """One row per claim, `COLUMNS`."""
    rows = []
    for finding in findings:
        where = registered.get(finding.id)
        row = finding.model_dump(exclude={"id", "runs", "started"}) | {"claim": finding.id}
        row |= {"registered": where.commit if where else None, "runs": " ".join(finding.runs)}
        row |= {"registered_at": where.date.isoformat() if where else None, "warning": warning(finding, where)}
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def show(frame: pd.DataFrame, console: Console | None = None) -> None:
    """Print the verdicts; a pipe gets the whole width."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=200, highlight=False)
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
        if row["warning"]:
            registered += f"; {row['warning']}"
        runs = str(len(row["runs"].split())) if row["runs"] else ""
        verdict = {"supported": "[green]", "refuted": "[red]"}.get(row["verdict"], "") + row["verdict"]
        table.add_row(row["claim"], row["statement"], verdict, effect, row["hardest"], registered, runs)
    console.print(table)


if __name__ == "__main__":
    main(lambda: check(sys.argv[1:]))
