"""Models for tests whose weights hide nothing."""

from __future__ import annotations

import torch

from ressformer.decoder import Decoder, ModelConfig


def randomised(config: ModelConfig, length: int, *, vocab: int, causal: bool = True, seed: int = 0) -> Decoder:
    """A model whose every weight is random, so that no branch is silent because it starts at zero."""
    torch.manual_seed(seed)
    model = Decoder(config, vocab_size=vocab, length=length, causal=causal)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model
