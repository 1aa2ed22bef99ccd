"""A store in which the trials of a tuning cost nothing, for tests of what a tuning does with their scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from toy import make_record, make_spec

from experiments.launching.launch import LaunchError
from experiments.planning.plan import Plan
from experiments.planning.settings import TableSettings
from experiments.planning.sweep_request import SweepRequest
from experiments.planning.sweep_settings import Axis, Tuning
from experiments.store import plan_file
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.studies import searching, trial_export, tuning

RATE = "trainer.optim.lr"
GRID = Tuning(space={RATE: Axis(points=[1e-3, 2e-3, 4e-3, 8e-3])})
Score = Callable[[str, str, float], float | None]  # of a model, a task and a rate


def peak(best: float) -> Callable[[float], float]:
    """A score that is highest at a rate, and falls by 0.1 with each doubling."""
    return lambda rate: 0.9 - 0.1 * abs(math.log2(rate / best))


class Bench:
    """A store in which trials cost nothing: a spec of the toy model each, and a record with a score that is given."""

    def __init__(self, root: Path, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.score, self.ran, self.killed_at = Store(root), score, [], -1  # type: ignore[var-annotated]
        for study in (tuning, searching):
            monkeypatch.setattr(study, "prepare", self.prepare)
            monkeypatch.setattr(study, "carry", self.carry)
        monkeypatch.setattr(trial_export.tuning_figure, "write", lambda *args: [])  # a second for each
        monkeypatch.setattr(tuning, "first_points", lambda request, settings: settings.stated)
        monkeypatch.setattr(searching, "search_start", lambda request, settings: {RATE: 4e-3})

    def prepare(self, rest: list[str], table: dict[str, Any]) -> Any:
        settings = TableSettings.model_validate(table)
        runs = []
        for entry in settings.entries():
            for task in entry.tasks or settings.tasks:
                rate = float(entry.overrides[-1].partition("=")[2])
                family = entry.label.split(" #")[0]
                runs.append(make_spec(model=entry.label, task=task, trainer={"optim": {"lr": rate}}, of=[family, task]))
        plan = Plan(table=settings, code_fingerprint="code", runs=runs)
        path = plan_file.write(self.store.root / "plans", *plan.frozen())
        return plan, path, self.store, None

    def carry(self, plan: Plan, path: Path, store: Store, launcher: Any) -> bool:
        while missing := [spec for spec in plan.unique() if store.record(spec.id) is None]:
            for spec in missing:
                with store.claim(spec.id) as mine:
                    if mine and store.record(spec.id) is None:
                        self.run(spec)
        return True

    def run(self, spec: RunSpec) -> None:
        if len(self.ran) == self.killed_at:
            self.killed_at = -1
            raise LaunchError("killed")
        mine = (*spec.config["of"], spec.config["trainer"]["optim"]["lr"])
        self.store.folder(spec.id).mkdir(parents=True, exist_ok=True)
        self.store.write_record(make_record(spec, self.score(*mine)))
        self.ran.append(mine)

    def tune(
        self,
        models: tuple[str, ...] = ("a", "b"),
        tasks: tuple[str, ...] = ("chain", "other"),
        settings: Tuning = GRID,
    ) -> pd.DataFrame:
        table = {
            "name": "lr-toy",
            "models": [{"label": model, "model": model} for model in models],
            "tasks": list(tasks),
            "seeds": [0],
            "budget": "tiny",
            "overrides": [f"{RATE}=4.0e-3"],
        }
        tuning.tune(SweepRequest(table, [f"results_dir={self.store.root}"], settings), settings)
        best = pd.read_csv(self.store.root / "exports" / "lr-toy-best.csv", keep_default_na=False)
        return best.set_index(["model", "task"])

    def rates(self) -> dict[tuple[str, str], list[float]]:
        found: dict[tuple[str, str], list[float]] = {}
        for model, task, rate in self.ran:
            found.setdefault((model, task), []).append(rate)
        return {cell: sorted(rates) for cell, rates in found.items()}


def of_peaks(peaks: Mapping[tuple[str, str], float]) -> Score:
    return lambda model, task, rate: peak(peaks[model, task])(rate)
