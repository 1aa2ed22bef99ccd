"""The one rule that names a run: what counts, what does not, and what comes later."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import TASK, TRAINER, make_spec

from experiments.errors import UserError
from experiments.planning import run_spec as pricing
from experiments.planning.budget import Budget
from experiments.planning.hydra_config import composed, composer
from experiments.planning.plan import run_spec
from experiments.planning.run_spec import Pricer
from experiments.planning.settings import OptimSettings, SeedSettings, TrainerSettings
from experiments.store import identity as identity_rule
from experiments.store.identity import content, foreign_sources, identity, told_sizes
from experiments.store.records import RunSpec
from experiments.store.timings import step_time_key
from ressformer.models.ressformer import ReSSFormerConfig
from ressformer.models.transformer import TransformerConfig
from tasks.recall.mqar import MQARConfig

WORDS = ("model=transformer_rope", "task=mqar", "task.n_test=20", "budget=tiny")
EXTERNAL = """
from dataclasses import dataclass
from ressformer.models.transformer import TransformerConfig
from {helper} import scale

@dataclass(frozen=True, kw_only=True)
class Mine(TransformerConfig):
    factor: float = {factor}
"""


def planned(*overrides: str) -> RunSpec:
    with composer():
        return run_spec(composed([*WORDS, *overrides]), "transformer_rope", "mqar", None, Pricer())


def changed(spec: RunSpec, part: str, **values: Any) -> RunSpec:
    """The spec with other values in a section of its config."""
    return spec.model_copy(update={"config": {**spec.config, part: {**spec.config[part], **values}}})


@pytest.mark.parametrize(
    "key", ["results_dir", "logger", "name", "launcher", "table", "hydra", "allow_targets", "allow_unchecked"]
)
def test_what_carries_or_shows_a_run_does_not_name_it(key: str) -> None:
    assert make_spec(**{key: "other"}).id == make_spec().id


@pytest.mark.parametrize("key", ["threads", "checkpoint_every_s", "log_every", "keep_checkpoint"])
def test_where_and_how_often_a_run_writes_does_not_name_it(key: str) -> None:
    assert make_spec(trainer={key: 7}).id == make_spec().id


def test_all_that_changes_a_number_names_a_run() -> None:
    spec = make_spec()
    others = [
        changed(spec, "task", _target_="tasks.other.Task"),
        changed(spec, "task", batch_size=9),
        changed(spec, "task", n_test=17),
        changed(spec, "trainer", val_every=6),
        changed(spec, "trainer", optim={"lr": 0.2}),
        changed(spec, "budget", params=7),
        make_spec(seed=1),
        make_spec(steps=11),
        make_spec(another="section"),
        *(make_spec(seeds={part: 7}) for part in ("data", "model", "order")),
    ]
    updates: list[dict[str, Any]] = [
        {"data_fingerprint": "y"},
        {"sizes": {**spec.sizes, "d_model": 32}},
        {"model_version": 2},
        {"task_info": spec.task_info.model_copy(update={"version": 2})},
        {"foreign_sources": {"module": "hash"}},
    ]
    others += [spec.model_copy(update=update) for update in updates]
    assert len({spec.id, *map(identity, others)}) == len(others) + 1


def test_where_the_data_lie_does_not_name_a_run() -> None:
    there = make_spec().model_copy(update={"places": ["path", "download"]})
    assert identity(changed(there, "task", path="one", download=True)) == identity(changed(there, "task", path="two"))
    here = there.model_copy(update={"places": []})
    assert identity(changed(here, "task", path="one")) != identity(changed(here, "task", path="two"))


def test_a_name_does_not_depend_on_the_order_of_keys_or_on_json() -> None:
    spec = make_spec()
    assert identity(spec.model_copy(update={"config": dict(reversed(spec.config.items()))})) == spec.id
    assert identity(RunSpec.model_validate_json(spec.model_dump_json())) == spec.id
    assert identity(spec) == spec.id == planned_again(spec)


def planned_again(spec: RunSpec) -> str:
    return make_spec(seed=spec.seed, steps=spec.steps).id


LATER = [
    ("config.trainer.ema", 0.0),
    ("config.task.masking", "none"),
    ("config.budget.energy", None),
    ("config.colours", []),
    ("sizes.gates", 1),
    ("seeds.dropout", {}),
]


@pytest.mark.parametrize(("path", "neutral"), LATER)
def test_a_later_field_at_its_neutral_value_renames_no_run(
    path: str, neutral: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = make_spec()
    keys = path.split(".")

    def with_field(value: Any) -> RunSpec:
        if keys[0] == "sizes":
            return before.model_copy(update={"sizes": {**before.sizes, keys[1]: value}})
        if keys[0] == "seeds":
            monkeypatch.setattr("experiments.store.identity.content", lambda spec: seeded(spec, value))
            return before
        if len(keys) == 2:
            return before.model_copy(update={"config": {**before.config, keys[1]: value}})
        return changed(before, keys[1], **{keys[2]: value})

    def seeded(spec: RunSpec, value: Any) -> dict[str, Any]:
        values = content(spec)
        return {**values, "seeds": {**values["seeds"], keys[1]: value}}

    assert identity(with_field(neutral), LATER) == before.id
    assert identity(with_field("other"), LATER) != before.id
    assert identity(with_field(neutral), ()) != before.id


def test_a_later_size_at_its_default_leaves_names_and_keys_as_they_were() -> None:
    later = {path.split(".")[1]: neutral for path, neutral in identity_rule.LATER if path.startswith("sizes.")}
    sizes = dataclasses.asdict(ReSSFormerConfig())
    assert later and all(sizes[key] == neutral for key, neutral in later.items())
    now = make_spec().model_copy(update={"sizes": sizes})
    before = make_spec().model_copy(update={"sizes": {k: v for k, v in sizes.items() if k not in later}})
    assert (identity(now), step_time_key(now), told_sizes(now)) == (
        identity(before),
        step_time_key(before),
        before.sizes,
    )
    assert identity_rule.without_later(now.model_dump()) == before.model_dump()  # what verify compares
    for key in later:
        assert identity(now.model_copy(update={"sizes": {**sizes, key: "other"}})) != identity(before)


def test_a_neutral_value_is_of_its_type() -> None:
    rule = [("sizes.gates", 1)]
    with_gates = [
        identity(s, rule)
        for s in (
            make_spec().model_copy(update={"sizes": {**make_spec().sizes, "gates": value}})
            for value in (1, 1.0, True, "1")
        )
    ]
    assert with_gates[0] == make_spec().id and len(set(with_gates)) == 4


@pytest.mark.parametrize("where", ["sizes", "trainer", "task"])
def test_one_in_three_types_makes_three_names(where: str) -> None:
    spec = make_spec()
    found = set()
    for value in (1, 1.0, True, "1", None):
        if where == "sizes":
            found.add(identity(spec.model_copy(update={"sizes": {**spec.sizes, "gates": value}})))
        else:
            found.add(identity(changed(spec, where, gates=value)))
    assert len(found) == 5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("deep", [False, True])
def test_what_is_not_finite_gets_no_name(value: float, deep: bool) -> None:
    with pytest.raises(UserError, match=r"trainer\.optim\.lr.* must be a finite number") as error:
        make_spec(trainer={"optim": {"lr": [0.1, value] if deep else value}})
    assert "\n" not in str(error.value)


def test_a_frozen_config_has_every_default_written_out() -> None:
    """So a default that changes changes the names."""
    spec = planned()
    trainer = spec.config["trainer"]
    assert set(trainer) == set(TrainerSettings.model_fields) and set(trainer["optim"]) == set(
        OptimSettings.model_fields
    )
    assert set(spec.config["seeds"]) == set(SeedSettings.model_fields)
    assert set(spec.config["budget"]) == {field.name for field in dataclasses.fields(Budget)}
    assert set(spec.sizes) == {"_target_", *(field.name for field in dataclasses.fields(TransformerConfig))}
    assert set(spec.config["task"]) == {"_target_", *(field.name for field in dataclasses.fields(MQARConfig))}


def test_a_changed_default_makes_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = planned()

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Other(Budget):
        count: str = "useful"
        tolerance_params: float = 0.01
        margin: float = 0.5

    monkeypatch.setattr(pricing, "Budget", Other)
    after = planned()
    assert after.id != before.id
    assert (
        identity(after, [*identity_rule.LATER, ("config.budget.margin", 0.5)]) == before.id
    )  # unless it is listed as neutral
    assert (
        identity(after, [*identity_rule.LATER, ("config.budget.margin", 0.25)]) == after.id
    )  # and a default that changed is not


def test_a_value_spelled_out_at_its_default_is_the_same_run() -> None:
    spelled = ["trainer.val_every=100", "trainer.optim.lr=2e-3", "trainer.optim.grad_clip=1", "budget.params=200000"]
    assert planned(*spelled, "budget.train_flops=600000000000").id == planned().id


def test_an_edited_external_model_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("outside_model", "outside_helper")

    def spec(factor: float, helper: str) -> RunSpec:
        (tmp_path / "outside_model.py").write_text(EXTERNAL.format(factor=factor, helper="outside_helper"))
        (tmp_path / "outside_helper.py").write_text(f"def scale():\n    return {helper}\n")
        for name in names:
            sys.modules.pop(name, None)
        found = planned("++model._target_=outside_model.Mine", "allow_targets=[outside_model]")
        assert set(found.foreign_sources) == set(names)
        return found

    try:
        first = spec(1.5, "1")
        assert spec(1.5, "1").id == first.id
        edited, helped = spec(2.5, "1"), spec(1.5, "2")
        assert len({first.id, edited.id, helped.id}) == 3  # an edit of what the module imports counts, too
    finally:
        for name in names:
            sys.modules.pop(name, None)


def test_our_own_and_installed_sources_are_not_foreign() -> None:
    assert foreign_sources(["ressformer.models.transformer.TransformerConfig", TASK["_target_"]]) == {}
    assert set(foreign_sources(["hypothesis.strategies.integers"])) > {"hypothesis.strategies"}
    assert all(name.startswith("hypothesis") for name in foreign_sources(["hypothesis.strategies.integers"]))


@settings(max_examples=300, deadline=None)
@given(st.integers(min_value=0, max_value=2**40))
def test_no_name_reads_as_a_number(seed: int) -> None:
    name = identity(make_spec().model_copy(update={"seed": seed}))
    (override,) = OverridesParser.create().parse_overrides([f"run={name}"])
    assert override.value() == name and len(name) == 16
    with pytest.raises(ValueError, match="could not convert"):
        float(name)


def test_the_run_whose_name_was_read_as_infinity() -> None:
    with composer():
        spec = run_spec(composed(["model=transformer", "task=chain", "seed=1590"]), "t", "chain", None, Pricer())
        assert OverridesParser.create().parse_overrides([f"run={spec.id}"])[0].value() == spec.id


def test_the_toy_is_named_by_the_rule() -> None:
    assert make_spec(trainer={"optim": {"lr": 0.01}}).id == make_spec().id and TRAINER["optim"] == {"lr": 0.01}
