"""The verbs: what they print, what they change, and that a frozen plan stays as it was."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest
from toy import make_record, make_spec

from experiments.__main__ import program
from experiments.errors import UserError, main
from experiments.launching import estimate
from experiments.launching.estimate import Gpu
from experiments.planning.plan import Plan
from experiments.planning.settings import LauncherSettings, TableSettings
from experiments.reporting.table import build, write
from experiments.store import atomic_files as atomic
from experiments.store.lease import STALE_SECONDS
from experiments.store.records import RunSpec
from experiments.store.store import Progress, Store
from experiments.studies.named_plan import frozen
from experiments.training import throughput
from experiments.training.throughput import SLOWEST, sequences, time_cell

BASIC = LauncherSettings(name="basic", n_jobs=2)


def frozen_plan(store: Store, runs: list[RunSpec], name: str = "toy") -> tuple[Plan, str]:
    settings = TableSettings(
        name=name, models=["toy"], tasks=["chain"], seeds=sorted({s.seed for s in runs}), budget="toy"
    )
    plan = Plan(table=settings, code_fingerprint="code", runs=runs)
    path = store.root / "plans" / plan.file_name
    atomic.write_text(path, plan.model_dump_json())
    return plan, f"plan={path}"


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = program(words)
    return code, capsys.readouterr().out


def test_status_tells_the_five_states(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    specs = [make_spec(seed=seed) for seed in range(5)]
    plan, where = frozen_plan(store, specs)
    store.write_record(make_record(specs[0]))
    store.write_record(make_record(specs[1], None))
    says = json.dumps({"pid": "1", "machine": "elsewhere", "host": "node-7", "token": "x"})
    for spec, age in ((specs[2], 0.0), (specs[3], STALE_SECONDS + 60)):
        path = store.folder(spec.id) / "lease.1"
        atomic.write_text(path, says)
        progress = Progress(phase="train", step=4, total=12, loss=1.25, time=0.0).model_dump_json()
        atomic.write_text(store.folder(spec.id) / "progress.json", progress)
        for each in (path, store.folder(spec.id) / "progress.json"):
            os.utime(each, (time.time() - age, time.time() - age))
    code, text = said(capsys, "status", where)
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert code == 1
    for spec, state in zip(specs, ("done", "failed", "running", "stale", "planned"), strict=True):
        assert lines[spec.id].split()[4] == state
    assert "failed: no" in lines[specs[1].id]
    assert "4/12" in lines[specs[2].id] and "1.250" in lines[specs[2].id] and "node-7" in lines[specs[2].id]
    assert re.search(r" \d s ago", lines[specs[2].id]) and re.search(r" 18\d s ago", lines[specs[3].id])
    assert "table toy: 5 runs: 1 done, 1 failed, 1 running, 1 stale, 1 planned" in text
    code, text = said(capsys, "status", f"results_dir={store.root}")
    assert code == 0 and plan.file_name in text and "1 stale" in text


def test_plan_prints_runs_flops_hours_and_disk(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    specs = [make_spec(seed=seed) for seed in range(3)]
    _, where = frozen_plan(store, specs)
    code, text = said(capsys, "plan", where, "launcher.n_jobs=2")
    assert code == 0
    for spec in specs:
        assert spec.id in text
    assert "3 runs, 0 over, 3 to do" in text and "training FLOPs to do: 3e+09" in text
    assert "h at 2 runs at a time" in text and "MiB that stay" in text and "timed now" in text
    assert [store.state(spec.id) for spec in specs] == ["planned"] * 3
    assert "timed before" in said(capsys, "plan", where)[1]


def test_the_estimate_of_a_finished_cell_is_its_own_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [make_spec(seed=seed) for seed in range(3)]
    plan, _ = frozen_plan(store, specs)
    store.write_record(make_record(specs[0]))
    monkeypatch.setattr(estimate, "cpu_model", lambda: "cpu")
    found = estimate.estimates(plan.unique(), store, measure=False)
    assert [found[spec.id].seconds for spec in specs] == [2.0, 2.0, 2.0]
    assert estimate.sums(plan, store, BASIC, found, estimate.Gpu())[2].startswith("time: 0.00 h at 2 runs at a time")


def test_beyond_the_time_for_measuring_it_is_scaled(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = make_spec(), make_spec(steps=24)
    other = other.model_copy(update={"cost": other.cost.model_copy(update={"flops_train": 3e9})})
    plan, _ = frozen_plan(store, [one, other])
    monkeypatch.setattr(throughput, "time_cell", lambda spec, seconds: 10.0)
    clock = iter([0.0, 0.0, 1000.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock, 1000.0))
    found = estimate.estimates(plan.unique(), store, measure=True)
    assert found[one.id].source == "timed now" and found[other.id].source == "scaled by FLOPs"
    assert found[other.id].seconds == pytest.approx(30.0)


def test_the_time_of_a_cell_is_about_the_time_of_its_run(store: Store) -> None:
    from experiments.training.run import execute

    spec = make_spec(steps=60)
    guess = time_cell(spec, 60.0)
    assert guess is not None
    assert execute(spec, store) == "done"
    record = store.record(spec.id)
    assert record is not None and 0.1 < guess / record.measured.wall_seconds < 10


def test_a_step_too_large_for_the_bound_is_timed_in_part_or_not_at_all() -> None:
    spec = make_spec(steps=10)
    batch = spec.task_info.batch_size
    for each, part in ((1e5, batch), (SLOWEST / 8, 2), (SLOWEST * 2, 0)):
        cost = spec.cost.model_copy(update={"flops_train": each * batch * spec.steps})
        assert sequences(spec.model_copy(update={"cost": cost}), 1.0) == part
    huge = spec.model_copy(update={"cost": spec.cost.model_copy(update={"flops_train": 1e20})})
    assert time_cell(huge, 60.0) is None


def test_what_is_assumed_of_a_gpu_is_said_and_can_be_changed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    spec = make_spec(steps=10)
    assert Gpu(1e9, 1e-9).seconds(spec) == pytest.approx(spec.cost.flops_train / 1e9)
    assert Gpu(1e30, 0.02).seconds(spec) == pytest.approx(0.2)
    _, where = frozen_plan(store, [spec])
    text = said(capsys, "plan", where, "--no-measure", "--gpu-flops=2e13", "--gpu-step-ms=5")[1]
    assert "if it does 2e+13 FLOP/s and a step takes 5 ms" in text and "assumed, not measured" in text
    with pytest.raises(UserError, match="--gpu-flops takes a number above 0"):
        program(["plan", where, "--gpu-flops=many"])


def test_the_newest_frozen_plan_of_a_name_is_meant(store: Store) -> None:
    old, _ = frozen_plan(store, [make_spec()])
    new, _ = frozen_plan(store, [make_spec(seed=1)])
    frozen_plan(store, [make_spec(seed=2)], name="sweep-lr-abcdef")
    os.utime(store.root / "plans" / old.file_name, (1, 1))
    here = f"results_dir={store.root}"
    assert frozen(["table=toy", here])[0] == new
    assert frozen(["sweep=lr", here])[0].table.name == "sweep-lr-abcdef"


def test_verify_finds_what_was_changed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    specs = [make_spec(seed=seed) for seed in range(3)]
    plan, where = frozen_plan(store, specs)
    for spec in specs[:2]:
        store.write_record(make_record(spec))
    write(build(plan, store), "toy", store)
    code, text = said(capsys, "verify", where)
    assert code == 0 and "2 records of 3 runs hashed again; 1 runs have none" in text
    assert "toy.csv: derived again, the same" in text and text.endswith("sound\n")
    path = store.folder(specs[0].id) / "record.json"
    good = path.read_text()
    for old, new, fault in (
        ("0.5", "0.6", "does not fit its hash"),
        (f'"id":"{specs[0].id}"', '"id":"0"', "does not fit its hash"),
        ("{", "", "cannot be read"),
    ):
        path.write_text(good.replace(old, new, 1))
        code, text = said(capsys, "verify", where)
        assert code == 1 and fault in text and specs[0].id in text and " faults" in text
    path.write_text(good)
    table = store.root / "exports" / "toy.csv"
    table.write_text(table.read_text().replace("0.5", "0.9"))
    code, text = said(capsys, "verify", where)
    assert code == 1 and "toy.csv is not what the records give" in text


def test_verify_finds_another_run_under_the_planned_name(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    spec = make_spec()
    _, where = frozen_plan(store, [spec])
    store.write_record(make_record(spec.model_copy(update={"steps": 999})))
    code, text = said(capsys, "verify", where)
    assert code == 1 and "not what was planned: steps differ" in text


def test_a_run_that_another_plan_made_is_sound(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The same run may be an arm of one plan (its notes name what was given) and a preset of another."""
    spec = make_spec()
    noted = spec.model_copy(update={"budget": spec.budget.model_copy(update={"notes": ["given: short_conv=4"]})})
    store.write_record(make_record(noted))
    code, text = said(capsys, "verify", frozen_plan(store, [spec])[1])
    assert code == 0 and "sound" in text
    looser = spec.model_copy(update={"budget": spec.budget.model_copy(update={"on_budget": False})})
    code, text = said(capsys, "verify", frozen_plan(store, [looser], name="other")[1])
    assert code == 1 and "budget differ" in text


