"""Equal tuning: the same points for every model, a total that is kept, and the best of k against all draws."""

from __future__ import annotations

import itertools
import multiprocessing
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import make_record

from experiments.analysis.trials import BEST, TRIALS, best_of_k
from experiments.errors import UserError
from experiments.launching.launch import LaunchError
from experiments.planning.sweep_names import sweeps_of
from experiments.planning.sweep_request import read_sweep
from experiments.planning.sweep_settings import Axis, Tuning
from experiments.planning.table_plans import newest_plan
from experiments.planning.trial_points import distributions
from experiments.reporting import tuning_figure
from experiments.reporting.plot_style import Pen
from experiments.store import atomic_files as atomic
from experiments.store.store import Store
from experiments.studies import tuning
from experiments.studies.kept_studies import KeptStudies
from experiments.studies.sweep import sweep
from experiments.studies.verify import derived

DIALS = ("weight_decay=0.1", "warmup=0.1", "beta2=0.98", "schedule=cosine")  # all of the space but the learning rate
FIXED = ["sweep=full", *(f"trainer.optim.{dial}" for dial in DIALS)]
SMALL = [*FIXED, "task=chain", "task.facts_min=2", "budget.train_flops=1e10", "budget.tolerance_flops=0.1"]


@given(
    st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=6),
    st.booleans(),
)
def test_the_best_of_k_is_the_mean_over_all_draws(values: list[int | None], higher: bool) -> None:
    pick = max if higher else min
    for point in best_of_k(values, higher_is_better=higher):
        draws = [[v for v in draw if v is not None] for draw in itertools.combinations(values, point.k)]
        bests = [pick(draw) for draw in draws if draw]
        assert point.p_none == pytest.approx(1 - len(bests) / len(draws))
        assert point.mean == (pytest.approx(sum(bests) / len(bests)) if bests else None)


@pytest.fixture
def carried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A carrier that runs nothing: a trial's score is its learning rate; above 5e-3 a run diverges."""
    seen: list[str] = []

    def carry(plan: Any, path: Path, store: Store, launcher: Any) -> None:
        for spec in plan.unique():
            if store.state(spec.id) == "planned":
                rate = spec.config["trainer"]["optim"]["lr"]
                store.folder(spec.id).mkdir(parents=True, exist_ok=True)
                store.write_record(make_record(spec, None if rate > 5e-3 else rate))
                seen.append(spec.id)
                if len(seen) == 3:
                    raise LaunchError("killed")

    monkeypatch.setattr("experiments.planning.run_spec._counted", lambda config, shape: (1.0, 3.0))
    monkeypatch.setattr(tuning, "carry", carry)
    return seen


def test_a_sweep_that_was_killed_goes_on_and_its_total_holds(carried: list[str], tmp_path: Path) -> None:
    where = f"results_dir={tmp_path}"
    with pytest.raises(LaunchError):
        sweep([*SMALL, where, "trials=4"])
    sweep([*SMALL, where, "trials=4"])
    assert len(carried) == len(set(carried)) == 8  # two models, four trials; nothing twice
    sweep([*SMALL, where, "trials=5"])
    assert len(carried) == 10
    (trials,) = [p for p in (tmp_path / "exports").glob("*.csv") if "best" not in p.name]
    rows = pd.read_csv(trials)
    for _, mine in rows.groupby("trial"):
        assert set(mine["model"]) == {"ressformer", "transformer"} and mine["trainer.optim.lr"].nunique() == 1
    assert rows.loc[rows["trial"] == 0, "trainer.optim.lr"].iloc[0] == 2e-3  # the config as it is
    assert rows["trainer.optim.lr"].between(3e-4, 1e-2).all() and rows["trainer.optim.lr"].nunique() == 5
    best = pd.read_csv(trials.with_name(f"{trials.stem}-best.csv"))
    done = rows[rows["status"] == "done"]
    assert set(rows["status"]) == {"done", "failed"}
    assert list(best["trials"]) == [5, 5] and list(best["trials_ok"]) == [len(done) / 2] * 2
    assert best["best_validation"].iloc[0] == pytest.approx(done["trainer.optim.lr"].max())
    assert list(best["chosen"]) == [
        2e-3,
        2e-3,
    ]  # these scores are within the error of so few items: the config as it is
    assert best["tuning_flops"].iloc[0] == pytest.approx(rows.loc[rows["model"] == "ressformer", "train_flops"].sum())
    curve = pd.read_csv(trials.with_name(f"{trials.stem}-best-of-k.csv"))
    for _, mine in curve.groupby("model"):
        assert mine["expected_best"].is_monotonic_increasing and list(mine["k"]) == [1, 2, 3, 4, 5]
        assert mine["expected_best"].iloc[-1] == pytest.approx(best["best_validation"].iloc[0])
    plan = newest_plan(tmp_path / "plans", trials.stem)
    assert plan is not None
    text = dict(derived(plan, Store(tmp_path)))
    assert text == {path.name: path.read_text() for path in (tmp_path / "exports").glob("*.csv")} and len(text) == 3


def test_a_table_is_tuned_as_it_stands() -> None:
    found = read_sweep(["sweep=full", "table=quick", "trials=3", "task=chain"])
    table, rest, settings = found.table, found.overrides, found.settings
    assert isinstance(settings, Tuning)
    assert [entry["label"] for entry in table["models"]] == [
        *("ressformer", "transformer_rope", "transformer_conv", "reformer", "longformer")
    ]
    assert table["tasks"] == ["chain"] and table["seeds"] == [0] and table["per_task"]
    assert settings.trials == 3 and len(settings.space) == 5 and rest == []


