"""The rules of equal tuning on made-up records: widening for all alike, ties that fall to the default, the block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bench import GRID, RATE, Bench, of_peaks, peak

from experiments.analysis.trial_choice import Choice, Tried, choose
from experiments.analysis.validation_error import Scored, clustered
from experiments.launching.launch import LaunchError
from experiments.planning.plan import Plan, plan_files, run_overrides
from experiments.planning.settings import Entry, TableSettings
from experiments.planning.sweep_settings import Tuning, Variants
from experiments.reporting.per_cell import per_cell_block
from experiments.store.records import ValidationScores

ONE_EDGE = {("a", "chain"): 8e-3, ("b", "chain"): 2e-3, ("a", "other"): 2e-3, ("b", "other"): 4e-3}


def test_a_range_is_widened_for_all_models_of_a_task_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, of_peaks(ONE_EDGE), monkeypatch)
    best = bench.tune()
    rates = bench.rates()
    assert rates["a", "chain"] == rates["b", "chain"] == [1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2]
    assert rates["a", "other"] == rates["b", "other"] == [1e-3, 2e-3, 4e-3, 8e-3]
    assert best.loc[("a", "chain"), ["chosen", "place", "widened"]].tolist() == [8e-3, "inside", "high 1"]
    assert best.loc[("b", "chain"), ["chosen", "place", "widened"]].tolist() == [2e-3, "inside", "high 1"]
    assert best.loc[("b", "other"), ["chosen", "place", "widened"]].tolist() == [4e-3, "inside", ""]
    assert not best["edge"].any() and best.loc["a"]["trials"].tolist() == best.loc["b"]["trials"].tolist() == [5, 4]


def test_twice_at_most_and_then_the_cell_is_flagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peaks = {("a", "chain"): 1.0, ("b", "chain"): 1e-6}
    bench = Bench(tmp_path, of_peaks(peaks), monkeypatch)
    best = bench.tune(tasks=("chain",))
    rates = [2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2]
    assert bench.rates() == {("a", "chain"): rates, ("b", "chain"): rates}
    assert len(rates) == GRID.trials + GRID.may_add
    assert best["place"].tolist() == ["high end", "low end"] and best["edge"].all()
    assert best["widened"].tolist() == ["low 2 high 2"] * 2
    assert "edge: the best of a on chain, b on chain stands at an end" in capsys.readouterr().out


def test_what_failed_beyond_the_best_bounds_the_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, lambda model, task, rate: None if rate > 4e-3 else peak(1.0)(rate), monkeypatch)
    best = bench.tune(("a",), ("chain",))
    assert bench.rates() == {("a", "chain"): [1e-3, 2e-3, 4e-3, 8e-3]}
    assert best["place"].tolist() == ["inside"] and best["chosen"].tolist() == [4e-3]


@pytest.mark.parametrize("runs", [2, 17])
def test_a_sweep_killed_anywhere_ends_as_one_that_was_not(
    runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = {**ONE_EDGE, ("a", "chain"): 1.0}
    whole = Bench(tmp_path / "whole", of_peaks(peaks), monkeypatch)
    whole.tune()
    killed = Bench(tmp_path / "killed", of_peaks(peaks), monkeypatch)
    killed.killed_at = runs
    with pytest.raises(LaunchError):
        killed.tune()
    killed.tune()
    assert sorted(killed.ran) == sorted(whole.ran) and len(set(killed.ran)) == len(killed.ran) == 20
    for path in (tmp_path / "whole" / "exports").glob("lr-toy*.*"):
        assert (tmp_path / "killed" / "exports" / path.name).read_bytes() == path.read_bytes()
    assert len(set(plan_files(killed.store.root / "plans"))) == 3  # as planned, and once for each widening


def items(scores: list[float], forms: list[int] | None = None) -> Scored:
    kept = ValidationScores(scores=list(scores), forms=forms or list(range(len(scores))))
    return Scored(sum(scores) / len(scores), kept, share=True)


def cell(scored: Mapping[float, Scored], default: float | None = 4e-3) -> list[Tried]:
    rows = [
        ({"model": "a", "task": "t", "trial": n, RATE: str(rate)}, one) for n, (rate, one) in enumerate(scored.items())
    ]
    return [Tried(row, one, default={RATE: default}) for row, one in rows]


def chosen(choice: Choice) -> float:
    assert choice.chosen is not None
    return float(choice.chosen.row[RATE])


def test_a_tie_falls_to_the_default() -> None:
    level = [1.0] * 50 + [0.0] * 50
    better = [0.0] + [1.0] * 51 + [0.0] * 48  # two items more, one less: a gap of 0.01, its standard error is 0.017
    worse = [1.0] * 30 + [0.0] * 70
    found = choose(cell({2e-3: items(better), 4e-3: items(level), 8e-3: items(worse)}), [RATE], True)
    assert (chosen(found), found.tied, found.place) == (4e-3, 2, "low end")
    far = choose(cell({1e-3: items(better), 2e-3: items(level), 4e-3: items(worse)}), [RATE], True)
    assert (chosen(far), far.tied) == (2e-3, 2)  # the default is beaten, and 2e-3 is the nearer one
    unknown = choose(cell({1e-3: items(better), 2e-3: items(level)}, default=None), [RATE], True)
    assert (chosen(unknown), unknown.tied) == (1e-3, 2)


def test_the_paired_difference_decides_not_the_two_spreads() -> None:
    hard = np.random.default_rng(0).random(200)
    base, shifted = items(list(hard)), items([*(hard + 0.004 + 0.0001 * np.arange(200) / 200)])
    assert base.error is not None and base.error > 0.01  # either spread alone would call it a tie
    found = choose(cell({2e-3: shifted, 4e-3: base}), [RATE], True)
    assert (chosen(found), found.tied) == (2e-3, 1)
    lower = choose(cell({2e-3: base, 4e-3: shifted}), [RATE], False)  # bits: less is better
    assert (chosen(lower), lower.tied) == (2e-3, 1)


def test_without_items_the_number_of_different_ones_counts() -> None:
    def known(mean: float, effective: float) -> Scored:
        return Scored(mean, None, share=True, effective=effective)

    assert known(0.5, 100).error == pytest.approx(0.05)
    assert (known(1.0, 100).error or 0) > 0.005 and Scored(2.1).error is None
    assert chosen(choose(cell({2e-3: known(0.54, 100), 4e-3: known(0.5, 100)}), [RATE], True)) == 4e-3
    assert chosen(choose(cell({2e-3: known(0.54, 900), 4e-3: known(0.5, 900)}), [RATE], True)) == 2e-3
    assert chosen(choose(cell({2e-3: Scored(2.10), 4e-3: Scored(2.11)}), [RATE], False)) == 2e-3


def test_renamings_are_one_item() -> None:
    scores = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    alone = clustered(scores, np.ones(6), range(6))
    assert alone == pytest.approx(scores.std(ddof=1) / math.sqrt(6))
    twice = clustered(np.repeat(scores, 2), np.ones(12), [f for f in range(6) for _ in range(2)])
    assert twice == pytest.approx(alone)  # the same items written twice say no more
    assert clustered(np.ones(4), np.ones(4), [0, 0, 0, 0]) is None


def test_the_block_gives_each_cell_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, of_peaks({**ONE_EDGE, ("a", "other"): 1.0}), monkeypatch)
    best = bench.tune()
    text = (bench.store.root / "exports" / "lr-toy-per_cell.yaml").read_text()
    block = yaml.safe_load(text)["per_cell"]
    assert block == {"chain": {"a": [f"{RATE}=0.008"], "b": [f"{RATE}=0.002"]}, "other": {"a": [f"{RATE}=0.032"]}}
    assert "# edge" in text  # and ("b", "other") is as the table has it
    table = TableSettings(
        name="toy", models=["a", "b"], tasks=["chain", "other"], seeds=[0], budget="tiny", per_cell=block
    ).model_copy(update={"overrides": [f"{RATE}=4.0e-3"]})
    for (model, task), row in best.iterrows():  # type: ignore[misc]
        given = [o for o in run_overrides(table, Entry(label=model, model=model), task, []) if o.startswith(RATE)]
        assert float(given[-1].partition("=")[2]) == row["chosen"]


def test_the_block_keeps_what_was_not_tuned() -> None:
    settings = TableSettings(
        name="lr-toy",
        models=[Entry(label="a #0", model="a", overrides=[f"{RATE}=0.002"])],
        tasks=["chain"],
        seeds=[0],
        budget="tiny",
        per_cell={"chain": {"a": [f"{RATE}=0.001", "model.tie_embeddings=true"]}},
    )
    row = {"task": "chain", "model": "a", "trial": 0, "edge": False, "overrides": f"{RATE}=0.002"}
    block = per_cell_block(Plan(table=settings, code_fingerprint="", runs=[]), [row])
    assert yaml.safe_load(block) == {"per_cell": {"chain": {"a": ["model.tie_embeddings=true", f"{RATE}=0.002"]}}}


def test_rows_of_one_model_have_choices_of_their_own() -> None:
    rows = {"a": ("a", 0.002), "a, wide": ("a", 0.008), "no": ("a", 0.004), "b x2": ("b", 0.004), "b x4": ("b", 0.001)}
    rows |= {"a #wide": ("b", 0.016)}  # no trial
    entries = [Entry(label=label, model=model) for label, (model, _) in rows.items()]
    settings = TableSettings(name="t", models=entries, tasks=["chain"], seeds=[0], budget="tiny")
    settings = settings.model_copy(update={"overrides": [f"{RATE}=0.004"]})
    best = [
        {"task": "chain", "model": label, "trial": 0, "edge": False, "overrides": f"{RATE}={rate}"}
        for label, (_, rate) in rows.items()
    ]
    text = per_cell_block(Plan(table=settings, code_fingerprint="", runs=[]), best)
    block = yaml.safe_load(text)["per_cell"]
    # `no` would find the choice of `a` under the name of its model; no row is called b, so `b x2` finds none
    assert set(block["chain"]) == {"a", "a, wide", "no", "b x4", "a #wide"} and block["chain"]["no"] == []
    table = settings.model_copy(update={"per_cell": block})
    for entry in entries:
        given = [o for o in run_overrides(table, entry, "chain", []) if o.startswith(RATE)]
        assert float(given[-1].partition("=")[2]) == rows[entry.label][1]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"x": {"points": [1.0, 2.0, 5.0]}}, "evenly spaced"),
        ({"x": {"points": [2.0, 1.0]}}, "ascend"),
        ({"x": {"points": [1.0, 2.0], "high": 3.0}}, "stand alone"),
        ({"x": {"points": [1.0, 2.0]}, "y": {"low": 0.0, "high": 1.0}}, "no other axis"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(space: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Tuning.model_validate({"space": space})
    with pytest.raises(ValueError, match="must not be fewer"):
        Tuning.model_validate({"space": {"x": {"points": [1.0, 2.0, 4.0]}}, "trials": 2})


def test_one_list_of_variants_serves_all_models() -> None:
    variants = Variants(variants={"all": ["trainer.optim.beta2=0.95"]})
    assert variants.of("any") == ["trainer.optim.beta2=0.95"]
    with pytest.raises(ValueError, match="stands alone"):
        Variants(variants={"all": ["x=1"], "a": ["x=2"]})
