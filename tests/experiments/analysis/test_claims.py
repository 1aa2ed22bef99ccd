"""Verdicts on records whose truth is known, and the order of registration and runs.

The file is longer than 300 lines: a claim is judged, dated and compared with its preset in one go.
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError
from toy import a_pass, make_record, make_spec, timed

from experiments.__main__ import program
from experiments.analysis.claim_schema import GateLevels
from experiments.analysis.claims import Claim, Finding, judge, load_claims
from experiments.analysis.gates import gate
from experiments.analysis.preset import History, in_folder, preset_hash
from experiments.analysis.registration import COLUMNS, Registration, claims_frame, registrations, warning
from experiments.analysis.significance import one_sided_p
from experiments.errors import UserError
from experiments.planning.hydra_config import composed, composer, plain
from experiments.planning.instantiate import build_task
from experiments.planning.plan import Plan
from experiments.planning.settings import TableSettings
from experiments.planning.table_plans import newest_plan
from experiments.reporting.html_page import claims as report_cards
from experiments.store import atomic_files as atomic
from experiments.store.store import Store
from experiments.store.timings import write_timings

CLAIM: dict[str, Any] = {
    "statement": "a beats b",
    "table": "toy",
    "preset": "0" * 12,
    "model": "a",
    "against": ["b"],
    "tasks": ["chain"],
    "quantity": {"split": "test/id"},
    "smallest_effect": 0.02,
    "alpha": 0.05,
    "seeds": 5,
}


def planned(
    store: Store, values: dict[str, list[float | None]], tasks: tuple[str, ...] = ("chain",), **parts: Any
) -> None:
    """A table `toy` with these rows; a value None is a run that has not been made, -1 one that failed."""
    size = max(map(len, values.values()))
    settings = {
        "name": "toy",
        "models": list(values),
        "tasks": list(tasks),
        "seeds": list(range(size)),
        "budget": "toy",
    }
    runs = []
    for model, row in values.items():
        for seed, value in enumerate(row):
            spec = make_spec(model=model, seed=seed, labelled=model)
            spec = spec.model_copy(update={"task_info": spec.task_info.model_copy(update=parts)})
            runs.append(spec)
            if value is not None:
                metrics = {"test/id": {spec.task_info.metric: value}, "test/ood": {spec.task_info.metric: value / 2}}
                record = make_record(spec, None) if value < 0 else make_record(spec, value, metrics=metrics)
                store.write_record(record)
    plan = Plan(table=TableSettings.model_validate(settings), code_fingerprint="code", runs=runs)
    atomic.write_text(store.root / "plans" / plan.file_name, plan.model_dump_json())


def filled(store: Store, a: list[float], b: list[float]) -> None:
    planned(store, {"a": list(a), "b": list(b)})


BITS = {"metric": "bits_per_byte", "higher_is_better": False, "chance": {}}


@pytest.mark.parametrize(
    ("a", "verdict"),
    [
        ([1.90, 1.91, 1.89, 1.90, 1.88], "supported"),
        ([2.00, 1.99, 2.01, 2.00, 1.99], "refuted"),  # no better than b: the upper end is below 0.02
        ([2.10, 2.09, 2.11, 2.10, 2.09], "refuted"),
        ([2.10, 1.80, 2.05, 1.84, 1.92], "underpowered"),
        ([1.988, 1.987, 1.988, 1.985, 1.989], "refuted"),  # better beyond doubt, and by less than what matters
    ],
)
def test_verdicts(a: list[float], verdict: str, store: Store, tmp_path: Path) -> None:
    b = [2.0, 2.0, 2.0, 1.99, 2.0]
    planned(store, {"a": list(a), "b": list(b)}, **BITS)
    found = judge("X", Claim.model_validate({**CLAIM, "gate": {"ngram": 2.2}}), store, tmp_path)
    assert found.verdict == verdict and len(found.runs) == 10
    assert found.effect == pytest.approx(1.998 - np.mean(a))


def test_without_a_row_below_the_ngram_nothing_is_testable(store: Store, tmp_path: Path) -> None:
    planned(store, {"a": [1.90, 1.91, 1.89, 1.90, 1.88], "b": [2.0, 2.0, 2.0, 1.99, 2.0]}, **BITS)
    found = judge("X", Claim.model_validate({**CLAIM, "gate": {"ngram": 1.8}}), store, tmp_path)
    assert found.verdict == "not testable" and "no row has learned chain test/id" in found.why
    found = judge("X", Claim.model_validate(CLAIM), store, tmp_path)
    assert found.verdict == "not testable" and "no n-gram level of chain is known" in found.why


def test_a_level_of_the_plan_comes_before_that_of_the_claim() -> None:
    levels = [
        {"split": "test/id", "metric": "bits_per_byte", "name": "4-gram", "value": 1.8},
        {"split": "test/id", "metric": "bits_per_byte", "name": "4-gram of 1000 bytes", "value": 2.6},
        {"split": "test/id", "metric": "bits_per_byte", "name": "3-gram of 1000 bytes", "value": 2.5},
    ]
    spec = make_spec()
    info = SimpleNamespace(**{**spec.task_info.model_dump(), **BITS, "levels": levels})
    known: Any = SimpleNamespace(task="text", task_info=info)
    found = gate(known, "test/id", "bits_per_byte", {"a": 2.4}, GateLevels(ngram=1.0), {"a"})
    assert found.ngram == 2.5 and found.passed
    assert gate(known, "test/ood", "bits_per_byte", {"a": 2.4}, GateLevels(ngram=1.0), {"a"}).ngram == 1.0


def test_each_row_is_measured_by_the_ngrams_of_what_it_has_read_itself() -> None:
    """A row that spends more FLOPs on a token reads less text, of which counting makes less."""

    def row(read: int, value: float) -> Any:
        level = {"split": "test/id", "metric": "bits_per_byte", "name": f"5-gram of {read} bytes", "value": value}
        values = {**make_spec().task_info.model_dump(), **BITS, "levels": [level]}
        return SimpleNamespace(task="text", task_info=SimpleNamespace(**values))

    own = {"much": row(850_000, 2.320), "little": row(690_000, 2.371)}

    def opened(levels: dict[str, float], by: Literal["any", "named"] = "any") -> bool:
        given = GateLevels(by=by)
        return gate(own["much"], "test/id", "bits_per_byte", levels, given, set(own), own).passed

    assert opened({"much": 2.965, "little": 2.334}) and not opened({"much": 2.334, "little": 2.372})
    assert not opened({"much": 2.33, "little": 2.334}, "named") and opened({"much": 2.31, "little": 2.334}, "named")


def test_any_row_of_the_table_opens_the_gate_or_the_weakest_of_those_named(store: Store, tmp_path: Path) -> None:
    # Chance is 0.25, so that the gate is at 0.475: c, which the claim does not name, is above it, a and b are not.
    planned(store, {"a": [0.30] * 5, "b": [0.29] * 5, "c": [0.9] * 5})
    assert judge("X", Claim.model_validate(CLAIM), store, tmp_path).verdict == "underpowered"
    found = judge("X", Claim.model_validate({**CLAIM, "gate": {"by": "named"}}), store, tmp_path)
    assert found.verdict == "not testable"


def test_a_gain_of_an_accuracy_must_outweigh_what_five_seeds_cannot_exclude(store: Store, tmp_path: Path) -> None:
    filled(store, [0.60, 0.61, 0.59, 0.60, 0.62], [0.50, 0.50, 0.50, 0.51, 0.50])
    found = judge("X", Claim.model_validate(CLAIM), store, tmp_path)
    assert found.verdict == "underpowered" and "seeds may fall into groups" in found.why
    assert found.effect == pytest.approx(0.102)


def test_a_claim_may_name_a_part_of_the_metric(store: Store, tmp_path: Path) -> None:
    filled(store, [0.9] * 5, [0.9] * 5)
    for run in store.ids():
        record = store.record(run)
        assert record is not None
        metrics = {"test/id": {"accuracy": 0.9, "accuracy/hops2": 0.98 if record.spec.model == "a" else 0.4}}
        changed = record.model_copy(update={"metrics": metrics}).sealed()
        (store.folder(run) / "record.json").unlink()
        store.write_record(changed)
    assert judge("X", Claim.model_validate(CLAIM), store, tmp_path).effect == 0
    found = judge("X", Claim.model_validate({**CLAIM, "metric": "accuracy/hops2"}), store, tmp_path)
    assert found.effect == pytest.approx(0.58) and found.verdict == "supported"
    with pytest.raises(UserError, match="chain has the metric accuracy and parts of it, loss is neither"):
        judge("X", Claim.model_validate({**CLAIM, "metric": "loss"}), store, tmp_path)


def test_an_incomplete_table_gets_no_verdict_and_says_how_much_is_there(store: Store, tmp_path: Path) -> None:
    planned(store, {"a": [0.9] * 5, "b": [0.4] * 5, "c": [0.5, -1, None, 0.5, 0.5]})
    found = judge("X", Claim.model_validate(CLAIM), store, tmp_path)
    assert (found.verdict, found.why) == ("not run", "13 of 15 runs of table toy are done, 1 failed")


def test_rows_that_are_the_same_run_count_once(store: Store, tmp_path: Path) -> None:
    one = [0.40, 0.41, 0.39, 0.40, 0.42]
    planned(store, {"a": [0.98] * 5, "b": list(one), "c": list(one)})
    found = judge("X", Claim.model_validate({**CLAIM, "against": ["b", "c"]}), store, tmp_path)
    assert found.hardest == "chain test/id over b = c" and "the one comparison" in found.why


def test_a_list_of_quantities_is_judged_together(store: Store, tmp_path: Path) -> None:
    planned(store, {"a": [1.6, 1.61, 1.59, 1.6, 1.6], "b": [2.0, 2.01, 1.99, 2.0, 2.0], "c": [1.5] * 5}, **BITS)
    quantity = [{"split": "test/id"}, {"split": "test/ood", "against": ["b", "c"]}]
    claim = Claim.model_validate({**CLAIM, "quantity": quantity, "gate": {"ngram": 2.2}})
    found = judge("X", claim, store, tmp_path)
    assert (found.verdict, found.hardest) == ("refuted", "chain test/ood over c")  # the margin is 0.02, the gain -0.05


def test_a_draft_is_not_judged(store: Store, tmp_path: Path) -> None:
    planned(store, {"a": [0.98] * 5, "b": [0.4] * 5})
    assert judge("X", Claim.model_validate(CLAIM), store, tmp_path).verdict == "supported"
    found = judge("X", Claim.model_validate({**CLAIM, "draft": "no preset"}), store, tmp_path)
    assert (found.verdict, found.why) == ("not run", "not registered yet: no preset")
    assert found.hash == Claim.model_validate(CLAIM).hash


def test_the_change_between_splits(store: Store, tmp_path: Path) -> None:
    filled(store, [0.6, 0.61, 0.59, 0.6, 0.6], [0.9, 0.9, 0.91, 0.92, 0.9])
    claim = Claim.model_validate({**CLAIM, "quantity": {"from": "test/id", "to": "test/ood"}})
    found = judge("X", claim, store, tmp_path)  # a loses 0.3, b loses 0.45
    assert found.verdict == "underpowered" and found.effect == pytest.approx(0.153, abs=1e-3)


def test_a_change_to_several_splits_is_a_comparison_each(store: Store, tmp_path: Path) -> None:
    filled(store, [0.6, 0.61, 0.59, 0.6, 0.6], [0.9, 0.9, 0.91, 0.92, 0.9])
    quantity = {"from": "test/id", "to": ["test/ood", "probe/noise40"]}
    claim = Claim.model_validate({**CLAIM, "quantity": quantity, "needs": "a cat"})
    found = judge("X", claim, store, tmp_path)
    assert (
        found.verdict == "not run" and found.why == "0 of 5 seeds: chain test/id to probe/noise40 over b; needs a cat"
    )
    for run in store.ids():
        record = store.record(run)
        assert record is not None
        fall = 0.0 if record.spec.model == "b" else 0.01 * record.spec.seed
        noisy = {"accuracy": record.metrics["test/id"]["accuracy"] - fall}
        changed = record.model_copy(update={"metrics": {**record.metrics, "probe/noise40": noisy}})
        atomic.write_text(store.folder(run) / "record.json", changed.sealed().model_dump_json())
    found = judge("X", claim, store, tmp_path)
    # Ahead by 0.15 on test/ood, behind by 0, .01, .. .04 under noise: the harder one decides.
    assert (found.verdict, found.hardest) == ("underpowered", "chain test/id to probe/noise40 over b")
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
    assert (found.verdict, found.why) == ("not run", "no step times: python -m experiments time table=toy")
    first = store.record(store.ids()[0])
    assert first is not None
    write_timings(store, a_pass(timed(first.spec, 0.02, 0.04)))  # both have the same sizes
    found = judge("X", claim, store, tmp_path)
    assert found.verdict == "supported" and found.effect == pytest.approx(1 / 3)
    for run in store.ids():
        (store.folder(run) / "metrics.jsonl").unlink()
    assert judge("X", claim, store, tmp_path).why == "0 of 5 seeds: chain seconds to an equal validation over b"


def test_too_few_seeds_and_no_plan_are_not_run(store: Store, tmp_path: Path) -> None:
    assert judge("X", Claim.model_validate(CLAIM), store, tmp_path).verdict == "not run"
    filled(store, [0.6, 0.61, 0.6, 0.6], [0.5, 0.5, 0.5, 0.5])
    found = judge("X", Claim.model_validate(CLAIM), store, tmp_path)
    assert found.verdict == "not run" and "4 of 5 seeds" in found.why


def test_a_newer_plan_of_other_cells_does_not_hide_the_one_that_has_them(store: Store, tmp_path: Path) -> None:
    filled(store, [0.98] * 5, [0.40] * 5)
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


def test_the_claims_of_the_file_are_drafts_or_registered_or_withdrawn() -> None:
    claims = load_claims()
    old = [f"{name}-withdrawn" for name in ("C1", "C2", "C3", "C4", "C5", "R1", "R3")]
    drafts = ["C3-set", "R3"]
    assert {name for name, claim in claims.items() if claim.draft} == set(drafts)
    assert {name for name, claim in claims.items() if claim.withdrawn} == set(old)
    registered = [
        "C1",
        "C1-recurrent",
        "C1-experts",
        "C1-sizes",
        "C1-no-loop",
        "C2",
        "C3",
        "C3-sentences",
        "C4",
        "C5",
        "C6",
        "C6-block",
        "R1",
        "R2",
    ]
    assert set(claims) == {*drafts, *old, *registered}
    assert len({claim.hash for claim in claims.values()}) == len(claims)


def test_a_change_of_any_word_changes_the_hash() -> None:
    one = Claim.model_validate(CLAIM)
    others = [Claim.model_validate({**CLAIM, **c}) for c in ({"alpha": 0.01}, {"smallest_effect": 0.0}, {"seeds": 4})]
    assert len({one.hash, *(other.hash for other in others)}) == 4


def test_what_it_takes_to_run_a_claim_is_no_part_of_it() -> None:
    assert Claim.model_validate({**CLAIM, "needs": "a GPU"}).hash == Claim.model_validate(CLAIM).hash


def test_a_withdrawn_claim_keeps_its_hash_and_gets_its_reason_for_a_verdict(store: Store, tmp_path: Path) -> None:
    filled(store, [0.60, 0.61, 0.59, 0.60, 0.62], [0.50, 0.50, 0.50, 0.51, 0.50])
    asked = Claim.model_validate(CLAIM)
    assert judge("X", asked, store, tmp_path).verdict == "underpowered"
    claim = Claim.model_validate({**CLAIM, "withdrawn": "the test is too small"})
    found = judge("X", claim, store, tmp_path)
    assert (found.verdict, found.why, found.hash) == ("withdrawn", "the test is too small", asked.hash)
    assert found.effect is None and found.runs == []
    with pytest.raises(ValidationError, match="at least 1 character"):
        Claim.model_validate({**CLAIM, "withdrawn": ""})


def test_what_was_withdrawn_is_printed_with_its_reason(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    registered = load_claims()
    gone = {name: claim.withdrawn for name, claim in registered.items() if claim.withdrawn is not None}
    assert {name: registered[name].hash for name in gone} == {
        "C1-withdrawn": "1538c6b1594f",
        "C2-withdrawn": "df69b09e8fe4",
        "C3-withdrawn": "835a9828bbba",
        "C4-withdrawn": "1cbe69a25ca2",
        "C5-withdrawn": "bcb060d07aaa",
        "R1-withdrawn": "9809751f14d8",
        "R3-withdrawn": "3f9f9e01191c",
    }
    assert program(["check-claims", f"results_dir={store.root}"]) == 0
    assert capsys.readouterr().out.count("withdrawn") >= len(gone)
    rows = pd.read_csv(store.root / "exports" / "claims.csv").set_index("claim")
    for name, reason in gone.items():
        assert (rows.loc[name, "verdict"], rows.loc[name, "why"]) == ("withdrawn", reason)
    assert report_cards(store, "cpu") == ([], [])  # a page shows what its table decides, and what it is to decide


def test_claims_that_have_verdicts_keep_their_registration() -> None:
    claims = load_claims()
    assert (claims["C6-block"].hash, claims["R2"].hash) == ("28c5f4a7e2f2", "c6c22e39e895")
    assert claims["C6"].hash == "6f150330dce7"


@pytest.mark.parametrize("name", [name for name, claim in load_claims().items() if claim.table])
def test_a_claim_asks_for_rows_and_splits_that_its_preset_has(name: str) -> None:
    claim = load_claims()[name]
    text = in_folder(f"table/{claim.table}.yaml")
    if claim.draft:
        return  # its preset may still change
    assert text is not None and (claim.withdrawn or claim.preset == preset_hash(str(claim.table)))
    table = yaml.safe_load(text)
    rows = {entry if isinstance(entry, str) else entry["label"] for entry in table["models"]}
    assert {claim.model, *claim.against} <= rows and claim.seeds <= len(table["seeds"])
    for task in set(claim.tasks) - set(table.get("optional", [])):  # of optional ones the data may be absent
        with composer():
            config = plain(composed([f"task={task}", *table.get("per_task", {}).get(task, [])]))
        splits = {end for one in claim.quantities for end in (one.split, one.start, *one.ends) if end}
        assert splits <= set(build_task(config["task"]).splits), task


def test_what_changes_a_preset_and_what_does_not() -> None:
    files = {
        "config.yaml": "defaults: [{trainer: default}]",
        "table/t.yaml": "name: t\nmodels: [m]\ntasks: [k]\nbudget: b\noverrides: [trainer.x=1]\n",
        **{name: "a: 1" for name in ("model/m.yaml", "task/k.yaml", "budget/b.yaml", "trainer/default.yaml")},
        "model/other.yaml": "a: 1",
    }
    same = preset_hash("t", files.get)
    assert same is not None and preset_hash("u", files.get) is None

    def changed(name: str, text: str) -> bool:
        return preset_hash("t", {**files, name: text}.get) != same

    table = files["table/t.yaml"]
    assert not changed("model/m.yaml", "# better\na: 1") and not changed("model/other.yaml", "a: 2")
    assert not changed("table/t.yaml", table + "groups: {A: [m]}\nper_cell: {k: {m: [trainer.optim.lr=1e-3]}}")
    assert changed("table/t.yaml", table.replace("x=1", "x=2"))
    assert not changed("trainer/default.yaml", "a: 1\nmax_steps: null")
    assert changed("trainer/default.yaml", "a: 1\nmax_steps: 2")
    for name in ("model/m.yaml", "task/k.yaml", "budget/b.yaml", "trainer/default.yaml"):
        assert changed(name, "a: 2"), name


def test_a_preset_has_its_hash_since_the_main_line_has_it(tmp_path: Path) -> None:
    """A branch that began before the preset and is merged after it does not make the preset younger."""
    files = {"config.yaml": "defaults: [{trainer: default}]", "trainer/default.yaml": "a: 1", "model/m.yaml": "a: 1"}
    files |= {"task/k.yaml": "a: 1", "budget/b.yaml": "a: 1"}
    day = iter(range(1, 9))

    def git(*words: str) -> None:
        when = f"2026-01-0{next(day)}T00:00:00+00:00" if words[0] in ("commit", "merge") else ""
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        env = {**os.environ, **({"GIT_COMMITTER_DATE": when, "GIT_AUTHOR_DATE": when} if when else {})}
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True, env=env)

    def commit(name: str, text: str) -> None:
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / name).write_text(text)
        git("add", ".")
        git("commit", "-m", name)

    git("init", "-b", "main")
    for name, text in files.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / name).write_text(text)
    commit("config.yaml", files["config.yaml"])
    git("branch", "side")
    commit("table/t.yaml", "name: t\nmodels: [m]\ntasks: [k]\nbudget: b\n")  # the second day
    git("checkout", "side")
    commit("task/other.yaml", "a: 1")
    git("checkout", "main")
    commit("task/third.yaml", "a: 1")
    git("merge", "--no-ff", "side")
    history = History(tmp_path)
    wanted = preset_hash("t", lambda name: (tmp_path / "conf" / name).read_text())
    found = history.preset_since("t", str(wanted))
    assert found is not None and found[1] == datetime(2026, 1, 2, tzinfo=UTC)


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
    changed = registrations(load_claims(file), tmp_path, file)["X"]
    assert changed.date is None and [line.split(" ", 2)[2] for line in changed.changes] == ["written", "text changed"]
    assert "not committed" in warning(Finding(id="X", statement="s", verdict="supported", hash="h"), changed)


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


def test_wrong_orders_of_a_preset_are_said_in_words() -> None:
    then = datetime(2026, 1, 3, tzinfo=UTC)
    now = preset_hash("quick")
    claim = Claim.model_validate({**CLAIM, "table": "quick", "preset": now})
    ran = Finding(id="X", statement="s", verdict="supported", hash="h", started=(then + timedelta(days=2)).isoformat())

    def said(preset_day: int, claim: Claim = claim) -> str:
        found = ("c", then + timedelta(days=preset_day))
        return warning(ran, Registration("c", then, False, preset=found), claim)

    assert said(-1) == ""
    assert said(1) == "its preset was committed after the claim"
    assert said(3) == "its preset was committed after the claim; its preset was committed after its runs began"
    old = claim.model_copy(update={"preset": "0" * 12})
    assert said(-1, old) == f"preset quick has changed since: it is {now}, the claim names {'0' * 12}"
    assert "there is no preset no_such_table" in said(-1, claim.model_copy(update={"table": "no_such_table"}))
    assert f"no commit has the preset {now}" in warning(ran, Registration("c", then, False), claim)
    assert warning(ran, None, claim.model_copy(update={"draft": "not yet"})) == ""


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
