"""Splits that are paired: the model sees each of them once, and the figures are those of one split at a time."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from experiments.training.evaluate import Evaluator, Scored
from ressformer.decoder import Decoder
from ressformer.models.transformer import TransformerConfig
from ressformer.module import OptimConfig, SequenceModule
from tasks.base import Task
from tasks.qa.chain import Chain

SPLITS = ["test/id", "probe/permute", "probe/rename"]


@pytest.fixture(scope="module")
def task() -> Task:
    return Chain(probe="permute+rename", n_validation=8, n_test=12)


@pytest.fixture(scope="module")
def module(task: Task) -> SequenceModule:
    torch.manual_seed(0)
    config = TransformerConfig(d_model=16, n_heads=2, n_layers=1, d_ff=16)
    model = Decoder(config, vocab_size=task.vocab_size, length=task.length, max_length=task.max_length)
    return SequenceModule(model, OptimConfig(), 1)


def test_a_split_is_run_once(task: Task, module: SequenceModule, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()
    run = Evaluator._run

    def counted(self: Evaluator, module: SequenceModule, split: str) -> Scored:
        seen[split] += 1
        return run(self, module, split)

    monkeypatch.setattr(Evaluator, "_run", counted)
    Evaluator(task, "accuracy", 8, lambda: None).all(module, SPLITS)
    assert seen == dict.fromkeys(SPLITS, 1)


def test_together_is_as_one_at_a_time(task: Task, module: SequenceModule) -> None:
    evaluate = Evaluator(task, "accuracy", 8, lambda: None)
    assert evaluate.all(module, SPLITS) == {split: evaluate(module, split) for split in SPLITS}
    assert "consistency" in evaluate(module, "probe/permute").metrics
