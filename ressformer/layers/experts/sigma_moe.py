"""Sigma-MoE: experts gated by sigmoids (Csordás, Irie & Schmidhuber 2023, 2310.10837), as MoEUT uses them.

    s = sigmoid(W x'),  y = sum over the e largest s_i of s_i W2_i act(W1_i x)

x' is what the router reads, x what the experts read: MoEUT (2405.16039) normalises the first alone. The gates are not
renormalised, so experts do not compete. The balance loss is the paper's: the negative entropy of the mean
softmax of the router's scores, over each sequence (section 2.1). The activation is GELU, as in every feed-forward
network here (the paper: ReLU).

Shapes: B batch, n length, d width, T = B * n tokens, E experts, e experts per token, f expert width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ressformer.layers.experts.dispatch import Dispatch
from ressformer.layers.experts.moe import MixtureOfExperts, MoEConfig, autocast_off
from ressformer.layers.native.loader import eager


class SigmaExperts(MixtureOfExperts):
    """E feed-forward networks d -> f -> d, each token through its best e, weighted by sigmoids; router in fp32."""

    def __init__(self, d_model: int, config: MoEConfig, *, out_scale: float = 1.0) -> None:
        # Gates are near 1/2 at the start and e terms are added: together they have the variance of one network.
        super().__init__(d_model, config, out_scale=out_scale * 2 / math.sqrt(config.top_e))

    def mix(self, x_Bnd: Tensor, routed_Bnd: Tensor, mask_Bn: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Output [B, n, d] of experts that read `x_Bnd` and are chosen by `routed_Bnd`; weighted balance loss; load."""
        assert self.router is not None
        x_Td, routed_Td = x_Bnd.reshape(-1, x_Bnd.shape[-1]), routed_Bnd.reshape(-1, x_Bnd.shape[-1])
        with autocast_off(x_Td.device.type):
            logits_TE = nn.functional.linear(routed_Td.float(), self.router.weight.float())
        score_Te, expert_Te = logits_TE.topk(self.config.top_e, dim=-1)
        gate_Te = score_Te.sigmoid()
        if eager(x_Td, self.up_Edf, gate_Te):
            y_Td = Dispatch.apply(x_Td, gate_Te, expert_Te, self.up_Edf, self.down_Efd)  # type: ignore[no-untyped-call]
        else:
            y_Td = self._dispatch(x_Td, gate_Te.to(x_Td.dtype), expert_Te)
        weight_Bn = logits_TE.new_ones(x_Bnd.shape[:2]) if mask_Bn is None else mask_Bn.float()
        loss = self.config.balance * entropy_deficit(logits_TE.view(*weight_Bn.shape, -1), weight_Bn)
        return y_Td.view_as(x_Bnd), loss, _load(expert_Te, weight_Bn.flatten(), self.config.n_experts)


def entropy_deficit(logits_BnE: Tensor, weight_Bn: Tensor) -> Tensor:
    """log E less the entropy of the mean softmax over a sequence, averaged over sequences that have a token."""
    real_B = weight_Bn.sum(dim=1)
    mean_BE = (logits_BnE.softmax(dim=-1) * weight_Bn.unsqueeze(-1)).sum(dim=1) / real_B.clamp_min(1).unsqueeze(-1)
    short_B: Tensor = math.log(logits_BnE.shape[-1]) + torch.special.xlogy(mean_BE, mean_BE.clamp_min(1e-30)).sum(
        dim=-1
    )
    some_B = (real_B > 0).to(short_B.dtype)
    mean: Tensor = (short_B * some_B).sum() / some_B.sum().clamp_min(1)
    return mean


@torch.no_grad()
def _load(expert_Te: Tensor, weight_T: Tensor, n_experts: int) -> Tensor:
    """Share of the real tokens' choices that each expert has, [E]."""
    chosen_TE = weight_T.new_zeros(len(weight_T), n_experts).scatter_(1, expert_Te, 1.0)
    return (chosen_TE * weight_T.unsqueeze(-1)).sum(dim=0) / (weight_T.sum().clamp_min(1) * expert_Te.shape[1])
