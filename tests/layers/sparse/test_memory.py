"""The segment memory against the memory of each prefix, and its gate at both ends."""

from __future__ import annotations

import pytest
import torch

from ressformer.layers.sparse.memory import SegmentMemory


@pytest.mark.parametrize("pool", ["attention", "mean", "topk"])
def test_causal_memory_is_the_memory_of_each_prefix(pool: str) -> None:
    torch.manual_seed(0)
    memory = SegmentMemory(8, slots=3, segment=4, pool=pool, causal=True)
    whole = SegmentMemory(8, slots=3, segment=4, pool=pool, causal=False)
    whole.load_state_dict(memory.state_dict())
    x = torch.randn(2, 14, 8)
    slots = memory(x, None, None).slots_BGmd
    assert slots.shape == (2, 4, 3, 8)
    assert slots[:, 0].abs().max() == 0
    for g in range(1, 4):
        prefix = whole(x[:, : 4 * g], None, None).slots_BGmd[:, 0]
        assert torch.allclose(slots[:, g], prefix, atol=1e-5)


def test_memory_gate_at_zero_and_one() -> None:
    memory = SegmentMemory(8, slots=3, segment=4, pool="attention", causal=True)
    old, new = torch.randn(2, 4, 3, 8), torch.randn(2, 4, 3, 8)
    with torch.no_grad():
        memory.gate.bias.fill_(100.0)
        assert torch.allclose(memory.mix(old, new), old)
        memory.gate.bias.fill_(-100.0)
        assert torch.allclose(memory.mix(old, new), new)
        memory.gate.bias.zero_()
        assert torch.allclose(memory.mix(old, new), (old + new) / 2)
