"""When a claim was registered, when its text and its preset changed, and when its runs began.

A claim is registered by the first commit whose claims.yaml says what it says now and does not call it a draft. It keeps
its registration under another id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pandas as pd

from experiments.analysis.claim_schema import FILE, Claim, Finding, load_claims
from experiments.analysis.preset import History, preset_hash
from experiments.errors import UserError
from experiments.store.provenance import ROOT

COLUMNS = [
    *("claim", "statement", "verdict", "effect", "low", "high", "p", "hardest", "why"),
    *("hash", "registered", "registered_at", "warning", "runs", "changes", "preset", "preset_at", "first_run"),
]
UNDATED = "registration cannot be dated: no git history of claims.yaml here"


@dataclass(frozen=True)
class Registration:
    """What git says of a claim.

    Attributes:
        commit: the first whose claims.yaml says what the claim says now; empty: none does, or only as a draft.
        date: when it was made.
        edited: whether the id said something else before.
        changes: a line per commit that changed what stands under the id: date, commit, what.
        preset: commit and date from which on its table's preset had the hash that the claim names; None: never.
    """

    commit: str
    date: datetime | None
    edited: bool
    changes: list[str] = field(default_factory=list)
    preset: tuple[str, datetime] | None = None


def registrations(claims: dict[str, Claim], root: Path = ROOT, file: Path = FILE) -> dict[str, Registration] | None:
    """Per claim, what git says of it; one of which it says nothing is absent. None: there is no history."""
    history = History(root)
    name = file.resolve().relative_to(root.resolve()).as_posix()
    commits = history.commits(name)
    if not commits:
        return None
    known = [(commit[:12], date, _then(history, commit, name, file)) for commit, date in commits]
    found: dict[str, Registration] = {}
    for key, claim in claims.items():
        at = next((one for one in known if claim.hash in _registered(one[2])), None)
        commit, since = ("", None) if at is None else at[:2]
        changes = list(_changes(key, known))
        earlier = {then[key].hash for _, date, then in known if key in then and since and date < since}
        if commit or changes:
            preset = history.preset_since(str(claim.table), claim.preset) if claim.preset and claim.table else None
            found[key] = Registration(commit, since, bool(earlier - {claim.hash}), changes, preset)
    return found


Known = tuple[str, datetime, dict[str, Claim]]


def _then(history: History, commit: str, name: str, file: Path) -> dict[str, Claim]:
    try:
        return load_claims(file, history.git("show", f"{commit}:{name}"))
    except UserError:
        return {}  # an older form of the file, which registers nothing


def _registered(then: dict[str, Claim]) -> set[str]:
    return {claim.hash for claim in then.values() if not claim.draft}


def _changes(key: str, known: Sequence[Known]) -> Iterator[str]:
    """What happened to the claim of an id, in the order of the commits."""
    before: Claim | None = None
    for commit, date, then in known:
        claim = then.get(key)
        what = []
        if claim is None:
            what += ["removed"] if before is not None else []
        elif before is None:
            what.append("written as a draft" if claim.draft else "written, withdrawn" if claim.withdrawn else "written")
        else:
            what += ["text changed"] if claim.hash != before.hash else []
            what += ["no longer a draft"] if before.draft and not claim.draft else []
            what += ["made a draft"] if claim.draft and not before.draft else []
            what += ["withdrawn"] if claim.withdrawn and not before.withdrawn else []
            what += ["no longer withdrawn"] if before.withdrawn and not claim.withdrawn else []
        if what:
            yield f"{date.date()} {commit} {', '.join(what)}"
        before = claim


def warning(finding: Finding, registered: Registration | None, claim: Claim | None = None) -> str:
    """What is wrong with the order of events, in words, or nothing."""
    if claim is not None and (claim.draft or claim.withdrawn):
        return ""
    began = None if finding.started is None else datetime.fromisoformat(finding.started)
    if registered is None or registered.date is None:
        return "not committed" if began is None else "not committed: nothing says that it came before its runs"
    said = []
    if began is not None and began < registered.date:
        said.append("edited after its runs began" if registered.edited else "registered after its runs began")
    if claim is not None and claim.preset and claim.table:
        said += _of_preset(claim, registered, began)
    return "; ".join(said)


def _of_preset(claim: Claim, registered: Registration, began: datetime | None) -> Iterator[str]:
    """What is wrong with the claim's preset."""
    now = preset_hash(str(claim.table))
    if now is None:
        yield f"there is no preset {claim.table}"
    elif now != claim.preset:
        yield f"preset {claim.table} has changed since: it is {now}, the claim names {claim.preset}"
    if registered.preset is None:
        yield f"no commit has the preset {claim.preset}"
        return
    date = registered.preset[1]
    if registered.date is not None and date > registered.date:
        yield "its preset was committed after the claim"
    if began is not None and date > began:
        yield "its preset was committed after its runs began"


def claims_frame(
    findings: Sequence[Finding],
    registered: dict[str, Registration] | None,
    claims: dict[str, Claim] | None = None,
) -> pd.DataFrame:
    """One row per claim, `COLUMNS`."""
    rows = []
    for finding in findings:
        where = None if registered is None else registered.get(finding.id)
        claim = (claims or {}).get(finding.id)
        doubt = UNDATED if registered is None else warning(finding, where, claim)
        row = finding.model_dump(exclude={"id", "runs", "started"}) | {"claim": finding.id}
        row |= {"registered": None, "registered_at": None, "changes": "", "preset_at": None}
        row |= {"preset": claim.preset if claim else None, "first_run": finding.started}
        row |= {"runs": " ".join(finding.runs), "warning": doubt}
        if where is not None:
            row |= {"changes": "; ".join(where.changes)}
            row |= {"registered": where.commit, "registered_at": where.date.isoformat()} if where.date else {}
            row |= {"preset_at": f"{where.preset[1].isoformat()} {where.preset[0]}"} if where.preset else {}
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)
