"""The shell that all models share: gradients reach every weight, and what is wrong is said in one line."""

from __future__ import annotations

import pytest
import torch

from ressformer.decoder import Decoder, ModelConfig
from ressformer.models.ressformer import ReSSFormerConfig
from ressformer.models.transformer import TransformerConfig


@pytest.mark.parametrize(
    "config",
    [ReSSFormerConfig(d_model=32, step_embedding=True, short_conv=2), TransformerConfig(d_model=32)],
    ids=lambda config: config.family,
)
def test_gradient_reaches_every_weight(config: ModelConfig) -> None:
    """In some draw of the weights: a sparse activation may leave the memory slots out in one of them."""
    silent: set[str] | None = None
    for seed in range(3):
        torch.manual_seed(seed)
        model = Decoder(config, vocab_size=7, length=40)
        out = model(torch.randint(0, 7, (4, 40)))
        (out.logits_BnV.square().sum() + sum(out.aux_losses.values(), torch.zeros(()))).backward()
        found = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
        silent = found if silent is None else silent & found
    assert silent == set()


def test_a_model_that_is_too_short_says_so() -> None:
    model = Decoder(TransformerConfig(d_model=16, n_heads=2), vocab_size=7, length=6)
    with pytest.raises(ValueError, match="max_length=6"):
        model(torch.zeros(1, 7, dtype=torch.long))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": 3}, "unknown key layers; known keys: .*n_layers"),
        ({"positions": "sine"}, "positions='sine' is unknown; choose from learned, rotary, none"),
        ({"d_model": 30}, "d_model=30 must be divisible by n_heads=4"),
    ],
)
def test_bad_config_is_one_clear_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        TransformerConfig.from_dict(values)
    assert "\n" not in str(caught.value)
