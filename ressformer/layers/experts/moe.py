"""Token-choice mixture of experts (paper eq. 6): each token is sent to its best few feed-forward experts.

Switch Transformer (2101.03961) for routing and the balance loss, ST-MoE (2202.08906) for the router z-loss. There is
no capacity limit and no token is dropped: with a limit, which tokens are dropped would depend on later tokens.

Shapes: B batch, n length, d width, T = B * n tokens, E experts, e experts per token, f expert width.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from ressformer.cost import Cost, group, linear
from ressformer.layers.experts.dispatch import Dispatch
from ressformer.layers.experts.grouped_linear import grouped_linear
from ressformer.layers.native.loader import eager_kernels
from ressformer.layers.native.router import Route


@dataclass(frozen=True, kw_only=True)
class MoEConfig:
    """Holds the dials of the expert layer.

    Attributes:
        n_experts: E; 1 is a plain feed-forward network of width d_expert.
        top_e: experts per token e.
        d_expert: width f of one expert.
        balance: weight of the balance loss E * sum_i f_i P_i (2101.03961, eq. 4).
        router_z: weight of the mean squared log-partition of the router (2202.08906, eq. 5).
        expert_copies: experts begin as copies of one network, so that early routing mistakes cost nothing.
    """

    n_experts: int
    top_e: int
    d_expert: int
    balance: float
    router_z: float
    expert_copies: bool


class MixtureOfExperts(nn.Module):
    """Sends each token, by a router in fp32, through a few of E feed-forward networks d -> f -> d."""

    def __init__(self, d_model: int, config: MoEConfig, *, out_scale: float = 1.0) -> None:
        super().__init__()
        self.config = config
        n_experts, width = config.n_experts, config.d_expert
        self.up_Edf = nn.Parameter(torch.empty(n_experts, d_model, width))
        self.down_Efd = nn.Parameter(torch.empty(n_experts, width, d_model))
        nn.init.normal_(self.up_Edf, std=math.sqrt(2.0 / d_model))
        nn.init.normal_(self.down_Efd, std=out_scale / math.sqrt(width))
        if config.expert_copies:
            with torch.no_grad():
                self.up_Edf.copy_(self.up_Edf[:1].expand_as(self.up_Edf).clone())
                self.down_Efd.copy_(self.down_Efd[:1].expand_as(self.down_Efd).clone())
        self.router = nn.Linear(d_model, n_experts, bias=False) if n_experts > 1 else None
        if self.router is not None:
            nn.init.normal_(self.router.weight, std=0.02)

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Returns the output [B, n, d], the weighted losses {balance, router_z}, and the load [E] (sums to 1)."""
        x_Td = x_Bnd.reshape(-1, x_Bnd.shape[-1])
        if self.router is None:
            y_Td = gelu(x_Td @ self.up_Edf[0]) @ self.down_Efd[0]
            return y_Td.view_as(x_Bnd), {}, x_Td.new_ones(1)
        with autocast_off(x_Td.device.type):
            logits_TE = nn.functional.linear(x_Td.float(), self.router.weight.float())
        if (lib := eager_kernels("router", x_Td, self.up_Edf, logits_TE)) is not None:
            mask_T = None if mask_Bn is None else mask_Bn.flatten()
            gate_Te, expert_Te, balance, z, load_E = Route.apply(lib, logits_TE, mask_T, self.config.top_e)  # type: ignore[no-untyped-call]
            y_Td = Dispatch.apply(x_Td, gate_Te, expert_Te, self.up_Edf, self.down_Efd)  # type: ignore[no-untyped-call]
            return y_Td.view_as(x_Bnd), self._weighted(balance, z), load_E
        probs_TE = logits_TE.softmax(dim=-1)
        gate_Te, expert_Te = probs_TE.topk(self.config.top_e, dim=-1)
        if self.config.top_e > 1:
            gate_Te = gate_Te / gate_Te.sum(dim=-1, keepdim=True)
        y_Td = self._dispatch(x_Td, gate_Te.to(x_Td.dtype), expert_Te)
        losses, load_E = self._losses(logits_TE, probs_TE, expert_Te, mask_Bn)
        return y_Td.view_as(x_Bnd), losses, load_E

    def _dispatch(self, x_Td: Tensor, gate_Te: Tensor, expert_Te: Tensor) -> Tensor:
        """Sorts the (token, expert) pairs by expert, runs each expert on its run of rows, adds the results back."""
        order = expert_Te.flatten().argsort(stable=True)
        token = order // self.config.top_e
        ones = torch.ones_like(order)
        counts_E = order.new_zeros(self.config.n_experts).scatter_add_(0, expert_Te.flatten(), ones)
        ends_E = counts_E.cumsum(0).to(torch.int32)
        h = gelu(grouped_linear(x_Td[token], self.up_Edf, ends_E))
        y = grouped_linear(h, self.down_Efd, ends_E) * gate_Te.flatten()[order].unsqueeze(-1)
        if self.config.top_e == 1:
            return torch.empty_like(x_Td).index_copy(0, token, y)
        # Unsort instead of index_add: each token's few terms are then summed in a fixed order.
        rank = torch.empty_like(order).index_copy_(0, order, torch.arange(order.numel(), device=order.device))
        return y[rank].view(*expert_Te.shape, -1).sum(dim=1)

    def _losses(
        self, logits_TE: Tensor, probs_TE: Tensor, expert_Te: Tensor, mask_Bn: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor]:
        weight_T = logits_TE.new_ones(logits_TE.shape[0]) if mask_Bn is None else mask_Bn.flatten().float()
        total = weight_T.sum().clamp_min(1.0)
        chosen_TE = torch.zeros_like(probs_TE).scatter_(1, expert_Te, 1.0)
        load_E = (chosen_TE * weight_T.unsqueeze(-1)).sum(0) / (total * self.config.top_e)
        mean_E = (probs_TE * weight_T.unsqueeze(-1)).sum(0) / total
        z = (logits_TE.logsumexp(dim=-1).square() * weight_T).sum() / total
        balance = self.config.n_experts * (load_E * mean_E).sum()
        return self._weighted(balance, z), load_E

    def _weighted(self, balance: Tensor, z: Tensor) -> dict[str, Tensor]:
        return {"balance": self.config.balance * balance, "router_z": self.config.router_z * z}


def autocast_off(device: str) -> AbstractContextManager[object]:
    """Turns autocast off, where the device has it: it takes products to bf16 whatever their operands are."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def moe_cost(tokens: int, d_model: int, config: MoEConfig) -> Cost:
    """Charges the router on every token and e experts a token; sorting and gathering rows is bytes moved."""
    e, f = config.top_e, config.d_expert
    weights = 2 * config.n_experts * d_model * f
    experts = Cost(
        name="experts",
        params=weights,
        active=2 * e * d_model * f,
        flops=4.0 * tokens * e * d_model * f,
        bytes_moved=0.0 if config.n_experts == 1 else 4.0 * 4 * tokens * e * d_model,
    )
    if config.n_experts == 1:
        return group("moe", experts)
    return group("moe", linear("router", tokens, d_model, config.n_experts), experts)
