import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ressformer.layers.native import loader as native
from ressformer.layers.sparse import key_selection as selection
from ressformer.layers.sparse.key_selection import scored_pairs, select_keys


@pytest.fixture(params=[True, False], ids=["C", "numpy"])
def kernels(request):
    with native.use_native(request.param):
        yield


def chosen_by_sorting(
    a_Bnr: Tensor, b_Bnr: Tensor, k: int, *, near: int, causal: bool, mask_Bn: Tensor | None = None
) -> Tensor:
    """The definition: sort the whole matrix of scores, earlier keys first among equals."""
    n = a_Bnr.shape[1]
    delta = torch.arange(n).unsqueeze(1) - torch.arange(n)
    hidden = (delta < near) if causal else (delta.abs() < near)
    score_Bnn = (a_Bnr @ b_Bnr.transpose(1, 2)).masked_fill(hidden | (causal & (delta < 0)), -torch.inf)
    if mask_Bn is not None:
        score_Bnn = score_Bnn.masked_fill(~mask_Bn.unsqueeze(1), -torch.inf)
    if not near:
        score_Bnn.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    best, idx = torch.sort(score_Bnn, stable=True, descending=True, dim=-1)
    best, idx = best[..., :k], idx[..., :k]
    return idx.masked_fill(best == -torch.inf, n).sort(-1).values


def factors(batch: int, n: int, rank: int, *, ties: bool = False) -> tuple[Tensor, Tensor]:
    torch.manual_seed(n + rank)
    if ties:
        return torch.randint(-1, 2, (batch, n, rank)).float(), torch.randint(-1, 2, (batch, n, rank)).float()
    return torch.randn(batch, n, rank), torch.randn(batch, n, rank)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("near", [0, 1, 9])
@pytest.mark.parametrize("causal", [True, False])
def test_equal_to_sorting_all_scores(kernels, causal, near, ties):
    for batch, n, k in ((3, 1, 4), (2, 5, 16), (3, 130, 7), (2, 333, 32)):
        a, b = factors(batch, n, 4, ties=ties)
        mask = torch.arange(n) < torch.randint(1, n + 1, (batch, 1))
        for mask_Bn in (None, mask):
            idx = select_keys(a, b, k, near=near, causal=causal, mask_Bn=mask_Bn)
            assert torch.equal(idx, chosen_by_sorting(a, b, k, near=near, causal=causal, mask_Bn=mask_Bn))


@pytest.mark.parametrize("ties", [False, True])
def test_long_rows_are_exact(kernels, ties, monkeypatch):
    a, b = factors(1, 4200, 3 if ties else 16, ties=ties)
    idx = select_keys(a, b, 32, near=8, causal=True)
    assert torch.equal(idx, chosen_by_sorting(a, b, 32, near=8, causal=True))
    monkeypatch.setattr(selection, "_LONG", 2048)
    assert torch.equal(idx, select_keys(a, b, 32, near=8, causal=True))


def test_all_devices_choose_alike(monkeypatch):
    a, b = factors(2, 200, 3, ties=True)
    here = select_keys(a, b, 9, near=4, causal=True)
    monkeypatch.setattr(selection, "_best", selection._best_anywhere)
    assert torch.equal(here, select_keys(a, b, 9, near=4, causal=True))


@pytest.mark.parametrize("order", ["rising", "falling", "level", "infinite"])
def test_rows_that_are_hard_for_one_pass(kernels, order):
    row = torch.arange(700.0) if order == "rising" else -torch.arange(700.0)
    row = torch.where(torch.arange(700) % 3 == 0, torch.inf, row) if order == "infinite" else row
    row = torch.zeros(700) if order == "level" else row
    chosen = selection._best(row.unsqueeze(0), 40)
    assert torch.equal(chosen, torch.sort(row, stable=True, descending=True).indices[:40].sort().values.unsqueeze(0))


def test_chunks_do_not_change_the_choice(monkeypatch):
    a, b = factors(5, 300, 8)
    whole = select_keys(a, b, 20, near=0, causal=True)
    monkeypatch.setattr(selection, "_HELD", 1)
    assert torch.equal(whole, select_keys(a, b, 20, near=0, causal=True))


@pytest.mark.parametrize("near", [0, 5])
def test_the_future_does_not_choose(near):
    a, b = factors(2, 150, 3, ties=True)
    before = select_keys(a, b, 8, near=near, causal=True)
    for cut in (1, 64, 149):
        a2, b2 = a.clone(), b.clone()
        a2[:, cut:], b2[:, cut:] = torch.randn(2, 150 - cut, 3), 5 * torch.randn(2, 150 - cut, 3)
        assert torch.equal(select_keys(a2, b2, 8, near=near, causal=True)[:, :cut], before[:, :cut])


def test_with_as_many_keys_as_tokens_all_visible_ones_are_chosen():
    a, b = factors(1, 70, 4)
    idx = select_keys(a, b, 70, near=0, causal=True)[0]
    for i in range(70):
        assert idx[i].tolist() == [*range(i + 1), *[70] * (69 - i)]


def test_nan_scores_do_not_break_the_choice(kernels):
    a, b = factors(2, 90, 4)
    a[0, 3], b[1, 5] = torch.nan, torch.nan
    idx = select_keys(a, b, 6, near=0, causal=True)
    assert ((idx >= 0) & (idx <= 90)).all()


def test_no_n_by_n_is_ever_held(kernels):
    a, b = factors(1, 3000, 2)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            largest = max(largest, out.numel() if isinstance(out, Tensor) else 0)
            return out

    with Watch():
        select_keys(a, b, 16, near=8, causal=True)
    assert largest <= 64 * 3008


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n", [40, 300])
def test_counted_flops_are_the_scored_pairs(n, causal):
    a = torch.empty(3, n, 5, device="meta")
    with FlopCounterMode(display=False) as counter:
        idx = select_keys(a, a, 8, causal=causal)
    assert idx.shape == (3, n, 8)
    visible, scored = scored_pairs(n, 8, causal=causal)
    assert counter.get_total_flops() == 3 * 2 * 5 * scored
    assert visible == (n * (n + 1) // 2 if causal else n * n) <= scored


def test_bad_dials_are_refused():
    a, b = factors(1, 4, 2)
    with pytest.raises(ValueError, match="k=0 must be at least 1"):
        select_keys(a, b, 0, causal=True)
