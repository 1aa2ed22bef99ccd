"""Data are bound to plan and run: absolute where they lie, read again when a plan is used and when a run begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from toy import frozen_plan, make_spec

from experiments.errors import UserError
from experiments.launching.launch import Launch
from experiments.planning import plan as planning
from experiments.planning.hydra_config import composed, composer
from experiments.planning.instantiate import build_task
from experiments.planning.plan import Plan, load_plan, plan_for, read_request, run_spec
from experiments.planning.run_spec import Pricer
from experiments.planning.settings import LauncherSettings
from experiments.planning.task_data import frozen_section, places_of
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.studies.run_states import look
from experiments.training.run import execute
from tasks.registry import load, names

TEXT = ["model=transformer", "task=text", "task.length=64", "task.batch_size=8", "budget.train_flops=2e10"]


def write(path: Path, word: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"line {i} of the {word} says that {i * i} is a square\n" for i in range(900)))
    return path


def planned(*words: str) -> RunSpec:
    with composer():
        return run_spec(composed([*TEXT, *words]), "transformer", "text", 0, Pricer())


def table(where: str, store: Store) -> tuple[Plan, Path]:
    words = ["table=smoke", "table.models=[transformer]", "table.tasks=[text]", "++task.n_test=4", "++task.length=64"]
    return plan_for(read_request([*words, f"task.path={where}", f"results_dir={store.root}"]), store)


def babi(folder: Path, word: str) -> Path:
    """A data set of the hub as a folder of text rows."""
    folder.mkdir(parents=True)
    for split, count in (("train", 40), ("validation", 9), ("test", 9)):
        rows = [f'{{"text": "{word} {split} {i} and more of it to fill a window"}}\n' for i in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(rows))
    return folder


@pytest.mark.parametrize("form", ["d.txt", "./d.txt", "inner/../d.txt"])
def test_a_relative_path_is_frozen_absolute(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    write(tmp_path / "d.txt", "first")
    monkeypatch.chdir(tmp_path)
    spec = planned(f"task.path={form}")
    assert spec.config["task"]["path"] == str(tmp_path / "d.txt") and spec.places == ["path", "download"]
    monkeypatch.chdir("/")
    assert build_task(spec.config["task"]).fingerprint() == spec.data_fingerprint


def test_a_home_is_spelled_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "d.txt", "first")
    assert planned("task.path='~/d.txt'").config["task"]["path"] == str(tmp_path / "d.txt")


@pytest.mark.parametrize("variable", [True, False])
def test_the_folder_of_the_data_sets_is_frozen(variable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load("tinystories")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RESSFORMER_DATA", raising=False)
    root = tmp_path / ("elsewhere" if variable else "data")
    if variable:
        monkeypatch.setenv("RESSFORMER_DATA", "elsewhere")  # relative: to where the table is planned
    folder = babi(root / type(task).source.folder, "once")
    section = frozen_section({"_target_": "tasks.language.tinystories.TinyStories", "path": ""}, task)
    assert section["path"] == str(folder)


def test_the_same_data_elsewhere_are_the_same_run(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one" / "a.txt", "same"), write(tmp_path / "other" / "b.txt", "same")
    assert planned(f"task.path={one}").id == planned(f"task.path={other}").id
    assert planned(f"task.path={one}").id != planned(f"task.path={write(tmp_path / 'c.txt', 'new')}").id


def test_a_remembered_plan_reads_its_data_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = write(tmp_path / "d.txt", "first")
    first, path = table(str(where), store)
    made = planning.make_plan
    monkeypatch.setattr(planning, "make_plan", lambda request: pytest.fail("solved again"))
    assert table(str(where), store) == (first, path)
    monkeypatch.setattr(planning, "make_plan", made)
    write(where, "second")
    second, other = table(str(where), store)
    assert second.runs[0].id != first.runs[0].id and other != path
    assert f"the data of task text are not those of {path.name}: planned anew" in capsys.readouterr().err
    write(where, "first")
    assert table(str(where), store)[0].runs[0].id == first.runs[0].id
    where.unlink()  # a table can still be read where its data are gone
    assert table(str(where), store)[0].runs[0].id == first.runs[0].id


@pytest.mark.parametrize("what", ["variable", "folder"])
def test_another_folder_is_another_request(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = read_request(["table=smoke", "task.path=d.txt"])
    before = planning.request_key(request)
    if what == "variable":
        monkeypatch.setenv("RESSFORMER_DATA", str(tmp_path))
    else:
        monkeypatch.chdir(tmp_path)
    assert planning.request_key(request) != before


@pytest.mark.parametrize("change", ["other", "shorter", "gone"])
def test_a_run_on_other_data_is_refused_and_stays_planned(
    change: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = write(tmp_path / "d.txt", "first")
    spec = planned(f"task.path={where}")
    if change == "gone":
        where.unlink()
    else:
        text = where.read_text()
        where.write_text(text.replace("first", "other") if change == "other" else text[:-40])
    assert execute(spec, store) == "refused"
    assert store.state(spec.id) == "planned" and store.record(spec.id) is None
    reason = store.refusal(spec.id)
    assert reason is not None and spec.id in reason and "\n" not in reason and str(where) in reason
    assert ("cannot be read here" in reason) if change == "gone" else ("planned" in reason and "found" in reason)
    assert reason in capsys.readouterr().out
    assert look(frozen_plan(store, [spec])[0], store)[0].note == reason


def test_the_run_goes_on_when_its_data_are_back(store: Store, tmp_path: Path) -> None:
    where = write(tmp_path / "d.txt", "first")
    spec = planned(f"task.path={where}", "budget.train_flops=1e9", "budget.tolerance_flops=0.9", "task.n_test=2")
    write(where, "second")
    assert execute(spec, store) == "refused"
    write(where, "first")
    assert execute(spec, store) == "done" and store.refusal(spec.id) is None


def test_a_generator_that_changed_is_refused(store: Store) -> None:
    spec = make_spec().model_copy(update={"data_fingerprint": "that of before"})
    assert execute(spec, store) == "refused" and store.record(spec.id) is None


def test_foreign_sources_that_changed_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.planning.task_data.foreign_sources", lambda targets: {"their_model": "after"})
    spec = make_spec().model_copy(update={"foreign_sources": {"their_model": "before"}})
    assert execute(spec, store) == "refused"
    assert "other sources of their_model" in str(store.refusal(spec.id))


def test_a_gpu_that_is_not_there_fails_no_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    spec = make_spec(trainer={"accelerator": "gpu"})
    assert execute(spec, store) == "refused"
    assert "finds no GPU" in str(store.refusal(spec.id))


def test_a_launch_ends_with_the_reason_after_all_other_runs(store: Store, tmp_path: Path) -> None:
    where = write(tmp_path / "d.txt", "first")
    moved, good = planned(f"task.path={where}"), make_spec(steps=2)
    write(where, "second")
    plan, path = frozen_plan(store, [moved, good])
    launch = Launch(plan, path, store, LauncherSettings(name="basic", n_jobs=1, hydra=["hydra/launcher=basic"]))
    with pytest.raises(UserError, match=f"{moved.id} was planned on other data than are here: planned .*, found "):
        launch.go()
    assert store.state(good.id) == "done" and store.state(moved.id) == "planned"
    assert load_plan(path) == plan


def test_every_task_is_built_again_from_its_frozen_section() -> None:
    for name in names():
        task = load(name)
        target = f"{type(task).__module__}.{type(task).__name__}"
        section = frozen_section({"_target_": target}, task)
        again = build_task(section)
        assert places_of(again) == places_of(task) and set(places_of(task)) <= set(section)
        known = {key: value for key, value in vars(again.config).items() if key not in places_of(task)}
        assert known == {key: value for key, value in vars(task.config).items() if key not in places_of(task)}
        assert section.get("path", "/") == "" or os.path.isabs(section.get("path", "/"))
        assert hasattr(task.config, "path") == ("path" in places_of(task))
