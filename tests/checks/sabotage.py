"""Models that cheat, and honest ones that look as if they did.

Each is a small Transformer whose core does one thing more. `SABOTAGES` maps a name to (config, shape, checks that must
fail); `HONEST` maps a name to (config, shape). The file is longer than 300 lines: it is a list, and reads as one.

Shapes: B batch, n length, d width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ressformer.cost import Cost, Shape, group, linear, norm
from ressformer.decoder import Core, CoreOutput
from ressformer.models.transformer import TransformerConfig

Trick = Callable[["Spoiled", Tensor, Tensor, Tensor | None], Tensor]
D = 32


class Spoiled(Core):
    """A core, then `trick(self, x_Bnd, h_Bnd, mask_Bn)` on its output; x are the embeddings."""

    def __init__(self, core: Core, trick: Trick, parts: dict[str, Any]) -> None:
        super().__init__()
        self.core, self.trick = core, trick
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> CoreOutput:
        out = self.core(x_Bnd, mask_Bn)
        out.h_Bnd = self.trick(self, x_Bnd, out.h_Bnd, mask_Bn)
        return out


@dataclass(frozen=True, kw_only=True)
class SpoiledConfig(TransformerConfig):
    """A Transformer with a trick; `parts` makes its modules, `declared` their cost, given the shape."""

    family: ClassVar[str] = "spoiled"

    trick: Trick
    parts: Callable[[], dict[str, Any]] = dict
    declared: Callable[[Shape], list[Cost]] = lambda shape: []

    def build_core(self, *, length: int, max_length: int, causal: bool) -> Core:
        core = super().build_core(length=length, max_length=max_length, causal=causal)
        return Spoiled(core, self.trick, self.parts())

    def core_cost(self, shape: Shape) -> Cost:
        return group("core", super().core_cost(shape), *self.declared(shape))


CAUSAL = Shape(batch=3, length=40, vocab=17)
LONG = replace(CAUSAL, max_length=128)
BOTH_WAYS = replace(CAUSAL, causal=False)
SABOTAGES: dict[str, tuple[SpoiledConfig, Shape, set[str]]] = {}
HONEST: dict[str, tuple[SpoiledConfig, Shape]] = {}


def spoiled(trick: Trick, **more: Any) -> SpoiledConfig:
    return SpoiledConfig(d_model=D, n_heads=2, n_layers=2, d_ff=48, positions="rotary", trick=trick, **more)


def sabotage(*caught_by: str, shape: Shape = CAUSAL, **more: Any) -> Callable[[Trick], Trick]:
    def note(trick: Trick) -> Trick:
        SABOTAGES[trick.__name__] = (spoiled(trick, **more), shape, set(caught_by))
        return trick

    return note


def honest(shape: Shape = CAUSAL, **more: Any) -> Callable[[Trick], Trick]:
    def note(trick: Trick) -> Trick:
        HONEST[trick.__name__] = (spoiled(trick, **more), shape)
        return trick

    return note


def following(x_Bnd: Tensor) -> Tensor:
    """Token t + 1 at position t."""
    return torch.cat([x_Bnd[:, 1:], torch.zeros_like(x_Bnd[:, :1])], dim=1)


def matrix() -> dict[str, Any]:
    return {"matrix": nn.Linear(D, D, bias=False)}


def weights_only(shape: Shape) -> list[Cost]:
    return [Cost(name="matrix", params=D * D)]


# --- the future


@sabotage("future")
def next_token(self, x, h, mask):
    return h + following(x)


@sabotage("future")
def next_token_in_eval(self, x, h, mask):
    return h if self.training else h + following(x)


@sabotage("future")
def next_token_in_training(self, x, h, mask):
    return h + following(x) if self.training else h


@sabotage("future", shape=LONG)
def next_token_when_long(self, x, h, mask):
    return h + following(x) if x.shape[1] > 100 else h


@sabotage("future")
def next_token_at_odd_lengths(self, x, h, mask):
    return h + following(x) if x.shape[1] % 2 else h


@sabotage("future")
def next_token_at_even_positions(self, x, h, mask):
    even = (torch.arange(x.shape[1], device=x.device) % 2 == 0).to(x.dtype)
    return h + following(x) * even.unsqueeze(-1)


@sabotage("future")
def next_token_at_one_position(self, x, h, mask):
    one = (torch.arange(x.shape[1], device=x.device) == 7).to(x.dtype)
    return h + following(x) * one.unsqueeze(-1)


@sabotage("future")
def last_token(self, x, h, mask):
    return h + x[:, -1:]


@sabotage("future", parts=lambda: {"gain": nn.Parameter(torch.zeros(D))}, declared=lambda s: [norm("gain", D)])
def next_token_behind_a_zero(self, x, h, mask):
    return h + self.gain * following(x)


@sabotage("future")
def next_token_below_rounding(self, x, h, mask):
    return h + 1e-9 * following(x)


@sabotage("future")
def norm_over_the_sequence(self, x, h, mask):
    return h / (h.square().mean(dim=1, keepdim=True) + 1e-3).sqrt()


@sabotage("future")
def channels_chosen_over_the_sequence(self, x, h, mask):
    chosen = h.mean(dim=1, keepdim=True).topk(D // 2, dim=-1).indices
    return h * torch.zeros_like(h[:, :1]).scatter(-1, chosen, 1.0)


@sabotage("future")
def keys_chosen_over_the_sequence(self, x, h, mask):
    n = x.shape[1]
    best = h.sum(-1).topk(n // 2, dim=1).indices
    kept = torch.zeros_like(h[..., 0]).scatter(1, best, 1.0).unsqueeze(-1)
    return h + (h * kept).cumsum(1)


# --- rows of a batch


@sabotage("batch")
def mean_over_the_batch(self, x, h, mask):
    return h - h.mean(dim=0, keepdim=True)


@sabotage("batch")
def mean_over_the_batch_in_training(self, x, h, mask):
    return h - h.mean(dim=0, keepdim=True) if self.training else h


@sabotage("batch", "state", parts=lambda: {"bn": nn.BatchNorm1d(D)}, declared=lambda s: [norm("bn", 2 * D)])
def batch_norm(self, x, h, mask):
    return self.bn(h.transpose(1, 2)).transpose(1, 2)


@sabotage("state", parts=lambda: {"bn": nn.BatchNorm1d(D, affine=False)})
def running_statistics_alone(self, x, h, mask):
    if self.training:
        self.bn(h.detach().transpose(1, 2))
    return (h - self.bn.running_mean) / (self.bn.running_var + 1e-5).sqrt()


@sabotage("batch", parts=lambda: {"router": nn.Parameter(torch.randn(D))}, declared=lambda s: [norm("router", D)])
def capacity_shared_over_the_batch(self, x, h, mask):
    score = (h * self.router).sum(-1).flatten()
    kept = score.topk(score.numel() // 2).indices
    gate = torch.zeros_like(score).index_copy(0, kept, score[kept].sigmoid()).view_as(h[..., 0])
    return h + gate.unsqueeze(-1) * h


@sabotage("state")
def cache_kept_between_calls(self, x, h, mask):
    before = getattr(self, "kept", None)
    self.kept = h.detach().mean(dim=(0, 1))
    return h if before is None or before.device != h.device else h + before


@sabotage("state")
def cache_kept_in_training_read_in_eval(self, x, h, mask):
    if self.training:
        self.kept = h.detach().mean(dim=(0, 1))
        return h
    return h + self.kept if hasattr(self, "kept") else h


# --- padding


@sabotage("padding", shape=BOTH_WAYS)
def padding_in_a_mean_pool(self, x, h, mask):
    return h + x.mean(dim=1, keepdim=True)


@sabotage("padding", shape=BOTH_WAYS)
def padding_in_a_mean_pool_in_eval(self, x, h, mask):
    if self.training and mask is not None:
        x = x * mask.unsqueeze(-1)
    return h + x.mean(dim=1, keepdim=True)


# --- weights


@sabotage("weights", parts=lambda: {"extra": nn.Parameter(torch.randn(D))})
def fewer_weights_declared(self, x, h, mask):
    return h * self.extra


@sabotage("weights", declared=lambda s: [norm("extra", D)])
def more_weights_declared(self, x, h, mask):
    return h


@sabotage("weights", parts=matrix, declared=lambda s: [linear("one", s.length, D, D), linear("two", s.length, D, D)])
def shared_weight_counted_twice(self, x, h, mask):
    return self.matrix(self.matrix(h))


@sabotage("weights", parts=matrix, declared=lambda s: [replace(linear("m", s.length, D, D), embedding=D * D)])
def matrix_called_an_embedding(self, x, h, mask):
    return self.matrix(h)


@sabotage("weights")
def weights_made_in_the_first_call(self, x, h, mask):
    if not hasattr(self, "late"):
        self.late = nn.Parameter(torch.randn(D, device=h.device, dtype=h.dtype))
    return h * self.late


# --- cost


@sabotage("cost", parts=matrix, declared=weights_only)
def fewer_flops_declared(self, x, h, mask):
    return self.matrix(h)


@sabotage("cost", declared=lambda s: [Cost(name="nothing", flops=1e7)])
def more_flops_declared(self, x, h, mask):
    return h


@sabotage("cost", parts=matrix, declared=weights_only)
def flops_in_a_product_and_a_sum(self, x, h, mask):
    return (h.unsqueeze(-1) * self.matrix.weight).sum(-2)


@sabotage("cost", parts=matrix, declared=weights_only)
def flops_in_a_sum_of_copies(self, x, h, mask):
    copies = h.unsqueeze(-1).repeat(1, 1, 1, D)
    return ((copies * self.matrix.weight.expand_as(copies).contiguous()) + 0.0).sum(-2)


@sabotage("cost", parts=matrix, declared=weights_only)
def flops_in_a_loop_of_outer_products(self, x, h, mask):
    out = torch.zeros_like(h)
    for i in range(D):
        out = out + h[..., i : i + 1] * self.matrix.weight[i]
    return out


@sabotage("cost", parts=matrix, declared=weights_only)
def flops_in_matrix_vector_products(self, x, h, mask):
    rows = [torch.mv(self.matrix.weight, row) for row in h.flatten(0, 1)]
    return torch.stack(rows).view_as(h)


@sabotage("cost")
def flops_in_distances(self, x, h, mask):
    return h + torch.cdist(h, h).tril().sum(-1, keepdim=True)


@sabotage("cost")
def flops_in_a_triangular_solve(self, x, h, mask):
    eye = torch.eye(x.shape[1], device=x.device, dtype=x.dtype)
    return h + torch.linalg.solve_triangular(eye.expand(len(x), -1, -1), h, upper=False)


@sabotage(
    "cost",
    parts=lambda: {"lstm": nn.LSTM(D, D, bias=False, batch_first=True)},
    declared=lambda s: [Cost(name="lstm", params=8 * D * D)],
)
def flops_in_an_lstm(self, x, h, mask):
    return h + self.lstm(h)[0]


def long_filter(self, h: Tensor) -> Tensor:
    n = h.shape[1]
    spectrum = torch.fft.rfft(h, n=2 * n, dim=1) * torch.fft.rfft(self.kernel[:n], n=2 * n, dim=0)
    return torch.fft.irfft(spectrum, n=2 * n, dim=1)[:, :n]


def kernel() -> dict[str, Any]:
    return {"kernel": nn.Parameter(torch.randn(256, D) / 16)}


@sabotage("cost", parts=kernel, declared=lambda s: [norm("kernel", 256 * D)])
def flops_in_a_transform(self, x, h, mask):
    return h + long_filter(self, h)


@sabotage("cost")
def more_flops_in_eval(self, x, h, mask):
    if not self.training:
        h = h + 1e-6 * (h @ h.transpose(1, 2)).tril() @ h
    return h


@sabotage("cost")
def fewer_flops_where_they_are_counted(self, x, h, mask):
    return h if h.is_meta else h + (h @ h.transpose(1, 2)).tril() @ h


# --- gradients


@sabotage("gradients", parts=lambda: {"idle": nn.Parameter(torch.randn(D))}, declared=lambda s: [norm("idle", D)])
def weight_without_a_gradient(self, x, h, mask):
    return h


@sabotage("gradients", parts=lambda: {"idle": nn.Parameter(torch.randn(D))}, declared=lambda s: [norm("idle", D)])
def weight_times_zero(self, x, h, mask):
    return h + 0.0 * self.idle


@sabotage("gradients")
def nan_gradient_at_odd_lengths(self, x, h, mask):
    return h + (h * 0).sum(-1, keepdim=True).abs().sqrt() if x.shape[1] % 2 else h


@sabotage("future", "gradients")
def raises_at_odd_lengths(self, x, h, mask):
    if x.shape[1] % 2:
        raise IndexError(f"cannot fold {x.shape[1]} tokens into pairs")
    return h


# --- honest


@honest()
def dropout(self, x, h, mask):
    return nn.functional.dropout(h, 0.3, self.training)


@honest(parts=lambda: {"gain": nn.Parameter(torch.ones(D))}, declared=lambda s: [norm("gain", D)])
def norm_by_hand(self, x, h, mask):
    return h * (h.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * self.gain


@honest()
def mean_of_the_past(self, x, h, mask):
    return h + h.cumsum(1) / torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype).unsqueeze(-1)


@honest()
def future_taken_away_again(self, x, h, mask):
    return h + 0.1 * (h.sum(1, keepdim=True) - h.flip(1).cumsum(1).flip(1))


@honest(parts=matrix, declared=lambda s: [linear("matrix", s.length, D, D)])
def product_and_sum_declared(self, x, h, mask):
    return (h.unsqueeze(-1) * self.matrix.weight).sum(-2)
