import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ressformer.layers.native import loader as native
from ressformer.layers.sparse import gather as module
from ressformer.layers.sparse.gather import column_pairs, columns, gather_dot, gather_sum, near_index


@pytest.fixture(params=[True, False], ids=["C", "torch"])
def kernels(request):
    with native.use_native(request.param):
        yield


def setup(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    batch, heads, n, m, width, c = 2, 3, 7, 9, 4, 5
    idx_Bnc = torch.randint(-2, m + 2, (batch, n, c))
    x_BHnh = torch.randn(batch, heads, n, width, dtype=dtype)
    y_BHmh = torch.randn(batch, m, heads, width, dtype=dtype).transpose(1, 2)
    p_BHnc = torch.randn(batch, heads, n, c, dtype=dtype)
    return idx_Bnc, x_BHnh, y_BHmh, p_BHnc


def dense(idx_Bnc: Tensor, values_BHnc: Tensor, m: int) -> Tensor:
    """The columns' values in rows of m."""
    index = idx_Bnc.unsqueeze(1).expand_as(values_BHnc)
    return values_BHnc.new_zeros(*values_BHnc.shape[:3], m).scatter_add(-1, index, values_BHnc)


def test_products_equal_dense_ones(kernels):
    idx, x, y, p = setup()
    cols = columns(idx, y.shape[2])
    assert torch.equal(cols.valid_Bnc, (idx >= 0) & (idx < 9))
    p = p * cols.valid_Bnc.unsqueeze(1)
    logits = (x @ y.transpose(2, 3)).gather(-1, cols.idx_Bnc.unsqueeze(1).expand(-1, 3, -1, -1))
    assert torch.allclose(gather_dot(x, y, cols), logits, atol=1e-6)
    assert torch.allclose(gather_sum(p, y, cols), dense(cols.idx_Bnc, p, 9) @ y, atol=1e-6)
    assert torch.allclose(module._dot_by_copies(x, y.contiguous(), cols.idx_Bnc), logits, atol=1e-6)


def test_gradients():
    idx, x, y, p = setup(torch.float64)
    cols = columns(idx, y.shape[2])
    p = (p * cols.valid_Bnc.unsqueeze(1)).requires_grad_()
    x.requires_grad_()
    y.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: gather_dot(x, y, cols), (x, y))
    assert torch.autograd.gradcheck(lambda p, y: gather_sum(p, y, cols), (p, y))


@pytest.mark.parametrize("width", [3, 16, 32, 64, 300])
def test_gradients_of_the_kernels_at_every_width(width):
    torch.manual_seed(0)
    cols = columns(torch.randint(-2, 11, (2, 7, 5)), 9)
    # Heads as they come from a projection: rows that lie apart.
    x, y = ((torch.randn(2, n, 3, width) / width**0.5).transpose(1, 2).requires_grad_() for n in (7, 9))
    seen = {}
    for on in (True, False):
        with native.use_native(on):
            z = gather_dot(x, y, cols)
            out = gather_sum(torch.where(cols.valid_Bnc.unsqueeze(1), z.sin().relu(), 0.0), y, cols)
            seen[on] = z, out, *torch.autograd.grad(out.square().sum(), (x, y))
    for here, there in zip(seen[True], seen[False], strict=True):
        assert torch.allclose(here, there, rtol=1e-4, atol=1e-4)


def test_the_inverse_does_not_depend_on_how_it_is_sorted():
    idx = setup()[0]
    with native.use_native(False):
        cols = columns(idx, 9)
        many = columns(idx, 2**16 + 1)  # beyond the radix sort
    counts = cols.starts_Bm1.diff(dim=1)
    assert counts.sum(1).tolist() == [35, 35]
    sorted_keys = cols.idx_Bnc.flatten(1).gather(1, cols.order_Be)
    assert torch.equal(sorted_keys, sorted_keys.sort(1).values)
    assert torch.equal(many.idx_Bnc.flatten(1).gather(1, many.order_Be).diff(dim=1).clamp_max(0), torch.zeros(2, 34))


def test_half_precision_is_summed_in_fp32():
    idx, x, y, p = setup()
    cols = columns(idx, 9, gradient=False)
    z = gather_dot(x.bfloat16(), y.bfloat16(), cols)
    assert z.dtype == torch.bfloat16
    assert torch.equal(z, gather_dot(x.bfloat16().float(), y.bfloat16().float(), cols).bfloat16())
    assert gather_sum(p.bfloat16(), y.bfloat16(), cols).dtype == torch.bfloat16


def test_near_index_walks_back_and_forth():
    assert near_index(3, (0, 1)).tolist() == [[0, -1], [1, 0], [2, 1]]
    assert near_index(3, (-1, 0)).tolist() == [[1, 0], [2, 1], [3, 2]]


@pytest.mark.parametrize("product", ["dot", "sum"])
def test_counted_flops_are_the_pairs(product):
    with torch.device("meta"):
        x, p = torch.empty(2, 3, 7, 4, requires_grad=True), torch.empty(2, 3, 7, 5, requires_grad=True)
        cols = columns(torch.empty(2, 7, 5, dtype=torch.int64), 7)
    with FlopCounterMode(display=False) as forward:
        out = gather_dot(x, x.detach(), cols) if product == "dot" else gather_sum(p, x, cols)
    pairs = 2 * 3 * column_pairs(7, 5)
    assert forward.get_total_flops() == 2 * 4 * pairs
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    assert backward.get_total_flops() == 2 * 4 * pairs * (1 if product == "dot" else 2)
