"""Seeds of data, order and model: each changes what it names and nothing else, and none of them an old run's name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toy import make_spec

from experiments.errors import UserError
from experiments.planning.hydra_config import composed, composer
from experiments.planning.instantiate import build_task
from experiments.planning.plan import run_spec
from experiments.planning.run_spec import Pricer
from experiments.planning.settings import TrainerSettings
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.training.fit import build_module
from experiments.training.loader import StepLoader
from experiments.training.run import execute


def batches(spec: RunSpec) -> list[list[list[int]]]:
    """Inputs of the run's training batches, as nested lists."""
    loader = StepLoader(build_task(spec.config["task"]), spec.data_seed, spec.steps, order=spec.order_seed)
    return [batch["input_ids"].tolist() for batch in loader]


def weights(spec: RunSpec) -> torch.Tensor:
    """The initial weights, in one vector."""
    module = build_module(spec, TrainerSettings.model_validate(spec.config["trainer"]), build_task(spec.config["task"]))
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def items(spec: RunSpec) -> list[list[int]]:
    return sorted(row for batch in batches(spec) for row in batch)


def test_each_seed_changes_what_it_names() -> None:
    plain = make_spec()
    data, model, order = (make_spec(seeds={part: 7}) for part in ("data", "model", "order"))
    assert items(data) != items(plain) and torch.equal(weights(data), weights(plain))
    assert batches(model) == batches(plain) and not torch.equal(weights(model), weights(plain))
    assert batches(order) != batches(plain) and items(order) == items(plain)
    assert torch.equal(weights(order), weights(plain))
    assert batches(data) == batches(make_spec(seed=7)) and torch.equal(weights(model), weights(make_spec(seed=7)))
    assert batches(order) == batches(order) != batches(make_spec(seeds={"order": 8}))


def test_a_permuted_run_goes_on_with_the_right_batch() -> None:
    spec = make_spec(seeds={"order": 7})
    loader = StepLoader(build_task(spec.config["task"]), spec.data_seed, spec.steps, order=spec.order_seed)
    loader.load_state_dict({"step": 5})
    assert [batch["input_ids"].tolist() for batch in loader] == batches(spec)[5:]


def planned(*overrides: str) -> RunSpec:
    with composer():
        config = composed(["model=transformer_rope", "task=mqar", "task.n_test=20", "budget=tiny", *overrides])
        return run_spec(config, "transformer_rope", "mqar", None, Pricer())


def test_only_another_seed_makes_another_run() -> None:
    plain = planned("seed=3")
    assert planned("seed=3", "seeds.data=3", "seeds.model=3").id == plain.id
    parts: list[dict[str, Any]] = [{"data": 4}, {"model": 4}, {"order": 3}]
    others = [planned("seed=3", *(f"seeds.{part}={value}" for part, value in one.items())) for one in parts]
    assert [{k: v for k, v in other.config["seeds"].items() if v is not None} for other in others] == parts
    assert len({plain.id, *(other.id for other in others)}) == 4


@pytest.mark.parametrize("value", ["-1", "one", "1.5", "true"])
def test_a_bad_seed_is_one_line(value: str) -> None:
    with pytest.raises(UserError, match=r"seeds\.data: .*got") as error:
        planned(f"seeds.data={value}")
    assert "\n" not in str(error.value)


def test_an_unknown_part_is_one_line() -> None:
    with pytest.raises(UserError, match=r"colour"):
        planned("+seeds.colour=1")


def test_seeds_stand_in_the_record(store: Store) -> None:
    spec = make_spec(seeds={"data": 1, "order": 2})
    assert execute(spec, store) == "done"
    record = store.record(spec.id)
    assert record is not None and record.spec.config["seeds"] == {"data": 1, "order": 2}
    plain = make_spec()
    assert execute(plain, store) == "done"
    assert (other := store.record(plain.id)) is not None and other.metrics != record.metrics
