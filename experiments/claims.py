"""Claims, written down as inequalities before the runs, and the verdicts of the records on them.

`make check-claims` is experiments.check_claims. The rule of a verdict stands in the head of claims.yaml. Nothing is
run: a claim whose table has no plan or too few records is "not run".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from experiments import atomic
from experiments.errors import UserError
from experiments.plan import newest_plan
from experiments.records import Record
from experiments.runs import Store
from experiments.stats import holm, one_sided_p, summary

FILE = Path(__file__).with_name("claims.yaml")
Verdict = Literal["supported", "refuted", "underpowered", "not run"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Quantity(Strict):
    """What is compared, per run: a split's primary metric, its change between two splits, or a measured figure."""

    split: str | None = None
    start: str | None = Field(default=None, alias="from")
    to: str | None = None
    measured: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Quantity:
        given = [self.split is not None, self.start is not None and self.to is not None, self.measured is not None]
        if sum(given) != 1 or (self.start is None) != (self.to is None):
            raise ValueError("a quantity is one of: split, from with to, measured")
        return self

    def of(self, record: Record) -> float | None:
        """The run's value, in a direction in which higher is better; None where the record lacks it."""
        if self.measured is not None:
            cost = getattr(record.measured, self.measured, None)
            return None if cost is None else -float(cost)
        info = record.spec.task_info
        sign = 1.0 if info.higher_is_better else -1.0
        splits = [self.split] if self.split is not None else [self.start, self.to]
        found = [record.metrics.get(str(split), {}).get(info.metric) for split in splits]
        known = [sign * value for value in found if value is not None]
        if len(known) < len(found):
            return None
        return known[0] if len(known) == 1 else known[1] - known[0]


class Source(Strict):
    """Rows of a CSV that a benchmark wrote."""

    csv: str
    where: dict[str, str]
    x: str
    y: str
    start: float = Field(alias="from")


class Claim(Strict):
    """One claim; see claims.yaml."""

    statement: str
    alpha: float = Field(gt=0, lt=0.5)
    table: str | None = None
    model: str | None = None
    against: list[str] = []
    tasks: list[str] = []
    quantity: Quantity | None = None
    smallest_effect: float = Field(default=0.0, ge=0)
    seeds: int = Field(default=5, ge=3)
    source: Source | None = None
    exponent_below: float | None = None

    @model_validator(mode="after")
    def _whole(self) -> Claim:
        compared = all((self.table, self.model, self.against, self.tasks, self.quantity))
        fitted = self.source is not None and self.exponent_below is not None
        if compared == fitted:
            raise ValueError(
                "a claim has either table, model, against, tasks and quantity, or source and exponent_below"
            )
        return self

    @property
    def hash(self) -> str:
        """Twelve hex digits of all that the claim says."""
        return atomic.digest(self.model_dump(mode="json", by_alias=True), 12)


class Finding(Strict):
    """What the records say of one claim. Effects are improvements: positive speaks for the claim."""

    id: str
    statement: str
    verdict: Verdict
    hash: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    hardest: str = ""
    why: str = ""
    runs: list[str] = []
    started: str | None = None


def load_claims(path: Path = FILE, text: str | None = None) -> dict[str, Claim]:
    """The registered claims.

    Raises:
        UserError: the file cannot be read, or a claim is not well formed.
    """
    try:
        raw = yaml.safe_load(path.read_text() if text is None else text)["claims"]
        return {str(key): Claim.model_validate(value) for key, value in raw.items()}
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path.name}: {error.title}: {where}: {first['msg']}") from None
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{path.name} holds no claims: {error}") from None


