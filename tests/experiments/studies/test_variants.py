"""Variants: as many for every model, the config as it is among them, and none of the test set in the choice."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf
from toy import make_record

from experiments.errors import UserError
from experiments.planning import sweep_request
from experiments.planning.hydra_config import composed, composer, plain
from experiments.planning.instantiate import build_model_config
from experiments.planning.sweep_request import read_sweep
from experiments.planning.sweep_settings import Variants
from experiments.planning.table_plans import newest_plan
from experiments.store.store import Store
from experiments.studies import variants
from experiments.studies.sweep import sweep
from experiments.studies.verify import derived

SMALL = ["sweep=readings", "model=ressformer,transformer_rope", "task=chain", "budget=tiny"]
CHEAP = ["budget.train_flops=1e10", "budget.tolerance_flops=0.1", "task.facts_min=2"]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A preset of two variants for two models; a test may change it."""
    preset: dict[str, Any] = {
        "overrides": ["seed=0"],
        "variants": {
            "ressformer": ["model.top_k=8", "model.selection=block model.block=8"],
            "transformer_rope": ["model.n_layers=2", "trainer.optim.warmup=0.02"],
        },
    }
    monkeypatch.setattr(sweep_request, "preset_file", lambda name: preset)
    return preset


@pytest.fixture
def carried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A carrier that runs nothing: a trial's score is its warm-up, so 0.1 as it is and 0.02 for one variant."""

    def carry(plan: Any, path: Path, store: Store, launcher: Any) -> None:
        for spec in plan.unique():
            store.folder(spec.id).mkdir(parents=True, exist_ok=True)
            store.write_record(make_record(spec, spec.config["trainer"]["optim"]["warmup"]))

    monkeypatch.setattr("experiments.planning.run_spec._counted", lambda config, shape: (1.0, 3.0))
    monkeypatch.setattr(variants, "carry", carry)


def test_every_variant_is_compared_with_the_config_as_it_is(few: dict[str, Any], carried: None, tmp_path: Path) -> None:
    assert sweep([*SMALL, *CHEAP, f"results_dir={tmp_path}"]) == 0
    (trials,) = [p for p in (tmp_path / "exports").glob("*.csv") if "best" not in p.name]
    rows = pd.read_csv(trials, keep_default_na=False)
    for model, given in few["variants"].items():
        assert list(rows.loc[rows["model"] == model, "variant"]) == ["", *given]
    best = pd.read_csv(trials.with_name(f"{trials.stem}-best.csv"), keep_default_na=False)
    assert list(best["trials"]) == [3, 3]
    assert list(best["trial"]) == [0, 0] and list(best["overrides"]) == ["", ""]  # of equals, the one as it is

    plan = newest_plan(tmp_path / "plans", trials.stem)
    assert plan is not None
    text = dict(derived(plan, Store(tmp_path)))
    assert text == {path.name: path.read_text() for path in (tmp_path / "exports").glob("*.csv")} and len(text) == 3
    gains = {(row["model"], row["trial"]): row["better_by"] for row in variants.compared(rows.to_dict("records"), plan)}
    assert gains["transformer_rope", 2] == pytest.approx(0.02 - 0.1) and gains["ressformer", 1] == 0


def test_what_a_row_says_itself_is_no_part_of_its_variants(
    few: dict[str, Any], carried: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the row as it is is not known as the default, and the better of two that are tied is chosen."""
    few["variants"] = {"all": ["trainer.optim.warmup=0.1 model.n_layers=3", "trainer.optim.warmup=0.02"]}
    row = {"label": "two", "model": "transformer_rope", "overrides": ["model.n_layers=2"]}
    table: dict[str, Any] = {
        "name": "mine",
        "models": [row],
        "tasks": ["chain"],
        "seeds": [1],
        "budget": "tiny",
        "overrides": CHEAP,
    }
    (tmp_path / "conf" / "table").mkdir(parents=True)
    (tmp_path / "conf" / "table" / "mine.yaml").write_text(yaml.safe_dump(table))
    monkeypatch.chdir(tmp_path)
    assert sweep(["sweep=readings", "sweep.name=own", "table=mine", f"results_dir={tmp_path}"]) == 0
    trials = pd.read_csv(tmp_path / "exports" / "own.csv", keep_default_na=False)
    assert list(trials["variant"]) == ["", *few["variants"]["all"]]
    (best,) = pd.read_csv(tmp_path / "exports" / "own-best.csv", keep_default_na=False).to_dict("records")
    assert best["tied"] == 2 and best["trial"] == 0 and best["chosen"] == "as it is" and best["overrides"] == ""
    assert "n_layers" not in (tmp_path / "exports" / "own-per_cell.yaml").read_text()


def test_unequal_effort_is_refused(few: dict[str, Any]) -> None:
    few["variants"]["ressformer"].append("model.cache=0")
    with pytest.raises(UserError, match="as many variants as the others, not ressformer 3, transformer_rope 2"):
        read_sweep(SMALL)


def test_a_model_without_variants_is_refused(few: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="has no variants for looped; it has them for ressformer, transformer_rope"):
        read_sweep(["sweep=readings", "model=looped", "task=chain"])
    with pytest.raises(UserError, match=r"takes no grid beside them; fix model\.steps"):
        read_sweep([*SMALL, "model.steps=2,4"])


@pytest.mark.parametrize(("sweep", "of"), [("readings", "quick"), ("shell", "quick")])
def test_the_variants_change_what_they_name_and_fit_the_models_of_their_table(sweep: str, of: str) -> None:
    found = read_sweep([f"sweep={sweep}", f"table={of}"])
    table, settings = found.table, found.settings
    assert isinstance(settings, Variants)
    assert set(settings.variants) == {entry["model"] for entry in table["models"]}
    for model, given in settings.variants.items():
        with composer():
            config = plain(composed([f"model={model}", *table["overrides"], *table["per_model"].get(model, [])]))
        as_it_is = {"model": dataclasses.asdict(build_model_config(config["model"])), "trainer": config["trainer"]}
        for variant in given:
            assert all(part.count("=") == 1 for part in variant.split())
            for key, value in (part.split("=") for part in variant.split()):
                held = OmegaConf.select(OmegaConf.create(as_it_is), key, throw_on_missing=True)
                assert held is not None and held != yaml.safe_load(value)
