"""Modules without closed form are counted: by hand, and nothing that computes is free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from ressformer.checks import preflight
from ressformer.cost import Shape, model_cost
from ressformer.counted import counted
from ressformer.models.transformer import TransformerConfig
from ressformer.stack import StackConfig

B, N, D = 2, 24, 16
PRODUCT = 2 * N * D * D


class Projected(nn.Module):
    """One projection, then `work`; the projection's gradients are two products more."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(D, D, bias=False)

    def forward(self, x_Bnd: Tensor) -> Tensor:
        found: Tensor = self.work(self.out(x_Bnd))
        return found

    def work(self, x_Bnd: Tensor) -> Tensor:
        return x_Bnd


class Solve(Projected):
    def work(self, x_Bnd: Tensor) -> Tensor:
        lower_nn = torch.ones(N, N, device=x_Bnd.device).tril()
        return torch.linalg.solve_triangular(lower_nn.expand(len(x_Bnd), N, N), x_Bnd, upper=False)


class Transform(Projected):
    def work(self, x_Bnd: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x_Bnd, dim=1), n=N, dim=1)


class RunningSum(Projected):
    def work(self, x_Bnd: Tensor) -> Tensor:
        return x_Bnd.cumsum(1)


class Steps(nn.Module):
    """A recurrence written step by step, of a state many times as wide as the model: no matrix product at all."""

    def forward(self, x_Bnd: Tensor) -> Tensor:
        state_Bds = x_Bnd.new_zeros(*x_Bnd.shape[::2], 8)
        states = []
        for t in range(x_Bnd.shape[1]):
            state_Bds = 0.5 * state_Bds + x_Bnd[:, t, :, None]
            states.append(state_Bds.amax(-1))
        return torch.stack(states, 1)


class Looks(Projected):
    """It looks at its values, which the meta device does not have."""

    def work(self, x_Bnd: Tensor) -> Tensor:
        return x_Bnd if float(x_Bnd.detach().abs().sum()) >= 0 else -x_Bnd


def forward_of(module: type[nn.Module]) -> float:
    x_Bnd = torch.zeros(B, N, D)

    def run(built: nn.Module) -> Tensor:
        found: Tensor = built(x_Bnd.to(device=torch.get_default_device()).requires_grad_())
        return found

    return counted("m", module, run, "here").flops


@pytest.mark.parametrize(
    ("module", "flops"),
    [
        (Projected, PRODUCT),
        (Looks, PRODUCT),
        (Solve, PRODUCT + N * N * D),
        (RunningSum, PRODUCT + N * D),
        # 5 N log2 N of a complex transform, half of it for a real one; there and back
        (Transform, PRODUCT + 2 * int(2.5 * N * D * torch.log2(torch.tensor(float(N))).item())),
        (Steps, 2 * N * D * 8),  # a product and a sum for each number of the state
    ],
)
def test_by_hand(module: type[nn.Module], flops: float) -> None:
    assert forward_of(module) == pytest.approx(flops, rel=1e-3)


def test_an_associative_scan_is_charged_or_refused() -> None:
    scan = pytest.importorskip("torch._higher_order_ops.associative_scan").associative_scan

    class Tree(nn.Module):
        def forward(self, x_Bnd: Tensor) -> Tensor:
            found: Tensor = scan(lambda a, b: a + b, x_Bnd, dim=1, combine_mode="generic")
            return found

    try:
        assert forward_of(Tree) >= N * D / 2
    except ValueError as refused:
        assert "no FLOP rule" in str(refused)


def test_what_nothing_is_known_of_is_refused_by_name() -> None:
    class Exponential(Projected):
        def work(self, x_Bnd: Tensor) -> Tensor:
            return x_Bnd @ torch.linalg.matrix_exp(torch.zeros(D, D, device=x_Bnd.device))

    with pytest.raises(ValueError, match=r"^here: no FLOP rule for aten\.linalg_matrix_exp"):
        forward_of(Exponential)


@dataclass(frozen=True, kw_only=True)
class Silent(StackConfig):
    """A family that says how its mixer is built and no more."""

    family: ClassVar[str] = "silent"

    def build_mixer(self, *, length: int, causal: bool, out_scale: float) -> nn.Module:
        return TransformerConfig.build_mixer(self, length=length, causal=causal, out_scale=out_scale)  # type: ignore[arg-type]


SIZES = {"d_model": 32, "n_heads": 2, "n_layers": 3, "d_ff": 48, "positions": "rotary"}


def test_a_family_needs_no_closed_form_and_keeps_no_state_that_it_does_not_tell_of() -> None:
    shape = Shape(batch=2, length=24, vocab=11)
    ours, silent = TransformerConfig.from_dict(SIZES), Silent.from_dict(SIZES)
    assert silent.counted and not ours.counted
    told, found = model_cost(ours, shape), model_cost(silent, shape)
    assert found.params_total == told.params_total
    assert found.flops_forward == pytest.approx(told.flops_forward_executed, rel=0.005)
    assert found.flops_train == found.flops_train_executed == pytest.approx(told.flops_train_executed, rel=0.005)
    assert silent.state_size(shape) is None and ours.state_size(shape) == 3 * 2 * 32 * 24
    report = preflight(silent, shape)
    assert report.passed and report["cost"].numbers["basis"] == "counted", str(report)
