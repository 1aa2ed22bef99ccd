"""Where the trials of a sweep stand: points of a space, or variants, and the rows of a plan that they make.

A tuning begins with the stated points of its axis, or with the untuned config; what more trials it has, Optuna's
quasi-random sampler (scrambled Sobol points) gives. Points depend on the space and the sampler's seed alone, so every
model gets the same ones. Trials of one task alone (a range that was widened there) follow. A search by TPE begins with
the config as it is and has points of its own for each model and task.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import optuna
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from experiments.errors import UserError
from experiments.planning.hydra_config import composed, composer
from experiments.planning.plan import Plan
from experiments.planning.settings import row_of
from experiments.planning.sweep_request import SweepRequest
from experiments.planning.sweep_settings import Axis, Tuning, Variants

VARIANT = "variant"  # the key of the points of a sweep of variants: a trial's overrides in one string
STARTUP = 5  # trials of a search by TPE, the config as it is among them, before what was scored counts
Point = Mapping[str, Any]


class Trial(NamedTuple):
    """A trial of a model: its number, its overrides, and the tasks it is made on (empty: all)."""

    number: int
    overrides: Sequence[str]
    tasks: Sequence[str] = ()


def trial_table(request: SweepRequest) -> dict[str, Any]:
    """The table with a row for each model and trial, from a study that is not kept; a grid has its rows already.

    Raises:
        UserError: the space of a tuning makes no sense.
    """
    if isinstance(request.settings, Variants):
        return with_variants(request.table, request.settings)
    if isinstance(request.settings, Tuning):
        space, settings = distributions(request.settings.space), request.settings
        if settings.sampler == "tpe":  # where the others stand hangs on what comes of the first
            return with_points(request.table, [search_start(request, settings)])
        first, empty = first_points(request, settings), study(None, "", settings.sampler_seed)
        return with_points(request.table, asked(empty, space, settings.trials, first))
    return request.table


def distributions(space: Mapping[str, Axis]) -> dict[str, BaseDistribution]:
    """The space in Optuna's words.

    Raises:
        UserError: an axis that is neither a range nor choices, or that Optuna refuses.
    """
    found: dict[str, BaseDistribution] = {}
    for key, axis in space.items():
        try:
            if axis.points is not None:
                found[key] = FloatDistribution(axis.points[0], axis.points[-1], log=True)
            elif axis.choices is not None:
                found[key] = CategoricalDistribution(axis.choices)
            elif axis.low is None or axis.high is None:
                raise ValueError("give low and high, points or choices")
            elif axis.integer:
                found[key] = IntDistribution(int(axis.low), int(axis.high), log=axis.log)
            else:
                found[key] = FloatDistribution(axis.low, axis.high, log=axis.log)
        except ValueError as error:
            raise UserError(f"sweep: space.{key}: {error}") from None
    return found


def study(storage: BaseStorage | None, name: str, seed: int, *, higher: bool = False) -> optuna.Study:
    """The study of a cell, kept in the storage; without one, in memory. `higher`: more is better (a new one)."""
    optuna.logging.set_verbosity(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # since 3.0, and pinned by a test here
        sampler = optuna.samplers.QMCSampler(qmc_type="sobol", scramble=True, seed=seed)
    way = StudyDirection.MAXIMIZE if higher else StudyDirection.MINIMIZE
    return optuna.create_study(storage=storage, study_name=name, sampler=sampler, direction=way, load_if_exists=True)


def asked(
    kept: optuna.Study, space: Mapping[str, BaseDistribution], trials: int, first: Sequence[Point]
) -> list[dict[str, Any]]:
    """The points of the first `trials` trials; asks for those that the study lacks, `first` before all others.

    Raises:
        UserError: the study was made for another space.
    """
    known = kept.get_trials(deepcopy=False)
    if known and any(trial.params and set(trial.params) != set(space) for trial in known):
        raise UserError(f"study {kept.study_name} was made for another space; give the sweep another name")
    for point in first[len(known) :]:
        kept.enqueue_trial(dict(point))
    for _ in range(trials - sum(bool(trial.params) for trial in known)):
        kept.ask(fixed_distributions=dict(space))
    return [dict(trial.params) for trial in kept.get_trials(deepcopy=False)[:trials]]


def first_points(request: SweepRequest, settings: Tuning) -> list[dict[str, Any]]:
    """What is tried before all else: the stated points, or the config as it is if it lies in the space."""
    start = {} if settings.stated else untuned(distributions(settings.space), request)
    return [dict(point) for point in settings.stated] or ([start] if start else [])


def next_point(
    space: Mapping[str, BaseDistribution],
    told: Sequence[tuple[Point, float | None]],
    seed: int,
    *,
    higher: bool,
) -> dict[str, Any]:
    """The point after those that were tried, and what they scored (None: failed); the same for the same arguments."""
    optuna.logging.set_verbosity(logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed + len(told), n_startup_trials=STARTUP)
    study = optuna.create_study(sampler=sampler, direction="maximize" if higher else "minimize")
    for point, value in told:
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, value=value, params=dict(point), distributions=dict(space)))
    return dict(study.ask(fixed_distributions=dict(space)).params)


def search_start(request: SweepRequest, settings: Tuning) -> dict[str, Any]:
    """The first point of a search: the config as it is, or one at random if that is outside of the space."""
    space = distributions(settings.space)
    return untuned(space, request) or next_point(space, [], settings.sampler_seed, higher=True)


def untuned(space: Mapping[str, BaseDistribution], request: SweepRequest) -> dict[str, Any]:
    """The config as it is, as a point; empty if it is outside of the space."""
    with composer():
        config = composed(
            [*request.table.get("overrides", []), *(o for o in request.overrides if o.startswith("trainer."))]
        )
    point = {key: OmegaConf.select(config, key, default=None) for key in space}
    return point if all(_inside(space[key], value) for key, value in point.items()) else {}


def _inside(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    return isinstance(value, (int, float)) and distribution.low <= value <= distribution.high


def with_points(
    table: dict[str, Any], points: Sequence[Point], more: Mapping[str, Sequence[Point]] | None = None
) -> dict[str, Any]:
    """The table with a row for each model and point; those of `more` follow, each on its task alone."""
    trials = [Trial(number, words(point)) for number, point in enumerate(points)]
    for task, added in (more or {}).items():
        trials += [Trial(number, words(point), [task]) for number, point in enumerate(added, len(points))]
    return {**table, "models": trial_entries(table["models"], {e["label"]: trials for e in table["models"]})}


def words(point: Point) -> list[str]:
    """The point as overrides."""
    return [f"{key}={value}" for key, value in point.items()]


def with_variants(table: dict[str, Any], settings: Variants) -> dict[str, Any]:
    """The table with a row for each model and variant, the config as it is first."""
    trials = {
        entry["label"]: [Trial(n, one.split()) for n, one in enumerate(("", *(settings.of(entry["model"]) or ())))]
        for entry in table["models"]
    }
    return {**table, "models": trial_entries(table["models"], trials)}


def trial_entries(models: Sequence[Mapping[str, Any]], trials: Mapping[str, Sequence[Trial]]) -> list[dict[str, Any]]:
    """A row of the plan for each model and trial; `trials` holds those of each, by the model's label."""
    return [
        {
            "label": f"{entry['label']} #{trial.number}",
            "model": entry["model"],
            "overrides": [*entry.get("overrides", []), *trial.overrides],
            "tasks": list(trial.tasks),
        }
        for entry in models
        for trial in trials[entry["label"]]
    ]


def points_of(plan: Plan, keys: Sequence[str]) -> dict[tuple[str, str], dict[str, str]]:
    """The point of each row and task, read from the overrides of a tuning's plan; `keys`: of its space, or VARIANT.

    What the row of the table itself says is no part of a variant: it stands before the variant, and alone in trial 0.
    """
    entries = plan.table.entries()
    own = {row_of(entry.label): len(entry.overrides) for entry in entries if entry.label.endswith(" #0")}
    points: dict[tuple[str, str], dict[str, str]] = {}
    for entry in entries:
        given = dict(override.split("=", 1) for override in entry.overrides)
        given[VARIANT] = " ".join(entry.overrides[own.get(row_of(entry.label), 0) :])
        points |= {(entry.label, task): {key: given[key] for key in keys} for task in entry.tasks or plan.table.tasks}
    return points
