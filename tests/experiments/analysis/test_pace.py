"""Costs to an equal quality, against values computed by hand; step times and MFU of a pass that is written down."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from toy import a_pass, fill, make_record, make_spec, table_plan, timed

from experiments.analysis.frames import Runs
from experiments.analysis.pace import equal_quality, first_at, reference_rows, seconds_saved
from experiments.errors import UserError
from experiments.planning.settings import TableSettings
from experiments.reporting.table import build, markdown, write
from experiments.store.archive import Archive
from experiments.store.pack import of_folder, unpack, write_archive
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.store.timings import read_timings, write_timings
from experiments.studies.step_times import lines, not_quiet

# Validation by step. Of seed 0 the weaker is b with 0.8: a is there at step 4, b at step 12; and so on.
CURVES = {
    ("a", 0): {2: 0.4, 4: 0.8, 12: 0.9},
    ("b", 0): {4: 0.7, 12: 0.8},
    ("a", 1): {4: 0.8, 8: 0.85},
    ("b", 1): {4: 0.6, 8: 0.9},
    ("a", 2): {2: 0.6},
    ("b", 2): {6: 0.7, 12: 0.6},
}
STEPS = {0: (4, 12), 1: (8, 8), 2: (2, 6)}  # to the target, of a and of b


def logged(store: Store, curves: dict[tuple[str, int], dict[int, float]] = CURVES) -> Runs:
    """The runs of a and b with records, and logs of these validations; a is wider, so that their step times differ."""
    plan = table_plan()
    wide = [s.model_copy(update={"sizes": {**s.sizes, "d_ff": 64}}) if s.model == "a" else s for s in plan.runs]
    runs = [(spec, make_record(spec)) for spec in wide]
    for spec, record in runs:
        store.write_record(record)
        curve = [json.dumps({"step": step, "val/accuracy": v}) for step, v in curves[spec.model, spec.seed].items()]
        (store.folder(spec.id) / "metrics.jsonl").write_text("\n".join(curve) + "\n")
    return runs


def test_steps_to_the_quality_that_the_weaker_run_ends_with() -> None:
    assert first_at([[(2, 0.4), (4, 0.8), (12, 0.9)], [(4, 0.7), (12, 0.8)]]) == ([4, 12], 0.8)
    assert first_at([[(2, 0.4)], []]) is None
    assert first_at([[(1, -3.0), (2, -2.0)], [(1, -2.5), (2, -2.6)]]) == ([2, 1], -2.5)  # bits per byte, negated


def test_seconds_are_steps_times_the_step_of_the_separate_pass(store: Store) -> None:
    runs = logged(store)
    first = {spec.model: spec for spec, _ in reversed(runs)}
    timings = a_pass(timed(first["a"], 0.03, 0.06), timed(first["b"], 0.02, 0.02))
    frame = equal_quality("toy", runs, store, ["b"], timings).set_index("model")
    row = frame.loc["a"]
    logs = [math.log(mine / other) for mine, other in STEPS.values()]
    mean = sum(logs) / 3
    half = 4.302653 * math.sqrt(sum((x - mean) ** 2 for x in logs) / 2) / math.sqrt(3)
    assert (row["seeds"], row["learned"], row["steps"]) == (3, 3, pytest.approx(14 / 3))
    assert row["target"] == pytest.approx((0.8 + 0.85 + 0.6) / 3) and row["reference_steps"] == pytest.approx(26 / 3)
    assert row["useful_ratio"] == row["executed_ratio"] == pytest.approx(math.exp(mean))
    assert row["seconds_ratio"] == pytest.approx(1.5 * math.exp(mean))
    assert row["seconds_low"] == pytest.approx(1.5 * math.exp(mean - half), rel=1e-5)
    assert row["seconds_high"] == pytest.approx(1.5 * math.exp(mean + half), rel=1e-5)
    assert row["seconds_without_kernels_ratio"] == pytest.approx(3 * math.exp(mean))
    assert frame.loc["b", "seconds_ratio"] == 1 and frame.loc["b", "seconds_low"] == 1
    # Seed 0 alone, as claims take it: 4 steps of 0.03 s against 12 of 0.02 s.
    mine, theirs = (record for spec, record in runs if spec.seed == 0 and record is not None)
    assert seconds_saved(mine, theirs, store, timings) == pytest.approx(1 - 4 * 0.03 / (12 * 0.02))
    assert seconds_saved(mine, theirs, store, a_pass(timed(first["b"], 0.02, 0.02))) is None


def test_executed_flops_are_an_axis_of_their_own(store: Store) -> None:
    runs: list[tuple[RunSpec, object]] = []
    for spec, record in logged(store):
        assert record is not None
        doubled = spec.cost.model_copy(update={"counted_train": 39000.0}) if spec.model == "a" else spec.cost
        runs.append((spec, record.model_copy(update={"spec": spec.model_copy(update={"cost": doubled})})))
    row = equal_quality("toy", runs, store, ["b"]).set_index("model").loc["a"]  # type: ignore[arg-type]
    assert row["executed_ratio"] == pytest.approx(2 * row["useful_ratio"]) and pd.isna(row["seconds_ratio"])


def test_whoever_learned_nothing_is_not_said_to_be_quick(store: Store) -> None:
    # Chance is 0.25, so that learning begins at 0.475: of seeds 0 and 2 the weaker run is below.
    flat = {**CURVES, ("b", 0): {4: 0.3, 12: 0.4}, ("a", 2): {2: 0.47}}
    row = equal_quality("toy", logged(store, flat), store, ["b"]).set_index("model").loc["a"]
    assert (row["seeds"], row["learned"], row["useful_ratio"]) == (3, 1, pytest.approx(1)) and pd.isna(
        row["useful_low"]
    )
    none = {key: {4: 0.3} for key in CURVES}
    row = equal_quality("toy", logged(store, none), store, ["b"]).set_index("model").loc["a"]
    assert row["learned"] == 0 and pd.isna(row["useful_ratio"]) and pd.isna(row["target"])


def test_a_row_that_has_not_learned_a_task_is_not_its_reference(store: Store) -> None:
    # Learning begins at 0.475: the first choice is below it on two of three seeds, then on one.
    low = {("a", seed): {4: 0.3, 12: 0.4} for seed in (0, 1)}
    frame = equal_quality("toy", logged(store, {**CURVES, **low}), store, ["a", "b"]).set_index("model")
    assert set(frame["reference"]) == {"b"} and frame.loc["b", "useful_ratio"] == 1
    one = {("a", 0): {4: 0.3, 12: 0.4}}
    assert set(equal_quality("toy", logged(store, {**CURVES, **one}), store, ["a", "b"])["reference"]) == {"a"}
    nobody = {key: {4: 0.3} for key in CURVES}
    assert set(equal_quality("toy", logged(store, nobody), store, ["b", "a"])["reference"]) == {"b"}


def test_the_reference_is_the_row_asked_for_or_the_first_rotary_one() -> None:
    rotary = {**make_spec().sizes, "positions": "rotary"}
    specs = [make_spec(model=m).model_copy(update={"sizes": rotary if m == "c" else make_spec().sizes}) for m in "abc"]
    assert reference_rows(specs) == ["c", "a", "b"] and reference_rows(specs, "a") == ["a"]
    assert reference_rows(specs[:2]) == ["a", "b"]
    assert reference_rows([*specs, make_spec(model="transformer_rope")])[0] == "transformer_rope"
    assert reference_rows([make_spec().model_copy(update={"sizes": {"_target_": "x.LoopConfig"}})]) == []
    values = {"name": "t", "models": ["a"], "tasks": ["chain"], "seeds": [0], "budget": "tiny"}
    assert "reference" not in TableSettings.model_validate(values).model_dump()  # names of plans stay
    assert TableSettings.model_validate({**values, "reference": "a"}).model_dump()["reference"] == "a"
    with pytest.raises(ValueError, match="reference=z is no row"):
        TableSettings.model_validate({**values, "reference": "z"})


def test_mfu_is_useful_flops_per_second_over_the_peak() -> None:
    spec = make_spec()  # 1e9 FLOPs in 12 steps
    timings = a_pass(timed(spec, 0.025, 0.05))
    cell = timings.cell(spec)
    assert cell is not None
    assert timings.mfu(cell) == pytest.approx(1e9 / 12 / 0.025 / 1e10)
    assert timings.mfu(cell, kernels=False) == pytest.approx(timings.mfu(cell) / 2)


def test_times_are_those_of_the_same_sizes_or_none() -> None:
    spec = make_spec()
    timings = a_pass(timed(spec, 0.025, 0.05))
    other = spec.model_copy(update={"sizes": {**spec.sizes, "d_ff": 33}})
    quick = make_spec(seed=7, steps=99, trainer={"optim": {"lr": 0.5}})
    assert timings.cell(other) is None and timings.cell(quick) is not None


def test_a_table_shows_times_and_costs(store: Store) -> None:
    plan = table_plan()
    fill(store, plan)
    assert "MFU" not in markdown(build(plan, store), "toy")
    write_timings(store, a_pass(timed(plan.runs[0], 0.025, 0.05), load=0.2))
    report = build(plan, store)
    assert [column for column in report.measured.columns if "MFU" in column]
    timing = report.timing.set_index("model")
    assert timing.loc["a", "step_ms"] == 25 and timing.loc["a", "mfu"] == pytest.approx(1 / 3, rel=1e-6)
    assert timing.loc["a", "executed_over_useful"] == pytest.approx(19500 * 8 * 12 / 1e9)
    write(report, "toy", store)
    assert (store.root / "exports" / "toy-equal.csv").exists()


def test_the_grids_of_an_equal_quality(store: Store) -> None:
    runs = logged(store)
    plan = table_plan()
    settings = plan.table.model_copy(update={"reference": "b"})
    plan = plan.model_copy(update={"runs": [spec for spec, _ in runs], "table": settings})
    first = {spec.model: spec for spec, _ in reversed(runs)}
    assert [grid.title for grid in build(plan, store).pace] == ["Executed FLOPs to equal quality, over b's"]
    write_timings(store, a_pass(timed(first["a"], 0.03, 0.06), timed(first["b"], 0.02, 0.02)))
    report = build(plan, store)
    assert [len(grid.rows) for grid in report.pace] == [2, 2, 2]
    seconds, without, _ = report.pace
    assert seconds.rows[0][1].text.startswith("0.72x [") and seconds.rows[1][1].text == "1"
    assert without.rows[0][1].text.startswith("1.44x [")
    text = markdown(report, "toy")
    assert "Step times: a processor, one thread, 2026-01-02, load 0.1 before; MFU over its peak of 10GFLOP/s." in text


def test_timings_are_packed_and_come_back(store: Store, tmp_path: Path) -> None:
    plan = table_plan()
    fill(store, plan)
    written = a_pass(timed(plan.runs[0], 0.025, 0.05))
    write_timings(store, written)
    write_archive(of_folder(store), tmp_path / "packed")
    packed = Store(tmp_path / "packed", write=False)
    assert read_timings(packed, "toy+seeds-0-c10541", "toy") == written
    archive = Archive.at(tmp_path / "packed")
    assert archive is not None and unpack(archive, tmp_path / "back") == 6
    assert read_timings(Store(tmp_path / "back"), "toy") == written
    (store.root / "timings" / "toy.json").write_text("{}")
    with pytest.raises(UserError, match="remove it, or measure anew: time table=toy"):
        read_timings(store, "toy")


def test_a_machine_that_does_other_things_is_named() -> None:
    assert not_quiet(1.0, 2) == "" and not_quiet(None, 2) == ""
    assert "not quiet: load 1.1 on 2 cores" in not_quiet(1.1, 2)
    cell = timed(make_spec(), 0.1, 0.1)
    said = lines(a_pass(cell))
    assert any("waited for a core" in line for line in said)  # twice as long on the wall as of CPU
    assert any("C kernels ran in toy: topk" in line for line in said)
    assert any("not quiet" in line for line in lines(a_pass(cell, load=9.0)))
