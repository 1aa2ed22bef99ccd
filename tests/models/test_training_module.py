"""The training module: schedule and loss."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from ressformer.decoder import Decoder
from ressformer.models.transformer import TransformerConfig
from ressformer.module import OptimConfig, SequenceModule


def test_schedule_warms_up_then_decays() -> None:
    optim = OptimConfig(warmup=0.1, final=0.1)
    factors = [optim.factor(s, 100) for s in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(factors[9:]))
    assert factors[-1] == pytest.approx(0.1, abs=1e-3)


def test_loss_ignores_unlabelled_positions() -> None:
    torch.manual_seed(0)
    model = Decoder(TransformerConfig(d_model=16, n_heads=2), vocab_size=7, length=6)
    module = SequenceModule(model, OptimConfig(), 10)
    tokens = torch.randint(0, 7, (2, 6))
    labels = torch.full((2, 6), -100)
    labels[0, 3], labels[1, 5] = 2, 4
    loss = module.training_step({"input_ids": tokens, "labels": labels}, 0)
    logp = model(tokens).logits_BnV.log_softmax(-1)
    assert torch.allclose(loss, -(logp[0, 3, 2] + logp[1, 5, 4]) / 2)
    seen = module.predict({"input_ids": tokens, "labels": labels})
    assert torch.allclose(seen["nll_Bn"].sum() / 2, loss)
    assert math.isclose(float(seen["nll_Bn"][0, 0]), 0.0)
