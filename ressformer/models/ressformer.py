"""ReSSFormer: one block applied K times, with memory (R2MU), sparse attention (ASAM) and an induced graph (SOES).

A re-implementation from the public description (You & Liu, arXiv 2510.01585); where that is silent the reading is
ours, each reading is a switch, and the defaults are the faithful arm:

    H(0) = X,  H(t+1) = Block(H(t), M(t)),  t = 0..K-1                                        (eq. 1)
    Block: h = h + Attention(norm(h), cache, slots);  h = h + Experts(norm(h))

The same weights run at every step, gradients flow through all K of them, and there is no positional encoding.

Shapes: B batch, n length, d width, K steps, m slots, r edge rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from ressformer.cost import Cost, Shape, Spread, group, norm
from ressformer.decoder import Core, CoreOutput, ModelConfig, mean_cosine
from ressformer.dials import Dial, around, with_own
from ressformer.layers.conv import short_conv, short_conv_cost
from ressformer.layers.graph import EdgeScorer, Graph, edge_cost
from ressformer.layers.memory import POOLS, Memory, SegmentMemory, memory_cost
from ressformer.layers.moe import MixtureOfExperts, MoEConfig, moe_cost
from ressformer.layers.sparse import ACTIVATIONS, SparseAttention, offsets, sparse_attention_cost


@dataclass(frozen=True, kw_only=True)
class ReSSFormerConfig(ModelConfig):
    """Dials of ReSSFormer.

    Attributes:
        steps: K in training.
        eval_steps: K at evaluation; 0 = the same.
        activation: softmax | sparsemax | entmax15, over selected keys, cache and slots together (eq. 4).
        top_k: keys selected per query (eq. 5), shared by the heads.
        cache: tokens in the token cache, self included; 0 = off (sets, tables, graphs).
        cache_lean: initial logit bias of half of the heads towards the cache's ages 1, 2, ...; 0 = none.
        memory_slots: m; 0 = off.
        memory_segment: tokens per memory segment (causal).
        memory_pool: attention | mean | topk (eq. 2).
        graph: edges (low-rank, eq. 7) | attention (the attention is the graph) | none.
        edge_rank: r.
        edge_similarity: U starts equal to V: edges begin by joining like to like.
        structure: weight of the structure loss (eq. 8).
        n_experts, top_e, d_expert: experts, experts per token, width of one; n_experts=1 is a dense network.
        balance, router_z: weights of the router's losses.
        expert_copies: experts begin as copies of one network.
        input_injection: add the embeddings to every step's input (not in the faithful arm).
        step_embedding: add a learned vector per step (not in the faithful arm).
    """

    family: ClassVar[str] = "ressformer"
    fill: ClassVar[str] = "d_expert"
    depth_field: ClassVar[str] = "steps"

    steps: int = 4
    eval_steps: int = 0
    activation: str = "entmax15"
    top_k: int = 16
    cache: int = 8
    cache_lean: float = 4.0
    memory_slots: int = 4
    memory_segment: int = 16
    memory_pool: str = "attention"
    graph: str = "edges"
    edge_rank: int = 16
    edge_similarity: bool = True
    structure: float = 1e-2
    n_experts: int = 4
    top_e: int = 1
    d_expert: int = 256
    balance: float = 1e-2
    router_z: float = 1e-3
    expert_copies: bool = False
    input_injection: bool = False
    step_embedding: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.choice("activation", ACTIVATIONS)
        self.choice("memory_pool", POOLS)
        self.choice("graph", ("edges", "attention", "none"))
        for key in ("steps", "top_k", "memory_segment", "edge_rank", "n_experts", "top_e", "d_expert"):
            self.require(getattr(self, key) >= 1, f"{key} must be at least 1, got {getattr(self, key)}")
        for key in ("eval_steps", "cache", "memory_slots", "structure", "balance", "router_z"):
            self.require(getattr(self, key) >= 0, f"{key} must not be negative, got {getattr(self, key)}")
        self.require(
            self.top_e <= self.n_experts,
            f"top_e={self.top_e} exceeds n_experts={self.n_experts}; lower top_e",
        )

    @property
    def position_free(self) -> bool:
        return not self.cache and not self.short_conv

    @property
    def moe(self) -> MoEConfig:
        return MoEConfig(
            n_experts=self.n_experts,
            top_e=self.top_e,
            d_expert=self.d_expert,
            balance=self.balance,
            router_z=self.router_z,
            expert_copies=self.expert_copies,
        )

    def build_core(self, *, length: int, max_length: int, causal: bool) -> Core:
        return ReSSFormerCore(self, causal=causal)

    def core_cost(self, shape: Shape) -> Cost:
        n, d = shape.length, self.d_model
        memory = memory_cost(
            shape, d, slots=self.memory_slots, segment=self.memory_segment, pool=self.memory_pool
        ).children
        ages = len(offsets(self.cache, shape.causal)) * self.n_heads if self.cache else 0
        edge_rank = self.edge_rank if self.graph == "edges" else 0
        attention = sparse_attention_cost(
            shape,
            d,
            top_k=self.top_k,
            cache=self.cache,
            edge_rank=edge_rank,
            slots=self.memory_slots,
            segment=self.memory_segment,
        )
        block = [norm("attention_norm", d), Cost(name="age_bias", params=ages), attention, norm("ff_norm", d)]
        block += [short_conv_cost(n, d, self.short_conv)] if self.short_conv else []
        block += [edge_cost(n, d, edge_rank)] if edge_rank else []
        block += [memory[0]] if self.memory_slots else []
        block += [moe_cost(n, d, self.moe)]
        parts = [group("block", *block, repeats=self.steps)]
        if self.memory_slots:
            # The gate mixes with the step before: K - 1 runs.
            gate = memory[1]
            parts.append(replace(gate, flops=gate.flops * (self.steps - 1)))
        if self.step_embedding:
            parts.append(Cost(name="step_embedding", params=self.steps * d))
        return group("core", *parts)

    @property
    def looped(self) -> bool:
        return True

    def state_size(self, shape: Shape) -> int | None:
        """Every key may be selected again, so all stay, with their edge factors; each step has its own."""
        if not shape.causal:
            return 0
        tokens = shape.length * (2 * self.d_model + (self.edge_rank if self.graph == "edges" else 0))
        slots = -(-shape.length // self.memory_segment) * self.memory_slots * 2 * self.d_model
        return self.steps * (tokens + slots)

    def spreads(self, shape: Shape) -> tuple[Spread, ...]:
        """The support of entmax and sparsemax may be one key a query; the experts' load may be even or all in one."""
        rows, n = shape.length * self.steps, shape.length
        keys = min(n, self.top_k + self.cache) + self.memory_slots
        most = 2.0 * self.d_model * keys * rows
        least = most if self.activation == "softmax" else 2.0 * self.d_model * rows
        support = Spread("products with the values of the support", "FLOPs", least, most, most)
        if self.n_experts == 1:
            return (support,)
        even = n * self.top_e / self.n_experts
        load = Spread("rows of the fullest expert, a step", "rows", even, even, float(n))
        return support, load

    def at_depth(self, depth: int) -> Self | None:
        return replace(self, steps=depth, eval_steps=0) if depth >= 1 else None

    def dials(self) -> tuple[Dial, ...]:
        fill, width = super().dials()
        counts = (*range(2, 16), *range(16, 32, 2), *range(32, 65, 4))
        routed = Dial(
            name="n_experts",
            values=with_own(counts, self.n_experts),
            affine=True,
            anchors=(max(4, self.top_e), 64),
            at_least="top_e",
            ordinary=self.n_experts,
            smooth=8,
        )
        each = Dial(name="top_e", values=with_own(range(1, 5), self.top_e), affine=True, ordinary=self.top_e)
        ranks = with_own(range(self.edge_rank // 2, 2 * self.edge_rank + 1, 4), self.edge_rank)
        edges = Dial(name="edge_rank", values=ranks, rank=1, affine=True, ordinary=self.edge_rank, smooth=8)
        steps = Dial(name="steps", values=range(2, 4 * self.steps + 1), rank=2, affine=True, ordinary=self.steps)
        keys = Dial(name="top_k", values=around(self.top_k), rank=4, ordinary=self.top_k)
        experts = (routed, each) if self.n_experts > 1 else ()
        return fill, *experts, *((edges,) if self.graph == "edges" else ()), steps, width, keys


class ReSSFormerCore(Core):
    """The loop and its one block."""

    def __init__(self, config: ReSSFormerConfig, *, causal: bool) -> None:
        super().__init__()
        d, scale = config.d_model, 1.0 / math.sqrt(2 * config.steps)
        self.config = config
        self.attention_norm = nn.LayerNorm(d, bias=False)
        self.conv = short_conv(d, config.short_conv)
        self.edges = (
            EdgeScorer(d, config.edge_rank, similarity=config.edge_similarity) if config.graph == "edges" else None
        )
        self.memory = (
            SegmentMemory(
                d,
                slots=config.memory_slots,
                segment=config.memory_segment,
                pool=config.memory_pool,
                causal=causal,
            )
            if config.memory_slots
            else None
        )
        self.attention = SparseAttention(
            d,
            config.n_heads,
            top_k=config.top_k,
            cache=config.cache,
            activation=config.activation,
            causal=causal,
            attention_graph=config.graph == "attention",
            lean=config.cache_lean,
            out_scale=scale,
        )
        self.ff_norm = nn.LayerNorm(d, bias=False)
        self.experts = MixtureOfExperts(d, config.moe, out_scale=scale)
        self.step_vectors_Kd = nn.Parameter(torch.zeros(config.steps, d)) if config.step_embedding else None

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> CoreOutput:
        config = self.config
        steps = config.steps if self.training else self.eval_depth or config.eval_steps or config.steps
        out = CoreOutput(x_Bnd)
        memory: Memory | None = None
        graph: Graph | None = None
        for step in range(steps):
            h_Bnd = out.h_Bnd
            if config.input_injection and step:
                h_Bnd = h_Bnd + x_Bnd
            if self.step_vectors_Kd is not None:
                # Beyond the trained K the last step's vector goes on: test-time K is its own axis.
                h_Bnd = h_Bnd + self.step_vectors_Kd[min(step, config.steps - 1)]
            memory, graph = self._step(h_Bnd, mask_Bn, memory, graph, out, step)
        out.aux_losses = {key: value / steps for key, value in out.aux_losses.items()}
        return out

    def _step(
        self,
        h_Bnd: Tensor,
        mask_Bn: Tensor | None,
        memory: Memory | None,
        graph: Graph | None,
        out: CoreOutput,
        step: int,
    ) -> tuple[Memory | None, Graph | None]:
        """Equation (1): writes H(t+1) and this step's losses into `out`; returns M(t) and the graph."""
        x_Bnd = self.conv(self.attention_norm(h_Bnd))
        edges = self.edges(x_Bnd) if self.edges is not None else None
        if self.memory is not None:
            memory = self.memory(x_Bnd, mask_Bn, memory)
        attended = self.attention(x_Bnd, mask_Bn, edges, memory, diagnose=self.diagnose)
        h_Bnd = h_Bnd + attended.y_Bnd
        y_Bnd, losses, load_E = self.experts(self.ff_norm(h_Bnd), mask_Bn)
        out.h_Bnd = h_Bnd + y_Bnd
        turnover: Tensor | None = None
        if graph is not None and attended.graph is not None and (self.config.structure or self.diagnose):
            change, turnover = attended.graph.change(graph, mask_Bn)
            losses["structure"] = self.config.structure * change
        for key, value in losses.items():
            out.aux_losses[key] = out.aux_losses[key] + value if key in out.aux_losses else value
        if self.diagnose:
            self._diagnose(out, step + 1, load_E, attended.support, attended.full, turnover)
        return memory, attended.graph

    def _diagnose(
        self,
        out: CoreOutput,
        step: int,
        load_E: Tensor,
        support: Tensor | None,
        full: Tensor | None,
        turnover: Tensor | None,
    ) -> None:
        values = {
            "load_max": load_E.max(),
            "support": support,
            "support_full": full,
            "edge_turnover": turnover,
        }
        values["cosine"] = mean_cosine(out.h_Bnd)
        for key, value in values.items():
            if value is not None:
                out.diagnostics[f"{key}/{step}"] = value.detach().float()
