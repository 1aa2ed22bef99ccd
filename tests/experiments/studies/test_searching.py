"""A search by TPE: as many trials for every cell, the same points after a kill, and each trial once."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench import RATE, Bench, peak

from experiments.launching.launch import LaunchError
from experiments.planning.sweep_settings import Axis, Tuning
from experiments.planning.trial_points import distributions, next_point

TPE = Tuning(space={RATE: Axis(low=3e-4, high=1e-2, log=True)}, trials=7, sampler="tpe")


def test_the_next_point_is_where_scores_are_good_and_the_same_each_time() -> None:
    space = distributions(TPE.space)
    told = [({RATE: float(rate)}, peak(9e-3)(float(rate))) for rate in np.geomspace(3.1e-4, 9.9e-3, 20)]

    def mean(higher: bool) -> float:
        return float(np.mean([np.log(next_point(space, told, seed, higher=higher)[RATE]) for seed in range(8)]))

    assert mean(True) > np.log(3e-3) > np.log(1e-3) > mean(False)
    assert next_point(space, told, 0, higher=True) == next_point(space, told, 0, higher=True)


def test_a_search_gives_every_cell_as_many_trials_and_goes_on_where_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(model: str, task: str, rate: float) -> float | None:
        return None if model == "b" and rate > 5e-3 else peak({"a": 9e-3, "b": 5e-4}[model])(rate)

    whole = Bench(tmp_path / "whole", score, monkeypatch)
    best = whole.tune(tasks=("chain",), settings=TPE)
    rates = whole.rates()
    assert {len(found) for found in rates.values()} == {7} and best["trials"].tolist() == [7, 7]
    firsts = [[rate for model, _, rate in whole.ran if model == name] for name in ("a", "b")]
    assert firsts[0][:5] == firsts[1][:5] and firsts[0][0] == 4e-3  # before its own scores count
    assert firsts[0][5:] != firsts[1][5:]

    killed = Bench(tmp_path / "killed", score, monkeypatch)
    for runs in (3, 11):
        killed.killed_at = runs
        with pytest.raises(LaunchError):
            killed.tune(tasks=("chain",), settings=TPE)
    (killed.store.root / "sweeps" / "lr-toy.db").unlink()  # the points hang on the records alone
    killed.tune(tasks=("chain",), settings=TPE)
    assert killed.ran == whole.ran
    more = TPE.model_copy(update={"trials": 8})
    killed.tune(tasks=("chain",), settings=more)
    assert killed.ran[:14] == whole.ran and len(killed.ran) == len(set(killed.ran)) == 16


def searched_at_once(root: str, gate: Any, answers: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        bench = Bench(Path(root), lambda model, task, rate: peak({"a": 9e-3, "b": 5e-4}[model])(rate), patch)
        gate.wait()
        bench.tune(tasks=("chain",), settings=TPE)
        answers.put(bench.ran)


@pytest.mark.timeout(300)
def test_two_searches_at_once_make_each_trial_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context: Any = multiprocessing.get_context("spawn")
    gate, answers = context.Event(), context.Queue()
    both = [context.Process(target=searched_at_once, args=(str(tmp_path / "both"), gate, answers)) for _ in range(2)]
    for process in both:
        process.start()
    gate.set()
    ran = [run for _ in both for run in answers.get(timeout=280)]
    for process in both:
        process.join()
    alone = Bench(tmp_path / "alone", lambda model, task, rate: peak({"a": 9e-3, "b": 5e-4}[model])(rate), monkeypatch)
    alone.tune(tasks=("chain",), settings=TPE)
    assert sorted(ran) == sorted(alone.ran) and len(ran) == 14
    for end in ("", "-best"):
        file = Path("exports") / f"lr-toy{end}.csv"
        assert (tmp_path / "both" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()