def test_a_sweep_has_the_name_of_its_preset_and_table_until_that_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def request(*more: str) -> Any:
        return read_sweep(["sweep=lr", "table=quick", f"results_dir={tmp_path}", *more])

    first = request()
    assert first.table["name"] == "lr-quick" == request("task=chain").table["name"]  # nothing lies there yet
    first.claim.write(tmp_path)
    assert request("trials=99", "launcher.n_jobs=1").table["name"] == "lr-quick"
    assert not capsys.readouterr().err
    assert re.fullmatch("lr-quick-[0-9a-f]{6}", request("task=chain").table["name"])
    assert capsys.readouterr().err.count("\n") == 1
    other = request("task=chain", "sweep.name=mine")
    assert other.table["name"] == "mine"
    other.claim.write(tmp_path)
    with pytest.raises(UserError, match=r"sweep mine in .* was asked for something else"):
        request("sweep.name=mine")
    assert sweeps_of(tmp_path, "quick") == ["lr-quick", "mine"]


def test_an_unpacked_sweep_is_its_tables(tmp_path: Path) -> None:
    """An archive holds the exports of a sweep, not the note of what it was asked for."""
    for name in ("lr-quick-best.csv", "lr-quicker-best.csv", "quick-best.csv"):
        atomic.write_text(tmp_path / "exports" / name, "")
    assert sweeps_of(tmp_path, "quick") == ["lr-quick"]


def test_a_dial_that_is_given_is_not_tuned() -> None:
    found = read_sweep(["sweep=full", "trainer.optim.lr=1e-3"]).settings
    assert isinstance(found, Tuning) and "trainer.optim.lr" not in found.space
    assert read_sweep(["sweep=lr", "trainer.optim.lr=1e-3,2e-3"]).settings is None  # a plain grid
    with pytest.raises(UserError, match=r"takes no grid beside it; fix model\.steps"):
        read_sweep(["sweep=lr", "model.steps=2,4"])


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        ({"low": 1.0}, "give low and high"),
        ({"low": 2.0, "high": 1.0}, "space.x"),
        ({"low": 0.0, "high": 1.0, "log": True}, "x"),
    ],
)
def test_a_wrong_axis_is_refused(axis: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        distributions({"x": Axis(**axis)})


def test_the_best_of_k_is_drawn_for_the_sweep_and_in_the_report_of_its_table(tmp_path: Path) -> None:
    rows = [
        {"model": model, "task": "chain", "k": k, "metric": "accuracy", "expected_best": best, "p_none": 0.0}
        for model, best_of in (("ours", [0.3, 0.5, 0.6]), ("theirs", [0.4, 0.45, None]))
        for k, best in enumerate(best_of, 1)
    ]
    name, exports = "lr-quick-abc123", tmp_path / "exports"
    trials, best = pd.DataFrame(columns=[*TRIALS, "trainer.optim.lr"]), pd.DataFrame(columns=BEST)
    files = tuning_figure.write(trials, best, pd.DataFrame(rows), name, exports / "figures", {"chain": True})
    assert [path.suffix for path in files] == [".png", ".pdf"] and all(path.stat().st_size > 1000 for path in files)
    for suffix, frame in (("", trials), ("-best", best), ("-best-of-k", pd.DataFrame(rows))):
        frame.to_csv(exports / f"{name}{suffix}.csv", index=False)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / f"{name}.json").write_text('{"tables": ["quick"]}')
    pen, labels = Pen(["theirs", "ours"]), {"chain": "accuracy ↑"}
    (panel,) = tuning_figure.tuning(pen, labels, "quick", Store(tmp_path)).panels
    assert "validation accuracy ↑" in panel.svg and panel.svg.count('class="series') >= 2
    for models, table in ((["other"], "quick"), (["ours"], "cpu")):
        assert not tuning_figure.tuning(Pen(models), labels, table, Store(tmp_path)).panels


SPACE = distributions({"trainer.optim.lr": Axis(low=1e-4, high=1e-2, log=True)})
CELLS = [("a", "chain"), ("b", "chain")]


def asked_at_once(path: str, gate: Any, answers: Any) -> None:
    gate.wait()
    points = KeptStudies(Path(path), CELLS, 0).points(SPACE, 6, [])
    answers.put([points[cell] for cell in CELLS])


def test_sweeps_at_once_share_one_study(tmp_path: Path) -> None:
    context: Any = multiprocessing.get_context("spawn")
    gate, answers = context.Event(), context.Queue()
    words = (str(tmp_path / "s.db"), gate, answers)
    several = [context.Process(target=asked_at_once, args=words) for _ in range(3)]
    for process in several:
        process.start()
    gate.set()
    found = [answers.get() for _ in several]
    for process in several:
        process.join()
    alone = KeptStudies(tmp_path / "alone.db", CELLS, 0).points(SPACE, 6, [])
    assert found == [[alone[cell] for cell in CELLS]] * 3
    kept = KeptStudies(tmp_path / "s.db", CELLS, 0).points(SPACE, 6, [])
    assert kept == alone


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\x00" + bytes(200), b"\x00" * 5000])
def test_a_broken_study_costs_nothing_but_itself(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = KeptStudies(tmp_path / "alone.db", CELLS, 0).points(SPACE, 4, [])
    (tmp_path / "s.db").write_bytes(content)
    studies = KeptStudies(tmp_path / "s.db", CELLS, 0)
    assert studies.points(SPACE, 4, []) == alone
    assert "the trials are the same without it" in capsys.readouterr().err
    studies.tell([{"model": "a", "task": "chain", "trial": 0, "status": "done", "validation": 0.5}])
