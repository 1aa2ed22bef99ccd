"""The plan: every run of a table, composed, solved to the budget, priced and frozen in a file.

Runs read the plan, never the configs, so an edit in the middle of a sweep changes nothing that was planned. A
plan is remembered under a key of all that goes into it (configs, overrides, sources, Python), so that asking
again for the same table solves nothing again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from pydantic import BaseModel, ConfigDict, Field

from experiments.errors import NoData, UserError, unknown
from experiments.planning.compiler import require_compiler
from experiments.planning.hydra_config import (
    Cells,
    composed,
    composer,
    config_folders,
    given_dials,
    names_in,
    options,
    plain,
    require_option,
    results_folder,
)
from experiments.planning.hydra_values import override_key, quoted
from experiments.planning.instantiate import helps
from experiments.planning.search_path import SEARCH, search_folders, search_words
from experiments.planning.settings import (
    Entry,
    LauncherSettings,
    LoggerSettings,
    RunSettings,
    SeedSettings,
    TableSettings,
    TrainerSettings,
    section,
    without,
)
from experiments.planning.table_name import table_name
from experiments.store import atomic_files as atomic
from experiments.store import plan_file
from experiments.store.provenance import source_fingerprint
from experiments.store.reader import reason
from experiments.store.records import RunSpec
from experiments.store.store import Store

if TYPE_CHECKING:
    from experiments.planning.run_spec import Pricer  # loads torch, 2 s, which a remembered plan does without

OUTER = ("table", "launcher", "results_dir", "hydra", "allow_small_test")
PER_RUN = {"model": "table.models=[NAME,...]", "task": "table.tasks=[NAME,...]"}
PER_RUN |= {"seed": "table.seeds=[0,...]", "budget": "table.budget=NAME"}


class Plan(BaseModel):
    """A table's settings and its runs, in the order of the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = Field(default=1, description="Version of this schema.")
    table: TableSettings = Field(description="Settings of the table.")
    code_fingerprint: str = Field(description="Sources the plan was made with.")
    runs: list[RunSpec] = Field(description="The runs; ids may repeat under different labels.")
    checked: dict[str, str] = Field(
        default={},
        exclude_if=lambda value: not value,  # plans of before preflight keep their names
        description="What preflight found of each row: `passed`, or `unchecked: CHECK on TASK`; absent: not asked.",
    )
    helps: dict[str, str] = Field(
        default={}, exclude_if=lambda value: not value, description="Helps of each run that has any, by its id."
    )

    @property
    def file_name(self) -> str:
        """<table>-<hash of the content>.json"""
        return self.frozen()[0]

    def frozen(self) -> tuple[str, bytes]:
        """The name of the plan's file, which ends in the hash of its content, and its line, sealed under that name."""
        return plan_file.frozen(self.table.name, self.model_dump(mode="json"))

    def unique(self) -> list[RunSpec]:
        """Each run once."""
        return list({spec.id: spec for spec in self.runs}.values())


