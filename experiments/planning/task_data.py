"""The data of a task, bound to the run: where they lie is made absolute when a run is frozen; what they are is read
again when a remembered plan is used and when a run begins.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError
from experiments.planning.instantiate import build_model_config, build_task, refused, targets_of
from experiments.store.identity import foreign_sources
from experiments.store.records import RunSpec
from tasks.hub.source import Source, find_folder, place_of

if TYPE_CHECKING:
    from tasks.base import Task

SHOWN = 12  # digits of a fingerprint in a sentence


class CannotBegin(UserError):
    """What the run was planned on is not what is here. The run stays planned; its record would blame the model."""


def places_of(task: Task) -> list[str]:
    """The fields of a task's config that say where its data lie, not what they are."""
    return list(getattr(type(task.config), "places", ()))


def frozen_section(section: dict[str, Any], task: Task) -> dict[str, Any]:
    """The task's section with every default written out and every path absolute.

    Raises:
        UserError: a path that is no folder.
    """
    config = getattr(task, "config", None)
    values = dataclasses.asdict(config) if dataclasses.is_dataclass(config) and not isinstance(config, type) else {}
    values = {"_target_": section["_target_"], **section, **values}
    for key in places_of(task) if values else ():
        if isinstance(values.get(key), str) and values[key]:
            values[key] = os.path.abspath(os.path.expanduser(values[key]))
    source = getattr(type(task), "source", None)
    if isinstance(source, Source) and values.get("path") == "":  # else the folder that the environment names now
        folder = find_folder(source, place_of(task.name, config))
        values["path"] = "" if folder is None else os.path.abspath(folder)
    return values


def fingerprint(task: Task) -> str:
    """The task's fingerprint.

    Raises:
        UserError: the data are not there or cannot be read.
    """
    try:
        return task.fingerprint()
    except ValueError as error:
        raise refused(error) from None


def require_as_planned(spec: RunSpec, task: Task) -> None:
    """Compare data and foreign code with those that the run was planned on.

    Raises:
        CannotBegin: they differ, or the data cannot be read.
    """
    try:
        found = fingerprint(task)
    except UserError as error:
        raise CannotBegin(f"run {spec.id} was planned on data that cannot be read here: {error}") from None
    if found != spec.data_fingerprint:
        where = "".join(f" of {spec.config['task'][key]}" for key in spec.places[:1] if spec.config["task"].get(key))
        raise CannotBegin(
            f"run {spec.id} was planned on other data than are here: planned {spec.data_fingerprint[:SHOWN]}, found "
            f"{found[:SHOWN]} as the data{where} of task {spec.task}; bring the planned data back, or plan the table "
            "anew (the same command without plan=)"
        )
    try:
        model = build_model_config(spec.sizes, spec.allow_targets)
    except UserError as error:
        if not spec.foreign_sources:
            return  # nothing from outside: the run fails by its own settings, and its record says so
        raise CannotBegin(f"run {spec.id} was planned with a model that is not here: {error}") from None
    sources = foreign_sources(targets_of(model, spec.sizes, spec.config["task"]))
    # A module that is loaded here alone, or not yet, is asked for by another whose source would tell of a change.
    names = [name for name in sources if sources[name] != spec.foreign_sources.get(name, sources[name])]
    if names:
        raise CannotBegin(
            f"run {spec.id} was planned with other sources of {', '.join(sorted(names))} than are here; bring the "
            "planned sources back, or plan the table anew (the same command without plan=)"
        )


def changed_task(specs: Iterable[RunSpec]) -> str | None:
    """The first task that reads files and whose files are others than planned; None also where they are gone."""
    seen: set[str] = set()
    for spec in specs:
        if not spec.places or spec.data_fingerprint in seen:
            continue
        seen.add(spec.data_fingerprint)
        try:
            if fingerprint(build_task(spec.config["task"], spec.allow_targets)) != spec.data_fingerprint:
                return spec.task
        except UserError:
            continue
    return None
