"""Counting modules that this project does not know: any output, any device, and no operator passed over."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention
from torch.utils.flop_counter import FlopCounterMode

from ressformer.count import FORMULAS, count

B, N, D, H = 2, 32, 16, 4


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(D, 3 * D, bias=False)

    def forward(self, x_BNd: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (H, D // H)).transpose(1, 2) for t in self.qkv(x_BNd).chunk(3, -1))
        return self.attend(q, k, v)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class Flexible(Attention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        found = flex_attention(q, k, v)
        assert isinstance(found, Tensor)
        return found


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_costs_the_same_wherever_it_is_counted(device: str) -> None:
    with torch.device(device):
        found = count(Attention().train(), torch.zeros(B, N, D))
    projections, pairs = 2 * B * N * D * 3 * D, 2 * 2 * B * N * N * D
    assert found.forward == projections + pairs
    # Backward: the weights' gradient, and two products for each of the two; the fused kernel makes the scores again.
    again = pairs // 2 if device == "cpu" else 0
    assert found.train == found.forward + projections + 2 * pairs + again


@pytest.mark.parametrize("wrap", [lambda y: {"logits": y}, lambda y: (y, [y.detach()]), lambda y: y])
def test_an_output_may_be_any_tree_of_tensors(wrap: Any) -> None:
    class Wrapped(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return wrap(super().forward(x))

    with torch.device("meta"):
        found = count(Wrapped(D, D), torch.zeros(B, D))
    assert (found.forward, found.train) == (2 * B * D * D, 4 * B * D * D)


def test_a_frozen_module_has_no_backward_pass() -> None:
    with torch.device("meta"):
        found = count(nn.Linear(D, D).requires_grad_(False), torch.zeros(B, D))
    assert found.forward == found.train == 2 * B * D * D and found.activations == 0


@pytest.mark.parametrize(
    ("a", "b", "flops"),
    [
        ((24, 16), (3, 16, 8), 2 * 24 * 16 * 8),  # rows in three groups
        ((16, 24), (24, 8), 2 * 16 * 24 * 8),  # columns in groups: the weights' gradient
        ((3, 8, 16), (3, 16, 8), 2 * 3 * 8 * 16 * 8),
    ],
)
def test_grouped_products_by_hand(a: tuple[int, ...], b: tuple[int, ...], flops: int) -> None:
    ends = torch.tensor([8, 16, 24], dtype=torch.int32) if len(a) == 2 else None
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    with counter:
        nn.functional.grouped_mm(torch.zeros(a, dtype=torch.bfloat16), torch.zeros(b, dtype=torch.bfloat16), offs=ends)
    assert counter.get_total_flops() == flops


def test_attention_that_torch_cannot_enter_is_an_error_that_names_it() -> None:
    with pytest.raises((TypeError, ValueError, NotImplementedError), match=r"(?i)flex_?attention"):
        count(Flexible().train(), torch.zeros(B, N, D))


def test_a_custom_operator_is_counted_by_its_formula_or_named() -> None:
    @torch.library.custom_op("test_count::twice", mutates_args=())
    def twice(x: Tensor) -> Tensor:
        return x @ x

    twice.register_fake(torch.empty_like)
    with torch.device("meta"):
        x = torch.zeros(D, D)

        class Sly(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.ops.test_count.twice(x)  # type: ignore[no-any-return]

        with pytest.raises(ValueError, match=r"no FLOP formula for test_count\.twice"):
            count(Sly(), x)
        torch.utils.flop_counter.register_flop_formula(torch.ops.test_count.twice)(
            lambda shape, *args, **kwargs: 2 * shape[0] ** 3
        )
        assert count(Sly(), x).forward == 2 * D**3
