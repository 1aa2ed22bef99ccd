"""Settings are typed and have ranges: a wrong one is refused in one line that names it, before anything is written."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.errors import UserError
from experiments.planning.budget import Budget
from experiments.planning.instantiate import build_model_config, build_task
from experiments.planning.plan import read_request
from experiments.planning.settings import (
    Entry,
    LauncherSettings,
    LoggerSettings,
    OptimSettings,
    RunSettings,
    SeedSettings,
    TableSettings,
    TrainerSettings,
    label,
    section,
)
from experiments.studies.reproduce import reproduce
from ressformer.module import OptimConfig

INF, NAN = float("inf"), float("nan")
OPTIM: dict[str, list[Any]] = {
    "lr": [-1, 0, NAN, INF, None, True, "1e-3", [1], {}],
    "weight_decay": [-1e-9, NAN, INF, None, "x"],
    "warmup": [2, 1, -0.1, NAN, None],
    "beta1": [1, 1.5, -0.1, NAN],
    "beta2": [1.5, 1.0, INF, -1],
    "grad_clip": [-1, NAN, INF, None, False],
    "schedule": ["x", "Cosine", None, 1, True],
    "final": [1.5, -0.1, NAN, INF],
}
WRONG: list[tuple[Any, str, dict[str, list[Any]]]] = [
    (
        TrainerSettings,
        "trainer",
        {
            "accelerator": ["abacus", "CPU", None, 1],
            "select": ["worst", None],
            "val_every": [0, -1, 1.0, 1.5, True, "soon", None, INF, 10**13],
            "eval_batch_size": [0, 1.5, True],
            "log_every": [0, "20"],
            "checkpoint_every_s": [-1, INF, NAN, None, "x"],
            "checkpoint_every_steps": [0, 1.5, True],
            "keep_checkpoint": [1, "true", None],
            "threads": [0, 1.0, 10**6],
            "eval_depths": [[0], [1.5], 3, ["1"], [True]],
            "compile": [1, "yes"],
            "precision": ["16", 32],
            "strategy": ["fsdp", None],
            "devices": [0, -1, "auto", 2.0],
            "nodes": [0, True],
            "optim": [3, None, ["lr"]],
        },
    ),
    (
        RunSettings,
        "",
        {"seed": [-1, 1.0, True, "0", None, 2**63], "allow_targets": ["mine", ["a b"], [""], [1], None]},
    ),
    (SeedSettings, "seeds", {"data": [-1, 1.5, True, "one", 2**63], "model": [1.0], "order": ["x"]}),
    (LoggerSettings, "logger", {"kind": ["wandbb", None], "project": ["", 3], "group": ["", 3]}),
    (
        LauncherSettings,
        "launcher",
        {"name": ["", None], "n_jobs": [-2, 0.5, True, "all"], "deaths": [0, 1.5], "wait": ["no", 1], "hydra": ["x"]},
    ),
    (
        TableSettings,
        "table",
        {
            "name": ["exp/one", "runs", "Runs", "costs", "../x", "", ".x", "-x", "a b", "a=b", "é", "x" * 101, 3, None],
            "models": [[], ["NA"], ["null"], ["1e5"], [3], [{"label": "nan", "model": "m"}], "ressformer"],
            "tasks": [[], ["k", "k"], "k", [""]],
            "seeds": [[0, 1, 0, 1, 0, 1], [True], ["0"], ["a"], [1.0], [-1], [], "range(0,3)", 3, [None], [2**63]],
            "budget": ["", None, 3],
            "confidence": [0, 1, NAN, "0.95"],
            "alpha": [0, 1.5, INF],
            "bold_seeds": [2, 5.0, True],
            "overrides": ["x", [1]],
            "columns": [[{"task": "k", "split": 3}], [{"task": "other"}]],
        },
    ),
]
CASES = [(kind, where, key, value) for kind, where, keys in WRONG for key, values in keys.items() for value in values]
CASES += [(OptimSettings, "trainer.optim", key, value) for key, values in OPTIM.items() for value in values]
VALID: dict[Any, dict[str, Any]] = {
    RunSettings: {"seed": 0},
    LauncherSettings: {"name": "basic"},
    TableSettings: {"name": "t", "models": ["m"], "tasks": ["k"], "seeds": [0], "budget": "tiny"},
}


@pytest.mark.parametrize(("kind", "where", "key", "value"), CASES, ids=[f"{w}.{k}={v!r:.20}" for _, w, k, v in CASES])
def test_a_wrong_value_is_one_line_that_names_it(kind: Any, where: str, key: str, value: Any) -> None:
    section(kind, VALID.get(kind, {}), where)
    with pytest.raises(UserError) as error:
        section(kind, {**VALID.get(kind, {}), key: value}, where)
    said = str(error.value)
    assert said.startswith(f"{where}.{key}".lstrip(".")) or (where == "table" and said.startswith("table: columns"))
    assert "\n" not in said and len(said) < 400 and "function-" not in said


@pytest.mark.parametrize(
    ("kind", "where", "values", "parts"),
    [
        (TrainerSettings, "trainer", {"optim": {"lrr": 1}}, ["trainer.optim.lrr", "did you mean lr?", "weight_decay"]),
        (TrainerSettings, "trainer", {"val_evry": 1}, ["trainer.val_evry", "did you mean val_every?"]),
        (TableSettings, "table", {"columns": [{"tsk": "k"}]}, ["table.columns.0.tsk", "did you mean task?"]),
        (TableSettings, "table", {"models": [{"label": "x", "model": "m", "override": []}]}, ["mean overrides?"]),
        (TrainerSettings, "trainer", {"devices": 3}, ["devices=3", "strategy=ddp", "trainer=ddp"]),
        (TrainerSettings, "trainer", {"nodes": 2}, ["nodes=2", "strategy=ddp"]),
        (TableSettings, "table", {"seeds": "range(0,3)"}, ["table.seeds", "[0,1,2]"]),
        (TableSettings, "table", {"name": "x" * 100_000}, ["100002 characters"]),
    ],
)
def test_the_line_says_what_would_do(kind: Any, where: str, values: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        section(kind, {**VALID.get(kind, {}), **values}, where)
    assert all(part in str(error.value) for part in parts), str(error.value)


def test_the_optimiser_has_one_set_of_names_defaults_and_ranges() -> None:
    assert dataclasses.asdict(OptimConfig()) == OptimSettings().model_dump()
    for key, values in OPTIM.items():
        for value in values:
            if type(value) in (int, float) or key == "schedule":
                with pytest.raises(ValueError, match=key):
                    OptimConfig(**{key: value})


def test_an_integer_is_a_number_and_is_frozen_as_one() -> None:
    found = section(TrainerSettings, {"optim": {"lr": 1, "grad_clip": 0}}, "trainer").optim
    assert repr(found.lr) == "1.0" and repr(found.grad_clip) == "0.0"
    assert repr(Budget.from_dict({"name": "b", "params": 5, "train_flops": 600}).train_flops) == "600.0"


BUDGETS: dict[str, list[Any]] = {
    "train_flops": [INF, NAN, 0, -1, "x", True, 1e40, None],
    "params": [1.5, 0, -1, True, 10**16, INF],
    "flops_per_token": [INF, NAN, -1.0],
    "depth": [-1, 1.0, 10**9],
    "width": [64.0, -1],
    "tolerance_flops": [0, 2, NAN, INF],
    "regime": ["x", 1],
    "count": ["both"],
    "colour": [1],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BUDGETS.items() for value in values])
def test_a_budget_is_finite_and_typed(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=key) as error:
        Budget.from_dict({"name": "b", "params": 5, "train_flops": 6e9, key: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_layers", 1.5),
        ("n_layers", 1.0),
        ("n_layers", True),
        ("n_layers", "2"),
        ("n_layers", None),
        ("n_layers", INF),
        ("n_layers", 10**8),
        ("d_model", 64.0),
        ("embedding_std", NAN),
        ("embedding_std", "x"),
        ("tie_embeddings", 1),
        ("positions", 3),
        ("n_heads", 0),
        ("layers", 3),
    ],
)
def test_the_numbers_of_a_model(key: str, value: Any) -> None:
    target = {"_target_": "ressformer.models.transformer.TransformerConfig"}
    with pytest.raises(UserError, match=key) as error:
        build_model_config({**target, key: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("length", 1e9), ("length", True), ("length", "64"), ("length", None), ("length", -1), ("batch_size", 0)),
        *(("n_test", 1.5), ("n_test", NAN), ("n_keys", 1)),
    ],
)
def test_the_numbers_of_a_task(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=key) as error:
        build_task({"_target_": "tasks.recall.mqar.MQAR", key: value})
    assert "\n" not in str(error.value)


REFUSED = [
    *("trainer.optim.lr=-1", "trainer.optim.lr=nan", "trainer.optim.lr=inf", "trainer.optim.lr=null"),
    *("trainer.optim.warmup=2", "trainer.optim.beta2=1.5", "trainer.optim.schedule=x", "+trainer.optim.key=1"),
    *("trainer.optim.grad_clip=-1", "trainer.accelerator=abacus", "trainer.devices=3", "trainer.val_every=1.0"),
    *("budget.train_flops=inf", "budget.train_flops=nan", "model.n_layers=1.5", "task.length=1e9", "task.length=nan"),
    *("results_dir=null", "results_dir=", "table.seeds=[0,1,0]", "table.seeds=[true]", "table.seeds=['0']"),
    *("table.seeds=range(0,3)", "table.seeds=0,1", "table.name=exp/one", "table.name=runs", "table.name=''"),
    *("table.name=../x", "table.models=[NA]", "launcher.n_jobs=0.5", "launcher.deaths=0", "logger.project=''"),
]


@pytest.mark.parametrize("word", REFUSED)
def test_a_command_refuses_before_it_writes(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["table=smoke", "table.models=[transformer]", "table.tasks=[chain]"]
    with pytest.raises(Exception) as error:
        reproduce([*words, word])
    from experiments.errors import explain

    line = explain(error.value)
    assert line is not None and "\n" not in line
    assert word.lstrip("+").partition("=")[0].rsplit(".", 1)[-1] in line
    assert not list(tmp_path.rglob("*.json")) and not (tmp_path / "None").exists()


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.text(max_size=12), st.sampled_from(["NA", "null", "nan", "1", "True", "-nan", "a,b", 'a"b', "<NA>"]))
)
def test_a_label_that_is_taken_comes_back_from_a_csv(text: str) -> None:
    try:
        label(text)
    except ValueError:
        return
    frame = pd.DataFrame({"model": [text, "b"]})
    assert pd.read_csv(io.StringIO(frame.to_csv(index=False)))["model"].tolist() == [text, "b"]
    alone = pd.read_csv(io.StringIO(pd.DataFrame({"model": [text], "x": [1]}).to_csv(index=False)))
    assert alone["model"].tolist() == [text]


def test_ordinary_labels_are_taken() -> None:
    for text in ("ressformer", "ressformer lr=0.001", "ressformer #3", "Transformer (rope)", "naïve", "NA-1", "é, b"):
        assert Entry(label=text, model="m").label == text


def test_the_tables_of_the_project_pass() -> None:
    for name in ("smoke", "quick", "paper", "cpu", "iterations", "regimes"):
        assert read_request([f"table={name}"]).table.name == name
