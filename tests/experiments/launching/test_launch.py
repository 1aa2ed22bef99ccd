"""The launcher: a real multirun; failures are recorded and the rest goes on; nothing runs twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy import make_record, make_spec

from experiments.launching import run_process as isolate
from experiments.launching.launch import Launch, LaunchError
from experiments.launching.progress import Display
from experiments.launching.run_process import run_isolated
from experiments.planning.plan import Plan
from experiments.planning.settings import LauncherSettings, TableSettings
from experiments.store import atomic_files as atomic
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.studies.reproduce import conclude
from experiments.training.run import execute

JOBLIB = LauncherSettings(name="joblib", n_jobs=2, hydra=["hydra/launcher=joblib"])

BASIC = LauncherSettings(name="basic", n_jobs=1, hydra=["hydra/launcher=basic"])


def make_plan(runs: list[RunSpec], store: Store) -> tuple[Plan, Path]:
    models = list(dict.fromkeys(spec.model for spec in runs))
    settings = TableSettings(name="toy", models=models, tasks=["chain"], seeds=[0], budget="toy")
    plan = Plan(table=settings, code_fingerprint="code", runs=runs)
    path = store.root / "plans" / plan.file_name
    atomic.write_text(path, plan.model_dump_json())
    return plan, path


@pytest.mark.parametrize("launcher", [BASIC, pytest.param(JOBLIB, marks=pytest.mark.slow)])
def test_a_failed_run_is_recorded_and_the_others_go_on(
    store: Store, capsys: pytest.CaptureFixture[str], launcher: LauncherSettings
) -> None:
    good = [make_spec(seed=seed, steps=4) for seed in (0, 1)]
    bad = make_spec(seed=2, steps=4, model="bad")
    bad = bad.model_copy(update={"sizes": {**bad.sizes, "n_heads": 3}})
    plan, path = make_plan([bad, *good], store)
    launch = Launch(plan, path, store, launcher)
    launch.go()
    assert [store.state(spec.id) for spec in plan.runs] == ["failed", "done", "done"]
    record = store.record(bad.id)
    assert record is not None and record.error is not None and "n_heads=3" in record.error.message
    assert launch.missing() == []
    for folder in launch.folder.iterdir():
        assert folder.name.startswith("launcher-") or folder.is_dir()
    assert conclude(plan, store) == 1
    said = capsys.readouterr()
    assert "1 of 3 runs failed" in said.err and "launcher.retry_failed=true" in said.err
    assert f"{bad.id} (bad, chain, seed 2): failed: " in said.err and "n_heads=3" in said.err
    before = (store.folder(bad.id) / "record.json").stat().st_mtime_ns
    Launch(plan, path, store, launcher).go()
    assert (store.folder(bad.id) / "record.json").stat().st_mtime_ns == before


def test_the_longest_run_is_the_first(store: Store) -> None:
    specs = []
    for seed, flops in enumerate((1e9, 5e9, 3e9)):
        spec = make_spec(seed=seed)
        specs.append(spec.model_copy(update={"cost": spec.cost.model_copy(update={"flops_train": flops})}))
    plan, path = make_plan(specs, store)
    assert [spec.seed for spec in Launch(plan, path, store, JOBLIB).missing()] == [1, 2, 0]


def test_the_command_has_a_folder_of_its_own_per_attempt(store: Store) -> None:
    plan, path = make_plan([make_spec()], store)
    command = Launch(plan, path, store, JOBLIB).command(plan.runs, 2)
    sweep_dir = next(word for word in command if word.startswith("hydra.sweep.dir="))
    assert str(store.root / "launches") in sweep_dir and sweep_dir.endswith("/2'")
    assert {"hydra.job.chdir=false", "hydra.output_subdir=null", "hydra.launcher.n_jobs=1"} <= set(command)


def test_retry_failed_keeps_the_old_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec()
    plan, path = make_plan([spec], store)
    store.write_record(make_record(spec, None))
    launch = Launch(plan, path, store, JOBLIB.model_copy(update={"retry_failed": True}))
    monkeypatch.setattr(launch, "_carry", lambda runs, *rest: store.write_record(make_record(runs[0])))
    launch.go()
    assert store.state(spec.id) == "done"
    assert len(list(store.folder(spec.id).glob("record.retired-*.json"))) == 1


def test_a_launcher_that_does_nothing_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, path = make_plan([make_spec()], store)
    launch = Launch(plan, path, store, JOBLIB)
    code = "print('no such plugin'); raise SystemExit(1)"
    monkeypatch.setattr(launch, "command", lambda runs, attempt: [sys.executable, "-c", code])
    with pytest.raises(LaunchError, match="no such plugin"):
        launch.go()


def test_a_run_that_took_its_launcher_along_three_times_has_failed(store: Store) -> None:
    spec = make_spec()
    code = (
        "import os; from experiments.store.store import Store;"
        f"claim = Store({str(store.root)!r}).claim({spec.id!r}); claim.__enter__(); os._exit(1)"
    )
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code], check=False)
    assert execute(spec, store) == "failed"
    record = store.record(spec.id)
    assert record is not None and record.error is not None and record.error.type == "ProcessDied"
    assert "died 3 times without getting further: with its launcher" in record.error.message


def test_a_run_whose_process_dies_is_tried_thrice(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = store.root / "tries"

    def die(spec: RunSpec, root: str, deaths: int) -> None:
        with open(tries, "a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(isolate, "_child", die)
    spec = make_spec()
    assert run_isolated(spec, store) == "failed"
    assert tries.read_text() == "xxx"
    record = store.record(spec.id)
    assert record is not None and record.error is not None
    assert "died 3 times without getting further: killed by SIGKILL" in record.error.message


def test_the_headline(store: Store) -> None:
    plan, _ = make_plan([make_spec(seed=seed) for seed in range(3)], store)
    store.write_record(make_record(plan.runs[0]))
    store.write_record(make_record(plan.runs[1], None))
    display = Display(plan, store)
    assert display.headline({}).startswith("table toy: 1/3 runs done, 1 failed, 0 at work, 67 % of FLOPs")


REPRODUCE = """
import sys
from experiments.errors import main
from experiments.studies.reproduce import reproduce
main(lambda: reproduce(sys.argv[1:]))
"""


def planned(root: Path) -> tuple[Store, list[RunSpec], list[str]]:
    """A store with a plan of three runs of some seconds, and the command that carries it out."""
    store, often = Store(root), {"val_every": 200, "checkpoint_every_steps": 50}
    specs = [make_spec(seed=seed, steps=500, trainer=often) for seed in (0, 1, 2)]
    _, path = make_plan(specs, store)
    return store, specs, [sys.executable, "-c", REPRODUCE, f"plan={path}", "launcher.n_jobs=2"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    store, _, words = planned(tmp_path_factory.mktemp("whole"))
    assert subprocess.run(words, check=False).returncode == 0
    return (store.root / "exports" / "toy.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_the_table_is_the_same(
    tmp_path: Path, number: signal.Signals, uninterrupted: bytes
) -> None:
    store, specs, words = planned(tmp_path)
    stop_in_the_middle(words, store, specs, number)
    assert subprocess.run(words, check=False).returncode == 0
    assert (store.root / "exports" / "toy.csv").read_bytes() == uninterrupted


def stop_in_the_middle(words: list[str], store: Store, specs: list[RunSpec], number: signal.Signals) -> None:
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 500
        while not any((p := store.progress(s.id)) and 20 < p.step < 450 for s in specs):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate()
    end = time.monotonic() + 500
    while any(store.leased(spec.id) for spec in specs):  # orphans see their parent's death and stop
        assert time.monotonic() < end
        time.sleep(0.1)
    assert any(store.state(spec.id) != "done" for spec in specs)
    if number == signal.SIGINT:
        assert process.returncode == 130 and "the same command goes on from there" in said
