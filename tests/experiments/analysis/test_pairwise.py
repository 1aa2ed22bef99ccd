"""Two models, paired: against values computed by hand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from toy import make_record, make_spec

from experiments.analysis.frames import Runs
from experiments.analysis.pairwise import duels
from experiments.reporting.comparison import sentences
from experiments.studies.compare import answer

A, B = {0: 0.6, 1: 0.7, 2: 0.8}, {0: 0.5, 1: 0.5, 2: 0.5}


def runs_of(a: dict[int, float], b: dict[int, float]) -> Runs:
    out = []
    for model, values in (("a", a), ("b", b)):
        for seed, value in values.items():
            spec = make_spec(model=model, seed=seed, labelled=model)
            items = {"test/id": [value, 0.55, None]}
            out.append((spec, make_record(spec, value, items=items)))
    return out


def test_gain_interval_and_items_by_hand() -> None:
    row = duels(runs_of(A, B), "a", "b", ["chain"]).iloc[0]
    # differences 0.1, 0.2, 0.3: mean 0.2, sd 0.1, t = 3.4641, p = 0.0742, half = 4.30265 * 0.1 / sqrt(3)
    assert (row["gain"], row["p"]) == (pytest.approx(0.2), pytest.approx(0.07418, abs=1e-5))
    assert row["high"] - row["gain"] == pytest.approx(0.248414, abs=1e-5)
    assert (row["improvement"], row["items_a"], row["items_b"]) == (1.0, 0.5, 0.0)
    assert row["winner"] == "" and row["detectable"] > 0.2
    assert (row["flops_ratio"], row["time_ratio"]) == (1.0, 1.0)
    assert (
        "not decided: a is ahead by 0.2000 accuracy" in sentences(duels(runs_of(A, B), "a", "b", ["chain"], least=3))[0]
    )


def test_a_winner_is_named_and_missing_seeds_are_not_guessed() -> None:
    clear = {seed: value - 0.4 - 0.001 * seed for seed, value in A.items()}
    assert duels(runs_of(A, clear), "b", "a", ["chain"], least=3).iloc[0]["winner"] == "a"
    few = duels(runs_of(A, clear), "b", "a", ["chain"])
    assert few.iloc[0]["winner"] == "" and "3 seeds are too few for a verdict, it needs 5" in sentences(few)[0]
    lone = duels(runs_of(A, {9: 0.5}), "a", "b", ["chain"])
    assert lone["gain"].isna().all() and "no seed has a result of both" in sentences(lone)[0]
    two = duels(runs_of({0: 0.6, 1: 0.7}, {0: 0.5, 1: 0.5}), "a", "b", ["chain"])
    assert "too few for a verdict" in sentences(two)[0]


def test_the_answer_fits_one_screen() -> None:
    text = io.StringIO()
    answer(duels(runs_of(A, B), "a", "b", ["chain"]), ["Budget toy."], Console(file=text))
    lines = text.getvalue().splitlines()
    assert len(lines) <= 24 and any("not decided" in line for line in lines)
