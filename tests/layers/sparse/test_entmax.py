import pytest
import torch
from entmax import entmax15 as entmax15_oracle
from entmax import sparsemax as sparsemax_oracle
from torch import Tensor

from ressformer.layers.native import loader as native
from ressformer.layers.sparse.entmax import entmax15, normalise, softmax, sparsemax, use_compiled

ORACLES = {"entmax15": entmax15_oracle, "sparsemax": sparsemax_oracle}
OURS = {"entmax15": entmax15, "sparsemax": sparsemax}


def scores(name: str, rows: int, length: int) -> Tensor:
    torch.manual_seed(length)
    normal_RL = torch.randn(rows, length)
    return {
        "normal": normal_RL,
        "flat": 0.03 * normal_RL,
        "narrow": 0.3 * normal_RL,
        "wide": 10 * normal_RL,
        "heavy tails": normal_RL / torch.rand(rows, length).clamp_min(1e-2),
        "constant": torch.full((rows, length), -3.5),
        "far from zero": normal_RL - 5000.0,
        "two levels": 1.3 * (torch.rand(rows, length) < 0.3),
        "ramp": -0.05 * torch.arange(length).expand(rows, length),
    }[name]


@pytest.fixture(params=["native", "eager"])
def path(request):
    """Both CPU paths; the C one must exist wherever a compiler does, which the suite's machines have."""
    with native.use_native(request.param == "native"):
        assert request.param == "eager" or native.library("entmax") is not None
        yield request.param


DISTRIBUTIONS = (
    "normal",
    "flat",
    "narrow",
    "wide",
    "heavy tails",
    "constant",
    "far from zero",
    "two levels",
    "ramp",
)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("kind", ["entmax15", "sparsemax"])
def test_equal_to_the_entmax_package_in_float64(kind, name, path):
    for length in (1, 2, 3, 17, 64, 333, 1024):
        z = scores(name, 37, length).requires_grad_()
        exact = z.detach().double().requires_grad_()
        g = torch.randn(z.shape)
        p = OURS[kind](z)
        q = ORACLES[kind](exact, dim=-1)
        p.backward(g)
        q.backward(g.double())
        assert (p - q).abs().max() < 1e-6
        assert (z.grad - exact.grad).abs().max() < 1e-5
        assert torch.equal(p > 0, p != 0)


@pytest.mark.parametrize("kind", ["entmax15", "sparsemax", "softmax"])
def test_masked_entries_are_zero_and_empty_rows_are_harmless(kind, path):
    torch.manual_seed(0)
    z = torch.randn(5, 4, 9, requires_grad=True)
    mask = torch.rand(4, 9) < 0.6
    mask[1] = False
    p = normalise(z, kind, mask)
    p.backward(torch.randn(z.shape))
    assert torch.equal(p.detach().masked_select(~mask), torch.zeros(int((~mask).sum()) * 5))
    filled = mask.any(-1).float().expand(5, 4)
    assert torch.allclose(p.sum(-1), filled)
    assert z.grad.isfinite().all()
    assert not z.grad.masked_select(~mask).any()
    for row in (0, 2, 3):
        alone = normalise(z[:, row, mask[row]], kind)
        assert torch.allclose(p[:, row, mask[row]], alone, atol=1e-7)


@pytest.mark.parametrize("kind", ["entmax15", "sparsemax"])
def test_a_row_does_not_depend_on_its_neighbours_to_the_bit(kind, path):
    torch.manual_seed(0)
    z = torch.randn(64, 50)
    other = z.clone()
    other[32:] = torch.randn(32, 50) * 1e-2
    other[63] = -torch.inf
    other[62] = torch.arange(50) * 1e7
    assert torch.equal(OURS[kind](z)[:32], OURS[kind](other)[:32])


@pytest.mark.parametrize("kind", ["entmax15", "sparsemax"])
def test_gradient_in_float64(kind):
    torch.manual_seed(0)
    z = torch.randn(3, 2, 6, dtype=torch.double, requires_grad=True)
    mask = torch.rand(3, 1, 6) < 0.7
    assert torch.autograd.gradcheck(lambda x: OURS[kind](x, mask), z)


@pytest.mark.parametrize("kind", ["entmax15", "sparsemax", "softmax"])
def test_nan_is_not_hidden(kind, path):
    z = torch.zeros(3, 5)
    z[1, 2] = torch.nan
    z[2] = torch.nan
    p = normalise(z, kind)
    assert p[0].isfinite().all()
    assert p[1].isnan().any()
    assert p[2].isnan().all()


@pytest.mark.parametrize("kind", ["entmax15", "sparsemax", "softmax"])
def test_half_precision_is_computed_in_fp32(kind, path):
    torch.manual_seed(0)
    z = torch.randn(20, 300).bfloat16()
    p = normalise(z, kind)
    assert p.dtype == torch.bfloat16
    assert torch.equal(p, normalise(z.float(), kind).bfloat16())


def test_layouts_and_empty_inputs(path):
    torch.manual_seed(0)
    z = torch.randn(6, 5, 4).transpose(0, 2)
    assert torch.allclose(entmax15(z), entmax15(z.contiguous()))
    assert entmax15(torch.zeros(3, 0)).shape == (3, 0)
    assert entmax15(torch.zeros(0, 3)).shape == (0, 3)
    x = z.clone().requires_grad_()
    sparsemax(x).sum().backward()  # a gradient of stride 0
    assert x.grad.abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["entmax15", "sparsemax"])
def test_the_path_without_a_look_at_the_data_agrees(kind, monkeypatch):
    torch.manual_seed(0)
    z = torch.randn(30, 200) * torch.logspace(-2, 1.5, 30).unsqueeze(1)
    z[3] = -torch.inf
    g = torch.randn(z.shape)
    x = z.clone().requires_grad_()
    p = OURS[kind](x)
    p.backward(g)
    monkeypatch.setattr("ressformer.layers.sparse.entmax._eager_cpu", lambda _: False)
    y = z.clone().requires_grad_()
    q = OURS[kind](y)
    q.backward(g)
    assert (p - q).abs().max() < 1e-6
    assert (x.grad - y.grad).abs().max() < 1e-5
    assert OURS[kind](torch.randn(3, 4, device="meta")).shape == (3, 4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside torch's compiler
@pytest.mark.parametrize("kind", ["entmax15", "sparsemax"])
def test_compiled_equals_eager(kind):
    torch.manual_seed(0)
    z = torch.randn(64, 96, requires_grad=True)
    p = OURS[kind](z)
    p.sum().backward()
    with use_compiled():
        assert torch.allclose(OURS[kind](z), p, atol=1e-6)
    whole = torch.compile(lambda x: 2 * OURS[kind](x), fullgraph=True)
    assert torch.allclose(whole(z), 2 * p, atol=1e-6)


def test_softmax_is_softmax_and_unknown_activations_are_named():
    z = torch.randn(4, 7)
    assert torch.equal(softmax(z), torch.softmax(z, -1))
    with pytest.raises(ValueError, match=r"unknown activation 'relu': one of softmax, sparsemax, entmax15"):
        normalise(z, "relu")
