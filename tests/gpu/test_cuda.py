"""On an accelerator: no position sees a later one, bf16 stays close to fp32, and every model takes a training step.

`RESSFORMER_TEST_DEVICE=cpu` runs the same tests without one, to see that they work.
"""

from __future__ import annotations

import os

import pytest
import torch

from experiments.planning.hydra_config import composed, composer, options, plain
from experiments.planning.instantiate import build_model_config
from experiments.planning.search_path import TEMPLATES
from ressformer.decoder import Decoder, ModelConfig
from ressformer.module import OptimConfig, SequenceModule

DEVICE = os.environ.get("RESSFORMER_TEST_DEVICE", "cuda")
VOCAB, LENGTH = 32, 128

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]
if DEVICE == "cuda" and not torch.cuda.is_available():
    pytestmark.append(pytest.mark.skip(reason="no CUDA device: nothing of tests/gpu is tested here"))

with composer():
    NAMES = [name for name in options("model") if name not in TEMPLATES]


def config_of(name: str) -> ModelConfig:
    small = ["model.d_model=64", "model.n_heads=4"]
    with composer():
        return build_model_config(plain(composed([f"model={name}", *small]))["model"])


def built(name: str) -> Decoder:
    torch.manual_seed(0)
    return Decoder(config_of(name), vocab_size=VOCAB, length=LENGTH, causal=True).to(DEVICE)


def tokens() -> torch.Tensor:
    return torch.randint(0, VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(0)).to(DEVICE)


def logits(model: Decoder, ids_Bn: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)  # hash rotations
    with torch.no_grad():
        return model(ids_Bn).logits_BnV.float()


@pytest.mark.parametrize("name", NAMES)
def test_no_position_sees_a_later_one(name: str) -> None:
    model, one = built(name).eval(), tokens()
    two, cut = one.clone(), LENGTH // 2
    two[:, cut:] = (two[:, cut:] + 1) % VOCAB
    a, b = logits(model, one), logits(model, two)
    torch.testing.assert_close(a[:, :cut], b[:, :cut], rtol=1e-4, atol=1e-4)
    assert (a[:, cut:] - b[:, cut:]).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_bf16_is_close_to_fp32(name: str) -> None:
    model, ids = built(name).eval(), tokens()
    exact = logits(model, ids)
    with torch.autocast(DEVICE, torch.bfloat16):
        rounded = logits(model, ids)
    # Choices (blocks, buckets, experts) may flip on a rounding, at few positions: the typical one is compared.
    error = (rounded - exact).norm(dim=-1) / exact.norm(dim=-1)
    # Reformer, untrained, on a CPU: 0.4 % of the first layer's buckets flip and 10 % of the fourth's, which moves
    # logits by 9 % in the median; with the buckets of fp32 it is 0.8 %, as for the others.
    assert error.median() < (0.3 if "reformer" in name else 0.05)


@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_in_bf16_learns(name: str) -> None:
    module, ids = SequenceModule(built(name), OptimConfig(lr=3e-3), 100), tokens()
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    losses = []
    for number in range(4):
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = module.training_step({"input_ids": ids[:, :-1], "labels": ids[:, 1:]}, number)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
