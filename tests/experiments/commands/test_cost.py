"""`python -m experiments cost`: a tree that adds up, and CSV of it."""

from __future__ import annotations

import csv
import io

import pytest

from experiments.__main__ import program
from experiments.errors import UserError
from experiments.studies.model_cost import COLUMNS


def test_the_tree_and_the_totals(capsys: pytest.CaptureFixture[str]) -> None:
    assert program(["cost", "model=ressformer", "task=chain", "budget=tiny", "model.n_experts=8"]) == 0
    out = capsys.readouterr().out
    for word in ("experts", "router", "scores", "executed", "activations kept", "state kept", "worst"):
        assert word in out


def test_csv_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    program(["cost", "model=transformer", "task=chain", "--csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == COLUMNS
    for key in ("params", "forward", "forward_executed", "train", "train_executed", "params_active"):
        parts = sum(float(row[key]) for row in rows if row["depth"] == "1")
        assert float(rows[0][key]) == pytest.approx(parts)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--tsv"], "--csv"), (["model=transformer", "task=chain", "budget=tiny", "model.d_model=512"], "nearest is")],
)
def test_bad_input_is_one_line(arguments: list[str], word: str) -> None:
    with pytest.raises(UserError, match=word) as caught:
        program(["cost", *arguments])
    assert "\n" not in str(caught.value)
