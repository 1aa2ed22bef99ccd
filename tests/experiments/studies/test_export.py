"""The files of a table that `export` writes: every two rows of a committed table, paired by seed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from experiments.__main__ import program
from experiments.analysis.pairwise import DUEL_COLUMNS

REFERENCE = Path(__file__).resolve().parents[3] / "results" / "reference" / "quick"


def test_every_two_rows_of_a_committed_table_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(REFERENCE, tmp_path / "results")
    assert program(["export", "table=starts", f"results_dir={tmp_path / 'results'}"]) == 0
    path = tmp_path / "results" / "exports" / "starts-pairs.csv"
    assert str(path) in capsys.readouterr().out
    pairs = pd.read_csv(path)
    cells = pd.read_csv(path.with_name("starts.csv"))
    means = cells[cells["split"] == "test/id"].set_index(["task", "metric", "model"])["mean"]
    assert list(pairs.columns) == DUEL_COLUMNS
    assert len(pairs) == 10 * 3 and not pairs.duplicated(["task", "a", "b"]).any()  # of five rows, on three tasks
    for row in pairs.itertuples():
        gap = means[row.task, row.metric, row.a] - means[row.task, row.metric, row.b]
        assert row.gain == pytest.approx(gap if row.higher_is_better else -gap) and row.seeds == 3
        assert row.low < row.gain < row.high and row.p <= row.p_holm
