"""Rows that carry a regime of their own: equal parameters, equal FLOPs and both, side by side in one table."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import make_record

from experiments.planning.plan import Plan, make_plan, read_request
from experiments.reporting.table import build
from experiments.store.store import Store

VANILLA, LOOP = "transformer_rope", "looped = {}"


@pytest.fixture(scope="module")
def plan() -> Plan:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.planning.run_spec._counted", lambda config, shape: (1.0, 3.0))
        return make_plan(read_request(["table=regimes"]))


def test_each_row_meets_what_its_regime_asks(plan: Plan) -> None:
    first = {spec.model: spec for spec in plan.runs if spec.seed == 0}
    vanilla = first.pop(VANILLA)
    for label, spec in first.items():
        flops, weights = (
            getattr(spec.cost, key) / getattr(vanilla.cost, key) for key in ("flops_train", "params_non_embedding")
        )
        alike = {"params": abs(weights - 1) < 0.02, "FLOPs": abs(flops - 1) < 0.02}
        wanted = label.rpartition(" = ")[2]
        assert spec.steps == vanilla.steps and spec.budget.on_budget
        assert all(alike.values()) if wanted == "both" else alike[wanted]
    loops = first[LOOP.format("params")], first[LOOP.format("FLOPs")]
    assert loops[0].cost.flops_train > 3 * vanilla.cost.flops_train  # what equal parameters take
    assert loops[1].cost.params_non_embedding < vanilla.cost.params_non_embedding / 3  # what equal FLOPs leave


def test_the_head_has_a_line_for_each_regime_and_ranks_none_against_another(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for spec in plan.runs:
        store.folder(spec.id).mkdir(parents=True)
        store.write_record(make_record(spec, 0.9 + spec.seed / 1e3 if spec.model == VANILLA else 0.3 + spec.seed / 1e3))
    report = build(plan, store)
    assert [line.split(":")[0] for line in report.header[:3]] == [
        "Budget tiny, regime matched (transformer_rope, ressformer = both)",
        "Budget tiny, regime params (looped = params, ressformer = params)",
        "Budget tiny, regime flops_per_token (looped = FLOPs, ressformer = FLOPs)",
    ]
    assert "training FLOPs per token (within 1 %)" in report.header[2]
    assert not any(cell.bold for row in report.results.rows for cell in row)
    assert any("different regimes are not ranked" in note for note in report.notes)
    assert [heading for _, heading in report.results.groups][1].startswith("Equal parameters")
