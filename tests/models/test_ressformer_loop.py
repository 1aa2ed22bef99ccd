"""ReSSFormer's loop: its steps are applications of one block, and their number at evaluation is a dial."""

from __future__ import annotations

import torch

from ressformer.decoder import Decoder
from ressformer.models.ressformer import ReSSFormerConfig


def test_one_step_is_one_layer_and_k_steps_are_k_applications() -> None:
    torch.manual_seed(0)
    variant = {"d_model": 32, "memory_slots": 0, "graph": "none"}
    one = Decoder(ReSSFormerConfig(steps=1, **variant), vocab_size=7, length=12).eval()
    three = Decoder(ReSSFormerConfig(steps=3, **variant), vocab_size=7, length=12).eval()
    three.load_state_dict(one.state_dict())
    x = torch.randn(2, 12, 32)
    looped = x
    for _ in range(3):
        looped = one.core(looped, None).h_Bnd
    assert torch.allclose(three.core(x, None).h_Bnd, looped, atol=1e-5)


def test_steps_at_evaluation_are_their_own_dial() -> None:
    torch.manual_seed(0)
    model = Decoder(ReSSFormerConfig(d_model=32, steps=2, eval_steps=5), vocab_size=7, length=12)
    model.core.diagnose = True
    tokens = torch.randint(0, 7, (2, 12))
    assert "cosine/3" not in model.train()(tokens).diagnostics
    assert "cosine/5" in model.eval()(tokens).diagnostics
