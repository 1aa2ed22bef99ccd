"""The presets of conf/sweep: a search space with equal trials for every model, or one change at a time."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from experiments.planning.settings import Section

ALL = "all"  # in place of a model: the variants of every model of the table
WIDENINGS = 2  # of a range, at most
EVEN = 0.02  # by which the steps of a grid may differ, relative


class Axis(Section):
    """One dimension of the search space: stated points, a range, or choices."""

    points: list[float] | None = Field(
        default=None, min_length=2, description="Stated values, ascending, each the same multiple of the one before."
    )
    low: float | None = Field(default=None, description="Lower end.")
    high: float | None = Field(default=None, description="Upper end.")
    log: bool = Field(default=False, description="Uniform in the logarithm.")
    integer: bool = Field(default=False, description="Whole numbers only.")
    choices: list[str | int | float | bool] | None = Field(default=None, description="A list instead of a range.")

    @model_validator(mode="after")
    def _even(self) -> Axis:
        if self.points is not None:
            if any(value is not None for value in (self.low, self.high, self.choices)) or self.log or self.integer:
                raise ValueError("stated points stand alone: no low, high, log, integer or choices beside them")
            if self.points[0] <= 0 or self.ratio <= 1:
                raise ValueError(f"points must be above 0 and ascend, got {self.points}")
            for before, value in zip(self.points, self.points[1:], strict=False):
                if not math.isclose(value / before, self.ratio, rel_tol=EVEN):
                    raise ValueError(f"points must be evenly spaced in the logarithm, got {self.points}")
        return self

    @property
    def ratio(self) -> float:
        """Of neighbouring points; 1 if none are stated."""
        return (self.points[-1] / self.points[0]) ** (1 / (len(self.points) - 1)) if self.points else 1.0


class Tuning(Section):
    """A sweep preset that tunes: the same points of a space for every model."""

    overrides: list[str] = Field(default_factory=list, description="Arguments that are read first.")
    trials: int = Field(ge=1, le=100_000, description="Trials per model and task, all told; default: stated points.")
    sampler: Literal["sobol", "tpe"] = Field(
        default="sobol", description="sobol: the same points for every model; tpe: chosen by what a model has scored."
    )
    sampler_seed: int = Field(default=0, ge=0, description="Of the Sobol points' scrambling, and of TPE.")
    widen: int = Field(
        default=WIDENINGS, ge=0, le=WIDENINGS, description="Times that stated points may be widened at an end."
    )
    space: dict[str, Axis] = Field(min_length=1, description="The search space, the same for every model.")

    @model_validator(mode="before")
    @classmethod
    def _as_many_as_stated(cls, values: Any) -> Any:
        if isinstance(values, dict) and "trials" not in values and isinstance(values.get("space"), dict):
            axes = [axis if isinstance(axis, dict) else axis.model_dump() for axis in values["space"].values()]
            stated = [axis["points"] for axis in axes if isinstance(axis.get("points"), list)]
            return {**values, "trials": len(stated[0])} if stated else values
        return values

    @model_validator(mode="after")
    def _one_grid(self) -> Tuning:
        if (grid := self.grid) is not None:
            key, axis = grid
            assert axis.points is not None
            if len(self.space) > 1:
                raise ValueError(f"{key} has stated points, which take no other axis beside them: give it low and high")
            if self.trials < len(axis.points):
                raise ValueError(f"{key} has {len(axis.points)} stated points; trials={self.trials} must not be fewer")
        return self

    @property
    def grid(self) -> tuple[str, Axis] | None:
        """The axis of stated points and its key."""
        return next(((key, axis) for key, axis in self.space.items() if axis.points is not None), None)

    @property
    def stated(self) -> list[dict[str, float]]:
        """The stated points, as trials."""
        return [{self.grid[0]: value} for value in self.grid[1].points or []] if self.grid else []

    @property
    def may_add(self) -> int:
        """Trials of a cell that widening may add: a step at each end, each time."""
        return 2 * self.widen if self.grid is not None and self.sampler == "sobol" else 0


class Variants(Section):
    """A sweep preset that changes one thing at a time, as often for every model."""

    overrides: list[str] = Field(default_factory=list, description="Arguments that are read first.")
    variants: dict[str, list[str]] = Field(
        min_length=1, description="Model, then a string of overrides per variant; `all`: the same for every model."
    )

    @model_validator(mode="after")
    def _all_alone(self) -> Variants:
        if ALL in self.variants and len(self.variants) > 1:
            raise ValueError("`all` is the list of every model, and stands alone")
        return self

    def of(self, model: str) -> list[str] | None:
        """The variants of a model; None if it has none."""
        return self.variants.get(ALL, self.variants.get(model))