def test_prune_shows_first_and_keeps_what_matters(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    over, alive, kept = (make_spec(seed=seed) for seed in range(3))
    kept = make_spec(seed=2, trainer={"keep_checkpoint": True})
    frozen_plan(store, [over, alive, kept])
    for spec in (over, kept):
        store.write_record(make_record(spec))
    for spec in (over, alive, kept):
        for name in ("checkpoint.ckpt", "checkpoint.ckpt.corrupt-1", ".x.1.tmp"):
            (store.folder(spec.id) / name).parent.mkdir(exist_ok=True)
            (store.folder(spec.id) / name).write_bytes(bytes(1 << 20))
    (store.root / "runs" / "orphan").mkdir()
    here = f"results_dir={store.root}"
    with store.claim(alive.id):
        code, text = said(capsys, "prune", here)
        assert code == 0 and "--yes removes it" in text and text.count("MiB  runs") == 3
        said(capsys, "prune", here, "--yes", "--orphans")
    names = {spec.seed: sorted(path.name for path in store.folder(spec.id).iterdir()) for spec in (over, alive, kept)}
    assert names[0] == ["checkpoint.ckpt.corrupt-1", "record.json"]
    assert {"checkpoint.ckpt", "checkpoint.ckpt.corrupt-1", ".x.1.tmp"} <= set(names[1])
    assert names[2] == ["checkpoint.ckpt", "checkpoint.ckpt.corrupt-1", "record.json"]
    assert not (store.root / "runs" / "orphan").exists()


def test_resume_runs_the_plan_as_it_was_frozen(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A config of that table does not even exist (any more)."""
    specs = [make_spec(seed=seed, steps=2) for seed in range(2)]
    frozen_plan(store, specs)
    words = ("table=toy", f"results_dir={store.root}", "launcher=basic")
    assert said(capsys, "resume", *words)[0] == 0
    assert [store.state(spec.id) for spec in specs] == ["done", "done"]
    code, text = said(capsys, "verify", *words)
    assert code == 0 and "toy.csv: derived again, the same" in text


BAD = {
    "": ["no verb", "plan", "verify"],
    "staus table=quick": ["unknown verb 'staus'", "did you mean status"],
    "retry table=quick": ["retry --failed"],
    "prune --now": ["unknown option of prune '--now'", "--yes"],
    "status table=quik": ["unknown frozen plan 'quik'", "plan it first"],
    "verify plan=nowhere-1.json": ["nowhere-1.json"],
    "reproduce table=quik": ["unknown table 'quik'", "did you mean quick"],
    "plan model=ressformer": ["a sweep needs task=NAME"],
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_input(arguments: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = arguments.split()
    words += [f"results_dir={tmp_path}"] if len(words) > 1 and "plan=" not in arguments else []
    with pytest.raises(SystemExit) as left:
        main(lambda: program(words))
    assert left.value.code == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("error: ") and "\n" not in line
    for part in BAD[arguments]:
        assert part in line
