"""The tasks' larger and odder settings really train: long chains, groups, sets of facts, probes."""

from __future__ import annotations

from typing import Any

import pytest
from toy import make_spec

from experiments.store.store import Store
from experiments.training.run import execute
from tasks.registry import load
from tasks.structure.state_tracking import StateTracking

LONG_CHAIN: dict[str, Any] = {"hops_max": 8, "distractors_max": 512, "length": 1600, "n_entities": 264}
FEW: dict[str, Any] = {"n_validation": 2, "n_test": 3, "batch_size": 2}
SETS = ("chain", "kinship", "mqar", "reachability", "shortest_path", "table_qa")
ALL_PROBES = {"chain": "permute+rename+noise+size", "table_qa": "permute+rename+noise+distract+size"}


def trained(store: Store, name: str, values: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The metrics of a run of two steps of the toy model."""
    task = load(name, [f"{key}={value}" for key, value in {**values, **FEW}.items()])
    spec = make_spec(steps=2)
    target = f"{type(task).__module__}.{type(task).__name__}"
    info = {"name": name, "length": task.length, "batch_size": task.batch_size, "vocab_size": task.vocab_size}
    described = task.describe()
    info |= {"metric": described.metric, "higher_is_better": described.higher_is_better}
    spec = spec.model_copy(
        update={
            "config": {**spec.config, "task": {"_target_": target, **values, **FEW}},
            "data_fingerprint": task.fingerprint(),
            "task_info": spec.task_info.model_copy(update=info),
        }
    )
    assert execute(spec, store) == "done"
    record = store.record(spec.id)
    assert record is not None and record.steps_done == 2
    return record.metrics


def test_chains_of_eight_hops_among_512_distractors() -> None:
    task = load("chain", [f"{key}={value}" for key, value in {**LONG_CHAIN, "n_test": 6}.items()])
    items = [task.generate(split, 1, index) for split in ("train", *task.splits) for index in range(6)]
    assert all(task.check(item).tolist() == item.labels.tolist() for item in items)
    assert max(item.difficulty["hops"] for item in items) >= 9
    assert 400 < max(item.difficulty["distractors"] for item in items) <= 512
    assert 1200 < max(len(item.input_ids) for item in items) <= 1600


@pytest.mark.slow
def test_the_longest_chains_train(store: Store) -> None:
    assert set(trained(store, "chain", LONG_CHAIN)) == {"test/id", "test/ood_near", "test/ood_far"}


@pytest.mark.parametrize("hops", range(1, 9))
def test_every_number_of_hops_is_generated(hops: int) -> None:
    task = load("chain", [f"hops_max={hops}"])
    items = [task.generate("train", 0, index) for index in range(40)]
    assert all(task.check(item).tolist() == item.labels.tolist() for item in items)
    assert max(item.difficulty["hops"] for item in items) == hops


@pytest.mark.parametrize("group", ["S5", "A5", "Z60"])
def test_every_group_trains(store: Store, group: str) -> None:
    assert isinstance(load("state_tracking", [f"group={group}"]), StateTracking)
    assert 0 <= trained(store, "state_tracking", {"group": group})["test/id"]["accuracy"] <= 1


@pytest.mark.parametrize("name", SETS)
def test_every_set_of_facts_trains_without_an_order(store: Store, name: str) -> None:
    assert 0 <= trained(store, name, {"order_free": True})["test/id"]["accuracy"] <= 1


@pytest.mark.parametrize("name", ALL_PROBES)
def test_all_probes_at_once(store: Store, name: str) -> None:
    metrics = trained(store, name, {"probe": ALL_PROBES[name]})
    asked = {kind for kind in ALL_PROBES[name].split("+") if kind not in ("noise", "size")}
    asked |= {f"noise{share}" for share in (10, 20, 30, 40)}
    assert {split for split in metrics if split.startswith("probe/")} == {f"probe/{kind}" for kind in asked}
    assert all(0 <= metrics[f"probe/{kind}"]["consistency"] <= 1 for kind in asked)
    assert any("/rows" in key or "/facts" in key for key in metrics["test/id"])
