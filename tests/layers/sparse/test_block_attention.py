import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ressformer.layers.sparse import block_attention
from ressformer.layers.sparse.block_attention import block_selected_attention
from ressformer.layers.sparse.block_selection import all_blocks, choose_blocks, hidden_keys
from ressformer.layers.sparse.config import SelectionConfig
from ressformer.layers.sparse.cost import pairs
from ressformer.layers.sparse.entmax import normalise
from ressformer.layers.sparse.token_attention import token_selected_attention


def operands(batch: int, n: int, *, rank: int = 3) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
    torch.manual_seed(n)
    qkv = [torch.randn(batch, n, 2, 8, dtype=torch.double).transpose(1, 2).requires_grad_() for _ in range(3)]
    return qkv, (torch.randn(batch, n, rank).double(), torch.randn(batch, n, rank).double())


def readable(n: int, b: int, m: int, factors: tuple[Tensor, Tensor], *, causal: bool, real: Tensor) -> Tensor:
    """Which keys each query may read, [n, n], one loop at a time, for one sequence whose tokens are `real`."""
    a, c = factors
    seen = torch.zeros(n, n, dtype=torch.bool)
    blocks = [range(s, min(n, s + b)) for s in range(0, n, b)]
    for t, rows in enumerate(blocks):
        query = a[rows[0]] if causal else a[[i for i in rows if real[i]]].sum(0) / max(1, int(real[list(rows)].sum()))
        scores = {}
        for s, keys in enumerate(blocks):
            held = [j for j in keys if real[j]]
            if held and (s < t if causal else s != t):
                scores[s] = float(query @ c[held].mean(0))
        for s in [t, *sorted(scores, key=lambda s: -scores[s])[: m - 1]]:
            for i in rows:
                for j in blocks[s]:
                    seen[i, j] = bool(real[j]) and (not causal or j <= i)
    return seen


@pytest.mark.parametrize("activation", ["softmax", "sparsemax", "entmax15"])
@pytest.mark.parametrize("causal", [True, False])
def test_equal_to_a_masked_matrix_values_and_gradients(causal, activation):
    for n, b, m, padded in ((1, 4, 2, 0), (8, 4, 1, 0), (23, 4, 3, 0), (23, 4, 3, 6), (9, 1, 4, 2), (16, 5, 9, 0)):
        (q, k, v), (a, c) = operands(2, n)
        real_Bn = torch.arange(n) < torch.tensor([[n], [n - padded]])
        mask = real_Bn if padded else None
        y = block_selected_attention(
            q, k, v, block=b, blocks=m, activation=activation, causal=causal, factors=(a, c), mask_Bn=mask
        )
        seen = [readable(n, b, m, (a[i], c[i]), causal=causal, real=real_Bn[i]) for i in range(2)]
        seen_B1nn = torch.stack(seen).unsqueeze(1)
        p = normalise((q @ k.mT / 8**0.5).masked_fill(~seen_B1nn, -1e30), activation, seen_B1nn.expand(-1, 2, -1, -1))
        rows = real_Bn[:, None, :, None]  # what padding itself reads is nobody's business
        assert torch.allclose(y * rows, p @ v * rows, atol=1e-9)
        here = torch.autograd.grad((y * rows).square().sum(), (q, k, v))
        there = torch.autograd.grad((p @ v * rows).square().sum(), (q, k, v))
        assert all(torch.allclose(x, z, atol=1e-8) for x, z in zip(here, there, strict=True))


