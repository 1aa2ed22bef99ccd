"""Reformer: LSH attention with shared queries and keys, and reversible layers (Kitaev et al. 2020, 2001.04451).

The LSH attention is a causal-safe variant: which keys a token reads depends on earlier tokens alone (see
`ressformer.layers.baselines.lsh`). Reversible layers (section 3) keep no activations: the backward pass rebuilds each
layer's input from its output. That saves memory and changes the arithmetic: two residual streams instead of one.

With `positions=rotary` the shared vectors turn before they are hashed: buckets then gather what has a large product.

Shapes: B batch, n length, d width, H heads, h head width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ressformer.cost import Cost, Shape, group, linear, norm
from ressformer.decoder import Core, CoreOutput, init_linear
from ressformer.layers.attention import merge_heads, split_heads
from ressformer.layers.baselines.lsh import hash_flops, hash_rotations, lsh_attention, lsh_pairs
from ressformer.layers.norms import QKNorm
from ressformer.layers.rotary import Rotary
from ressformer.stack import StackConfig, StackCore, StackLayer


@dataclass(frozen=True, kw_only=True)
class ReformerConfig(StackConfig):
    """Dials of Reformer, beside the stack's.

    Attributes:
        rounds: hash rounds.
        chunk: tokens per chunk; there are length / chunk buckets at the training length.
        hash_seed: seed of the rotations; a constant of the model, not of the run.
        reversible: reversible layers.
    """

    family: ClassVar[str] = "reformer"
    switches: ClassVar[Mapping[str, str]] = {
        **StackConfig.switches,
        "rounds": "how often tokens are hashed",
        "chunk": "how many tokens of a bucket are read together",
        "hash_seed": "which hashes",
        "reversible": "a residual path in two streams (the paper's)",
    }

    rounds: int = 2
    chunk: int = 16
    hash_seed: int = 0
    reversible: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.rounds >= 1 and self.chunk >= 1, "rounds and chunk must be at least 1")

    def buckets(self, length: int) -> int:
        """Buckets per round for training sequences of `length`."""
        return max(1, length // self.chunk)

    def build_core(self, *, length: int, max_length: int, causal: bool) -> Core:
        kind = ReversibleCore if self.reversible else StackCore
        return kind(self, length=length, max_length=max_length, causal=causal)

    def keys_kept(self, shape: Shape) -> int | None:
        return shape.length

    def build_mixer(self, *, length: int, causal: bool, out_scale: float) -> nn.Module:
        return LSHAttention(self, length=length, causal=causal, out_scale=out_scale)

    def core_cost(self, shape: Shape) -> Cost:
        core = super().core_cost(shape)
        return replace(core, children=tuple(replace(c, recomputed=self.reversible) for c in core.children))

    def mixer_cost(self, shape: Shape) -> Cost:
        n, d, buckets = shape.length, self.d_model, self.buckets(shape.length)
        useful, executed = lsh_pairs(n, n_buckets=buckets, rounds=self.rounds, chunk=self.chunk, causal=shape.causal)
        hashing = hash_flops(n, width=d // self.n_heads, n_buckets=buckets, rounds=self.rounds) * self.n_heads
        moved = 4.0 * n * self.rounds * (4 * self.n_heads + 3 * d)
        return group(
            "attention",
            linear("qk_v", n, d, 2 * d),
            *((norm("qk_norm", d // self.n_heads),) if self.qk_norm else ()),
            Cost(name="hashing", flops=hashing, backward=0.0, executed_backward=0.0, bytes_moved=moved),
            Cost(name="scores_values", flops=4.0 * d * useful, executed=4.0 * d * executed),
            linear("out", n, d, d),
        )


class LSHAttention(nn.Module):
    """Projections around `lsh_attention`; the rotations are buffers, the same in every run."""

    def __init__(self, config: ReformerConfig, *, length: int, causal: bool, out_scale: float) -> None:
        super().__init__()
        d, heads = config.d_model, config.n_heads
        self.config, self.causal = config, causal
        self.qk_v = nn.Linear(d, 2 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.qk_norm = QKNorm(d // heads, parts=1) if config.qk_norm else None
        self.rotary = Rotary(d // heads) if config.positions == "rotary" else None
        init_linear(self.qk_v.weight)
        init_linear(self.out.weight, scale=out_scale)
        rotations = hash_rotations(heads, d // heads, config.buckets(length), config.rounds, config.hash_seed)
        self.factors = len(rotations)
        for index, rotation in enumerate(rotations):
            self.register_buffer(f"rotation_{index}", rotation, persistent=False)

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> Tensor:
        qk_BHnh, v_BHnh = (split_heads(t, self.config.n_heads) for t in self.qk_v(x_Bnd).chunk(2, dim=-1))
        if self.qk_norm is not None:
            qk_BHnh = self.qk_norm(qk_BHnh)
        if self.rotary is not None:
            qk_BHnh = self.rotary(qk_BHnh)
        y_BHnh = lsh_attention(
            qk_BHnh,
            v_BHnh,
            rotations=tuple(getattr(self, f"rotation_{i}") for i in range(self.factors)),
            rounds=self.config.rounds,
            chunk=self.config.chunk,
            causal=self.causal,
            key_mask_Bn=mask_Bn,
        )
        out_Bnd: Tensor = self.out(merge_heads(y_BHnh))
        return out_Bnd


class ReversibleCore(StackCore):
    """y1 = x1 + attention(x2), y2 = x2 + ff(y1), layer after layer; both streams start as x and are averaged."""

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> CoreOutput:
        x_Bnd = self.embed_positions(x_Bnd)
        layers: list[StackLayer] = list(self.layers)[: self.eval_depth or None]  # type: ignore[assignment]
        # Weights are handed over by reference: the gradient reaches them inside `_Reversible.backward`.
        a_Bnd, b_Bnd = _Reversible.apply(x_Bnd, x_Bnd.clone(), mask_Bn, layers)  # type: ignore[no-untyped-call]
        return CoreOutput((a_Bnd + b_Bnd) / 2)


class _Reversible(torch.autograd.Function):
    """The whole stack without stored activations (RevNet, 1707.04585, section 3.2)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, mask: Tensor | None, layers: list[StackLayer]) -> tuple[Tensor, Tensor]:
        for layer in layers:
            a = a + layer.mix(b, mask)
            b = b + layer.feed(a)
        ctx.mask, ctx.layers = mask, layers
        ctx.save_for_backward(a, b)
        return a, b

    @staticmethod
    def backward(ctx: Any, grad_a: Tensor, grad_b: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        for layer in reversed(ctx.layers):
            with torch.enable_grad():
                y = a.detach().requires_grad_()
                fed = layer.feed(y)
            fed.backward(grad_b)
            b, grad_a = b - fed.detach(), grad_a + y.grad
            with torch.enable_grad():
                x = b.detach().requires_grad_()
                mixed = layer.mix(x, ctx.mask)
            mixed.backward(grad_a)
            a, grad_b = a - mixed.detach(), grad_b + x.grad
        return grad_a, grad_b, None, None
