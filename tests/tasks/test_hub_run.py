"""Real data sets through the whole harness: plan, train, select, evaluate, record."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from hubdata import hotpot, wikitext

from experiments.planning.hydra_config import composed, composer
from experiments.planning.instantiate import build_decoder
from experiments.planning.plan import run_spec
from experiments.planning.run_spec import Pricer
from experiments.store.records import Record
from experiments.store.store import Store
from experiments.training.evaluate import Evaluator
from experiments.training.run import execute
from ressformer.models.transformer import TransformerConfig
from ressformer.module import OptimConfig, SequenceModule
from tasks.hub.corpus import LONG
from tasks.qa.hotpotqa import HotpotQA
from tasks.registry import load

DATA = Path(os.environ.get("RESSFORMER_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
STEPS = 6
REAL = {
    "wikitext2": ("wikitext-2", []),
    "pg19": ("gutenberg_pg19style", []),
    "scan_real": ("scan", []),
    "cogs_real": ("cogs", ["task.n_train=2000"]),
    "listops_real": ("listops", []),
    "babi_qa": ("babi_qa", []),
    "hotpotqa": ("hotpot_qa", ["task.n_decoded=8"]),
    "twowiki": ("2wikimultihopqa", ["task.n_decoded=8"]),
    "wikitablequestions": ("wikitablequestions", ["task.n_decoded=8"]),
}


def train(name: str, folder: Path, results: Path, *settings: str, steps: int = STEPS) -> tuple[Record, list[float]]:
    """The record of a short run, and its training losses."""
    small = ["model=transformer_rope", f"task={name}", "budget=tiny", "budget.tolerance_flops=0.5"]
    small += ["task.batch_size=4", "trainer.log_every=1", "trainer.accelerator=cpu", f"task.path='{folder}'"]
    with composer():
        pricer = Pricer()
        probe = run_spec(composed([*small, "budget.train_flops=1e14", *settings]), "m", name, 0, pricer)
        flops = probe.cost.flops_train / probe.steps * steps
        spec = run_spec(composed([*small, f"budget.train_flops={flops}", *settings]), "m", name, 0, pricer)
    assert spec.steps == steps
    store = Store(results)
    assert execute(spec, store) == "done"
    record = store.record(spec.id)
    assert record is not None
    log = (store.folder(spec.id) / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in log]
    return record, [entry["train/loss"] for entry in entries if "train/loss" in entry]


def test_answers_are_written_on_test_splits_only(tmp_path: Path) -> None:
    task = HotpotQA(path=str(hotpot(tmp_path / "data")), length=160, bpe_vocab=300, n_test=12, n_validation=4)
    model = TransformerConfig(d_model=16, n_heads=2, n_layers=1, d_ff=32)
    module = SequenceModule(build_decoder(model, task), OptimConfig(), 1)
    evaluate = Evaluator(task, "exact_match", 8, lambda: None)
    found = evaluate(module, "test/id").metrics
    assert set(found) == {"exact_match", "token_accuracy", "answer_em", "answer_f1"}
    assert set(evaluate(module, "validation").metrics) == {"exact_match", "token_accuracy"} and module.training


@pytest.mark.slow
def test_positions_and_lengths_reach_the_record(tmp_path: Path) -> None:
    settings = ["task.length=32", "task.long_context=true", "task.n_test=8", "task.n_validation=8"]
    record, _ = train("wikitext2", wikitext(tmp_path / "data"), tmp_path / "results", *settings, steps=3)
    assert set(record.metrics) == set(LONG)
    assert "bits_per_byte/at64-127" in record.metrics["test/len_4x"]
    assert all(0 < value < 12 for found in record.metrics.values() for value in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REAL))
def test_real_data_train_and_evaluate(name: str, tmp_path: Path) -> None:
    folder, settings = REAL[name]
    if not (DATA / folder).is_dir():
        pytest.skip(f"no real data: set RESSFORMER_DATA to a folder that has {folder}")
    few = ["task.n_validation=16", "task.n_test=16"]
    record, losses = train(name, DATA / folder, tmp_path, *few, *settings)
    assert len(losses) == STEPS and losses[-1] < losses[0]
    metric = record.spec.task_info.metric
    assert all(math.isfinite(found[metric]) for found in record.metrics.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REAL))
def test_every_real_label_is_found_a_second_way(name: str) -> None:
    folder, _ = REAL[name]
    if not (DATA / folder).is_dir():
        pytest.skip(f"no real data: set RESSFORMER_DATA to a folder that has {folder}")
    task = load(name, [f"path={DATA / folder}"])
    for split, count in {"train": 2000, **task.splits}.items():
        for index in range(min(count, 2000)):
            item = task.generate(split, 0, index)
            assert task.check(item).tolist() == item.labels.tolist(), task.text(item)
