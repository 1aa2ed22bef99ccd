"""Sizes and levels are measured when a table is planned; a test that is too small is refused or marked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.errors import UserError
from experiments.planning import task_measures as module
from experiments.planning.hydra_config import CONF, Cells, composer, plain
from experiments.planning.instantiate import build_task
from experiments.planning.levels import best_rule, small_splits
from experiments.planning.plan import make_plan, read_request, run_overrides
from experiments.planning.task_measures import measured
from experiments.store.atomic_files import digest
from tasks.hub.files import DataError
from tasks.size import split_sizes, too_small

SMALL = ["table=quick", "table.tasks=[chain]", "table.models=[transformer]", "table.seeds=[0]", "task.n_relations=1"]
SMALL += ["task.facts_min=1", "task.facts_max=4"]
PRESETS = sorted(path.stem for path in (CONF / "table").glob("*.yaml"))


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESSFORMER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_a_column_whose_test_is_too_small_is_refused_in_a_line() -> None:
    with pytest.raises(UserError) as found:
        make_plan(read_request(SMALL))
    text = str(found.value)
    assert re.search(r"^table quick\S+, task chain: validation has \d+ different items among 256, effectively \d", text)
    assert "task.n_validation" in text and "allow_small_test=[chain]" in text and "\n" not in text


def test_what_is_allowed_is_planned_under_the_same_names() -> None:
    allowed = make_plan(read_request([*SMALL, "allow_small_test=[chain]"]))
    nothing = make_plan(read_request([*SMALL, "++table.means_nothing=true"]))
    assert allowed.table.allow_small_test == ["chain"] and small_splits(allowed.runs[0].task_info)
    assert [spec.id for spec in allowed.runs] == [spec.id for spec in nothing.runs]
    assert not any("allow_small_test" in spec.config for spec in allowed.runs)
    with pytest.raises(UserError, match="allow_small_test names mqar, which is not in tasks: chain"):
        read_request([*SMALL, "allow_small_test=[mqar]"])


@pytest.mark.parametrize("name", PRESETS)
def test_every_column_of_every_preset_can_carry_a_verdict(name: str) -> None:
    request = read_request([f"table={name}"])
    if request.table.means_nothing:
        assert name in ("smoke", "debug")
        return
    assert not request.table.allow_small_test
    cells, seen = Cells(), set()
    with composer():
        for task in request.table.tasks:
            if task in request.table.optional:
                continue  # data sets of others, which are not here
            for entry in request.table.entries():
                section = plain(cells.config(run_overrides(request.table, entry, task, [])))["task"]
                if digest(section) not in seen:
                    seen.add(digest(section))
                    sizes = split_sizes(build_task(section), splits=("validation", "test/id"))
                    assert not too_small(sizes), f"{name}, {task}, {entry.label}"
    assert seen or set(request.table.tasks) <= set(request.table.optional)


def test_no_preset_allows_what_is_refused() -> None:
    for path in (CONF / "table").glob("*.yaml"):
        assert "allow_small_test" not in OmegaConf.load(path), path.name
        assert "allow_small_test" not in path.read_text()


def test_what_was_measured_is_remembered_by_content(monkeypatch: pytest.MonkeyPatch) -> None:
    task = build_task({"_target_": "tasks.qa.chain.Chain", "n_test": 40, "n_validation": 20, "probe": "noise"})
    sizes, levels = measured(task)
    assert sizes["test/id"].items == 40 and sizes["validation"].items == 20
    assert {level.name for level in levels if level.split == "probe/noise20"} == {"perfect_reader"}
    split_metric = [(level.split, level.metric) for level in levels]
    assert len(split_metric) == len(set(split_metric)), "one rule each: the strongest"
    with monkeypatch.context() as patch:
        patch.setattr(module, "levels", lambda task: pytest.fail("measured again"))
        again = build_task({"_target_": "tasks.qa.chain.Chain", "n_test": 40, "n_validation": 20, "probe": "noise"})
        assert measured(again) == (sizes, levels)
    other = build_task({"_target_": "tasks.qa.chain.Chain", "n_test": 41, "n_validation": 20})
    assert measured(other)[0]["test/id"].items == 41


def test_a_cache_that_cannot_be_written_costs_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(key: object, make: object) -> Path:
        raise DataError("no room")

    monkeypatch.setattr(module, "cached", refuse)
    task = build_task({"_target_": "tasks.recall.mqar.MQAR", "n_test": 20, "n_validation": 10})
    assert measured(task)[0]["test/id"].items == 20


def test_a_text_has_ngrams_of_all_and_of_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("all work and no play makes jack a dull boy. " * 900)
    words = ["++table.means_nothing=true", "table=quick", "table.tasks=[text]", "table.models=[transformer]"]
    words += ["table.seeds=[0]", f"task.path={tmp_path / 'text.txt'}", "task.length=32", "++task.batch_size=4"]
    (spec,) = make_plan(read_request([*words, "budget.train_flops=1e10"])).runs
    names = [level.name for level in spec.task_info.levels if level.split == "test/id"]
    assert names[:6] == ["unigram", "bigram", "trigram", "4-gram", "5-gram", "6-gram"]
    assert len(names) == 12 and all(" of " in name and name.endswith(" bytes") for name in names[6:])
    best = best_rule(spec.task_info, "test/id", "bits_per_byte")
    assert best is not None and best.value == min(
        level.value for level in spec.task_info.levels if level.split == "test/id"
    )