class Request(BaseModel):
    """What was asked for on the command line: a table, where its results go, who carries it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: TableSettings
    launcher: LauncherSettings
    results_dir: str
    overrides: list[str] = Field(description="The overrides that apply to each run.")
    base: dict[str, Any] = Field(description="The config with nothing of the table applied; part of the key.")


def read_request(overrides: Sequence[str], table: dict[str, Any] | None = None) -> Request:
    """Read command-line overrides such as `table=quick table.seeds=[0] trainer.optim.lr=1e-3`.

    Args:
        overrides: Hydra overrides of conf/config.yaml.
        table: the settings of an ad-hoc table; None = the one that `table=` names.

    Raises:
        UserError: no table, or an override that a table sets per run.
    """
    for override in overrides:
        if (key := override_key(override)) in PER_RUN and table is None:
            raise UserError(f"{key} is set by the table, run by run; use {PER_RUN[key]}")
    with composer():
        config = composed(overrides)
        chosen = table if table is not None else plain(config).get("table")
        if chosen is None:
            raise UserError(f"no table; choose one with table=NAME: {', '.join(options('table'))}")
        base = plain(config)
        allowed = [*chosen.get("allow_small_test", []), *names_in(base, "allow_small_test")]
        settings = section(TableSettings, {**chosen, "allow_small_test": allowed}, "table")
        presets = [] if table is not None else [o for o in overrides if override_key(o) in ("table", SEARCH)]
        preset = section(TableSettings, plain(composed(presets))["table"], "table") if presets else settings
        if settings.name != preset.name and settings.name in options("table", search_words(overrides)):
            raise UserError(f"table.name={settings.name} is the name of a preset; choose another")
    inner = [o for o in overrides if override_key(o).split(".")[0].split("/")[0] not in (*OUTER, *PER_RUN)]
    inner += [o for o in overrides if override_key(o).split(".")[0] in PER_RUN and "." in override_key(o)]
    if presets and settings.name == preset.name:
        settings = settings.model_copy(update={"name": table_name(settings, preset, inner)})
    inner = [*search_words(overrides), *inner]
    return Request(
        table=settings,
        launcher=section(LauncherSettings, base["launcher"], "launcher"),
        results_dir=results_folder(base),
        overrides=inner,
        base={key: value for key, value in base.items() if key not in OUTER},
    )


def plan_for(request: Request, store: Store) -> tuple[Plan, Path]:
    """The plan of the request and its file: remembered unless something it depends on has changed.

    Raises:
        UserError: an unknown name, a wrong value, a budget that cannot be met.
    """
    key, index = request_key(request), store.root / "plans" / "index.json"
    known: dict[str, str] = {}
    try:
        known = json.loads(index.read_text())
        path = store.root / "plans" / known[key]
        plan = load_plan(path)
        if any(spec.places for spec in plan.runs):
            from experiments.planning.task_data import changed_task  # loads torch: 2 s

            if changed := changed_task(plan.unique()):
                print(f"the data of task {changed} are not those of {path.name}: planned anew", file=sys.stderr)
                raise KeyError(changed)
        os.utime(path)  # the newest of its name is the one that `resume` means
        return plan, path
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
        known = known if isinstance(known, dict) else {}
    from experiments.planning.preflight import checked_rows  # loads torch: 2 s

    if sys.stderr.isatty():
        print(f"planning {request.table.name}: models are sized to the budget and checked", file=sys.stderr)
    plan = make_plan(request)
    names = {entry.label: entry.model for entry in plan.table.entries()}
    checked = checked_rows(plan.runs, names, request.base["allow_unchecked"])
    declared = {spec.id: helps(spec.sizes, spec.allow_targets) for spec in plan.unique()}
    plan = plan.model_copy(update={"checked": checked, "helps": declared})
    path = plan_file.write(store.root / "plans", *plan.frozen())
    # Foreign code may change, and absent data may arrive, without the key noticing.
    lasting = not request.base.get("allow_targets") and not any(spec.foreign_sources for spec in plan.runs)
    if lasting and plan.table.tasks == request.table.tasks:
        atomic.write_json(index, {**known, key: path.name})
    return plan, path


def request_key(request: Request) -> str:
    """Hash of all that goes into the plan, but for the content of data files."""
    folders = [*config_folders(), *search_folders(request.overrides)]
    files = [(folder, path) for folder in folders for path in sorted(folder.rglob("*.yaml")) if path.is_file()]
    conf = [(path.relative_to(folder).as_posix(), path.read_text(errors="backslashreplace")) for folder, path in files]
    sources = source_fingerprint(("ressformer", "tasks", "experiments"))
    asked = request.model_dump(mode="json", exclude={"launcher", "results_dir"})
    # A relative path, and the folder of the data sets, mean another file elsewhere.
    where = [os.getcwd(), os.environ.get("RESSFORMER_DATA", "")]
    versions = [sys.version, metadata.version("torch")]  # preflight passed under this torch
    return atomic.digest({"asked": asked, "conf": conf, "sources": sources, "versions": versions, "where": where})


def plan_files(folder: Path) -> dict[Path, str]:
    """The plan files in a folder, or in the archive beside it, the newest last, and the table that each is of."""
    return {path: path.stem.rpartition("-")[0] for path in plan_file.times(folder)}


def load_plan(path: Path) -> Plan:
    """Read a plan, and check it against the hash in its name, if that is how it is named.

    Raises:
        UserError: there is no such file, it is not a plan, or not as it was frozen.
    """
    try:
        return Plan.model_validate_json(plan_file.read(path))
    except OSError:
        have = sorted(other.name for other in plan_files(path.parent))
        raise UserError(unknown(f"plan in {path.parent.name}", path.name, have)) from None
    except ValueError as error:
        raise UserError(f"{path.name} is not a plan: {reason(error)}; make it anew") from None


def make_plan(request: Request) -> Plan:
    """Compose and solve every run of the table."""
    from experiments.planning.run_spec import Pricer  # loads torch, 2 s, which a remembered plan does without
    from experiments.planning.task_measures import large_enough

    table = request.table
    rows = [(entry.label, task) for entry in table.entries() for task in entry.tasks or table.tasks]
    if len(set(rows)) < len(rows):
        raise UserError(f"table {table.name}: labels of models must differ, got {', '.join(row for row, _ in rows)}")
    runs: list[RunSpec] = []
    absent: list[str] = []
    pricer, cells = Pricer(), Cells()
    with composer():
        asked = {"budget": [table.budget], "model": [e.model for e in table.entries()], "task": table.tasks}
        for group, name in ((group, name) for group, names in asked.items() for name in names):
            require_option(group, name, search_words(request.overrides))
        for task in table.tasks:
            try:
                runs += large_enough(table, task_specs(request, task, pricer, cells))
            except NoData as error:
                if task not in table.optional:
                    raise
                print(f"left out: {error}", file=sys.stderr)
                absent.append(task)
    if absent:
        table = without(table, absent)
    return Plan(table=table, code_fingerprint=source_fingerprint(), runs=runs)


def task_specs(request: Request, task: str, pricer: Pricer, cells: Cells) -> list[RunSpec]:
    """The runs of one task, every model of the table with every seed."""
    table, runs = request.table, []
    for entry in (entry for entry in table.entries() if task in (entry.tasks or table.tasks)):
        overrides = run_overrides(table, entry, task, request.overrides)
        config, pinned = cells.config(overrides), given_dials(overrides)
        runs += [run_spec(config, entry.label, task, seed, pricer, pinned) for seed in table.seeds]
    return runs


def run_overrides(table: TableSettings, entry: Entry, task: str, extra: Sequence[str]) -> list[str]:
    """The overrides of one cell, the more specific the later; the command line has the last word."""
    chosen = [f"model={entry.model}", f"task={task}", f"budget={table.budget}", f"++logger.group={quoted(table.name)}"]
    tuned = [*table.overrides, *table.per_task.get(task, []), *table.per_model.get(entry.model, [])]
    tuned += table.chosen(entry, task)
    return [*chosen, *tuned, *entry.overrides, *extra]


def run_spec(
    config: DictConfig,
    model: str,
    task: str,
    seed: int | None,
    pricer: Pricer,
    pinned: frozenset[str] = frozenset(),
) -> RunSpec:
    """One run from a composed config; `seed` None keeps the config's own, `pinned` are the dials that were given."""
    if seed is not None:
        config.seed = seed
    values = {key: value for key, value in plain(config).items() if key not in OUTER}
    section(RunSettings, {key: values[key] for key in ("seed", "allow_targets", "allow_unchecked")}, "")
    del values["allow_unchecked"]  # which rows may be planned, not what a run is
    values["seeds"] = section(SeedSettings, values["seeds"], "seeds").model_dump()
    values["trainer"] = section(TrainerSettings, values["trainer"], "trainer").model_dump()
    if values["trainer"]["compile"]:
        require_compiler(values["trainer"]["accelerator"])
    values["logger"] = section(LoggerSettings, values["logger"], "logger").model_dump()
    return pricer.spec(values, model=model, task=task, pinned=pinned)