@pytest.mark.parametrize("attention", [block_selected_attention, token_selected_attention])
@pytest.mark.parametrize("own", [True, False], ids=["factors", "heads"])
def test_the_future_neither_speaks_nor_chooses(attention, own):
    n, size = 90, {"block": 8, "blocks": 3} if attention is block_selected_attention else {"top_k": 7}
    (q, k, v), factors = operands(1, n)
    q, k, v = (x.detach().float() for x in (q, k, v))
    factors = tuple(x.float() for x in factors) if own else None
    before = attention(q, k, v, activation="entmax15", factors=factors, **size)
    for cut in (1, 8, 37, 64, 89):
        later = [torch.cat([x[:, :, :cut], 3 * torch.randn_like(x[:, :, cut:])], dim=2) for x in (q, k, v)]
        moved = factors and tuple(torch.cat([x[:, :cut], 5 * torch.randn_like(x[:, cut:])], dim=1) for x in factors)
        after = attention(*later, activation="entmax15", factors=moved, **size)
        assert torch.equal(before[:, :, :cut], after[:, :, :cut])
        assert not torch.equal(before[:, :, cut:], after[:, :, cut:])


def test_pooled_queries_would_leak():
    """Why the first query chooses: with the mean of the block's queries, a later token changes what is read."""
    torch.manual_seed(0)
    a, b = torch.randn(1, 64, 4), torch.randn(1, 64, 4)
    changed = a.clone()
    changed[:, 63] += 10
    chosen = [choose_blocks(x, b, 3, block=8, causal=True) for x in (a, changed)]
    assert torch.equal(*chosen)
    pooled = [
        choose_blocks(x.view(1, 8, 8, 4).mean(2).repeat_interleave(8, 1), b, 3, block=8, causal=True)
        for x in (a, changed)
    ]
    assert not torch.equal(*pooled)


def test_groups_do_not_change_a_bit(monkeypatch):
    (q, k, v), factors = operands(3, 50)
    whole = block_selected_attention(q, k, v, block=4, blocks=3, factors=factors)
    monkeypatch.setattr(block_attention, "_HELD", {"cpu": 1})
    assert torch.equal(whole, block_selected_attention(q, k, v, block=4, blocks=3, factors=factors))


def test_all_blocks_are_chosen_where_there_is_room():
    a = torch.randn(2, 21, 3)
    for causal in (True, False):
        everything = all_blocks(2, 21, block=4, causal=causal)
        assert torch.equal(choose_blocks(a, a, 9, block=4, causal=causal), everything)
        seen = ~hidden_keys(everything, 21, block=4, causal=causal)
        per_row = seen.sum(-1).expand(2, 6, 4).flatten(1)[:, :21]
        assert torch.equal(per_row, (torch.arange(1, 22) if causal else torch.full((21,), 21)).expand(2, -1))


@pytest.mark.parametrize("causal", [True, False])
def test_pairs_are_those_that_are_read(causal):
    for n, b, m in ((24, 4, 3), (20, 4, 9), (3, 8, 2), (23, 5, 2)):
        a = torch.randn(1, n, 3)
        chosen = choose_blocks(a, a, m, block=min(b, n), causal=causal)
        seen = ~hidden_keys(chosen, n, block=min(b, n), causal=causal)
        rows = seen.expand(1, -1, min(b, n), -1).flatten(1, 2)[:, :n]
        read = pairs(n, SelectionConfig(selection="block", block=b, blocks=m), causal).read
        if causal or n % b == 0 or m > n / b:  # a short last block that is not chosen leaves whole ones to be read
            assert read == int(rows.sum())
        assert read >= int(rows.sum())


def test_counted_flops_are_the_pairs():
    q = torch.empty(2, 2, 40, 8, device="meta", requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        block_selected_attention(q, q, q, block=4, blocks=3).sum().backward()
    at = pairs(40, SelectionConfig(selection="block", block=4, blocks=3), True)
    assert counter.get_total_flops() == 2 * (6 * 2 * 16 * at.read_executed + 2 * 16 * at.scored_executed)


def test_bad_dials_are_refused():
    a = torch.randn(1, 4, 2)
    with pytest.raises(ValueError, match="blocks=0 and block=4 must be at least 1"):
        choose_blocks(a, a, 0, block=4, causal=True)
