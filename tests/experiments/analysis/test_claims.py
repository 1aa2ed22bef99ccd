"""Verdicts on records whose truth is known, and the order of registration and runs."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError
from toy import make_record, make_spec

from experiments.__main__ import program
from experiments.analysis.claims import Claim, Finding, judge, load_claims
from experiments.analysis.registration import COLUMNS, Registration, claims_frame, registrations, warning
from experiments.analysis.significance import one_sided_p
from experiments.errors import UserError
from experiments.planning.hydra_config import composed, composer, plain
from experiments.planning.instantiate import build_task
from experiments.planning.plan import Plan, newest_plan
from experiments.planning.settings import TableSettings
from experiments.reporting.html_page import claims as report_cards
from experiments.store import atomic_files as atomic
from experiments.store.provenance import ROOT
from experiments.store.store import Store
from tasks.hub.corpus import LONG

CLAIM: dict[str, Any] = {
    "statement": "a beats b",
    "table": "toy",
    "model": "a",
    "against": ["b"],
    "tasks": ["chain"],
    "quantity": {"split": "test/id"},
    "smallest_effect": 0.02,
    "alpha": 0.05,
    "seeds": 5,
}


def filled(store: Store, a: list[float], b: list[float]) -> None:
    settings = {"name": "toy", "models": ["a", "b"], "tasks": ["chain"], "seeds": list(range(len(a))), "budget": "toy"}
    runs = []
    for model, values in (("a", a), ("b", b)):
        for seed, value in enumerate(values):
            spec = make_spec(model=model, seed=seed, labelled=model)
            runs.append(spec)
            metrics = {"test/id": {"accuracy": value}, "test/ood": {"accuracy": value / 2}}
            record = make_record(spec, value, metrics=metrics)
            store.write_record(record)
    plan = Plan(table=TableSettings.model_validate(settings), code_fingerprint="code", runs=runs)
    atomic.write_text(store.root / "plans" / plan.file_name, plan.model_dump_json())


@pytest.mark.parametrize(
    ("a", "verdict"),
    [
        ([0.60, 0.61, 0.59, 0.60, 0.62], "supported"),
        ([0.50, 0.51, 0.49, 0.50, 0.51], "refuted"),  # no more than b: the upper end is below 0.02
        ([0.40, 0.41, 0.39, 0.40, 0.41], "refuted"),
        ([0.40, 0.70, 0.45, 0.66, 0.58], "underpowered"),
        ([0.512, 0.513, 0.512, 0.515, 0.511], "refuted"),  # better beyond doubt, and by less than what matters
    ],
)
def test_verdicts(a: list[float], verdict: str, store: Store, tmp_path: Path) -> None:
    filled(store, a, [0.50, 0.50, 0.50, 0.51, 0.50])
    found = judge("X", Claim.model_validate(CLAIM), store, tmp_path)
    assert found.verdict == verdict and len(found.runs) == 10
    assert found.effect == pytest.approx(np.mean(a) - 0.502)


def test_the_change_between_splits(store: Store, tmp_path: Path) -> None:
    filled(store, [0.6, 0.61, 0.59, 0.6, 0.6], [0.9, 0.9, 0.91, 0.92, 0.9])
    claim = Claim.model_validate({**CLAIM, "quantity": {"from": "test/id", "to": "test/ood"}})
    found = judge("X", claim, store, tmp_path)  # a loses 0.3, b loses 0.45
    assert found.verdict == "supported" and found.effect == pytest.approx(0.153, abs=1e-3)


def test_a_change_to_several_splits_is_a_comparison_each(store: Store, tmp_path: Path) -> None:
    filled(store, [0.6, 0.61, 0.59, 0.6, 0.6], [0.9, 0.9, 0.91, 0.92, 0.9])
    quantity = {"from": "test/id", "to": ["test/ood", "probe/noise40"]}
    claim = Claim.model_validate({**CLAIM, "quantity": quantity, "needs": "a cat"})
    found = judge("X", claim, store, tmp_path)
    assert found.verdict == "not run" and found.why == "0 of 5 seeds: chain probe/noise40, over b; needs a cat"
    for run in store.ids():
        record = store.record(run)
        assert record is not None
        fall = 0.0 if record.spec.model == "b" else 0.01 * record.spec.seed
        noisy = {"accuracy": record.metrics["test/id"]["accuracy"] - fall}
        changed = record.model_copy(update={"metrics": {**record.metrics, "probe/noise40": noisy}})
        atomic.write_text(store.folder(run) / "record.json", changed.sealed().model_dump_json())
    found = judge("X", claim, store, tmp_path)
    # Ahead by 0.15 on test/ood, behind by 0, .01, .. .04 under noise: the harder one decides.
    assert (found.verdict, found.hardest) == ("refuted", "chain probe/noise40, over b")
    assert found.effect == pytest.approx(-0.02)


def test_time_at_equal_loss_by_hand(store: Store, tmp_path: Path) -> None:
    filled(store, [0.6] * 5, [0.6] * 5)
    curves = {"a": (0.2, 0.6, 0.7), "b": (0.2, 0.5, 0.6)}  # b comes to 0.6 at its end, a at two thirds of its time
    for run in store.ids():
        record = store.record(run)
        assert record is not None
        lines = [{"step": 4 * n, "val/accuracy": value} for n, value in enumerate(curves[record.spec.model], start=1)]
        atomic.write_text(store.folder(run) / "metrics.jsonl", "\n".join(map(json.dumps, lines)))
    claim = Claim.model_validate({**CLAIM, "quantity": {"equal": "seconds"}})
    found = judge("X", claim, store, tmp_path)
    assert found.verdict == "supported" and found.effect == pytest.approx(1 / 3)
    for run in store.ids():
        (store.folder(run) / "metrics.jsonl").unlink()
    assert judge("X", claim, store, tmp_path).why == "0 of 5 seeds: chain, over b"


def test_too_few_seeds_and_no_plan_are_not_run(store: Store, tmp_path: Path) -> None:
    assert judge("X", Claim.model_validate(CLAIM), store, tmp_path).verdict == "not run"
    filled(store, [0.6, 0.61, 0.6, 0.6], [0.5, 0.5, 0.5, 0.5])
    found = judge("X", Claim.model_validate(CLAIM), store, tmp_path)
    assert found.verdict == "not run" and "4 of 5 seeds" in found.why


def test_a_newer_plan_of_other_cells_does_not_hide_the_one_that_has_them(store: Store, tmp_path: Path) -> None:
    filled(store, [0.60, 0.61, 0.59, 0.60, 0.62], [0.50, 0.50, 0.50, 0.51, 0.50])
    (old,) = (store.root / "plans").glob("*.json")
    os.utime(old, (1, 1))
    spec = make_spec(model="a", task="listops", labelled="a")
    settings = {"name": "toy", "models": ["a"], "tasks": ["listops"], "seeds": [0], "budget": "toy"}
    part = Plan(table=TableSettings.model_validate(settings), code_fingerprint="code", runs=[spec])
    atomic.write_text(store.root / "plans" / part.file_name, part.model_dump_json())
    assert newest_plan(store.root / "plans", "toy") == part
    assert judge("X", Claim.model_validate(CLAIM), store, tmp_path).verdict == "supported"


@pytest.mark.parametrize(("power", "verdict"), [(1.0, "supported"), (1.3, "refuted")])
def test_exponents(power: float, verdict: str, store: Store, tmp_path: Path) -> None:
    lines = [f"x,{n},{n**power * (1 + 0.004 * (-1) ** i)}" for i, n in enumerate((1024, 2048, 4096, 8192, 16384))]
    (tmp_path / "m.csv").write_text("\n".join(["mixer,n,ms", "x,256,999", "y,1024,5", *lines]))
    source = {"csv": "m.csv", "where": {"mixer": "x"}, "x": "n", "y": "ms", "from": 1024}
    claim = Claim.model_validate({"statement": "s", "alpha": 0.05, "source": source, "exponent_below": 1.05})
    found = judge("X", claim, store, tmp_path)
    assert found.verdict == verdict and found.effect == pytest.approx(power, abs=0.01)
    assert judge("X", claim, store, tmp_path / "nowhere").verdict == "not run"


def test_one_sided_p_against_scipy() -> None:
    from scipy.stats import ttest_1samp

    x = [0.1, 0.3, -0.05, 0.2]
    assert one_sided_p(x) == pytest.approx(ttest_1samp(x, 0, alternative="greater").pvalue)
    assert one_sided_p([0.1] * 3) < 1e-20 and one_sided_p([0.0] * 3) == 1


def test_the_registered_claims_are_well_formed() -> None:
    claims = load_claims()
    assert list(claims) == ["C1", "C2", "C3", "C4", "C5", "C6", "R1", "R2", "R3"]
    assert len({claim.hash for claim in claims.values()}) == 9


def test_a_change_of_any_word_changes_the_hash() -> None:
    one = Claim.model_validate(CLAIM)
    others = [Claim.model_validate({**CLAIM, **c}) for c in ({"alpha": 0.01}, {"smallest_effect": 0.0}, {"seeds": 4})]
    assert len({one.hash, *(other.hash for other in others)}) == 4


def test_what_it_takes_to_run_a_claim_is_no_part_of_it() -> None:
    assert Claim.model_validate({**CLAIM, "needs": "a GPU"}).hash == Claim.model_validate(CLAIM).hash


def test_a_withdrawn_claim_keeps_its_hash_and_gets_its_reason_for_a_verdict(store: Store, tmp_path: Path) -> None:
    filled(store, [0.60, 0.61, 0.59, 0.60, 0.62], [0.50, 0.50, 0.50, 0.51, 0.50])
    asked = Claim.model_validate(CLAIM)
    assert judge("X", asked, store, tmp_path).verdict == "supported"
    claim = Claim.model_validate({**CLAIM, "withdrawn": "the test is too small"})
    found = judge("X", claim, store, tmp_path)
    assert (found.verdict, found.why, found.hash) == ("withdrawn", "the test is too small", asked.hash)
    assert found.effect is None and found.runs == []
    with pytest.raises(ValidationError, match="at least 1 character"):
        Claim.model_validate({**CLAIM, "withdrawn": ""})


def test_what_was_withdrawn_is_printed_and_shown_with_its_reason(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    registered = load_claims()
    gone = {name: claim.withdrawn for name, claim in registered.items() if claim.withdrawn is not None}
    assert list(gone) == ["C1", "C2", "C5", "R1", "R3"]
    assert {name: registered[name].hash for name in gone} == {
        "C1": "1538c6b1594f",
        "C2": "df69b09e8fe4",
        "C5": "bcb060d07aaa",
        "R1": "9809751f14d8",
        "R3": "3f9f9e01191c",
    }
    assert program(["check-claims", f"results_dir={store.root}"]) == 0
    assert capsys.readouterr().out.count("withdrawn") >= len(gone)
    rows = pd.read_csv(store.root / "exports" / "claims.csv").set_index("claim")
    cards = {card["claim"]: card for card in report_cards(store)}
    for name, reason in gone.items():
        assert (rows.loc[name, "verdict"], rows.loc[name, "why"]) == ("withdrawn", reason)
        assert (cards[name]["verdict"], cards[name]["effect"]) == ("withdrawn", reason)


def test_claims_that_have_verdicts_keep_their_registration() -> None:
    claims = load_claims()
    assert (claims["C6"].hash, claims["R2"].hash) == ("28c5f4a7e2f2", "c6c22e39e895")


def test_claims_ask_for_splits_that_their_tables_measure() -> None:
    """Every split that a claim of a table names is a split of the task as the table sets it up."""
    table = yaml.safe_load((ROOT / "conf" / "table" / "cpu.yaml").read_text())
    wanted: dict[str, set[str]] = {}
    for claim in load_claims().values():
        if claim.table == "cpu" and claim.quantity is not None:
            assert {claim.model, *claim.against} <= set(table["models"]) and claim.seeds <= len(table["seeds"])
            ends = {claim.quantity.split, claim.quantity.start, *claim.quantity.ends}
            for task in claim.tasks:
                wanted.setdefault(task, set()).update(end for end in ends if end)
    assert set(wanted) <= set(table["tasks"])
    for task, splits in wanted.items():
        with composer():
            config = plain(composed([f"task={task}", *table["per_task"].get(task, [])]))
        assert splits <= set(build_task(config["task"]).splits), task
    assert {"test/len_2x", "test/len_4x"} <= set(LONG)


def test_registration_by_commit(tmp_path: Path) -> None:
    file = tmp_path / "claims.yaml"

    def commit(alpha: float, day: int) -> None:
        file.write_text(atomic.canonical({"claims": {"X": {**CLAIM, "alpha": alpha}}}))
        when = {"GIT_COMMITTER_DATE": f"2026-01-0{day}T00:00:00+00:00", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        who = ["-c", "user.name=x", "-c", "user.email=x@x"]
        for words in (["add", "."], ["commit", "-qm", "c"]):
            subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, env=when)

    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    commit(0.01, 1)
    commit(0.05, 3)
    found = registrations(load_claims(file), tmp_path, file)["X"]
    assert found.edited and found.date == datetime(2026, 1, 3, tzinfo=UTC)
    file.write_text(atomic.canonical({"claims": {"X": {**CLAIM, "alpha": 0.02}}}))
    assert registrations(load_claims(file), tmp_path, file) == {}


def test_warnings() -> None:
    then = datetime(2026, 1, 3, tzinfo=UTC)
    base = {"id": "X", "statement": "s", "verdict": "supported", "hash": "h"}
    late = Finding(**base, started=(then + timedelta(days=1)).isoformat())
    early = Finding(**base, started=(then - timedelta(days=1)).isoformat())
    assert warning(late, Registration("c", then, True)) == ""
    assert warning(early, Registration("c", then, True)) == "edited after its runs began"
    assert warning(early, Registration("c", then, False)) == "registered after its runs began"
    assert "not committed" in warning(late, None)
    assert list(claims_frame([early], {})) == COLUMNS


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(["check-claims", f"results_dir={tmp_path}/r", "claims=C1,R2"]) == 0
    out = capsys.readouterr().out
    assert "not run" in out and "[interval]" in out and (tmp_path / "r/exports/claims.csv").is_file()
    with pytest.raises(UserError, match=r"unknown claim 'C9'.*C1"):
        program(["check-claims", f"results_dir={tmp_path}/r", "claims=C9"])
    with pytest.raises(UserError, match="unknown argument of check-claims"):
        program(["check-claims", "table=quick"])


def test_a_malformed_claim_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(atomic.canonical({"claims": {"X": {**CLAIM, "alhpa": 0.1}}}))
    with pytest.raises(UserError, match="alhpa"):
        load_claims(tmp_path / "c.yaml")
    with pytest.raises(UserError, match="holds no claims"):
        load_claims(tmp_path / "none.yaml")
