"""Planning asks preflight: who fails is refused, or marked and never bold; what was found is remembered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from toy import fill, table_plan

from experiments.errors import UserError
from experiments.planning import preflight as asked
from experiments.planning.hydra_config import CONF, composed, composer
from experiments.planning.plan import plan_for, read_request, run_spec
from experiments.planning.run_spec import Pricer
from experiments.reporting.table import build, markdown, results_grid
from experiments.store.records import RunSpec
from experiments.store.store import Store
from ressformer.checks import Check, Report
from ressformer.cost import Shape

SMALL = ["model=transformer", "model.d_model=32", "model.n_heads=2", "model.n_layers=1", "task=mqar", "budget=off"]
SMALL += ["task.n_validation=256", "task.n_test=256"]
PRICER = Pricer()  # a task is made once
LEAKS = """
from dataclasses import dataclass

from ressformer.models import transformer


@dataclass(frozen=True, kw_only=True)
class Mine(transformer.TransformerConfig):
    def build_core(self, *sizes, causal, **named):
        return transformer.TransformerConfig.build_core(self, *sizes, causal=False, **named)
"""
MINE = ["++model._target_=model_that_leaks.Mine", "allow_targets=[model_that_leaks]"]


@pytest.fixture
def leaking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model_that_leaks.py").write_text(LEAKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "model_that_leaks", raising=False)


def planned(*words: str) -> RunSpec:
    with composer():
        return run_spec(composed([*SMALL, *words]), "mine", "mqar", 0, PRICER)


def test_a_model_that_passes_is_checked_once(capsys: pytest.CaptureFixture[str]) -> None:
    spec = planned("model.d_ff=44")
    for _ in range(2):
        assert asked.checked_rows([spec, spec], {"mine": "transformer"}) == {"mine": "passed"}
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("preflight: 1 models checked in ") and first.endswith(" 0 known")
    assert second == "preflight: 0 models checked in 0 s, 1 known"


def test_the_key_holds_sizes_shape_sources_and_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[RunSpec] = []
    passed = Report("transformer", (3,), (Check("future", True, {}, 0.0, "ok"),))
    monkeypatch.setattr(asked, "_run", lambda spec, shape: runs.append(spec) or passed)
    spec = planned("model.d_ff=52")
    others = [
        planned("model.d_ff=56"),
        planned("model.d_ff=52", "task.length=96"),
        spec.model_copy(update={"foreign_sources": {"a": "b"}}),
    ]
    names = {"mine": "transformer"}
    for one in (spec, *others, spec, planned("model.d_ff=52", "trainer.optim.lr=0.1")):
        asked.checked_rows([one], names)
    assert len(runs) == 4
    monkeypatch.setattr(asked, "versions", lambda: {"torch": "0.1"})
    asked.checked_rows([spec], names)
    monkeypatch.setattr(asked, "source_fingerprint", lambda folders: "other")
    asked.checked_rows([spec], names)
    assert len(runs) == 6


def test_a_file_that_was_changed_is_ignored(tmp_path: Path) -> None:
    report = Report("m", (3,), (Check("future", False, {"difference": float("inf")}, 0.0, "leaks"),))
    path = tmp_path / "cache" / "one.json"
    asked.remember(path, report)
    assert asked.remembered(path) == report
    whole = path.read_text()
    for text in ("", "{", whole[: len(whole) // 2], whole.replace("false", "true"), "x\n[]"):
        path.write_text(text)
        assert asked.remembered(path) is None


@pytest.mark.usefixtures("leaking")
def test_a_model_that_fails_is_refused_in_one_line_or_marked() -> None:
    spec = planned(*MINE)
    with pytest.raises(UserError) as refused:
        asked.checked_rows([spec], {"mine": "leaks"})
    line = str(refused.value)
    assert line.startswith("model mine fails preflight on task mqar: future: a later token changes earlier logits by ")
    assert "(length " in line and "allow_unchecked=[mine]" in line and "\n" not in line
    for name in ("mine", "leaks"):
        found = asked.checked_rows([spec], {"mine": "leaks"}, [name])
        assert found["mine"].startswith("unchecked: future") and found["mine"].endswith(" on mqar")
    with pytest.raises(UserError, match="allow_unchecked 'mein'"):
        asked.checked_rows([spec], {"mine": "leaks"}, ["mein"])
    with pytest.raises(UserError, match="model mine fails"):
        asked.checked_rows([spec, planned().model_copy(update={"model": "b"})], {"mine": "m", "b": "b"}, ["b"])


@pytest.mark.usefixtures("leaking")
def test_planning_refuses_it_and_the_ids_are_those_of_the_allowed(store: Store) -> None:
    table = {
        "name": "t",
        "models": [{"label": "mine", "model": "transformer", "overrides": [*SMALL[1:4], *SMALL[-2:]]}],
    }
    table |= {"tasks": ["mqar"], "seeds": [0], "budget": "off"}
    with pytest.raises(UserError, match="model mine fails preflight on task mqar: future"):
        plan_for(read_request([*MINE, "allow_small_test=[mqar]", f"results_dir={store.root}"], table), store)
    assert not list(store.root.glob("plans/t-*"))
    plan, _ = plan_for(
        read_request([*MINE, "allow_small_test=[mqar]", "allow_unchecked=[mine]", f"results_dir={store.root}"], table),
        store,
    )
    assert plan.checked["mine"].startswith("unchecked: future")
    assert "allow_unchecked" not in plan.runs[0].config


def test_an_unchecked_row_is_marked_and_never_bold(store: Store) -> None:
    plan = table_plan(seeds=(0, 1, 2))
    fill(store, plan)
    good = build(plan.model_copy(update={"checked": {"a": "passed", "b": "passed"}}), store)
    best = next(row["model"] for row in good.cells.to_dict("records") if row["best"])
    found = {"a": "passed", "b": "passed", best: "unchecked: future on chain"}
    report = build(plan.model_copy(update={"checked": found}), store)
    assert not report.cells["best"].any()
    assert set(report.cells["checked"]) == {"passed", "unchecked: future on chain"}
    text = markdown(report, "toy")
    assert (
        f"| {best} (unchecked: future on chain) |" in text
        and f"fail preflight and may be worth nothing: {best}" in text
    )
    assert "every model passed" in markdown(good, "toy")
    assert results_grid(report.cells.drop(columns="checked")).rows[0][0].text in ("a", "b")


def test_lengths_are_bounded() -> None:
    shape = Shape(batch=4, length=40, vocab=9, max_length=4000)
    assert asked.bounded_lengths(shape) == (27, 40, 80)
    assert asked.bounded_lengths(replace(shape, length=4096, max_length=16384))[-1] == 512
    for length in (1, 2, 40, 300, 4096):
        for longest in (length, 2 * length, 10 * length):
            tried = asked.bounded_lengths(replace(shape, length=length, max_length=longest))
            assert min(tried) >= 1 and max(tried) <= min(longest, asked.LONGEST, 2 * length)
            assert min(length, asked.LONGEST) in tried and any(n % 2 for n in tried)


def test_no_preset_allows_unchecked_models() -> None:
    texts = [path.read_text() for path in CONF.rglob("*.yaml") if path.name != "config.yaml"]
    assert texts and not any("allow_unchecked" in text for text in texts)
    assert yaml.safe_load((CONF / "config.yaml").read_text())["allow_unchecked"] == []
