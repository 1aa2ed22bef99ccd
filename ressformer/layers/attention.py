"""Dense multi-head attention, and what every attention shares: projections, heads and their cost.

The attention is Vaswani et al. 2017 (1706.03762), eq. 1; rotary positions are Su et al. 2021 (2104.09864).

Shapes: B batch, n length, d width, H heads, Z heads of several projections, h head width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ressformer.cost import Cost, Shape, group, linear, norm, pairs_causal
from ressformer.decoder import init_linear
from ressformer.layers.norms import QKNorm
from ressformer.layers.rotary import Rotary


class ProjectedAttention(nn.Module):
    """Projects into heads, rotates where asked for, and projects back; subclasses say who attends to whom.

    Args:
        d_model, n_heads: d and H.
        rotary: rotate queries and keys by position.
        qk_norm: RMS norm of each head's queries and keys, before they turn.
        out_scale: initial scale of the output projection (1/sqrt(2 * layers) keeps the residual stream's variance).
    """

    def __init__(
        self, d_model: int, n_heads: int, *, rotary: bool, qk_norm: bool = False, out_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.qk_norm = QKNorm(d_model // n_heads) if qk_norm else None
        self.rotary = Rotary(d_model // n_heads) if rotary else None
        init_linear(self.qkv.weight)
        init_linear(self.out.weight, scale=out_scale)

    def attend(self, q_BHnh: Tensor, k_BHnh: Tensor, v_BHnh: Tensor, mask_Bn: Tensor | None) -> Tensor:
        """Returns the heads' outputs [B, H, n, h]; `mask_Bn` is True at real tokens."""
        raise NotImplementedError

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> Tensor:
        qkv_BZnh = split_heads(self.qkv(x_Bnd), 3 * self.n_heads)
        if self.rotary is None and self.qk_norm is None:
            q_BHnh, k_BHnh, v_BHnh = qkv_BZnh.chunk(3, dim=1)
        else:
            # Queries and keys turn alike: together, for half the calls.
            qk_BZnh, v_BHnh = qkv_BZnh.split([2 * self.n_heads, self.n_heads], dim=1)
            qk_BZnh = qk_BZnh if self.qk_norm is None else self.qk_norm(qk_BZnh)
            qk_BZnh = qk_BZnh if self.rotary is None else self.rotary(qk_BZnh)
            q_BHnh, k_BHnh = qk_BZnh.chunk(2, dim=1)
        out_Bnd: Tensor = self.out(merge_heads(self.attend(q_BHnh, k_BHnh, v_BHnh, mask_Bn)))
        return out_Bnd


def projected_cost(tokens: int, d_model: int, pairs: tuple[int, int], *, gains: int = 0) -> Cost:
    """Charges projections, and 2 products of d per query-key pair (score and value); `pairs` = (useful, executed).

    `gains` are the weights of a norm of queries and keys.
    """
    useful, executed = pairs
    return group(
        "attention",
        linear("qkv", tokens, d_model, 3 * d_model),
        *((norm("qk_norm", gains),) if gains else ()),
        Cost(name="scores_values", flops=4.0 * d_model * useful, executed=4.0 * d_model * executed),
        linear("out", tokens, d_model, d_model),
    )


class MultiHeadAttention(ProjectedAttention):
    """Attends by softmax to all visible tokens; `causal`: position i sees j <= i."""

    def __init__(self, d_model: int, n_heads: int, *, causal: bool, **projections: Any) -> None:
        super().__init__(d_model, n_heads, **projections)
        self.causal = causal

    def attend(self, q_BHnh: Tensor, k_BHnh: Tensor, v_BHnh: Tensor, mask_Bn: Tensor | None) -> Tensor:
        # Padding is on the right: under the causal mask no real token sees it, so the fast path needs no mask.
        mask = None if self.causal or mask_Bn is None else mask_Bn[:, None, None, :]
        return scaled_dot_product_attention(q_BHnh, k_BHnh, v_BHnh, attn_mask=mask, is_causal=self.causal)


def attention_cost(shape: Shape, d_model: int, *, gains: int = 0) -> Cost:
    """Charges dense attention: the causal half is useful, the kernel is handed n x n pairs."""
    n = shape.length
    return projected_cost(n, d_model, (pairs_causal(n) if shape.causal else n * n, n * n), gains=gains)


def split_heads(x_Bnd: Tensor, n_heads: int) -> Tensor:
    """Splits [B, n, d] into [B, H, n, h]."""
    batch, n, width = x_Bnd.shape
    return x_Bnd.view(batch, n, n_heads, width // n_heads).transpose(1, 2)


def merge_heads(x_BHnh: Tensor) -> Tensor:
    """Merges [B, H, n, h] to [B, n, d]."""
    return x_BHnh.transpose(1, 2).flatten(2)
