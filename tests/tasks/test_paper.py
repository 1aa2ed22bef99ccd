"""Each cell of the table `paper` trains and evaluates on a CPU: its own models, tasks and settings at reduced sizes.

Sequences are 64 times shorter (8 times where answers are looked up: the supporting paragraphs must fit) in training,
and in evaluation by the same proportion; models have the parameters of the budget `tiny`. Made-up data stand in for
two tasks; the others want real data (`$RESSFORMER_DATA`).
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hubdata import hotpot, wikitext

from experiments.errors import UserError
from experiments.planning.hydra_config import composed, composer, plain
from experiments.planning.plan import make_plan, read_request
from experiments.planning.settings import TableSettings
from experiments.store.records import Record, RunSpec
from experiments.store.store import Store
from experiments.training.run import execute
from tasks.hub.corpus import LONG

with composer():
    PAPER = TableSettings.model_validate(plain(composed(["table=paper"]))["table"])
MODELS = [entry.model for entry in PAPER.entries()]
MADE_UP = {"wikitext2": wikitext, "hotpotqa": hotpot}
TEXT = [task for task, words in PAPER.per_task.items() if "task.long_context=true" in words]
QUICK = {("transformer", "wikitext2"), ("ressformer", "hotpotqa")}
CELLS = [
    pytest.param(model, task, marks=[] if (model, task) in QUICK else pytest.mark.slow)
    for model in MODELS
    for task in MADE_UP
]


def cell(model: str, task: str, *words: str) -> RunSpec:
    """The cell's spec at reduced sizes, of two steps.

    Raises:
        UserError: its data are absent.
    """
    small = ["task.length=64", "task.batch_size=2", "task.n_validation=4", "task.n_test=4", "trainer.eval_batch_size=2"]
    if "task.ood_length=16384" in PAPER.per_task[task]:
        small += ["task.length=512", "task.ood_length=2048", "task.n_train=200", "task.n_test=8"]
    if task == "listops_real":
        small += ["task.length=32"]
    asked = ["table=paper", f"table.models=[{model}]", f"table.tasks=[{task}]", "table.seeds=[0]", "table.budget=tiny"]
    (spec,) = make_plan(
        read_request([*asked, "trainer.accelerator=cpu", f"allow_small_test=[{task}]", *small, *words])
    ).runs
    return spec.model_copy(update={"steps": 2})


def ran(spec: RunSpec, folder: Path) -> Record:
    store = Store(folder)
    execute(spec, store)
    record = store.record(spec.id)
    assert record is not None
    return record


def require_sound(record: Record) -> None:
    assert record.status == "done", record.error
    assert record.steps_done == 2 and record.spec.config["trainer"]["precision"] == "bf16-mixed"
    for split, metrics in record.metrics.items():
        assert math.isfinite(metrics[record.spec.task_info.metric]), split
    if record.spec.task in TEXT:  # 512 to 16384 tokens for 4096 of training
        assert set(LONG) <= set(record.metrics), sorted(record.metrics)
    elif "test/ood_length" in record.spec.task_info.chance:
        assert "test/ood_length" in record.metrics


@pytest.mark.parametrize(("model", "task"), CELLS)
def test_a_cell_on_made_up_data(
    tmp_path: Path, model: str, task: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESSFORMER_CACHE", str(tmp_path / "cache"))
    data = MADE_UP[task](tmp_path / "data")
    require_sound(ran(cell(model, task, f"task.path={data}", "trainer.compile=false"), tmp_path / "results"))


@pytest.mark.slow
@pytest.mark.parametrize("task", PAPER.tasks)
@pytest.mark.parametrize("model", MODELS)
def test_a_cell_on_real_data(tmp_path: Path, model: str, task: str) -> None:
    try:
        spec = cell(model, task, "trainer.compile=false")
    except UserError as error:
        assert "absent" in str(error), error
        pytest.skip(f"{error}: set RESSFORMER_DATA")
    require_sound(ran(spec, tmp_path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cell_compiled(tmp_path: Path) -> None:
    data = wikitext(tmp_path / "data")
    spec = cell("transformer", "wikitext2", f"task.path={data}")
    assert spec.config["trainer"]["compile"] is True
    require_sound(ran(spec, tmp_path / "results"))
