"""A GPT-2 style Transformer in plain torch, as a yardstick for the vanilla model: nothing of ours is in it.

Pre-norm layers, fused causal attention, GELU, learned positions, tied head, no biases, no dropout (Radford et al.
2019). It is written for speed and for nothing else.

Shapes: B batch, n length, d width, H heads, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Layer(nn.Module):
    """Attention and feed-forward network, each behind a norm."""

    def __init__(self, d: int, heads: int, d_ff: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(d, bias=False), nn.LayerNorm(d, bias=False)
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.up, self.down = nn.Linear(d, d_ff, bias=False), nn.Linear(d_ff, d, bias=False)

    def forward(self, x_Bnd: Tensor) -> Tensor:
        B, n, d = x_Bnd.shape
        q, k, v = self.qkv(self.norm_1(x_Bnd)).view(B, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, n, d)
        x_Bnd = x_Bnd + self.out(y)
        return x_Bnd + self.down(F.gelu(self.up(self.norm_2(x_Bnd))))


class GPT2(nn.Module):
    """Tokens [B, n] to the mean loss of predicting `labels` [B, n]."""

    def __init__(self, *, vocab: int, length: int, d: int, heads: int, layers: int, d_ff: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, d), nn.Embedding(length, d)
        self.layers = nn.ModuleList(Layer(d, heads, d_ff) for _ in range(layers))
        self.norm = nn.LayerNorm(d, bias=False)

    def forward(self, tokens_Bn: Tensor, labels_Bn: Tensor) -> Tensor:
        x_Bnd = self.tokens(tokens_Bn) + self.positions(torch.arange(tokens_Bn.shape[1]))
        for layer in self.layers:
            x_Bnd = layer(x_Bnd)
        logits_BnV = self.norm(x_Bnd) @ self.tokens.weight.T
        return F.cross_entropy(logits_BnV.flatten(0, 1), labels_Bn.flatten())


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW, weights decay and vectors do not."""
    weights = list(model.parameters())
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), fused=True)
