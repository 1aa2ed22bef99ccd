"""When a claim was registered: the first commit whose claims.yaml says what the claim says now."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from experiments.analysis.claims import FILE, Claim, Finding, load_claims
from experiments.errors import UserError
from experiments.store.provenance import ROOT

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


def registrations(claims: dict[str, Claim], root: Path = ROOT, file: Path = FILE) -> dict[str, Registration] | None:
    """Per claim, where git first saw it as it is; one that is not committed is absent. None: there is no history."""

    def git(*words: str) -> str:
        try:
            command = ["git", "-C", str(root), *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout if done.returncode == 0 else ""

    name = file.resolve().relative_to(root.resolve()).as_posix()
    found: dict[str, Registration] = {}
    earlier: dict[str, set[str]] = {}
    history = git("log", "--reverse", "--format=%H %cI", "--", name).splitlines()
    if not history:
        return None
    for line in history:
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


UNDATED = "registration cannot be dated: no git history of claims.yaml here"


def warning(finding: Finding, registered: Registration | None) -> str:
    """What is wrong with the order of events, or nothing."""
    if finding.started is None:
        return "" if registered else "not committed"
    if registered is None:
        return "not committed: nothing says that it came before its runs"
    if datetime.fromisoformat(finding.started) < registered.date:
        return "edited after its runs began" if registered.edited else "registered after its runs began"
    return ""


def claims_frame(findings: Sequence[Finding], registered: dict[str, Registration] | None) -> pd.DataFrame:
    """One row per claim, `COLUMNS`."""
    rows = []
    for finding in findings:
        where = None if registered is None else registered.get(finding.id)
        doubt = UNDATED if registered is None else warning(finding, where)
        row = finding.model_dump(exclude={"id", "runs", "started"}) | {"claim": finding.id}
        row |= {"registered": where.commit if where else None, "runs": " ".join(finding.runs)}
        row |= {"registered_at": where.date.isoformat() if where else None, "warning": doubt}
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)
