"""What experiments/claims.yaml may say: the fields of a claim, and the hash that names its wording."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from experiments.errors import UserError
from experiments.store import atomic_files as atomic
from experiments.store.records import Record

FILE = Path(__file__).resolve().parents[1] / "claims.yaml"
Outcome = Literal["supported", "refuted", "underpowered", "not testable", "not run", "withdrawn"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Quantity(Strict):
    """What is compared: a split's metric, its change to other splits, a measured figure, or time to a loss."""

    split: str | None = None
    start: str | None = Field(default=None, alias="from")
    to: str | list[str] | None = None
    measured: str | None = None
    equal: Literal["seconds"] | None = None
    against: list[str] | None = Field(default=None, min_length=1)  # None: those of the claim

    @model_validator(mode="after")
    def _one(self) -> Quantity:
        given = [self.split is not None, self.start is not None and bool(self.to), self.measured is not None]
        given += [self.equal is not None]
        if sum(given) != 1 or (self.start is None) != (self.to is None):
            raise ValueError("a quantity is one of: split, from with to, measured, equal")
        return self

    @property
    def ends(self) -> list[str]:
        """The splits that a change leads to; one empty name where the quantity is no change."""
        return [""] if self.to is None else [self.to] if isinstance(self.to, str) else self.to

    @property
    def gate_split(self) -> str:
        """Where some row must have learned the task."""
        return self.split or self.start or "test/id"

    def place(self, task: str, end: str) -> str:
        """The task and what is compared on it, as they are printed."""
        if self.equal is not None:
            return f"{task} seconds to an equal validation"
        return f"{task} {self.measured or self.split or f'{self.start} to {end}'}"

    def of(self, record: Record, metric: str, end: str = "") -> float | None:
        """The run's value as it was measured; None where the record lacks it."""
        if self.measured is not None:
            cost = getattr(record.measured, self.measured, None)
            return None if cost is None else float(cost)
        splits = [self.split] if self.split is not None else [self.start, end]
        found = [record.metrics.get(str(split), {}).get(metric) for split in splits]
        known = [value for value in found if value is not None]
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


class GateLevels(Strict):
    """Levels that the records do not hold, and who must have learned the task."""

    chance: float | None = Field(default=None, ge=0, lt=1)
    ngram: float | None = Field(default=None, gt=0)
    by: Literal["any", "named"] = "any"


class Claim(Strict):
    """One claim; see claims.yaml."""

    statement: str
    alpha: float = Field(gt=0, lt=0.5)
    table: str | None = None
    preset: str | None = Field(default=None, pattern="^[0-9a-f]{12}$")
    model: str | None = None
    against: list[str] = []
    tasks: list[str] = []
    metric: str | None = None  # None: the task's primary one
    quantity: Quantity | list[Quantity] | None = None
    smallest_effect: float = Field(default=0.0, ge=0)
    seeds: int = Field(default=5, ge=3)
    gate: GateLevels | None = None
    source: Source | None = None
    exponent_below: float | None = None
    needs: str = ""
    draft: str | None = Field(default=None, min_length=1)  # what is missing until it can be registered
    withdrawn: str | None = Field(default=None, min_length=1)  # why it gets no verdict, whatever its records say

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
    def quantities(self) -> list[Quantity]:
        """All that is compared."""
        found = self.quantity
        return [] if found is None else found if isinstance(found, list) else [found]

    @property
    def hash(self) -> str:
        """Twelve hex digits of all that the claim says. Fields that came later are left out where they say nothing."""
        said = self.model_dump(mode="json", by_alias=True, exclude={"needs", "withdrawn", "draft"})
        for later in ("preset", "metric", "gate"):
            if said[later] is None:
                del said[later]
        for each in said["quantity"] if isinstance(said["quantity"], list) else [said["quantity"]]:
            for later in ("equal", "against") if each is not None else ():
                if each[later] is None:
                    del each[later]
        return atomic.digest(said, 12)


class Finding(Strict):
    """What the records say of one claim. Effects are improvements: positive speaks for the claim."""

    id: str
    statement: str
    verdict: Outcome
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
    """The claims of the file, or of its text.

    Raises:
        UserError: the file cannot be read, or a claim is not well formed.
    """
    try:
        raw: dict[Any, Any] = yaml.safe_load(path.read_text() if text is None else text)["claims"]
        claims = {str(key): Claim.model_validate(value) for key, value in raw.items()}
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path.name}: {error.title}: {where}: {first['msg']}") from None
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{path.name} holds no claims: {error}") from None
    for key, claim in claims.items() if text is None else ():  # what git's history has may be older than presets
        if claim.table and not (claim.preset or claim.draft or claim.withdrawn):
            raise UserError(f"{path.name}: {key} names no preset: add preset: HASH, or say in draft: what is missing")
    return claims
