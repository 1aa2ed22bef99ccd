"""The published tunings: equal effort, optima inside their ranges, presets that have what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
TUNING = ROOT / "results" / "reference" / "tuning"
BEST = pd.read_csv(TUNING / "best.csv")  # the files SWEEP-best.csv below one another
SWEEPS = sorted(set(BEST["sweep"]))
TUNED = ("quick", "hops", "length", "scale", "language", "structure", "experts", "lsh")


def preset(table: str) -> dict[str, Any]:
    """The preset of a table, plain."""
    return dict(yaml.safe_load((ROOT / "conf" / "table" / f"{table}.yaml").read_text()))


def labels(table: str) -> list[str]:
    """The rows of a preset."""
    return [row if isinstance(row, str) else row["label"] for row in preset(table)["models"]]


def best_of(sweep: str) -> pd.DataFrame:
    """What a sweep chose, a row per cell."""
    return BEST[BEST["sweep"] == sweep]


def chosen_by(settings: dict[str, Any], task: str, label: str) -> dict[str, str]:
    """What a preset gives a cell, key by key: what tuning chose for its row, else for its model, over what all have."""
    rows = [row if isinstance(row, dict) else {"label": row, "model": row} for row in settings["models"]]
    (model,) = (row["model"] for row in rows if row["label"] == label)
    cells = settings.get("per_cell", {}).get(task, {})
    lines = [*settings["overrides"], *cells.get(label, cells.get(model, []))]
    return dict(line.split("=", 1) for line in lines)


def test_every_table_with_claims_has_its_tuning() -> None:
    assert {f"lr-{table}" for table in TUNED} | {"trainer-quick", "size-sizes"} == set(SWEEPS)
    assert {path.stem for path in TUNING.glob("*.csv")} == {*SWEEPS, "best", "pilots"}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_cell_got_the_same_trials(sweep: str) -> None:
    table = sweep.partition("-")[2]
    trials = pd.read_csv(TUNING / f"{sweep}.csv")
    best = best_of(sweep).set_index(["task", "model"])
    assert set(best.index) == {(task, label) for task in preset(table)["tasks"] for label in labels(table)}
    assert (trials["status"] == "done").all() and trials["on_budget"].all()
    dial = trials.columns[-1]
    for task, column in trials.groupby("task"):
        tried = column.groupby("model")[dial].apply(lambda values: tuple(sorted(values.fillna("").astype(str))))
        assert set(tried.index) == set(labels(table)) and tried.nunique() == 1, task
        assert set(best.loc[task, "trials"]) == {len(tried.iloc[0])}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_no_optimum_lies_at_an_end_of_its_range(sweep: str) -> None:
    trials = pd.read_csv(TUNING / f"{sweep}.csv")
    for row in best_of(sweep).itertuples():
        mine = trials[(trials["model"] == row.model) & (trials["task"] == row.task)]
        ends = [mine["validation"].min(), mine["validation"].max()]
        assert row.best_validation == ends[row.metric != "bits_per_byte"] and not row.edge
        assert row.best == row.chosen or row.tied > 1  # a choice that is not the best is tied with it
        if "trainer.optim.lr" in mine:
            rates = mine["trainer.optim.lr"]
            assert rates.min() < float(row.best) < rates.max() and row.place == "inside"


@pytest.mark.parametrize("table", TUNED)
def test_the_preset_has_what_was_chosen(table: str) -> None:
    settings = preset(table)
    for row in best_of(f"lr-{table}").itertuples():
        rate = chosen_by(settings, row.task, row.model)["trainer.optim.lr"]
        assert float(rate) == float(row.chosen), (row.task, row.model)


def test_what_else_the_trainer_decides_is_what_was_chosen() -> None:
    settings = preset("quick")
    for row in best_of("trainer-quick").fillna({"overrides": ""}).itertuples():
        found = chosen_by(settings, row.task, row.model)
        mine = {f"{key}={found[key]}" for key in found if key.startswith("trainer.optim.") and not key.endswith(".lr")}
        assert mine == ({row.overrides} if row.overrides else set()), (row.task, row.model)


def test_each_row_of_sizes_has_the_size_that_was_chosen() -> None:
    settings = preset("sizes")
    for row in best_of("size-sizes").fillna({"overrides": ""}).itertuples():
        found = chosen_by(settings, row.task, row.model)
        assert set(row.overrides.split()) <= {f"{key}={value}" for key, value in found.items()}, row.model
        assert row.overrides or "model.d_model" not in found
