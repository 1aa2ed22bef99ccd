"""Rank correlation between re-runs: by hand, over synthetic records."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "experiments"))
from toy import make_record, make_spec

from benchmarks import rank_stability
from benchmarks.rank_stability import correlations, means, per_task, read
from experiments.store.store import Store

ORDERS = {"a": (0.1, 0.2, 0.3, 0.4), "b": (0.2, 0.1, 0.3, 0.4), "c": (0.9, 0.5, 0.3, 0.1)}


def folders(root: Path) -> list[Path]:
    """Three results folders of four models and two seeds each; the seeds of a folder are its own."""
    made = []
    for number, (name, values) in enumerate(ORDERS.items()):
        store = Store(root / name)
        for model, value in enumerate(values):
            for seed in (2 * number, 2 * number + 1):
                spec = make_spec(seed=seed, model=f"m{model}", note=model)
                store.write_spec(spec)
                assert store.write_record(make_record(spec, value + 0.01 * (seed % 2)))
        made.append(root / name)
    return made


def test_correlations_are_those_by_hand(tmp_path: Path) -> None:
    a, b, c = folders(tmp_path)
    rows = {(Path(r["one"]).name, Path(r["two"]).name): r for r in correlations(read([a, b, c]))}
    # One neighbouring swap of four: rho = 1 - 6 * 2 / (4 * 15), tau = (5 - 1) / 6; the third order is a's reversed.
    assert rows["a", "b"]["spearman"] == pytest.approx(0.8) and rows["a", "b"]["kendall"] == pytest.approx(2 / 3)
    assert rows["a", "c"]["spearman"] == pytest.approx(-1) and rows["b", "c"]["spearman"] == pytest.approx(-0.8)
    (task,) = per_task(list(rows.values()))
    assert task["spearman_min"] == pytest.approx(-1) and task["spearman"] == pytest.approx(-1 / 3)


def test_ties_few_models_and_failed_runs_have_no_order() -> None:
    specs = [make_spec(model=f"m{i}", note=i) for i in range(3)]
    tied = means([make_record(spec, 0.5) for spec in specs])
    assert correlations({"x": tied, "y": tied})[0]["spearman"] is None
    failed = means([make_record(spec, None if i == 0 else 0.1 * i) for i, spec in enumerate(specs)])
    assert list(failed["chain"]) == ["m1", "m2"]
    assert correlations({"x": failed, "y": failed})[0]["kendall"] is None


def test_a_metric_to_be_lowered_is_turned_around() -> None:
    spec = make_spec()
    loss = spec.model_copy(update={"task_info": spec.task_info.model_copy(update={"higher_is_better": False})})
    assert means([make_record(loss, 0.3)]) == {"chain": {"toy": -0.3}}


def test_the_command_writes_tables_and_refuses_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, _ = folders(tmp_path)
    assert rank_stability.main([str(a), str(b), "--out", str(tmp_path / "out")]) == 0
    assert "| chain | 1 | 1 | 0.80 |" in (tmp_path / "out" / "rank_stability.md").read_text()
    for words, line in (
        ([a], "two results folders"),
        ([a, a], "use other seeds"),
        ([a, tmp_path / "no"], "no records"),
    ):
        assert rank_stability.main([str(word) for word in words]) == 2
        assert line in capsys.readouterr().err
