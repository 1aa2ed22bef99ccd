"""Rotary positions."""

from __future__ import annotations

import torch

from ressformer.layers.rotary import Rotary


def test_rotary_depends_on_distance_alone() -> None:
    rotary, q, k = Rotary(8), torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    near = rotary(q, offset=9) @ rotary(k, offset=4).mT
    assert torch.allclose(near, rotary(q, offset=105) @ rotary(k, offset=100).mT, atol=1e-4)
    assert not torch.allclose(near, rotary(q, offset=9) @ rotary(k, offset=5).mT, atol=1e-4)