def judge(name: str, claim: Claim, store: Store, benchmarks: Path) -> Finding:
    """The verdict on one claim.

    Args:
        name: its id.
        claim: the claim.
        store: where plans and records are.
        benchmarks: the folder of the CSV files that benchmarks wrote.
    """
    base: dict[str, Any] = {"id": name, "statement": claim.statement, "hash": claim.hash}
    if claim.source is not None:
        return _judge_exponent(base, claim, claim.source, benchmarks)
    plan = newest_plan(store.root / "plans", str(claim.table))
    if plan is None:
        return Finding(**base, verdict="not run", why=f"no plan of table {claim.table}")
    wanted = {claim.model, *claim.against}
    specs = [spec for spec in plan.runs if spec.model in wanted and spec.task in claim.tasks]
    records = store.records(dict.fromkeys(spec.id for spec in specs))
    found: list[tuple[str, list[float]]] = []
    values = _by_cell(claim, [(s.model, s.task, s.seed, records.get(s.id)) for s in specs])
    for task in claim.tasks:
        for other in claim.against:
            mine, theirs = values.get((str(claim.model), task), {}), values.get((other, task), {})
            both = sorted(set(mine) & set(theirs))
            if len(both) < claim.seeds:
                return Finding(**base, verdict="not run", why=f"{len(both)} of {claim.seeds} seeds: {task}, {other}")
            found.append((f"{task}, over {other}", [mine[seed] - theirs[seed] for seed in both]))
    started = min(record.measured.started for record in records.values())
    return Finding(**base, **_verdict(claim, found), runs=sorted(records), started=started)


def _by_cell(
    claim: Claim, runs: Sequence[tuple[str, str, int, Record | None]]
) -> dict[tuple[str, str], dict[int, float]]:
    assert claim.quantity is not None
    values: dict[tuple[str, str], dict[int, float]] = {}
    for model, task, seed, record in runs:
        value = claim.quantity.of(record) if record is not None and record.status == "done" else None
        if value is not None:
            values.setdefault((model, task), {})[seed] = value
    return values


def _verdict(claim: Claim, found: Sequence[tuple[str, list[float]]]) -> dict[str, Any]:
    """The rule of claims.yaml on paired differences; the figures are those of the hardest comparison."""
    adjusted = holm([one_sided_p(differences) for _, differences in found])
    sums = [summary(differences, 1 - 2 * claim.alpha) for _, differences in found]
    least = claim.smallest_effect
    won = [p <= claim.alpha and s.mean is not None and s.mean >= least for p, s in zip(adjusted, sums, strict=True)]
    lost = [s.high is not None and (s.high < least or (least == 0 and s.high <= 0)) for s in sums]
    verdict: Verdict = "refuted" if any(lost) else "supported" if all(won) else "underpowered"
    worst = min(range(len(sums)), key=lambda i: sums[i].mean or 0.0)
    hard = sums[worst]
    figures = {"effect": hard.mean, "low": hard.low, "high": hard.high, "p": adjusted[worst]}
    return {"verdict": verdict, "hardest": found[worst][0], **figures}


def _judge_exponent(base: Mapping[str, Any], claim: Claim, source: Source, folder: Path) -> Finding:
    """Slope of log y over log x by least squares, with its t-interval, against the bound."""
    from scipy.stats import linregress, t

    assert claim.exponent_below is not None
    path = folder / source.csv
    if not path.is_file():
        return Finding(**base, verdict="not run", why=f"no {source.csv} of benchmarks/")
    rows = pd.read_csv(path)
    for column, value in source.where.items():
        rows = rows[rows[column].astype(str) == value] if column in rows else rows.iloc[:0]
    known = source.x in rows and source.y in rows
    rows = rows[rows[source.x] >= source.start].dropna(subset=[source.x, source.y]) if known else rows.iloc[:0]
    if len(rows) < 4:
        return Finding(**base, verdict="not run", why=f"{len(rows)} points in {source.csv}, at least 4 are needed")
    logs = [[math.log(value) for value in rows[key]] for key in (source.x, source.y)]
    fit = linregress(*logs)
    half = float(t.ppf(1 - claim.alpha, len(rows) - 2)) * float(fit.stderr)
    low, high = float(fit.slope) - half, float(fit.slope) + half
    verdict: Verdict = (
        "supported" if high <= claim.exponent_below else "refuted" if low > claim.exponent_below else "underpowered"
    )
    return Finding(**base, verdict=verdict, effect=float(fit.slope), low=low, high=high, hardest="exponent")
