"""`torch.compile`d models against eager ones: outputs, losses and gradients."""

from __future__ import annotations

import pytest
import torch

from ressformer.decoder import Decoder, ModelConfig
from ressformer.models.bigbird import BigBirdConfig
from ressformer.models.gated_deltanet import GatedDeltaNetConfig
from ressformer.models.longformer import LongformerConfig
from ressformer.models.looped import LoopedConfig
from ressformer.models.mamba2 import Mamba2Config
from ressformer.models.moeut import MoEUTConfig
from ressformer.models.reformer import ReformerConfig
from ressformer.models.ressformer import ReSSFormerConfig
from ressformer.models.transformer import TransformerConfig

CONFIGS: dict[str, ModelConfig] = {
    "transformer": TransformerConfig(d_model=32, n_layers=2, d_ff=48),
    "transformer_rope": TransformerConfig(d_model=32, n_layers=2, d_ff=48, positions="rotary", short_conv=3),
    "transformer_nope": TransformerConfig(d_model=32, n_layers=2, d_ff=48, positions="none"),
    "looped": LoopedConfig(d_model=32, n_layers=2, d_ff=48),
    "longformer": LongformerConfig(d_model=32, n_layers=2, d_ff=48, window=8, n_global=2),
    "bigbird": BigBirdConfig(d_model=32, n_layers=2, d_ff=48),
    "reformer": ReformerConfig(d_model=32, n_layers=2, d_ff=48),
    "reversible": ReformerConfig(d_model=32, n_layers=2, d_ff=48, reversible=True),
    "transformer_modern": TransformerConfig(
        d_model=32, n_layers=2, d_ff=48, positions="rotary", norm="rms", feed_forward="swiglu", qk_norm=True
    ),
    "gated_deltanet": GatedDeltaNetConfig(d_model=32, n_layers=2, d_ff=48),
    "mamba2": Mamba2Config(d_model=32, n_layers=2, d_ff=48),
    "moeut": MoEUTConfig(d_model=32, n_layers=2, d_expert=24),
    "ressformer": ReSSFormerConfig(d_model=32, steps=2, d_expert=24, top_k=8),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's tracer trips over its own deprecations
@pytest.mark.parametrize("name", CONFIGS)
def test_compiled_equals_eager(name: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Decoder(CONFIGS[name], vocab_size=17, length=64, causal=True)
    tokens = torch.randint(0, 17, (2, 64))
    seen = []
    for compiled in (False, True):
        if compiled:
            keys = list(model.state_dict())
            model.compile()
            assert list(model.state_dict()) == keys
        model.zero_grad()
        out = model(tokens)
        loss = out.logits_BnV.logsumexp(-1).mean() + sum(out.aux_losses.values(), torch.zeros(()))
        loss.backward()
        seen.append([out.logits_BnV, loss, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(seen[0]) > 8
    for eager, fused in zip(*seen, strict=True):
        torch.testing.assert_close(fused, eager, rtol=0, atol=1e-5)
