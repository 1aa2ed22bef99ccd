"""The studies of a tuning, kept in a file that any number of sweeps may use at once, and that none needs.

The points of a tuning hang on its space and the sampler's seed alone, and its trials are runs of the store: a file that
is missing, broken or locked by another costs nothing but itself.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from experiments.planning.trial_points import asked, study
from experiments.store.lease import exclusive

Cell = tuple[str, str]  # model and task
T = TypeVar("T")
BROKEN = (SQLAlchemyError, StorageInternalError, sqlite3.Error, UpdateFinishedTrialError)


class KeptStudies:
    """A study per cell in the file `path`; in memory where the file cannot be used."""

    def __init__(self, path: Path, cells: Sequence[Cell], seed: int) -> None:
        self._path, self._cells, self._seed = path, cells, seed
        self._studies: dict[Cell, optuna.Study] = {}
        self._storage: RDBStorage | None = None

    def points(
        self, space: Mapping[str, BaseDistribution], trials: int, first: Sequence[Mapping[str, Any]]
    ) -> dict[Cell, list[dict[str, Any]]]:
        """The points of the first `trials` trials of each cell, `first` before all others.

        Raises:
            UserError: the studies were made for another space.
        """

        def ask(path: Path | None) -> dict[Cell, list[dict[str, Any]]]:
            storage = None if path is None else self._opened()
            self._studies = {cell: study(storage, "/".join(cell), self._seed) for cell in self._cells}
            return {cell: asked(kept, space, trials, first) for cell, kept in self._studies.items()}

        found = self._guarded(lambda: ask(self._path), "the trials are the same without it")
        return ask(None) if found is None else found

    def keep(
        self,
        space: Mapping[str, BaseDistribution],
        points: Mapping[Cell, Sequence[Mapping[str, Any]]],
        trials: int,
        better: Mapping[str, bool],
    ) -> dict[Cell, list[dict[str, Any]]]:
        """The points that each cell's study has, after those of `points` were added that it lacks; `trials` at most.

        Args:
            space: of the points.
            points: of each cell, in the order of its trials.
            trials: of a cell, all told.
            better: whether more is better, by task.

        Raises:
            UserError: the studies were made for another space.
        """

        def ask() -> dict[Cell, list[dict[str, Any]]]:
            found = {}
            for cell in self._cells:
                if cell not in self._studies:
                    name = "/".join(cell)
                    self._studies[cell] = study(self._opened(), name, self._seed, higher=better[cell[1]])
                kept = self._studies[cell]
                count = max(len(points[cell]), len(kept.get_trials(deepcopy=False)))
                found[cell] = asked(kept, space, min(count, trials), points[cell])
            return found

        known = self._guarded(ask, "the trials are the same without it")
        return {cell: [dict(point) for point in mine] for cell, mine in points.items()} if known is None else known

    def _opened(self) -> RDBStorage:
        """The file, opened once: Optuna reads all its migrations for that."""
        if self._storage is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._storage = RDBStorage(f"sqlite:///{self._path}")
        return self._storage

    def tell(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Hand the outcomes to the studies; what is missing stays running there and is carried on next time."""

        def tell_all() -> None:
            for cell, kept in self._studies.items():
                _tell(kept, [row for row in rows if (row["model"], row["task"]) == cell])

        self._guarded(tell_all, "the records have the outcomes")

    def _guarded(self, work: Callable[[], T], comfort: str) -> T | None:
        """What `work` returns, alone with the file; None, and a line, if the file cannot be used."""
        try:
            with exclusive(self._path.with_suffix(".lock")):
                return work()
        except BROKEN as error:
            why = " ".join(str(getattr(error, "orig", error)).split())
            print(f"the study {self._path} cannot be used ({why}); {comfort}", file=sys.stderr)
            return None


def _tell(kept: optuna.Study, rows: Sequence[Mapping[str, Any]]) -> None:
    waiting = {trial.number for trial in kept.get_trials(deepcopy=False) if trial.state == TrialState.RUNNING}
    for row in rows:
        if row["trial"] in waiting and row["status"] == "done":
            kept.tell(row["trial"], row["validation"])
        elif row["trial"] in waiting and row["status"] == "failed":
            kept.tell(row["trial"], state=TrialState.FAIL)
