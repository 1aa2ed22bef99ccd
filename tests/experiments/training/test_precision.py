"""bf16 training is another run, fp32 is named as ever; a table goes on without optional tasks whose data are absent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments.errors import UserError
from experiments.planning.plan import make_plan, plan_for, read_request
from experiments.store.store import Store
from experiments.training.run import execute
from ressformer.module import SequenceModule

ASKED = ["table=smoke", "table.models=[transformer]", "table.tasks=[chain]", "trainer.val_every=1"]


def test_precision_is_part_of_a_name() -> None:
    (plain,) = make_plan(read_request(ASKED)).runs
    (rounded,) = make_plan(read_request([*ASKED, "trainer.precision=bf16-mixed"])).runs
    assert plain.config["trainer"]["precision"] == "32-true" and plain.id != rounded.id
    with pytest.raises(UserError, match=r"trainer\.precision"):
        make_plan(read_request([*ASKED, "trainer.precision=fp8"]))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_products_are_of_the_precision(precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    original = SequenceModule.training_step

    def step(self: SequenceModule, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        weight = torch.ones(1, 1)
        seen.append((weight @ weight).dtype)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(SequenceModule, "training_step", step)
    (spec,) = make_plan(read_request([*ASKED, f"trainer.precision={precision}", "trainer.accelerator=cpu"])).runs
    spec, store = spec.model_copy(update={"steps": 2}), Store(tmp_path)
    store.write_spec(spec)
    assert execute(spec, store) == "done"
    assert set(seen) == {torch.float32 if precision == "32-true" else torch.bfloat16}


def test_optional_tasks_are_left_out_while_their_data_are_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESSFORMER_DATA", str(tmp_path))
    monkeypatch.setenv("RESSFORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    both = [*ASKED, "table.tasks=[chain,enwik8]"]
    with pytest.raises(UserError, match="enwik8: no data"):
        make_plan(read_request(both))
    store, request = Store(tmp_path / "results"), read_request([*both, "++table.optional=[enwik8]"])
    for _ in range(2):  # not remembered: the data may arrive
        plan, _ = plan_for(request, store)
        assert plan.table.tasks == ["chain"] and {spec.task for spec in plan.runs} == {"chain"}
        (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("preflight:")]
        assert line.startswith("left out: task enwik8")
    with pytest.raises(UserError, match="every task are absent"):
        make_plan(read_request([*ASKED, "table.tasks=[enwik8]", "++table.optional=[enwik8]"]))
