"""The short convolution."""

from __future__ import annotations

import torch

from ressformer.layers.short_conv import ShortConv


def test_short_conv_starts_as_identity_and_looks_back_only() -> None:
    layer, x = ShortConv(8, 3), torch.randn(2, 6, 8)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.taps_dw[:, 0] = 1.0
    y = layer(x)
    assert torch.allclose(y[:, 2:], x[:, 2:] + x[:, :-2])
    assert torch.equal(y[:, :2], x[:, :2])
