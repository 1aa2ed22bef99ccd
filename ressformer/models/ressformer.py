"""ReSSFormer: one block applied K times, with memory (R2MU), sparse attention (ASAM) and an induced graph (SOES).

A re-implementation from the public description (You & Liu, arXiv 2510.01585); where that is silent the reading is
ours, each reading is a switch, and the defaults are the faithful variant:

    H(0) = X,  H(t+1) = Block(H(t), M(t)),  t = 0..K-1                                        (eq. 1)
    Block: h = h + Attention(norm(h), cache, slots);  h = h + Experts(norm(h))

The same weights run at every step, gradients flow through all K of them, and there is no positional encoding. The parts
are `layers/sparse` (attention, memory, graph) and `layers/experts`.

Shapes: B batch, n length, d width, K steps, m slots, r edge rank. (longer than 300 lines: a model is one file, and this
one has the most dials.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ressformer.cost import Cost, Shape, Spread, group, norm
from ressformer.decoder import Core, CoreOutput, ModelConfig, mean_cosine
from ressformer.dials import DEPTH, LAST, TRIM, Dial, around, of_experts, with_own
from ressformer.layers.experts.moe import MixtureOfExperts, MoEConfig, moe_cost
from ressformer.layers.norms import make_norm
from ressformer.layers.short_conv import short_conv, short_conv_cost
from ressformer.layers.sparse.attention import SparseAttention
from ressformer.layers.sparse.config import CACHE_STEPS, SELECTIONS, SelectionConfig, cache_ages
from ressformer.layers.sparse.cost import sparse_attention_cost
from ressformer.layers.sparse.entmax import ACTIVATIONS
from ressformer.layers.sparse.graph import EdgeScorer, edge_cost
from ressformer.layers.sparse.heads import TokenCache
from ressformer.layers.sparse.memory import POOLS, Memory, SegmentMemory, memory_cost


@dataclass(frozen=True, kw_only=True)
class ReSSFormerConfig(ModelConfig):
    """Dials of ReSSFormer.

    Attributes:
        steps: K in training.
        eval_steps: K at evaluation; 0 = the same.
        shared: one block, applied K times; otherwise K blocks with weights of their own (no loop; one memory unit).
        activation: softmax | sparsemax | entmax15, over selected keys, cache and slots together (eq. 4).
        selection: token (the best keys) | block (whole blocks of keys) | all (dense: a control).
        top_k: keys selected per query (eq. 5), shared by the heads; read by selection=token.
        top_k_per_head: each head selects top_k keys of its own, by the score that it attends with (q.k and, with
            graph=edges, the edge), not by the edges alone; needs selection=token.
        block: tokens of a block; read by selection=block.
        blocks: blocks that a query reads, its own included; read by selection=block.
        cache: tokens in the token cache, self included; 0 = off (sets, tables, graphs).
        cache_step: current | previous, the step of the loop whose states the cache holds. The paper's M(t) has a cache
            of recent representations and is made of H(1..t). With previous, a token reads its neighbours' keys, values
            and edges as step t - 1 computed them, itself as it is at step t, and the first step, which has none before
            it, reads the present ones. Needs a loop (shared=true) and a cache of two tokens or more.
        cache_lean: initial logit bias of half of the heads towards the cache's ages 1, 2, ...; 0 = none.
        memory_slots: m; 0 = off.
        memory_segment: tokens per memory segment (causal).
        memory_pool: attention | mean | topk (eq. 2).
        graph: edges (low-rank, eq. 7) | attention (the attention is the graph) | none.
        edge_rank: r.
        edge_similarity: U starts equal to V: edges begin by joining like to like.
        structure: weight of the structure loss (eq. 8).
        ffn: experts | dense, one network of the active size top_e * d_expert.
        n_experts, top_e, d_expert: experts, experts per token, width of one; n_experts=1 is a dense network, too.
        balance, router_z: weights of the router's losses.
        expert_copies: experts begin as copies of one network (the paper is silent; independent experts leave the
            plateau of recall later, docs/ressformer.md).
        input_injection: add the embeddings to every step's input (not in the faithful variant).
        step_embedding: add a learned vector per step (not in the faithful variant).
    """

    family: ClassVar[str] = "ressformer"
    version: ClassVar[int] = 2
    fill: ClassVar[str] = "d_expert"
    depth_field: ClassVar[str] = "steps"
    help_fields: ClassVar[Mapping[str, Any]] = {
        **ModelConfig.help_fields,
        "cache_lean": 0.0,
        "edge_similarity": False,
        "expert_copies": False,
    }
    switches: ClassVar[Mapping[str, str]] = {
        **ModelConfig.switches,
        "steps": "depth of the loop",
        "eval_steps": "depth of the loop at evaluation",
        "top_k": "how many keys the sparse attention reads",
        "top_k_per_head": "which score selects the keys that a head reads",
        "block": "how many tokens a selected block has",
        "blocks": "how many blocks a query reads",
        "cache_step": "which step's states the token cache holds",
        "memory_segment": "how many tokens a memory is pooled over",
        "top_e": "how many experts a token passes through",
        "input_injection": "a residual path of the loop",
    }

    steps: int = 4
    eval_steps: int = 0
    shared: bool = True
    activation: str = "entmax15"
    selection: str = "token"
    top_k: int = 16
    top_k_per_head: bool = False
    block: int = 64
    blocks: int = 4
    cache: int = 8
    cache_step: str = "current"
    cache_lean: float = 4.0
    memory_slots: int = 4
    memory_segment: int = 16
    memory_pool: str = "attention"
    graph: str = "edges"
    edge_rank: int = 16
    edge_similarity: bool = True
    structure: float = 1e-2
    ffn: str = "experts"
    n_experts: int = 4
    top_e: int = 1
    d_expert: int = 256
    balance: float = 1e-2
    router_z: float = 1e-3
    expert_copies: bool = True
    input_injection: bool = False
    step_embedding: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.choice("activation", ACTIVATIONS)
        self.choice("memory_pool", POOLS)
        self.choice("selection", SELECTIONS)
        self.choice("cache_step", CACHE_STEPS)
        self.choice("graph", ("edges", "attention", "none"))
        self.choice("ffn", ("experts", "dense"))
        sizes = ("steps", "top_k", "block", "blocks", "memory_segment", "edge_rank", "n_experts", "top_e", "d_expert")
        for key in sizes:
            self.require(getattr(self, key) >= 1, f"{key} must be at least 1, got {getattr(self, key)}")
        for key in ("eval_steps", "cache", "memory_slots", "structure", "balance", "router_z"):
            self.require(getattr(self, key) >= 0, f"{key} must not be negative, got {getattr(self, key)}")
        self.require(
            self.top_e <= self.n_experts,
            f"top_e={self.top_e} exceeds n_experts={self.n_experts}; lower top_e",
        )
        self.require(
            not self.top_k_per_head or self.selection == "token",
            f"top_k_per_head=true selects tokens, and selection={self.selection}; set selection=token",
        )
        self.require(
            self.cache_step == "current" or (self.shared and self.cache > 1),
            f"cache_step=previous needs a loop and neighbours in the cache, and shared={str(self.shared).lower()} "
            f"cache={self.cache}; set shared=true and cache=2 or more",
        )
        self.require(
            self.shared or self.eval_steps in (0, self.steps),
            f"eval_steps={self.eval_steps} needs a loop; set shared=true, or eval_steps=0",
        )
        self.require(
            self.steps > 1 or self.eval_steps <= 1 or not self.memory_slots,
            f"eval_steps={self.eval_steps} needs the gate between memories, which steps=1 does not train; set steps=2 "
            "or more, or memory_slots=0",
        )

    def helps(self) -> dict[str, Any]:
        """Less those whose part is not built."""
        idle = {"cache_lean": not self.cache, "edge_similarity": self.graph != "edges"}
        idle["expert_copies"] = self.ffn == "dense" or self.n_experts == 1
        return {key: value for key, value in super().helps().items() if not idle.get(key)}

    @property
    def position_free(self) -> bool:
        return not self.cache and not self.short_conv

    @property
    def moe(self) -> MoEConfig:
        dense = self.ffn == "dense"
        return MoEConfig(
            n_experts=1 if dense else self.n_experts,
            top_e=1 if dense else self.top_e,
            d_expert=self.top_e * self.d_expert if dense else self.d_expert,
            balance=self.balance,
            router_z=self.router_z,
            expert_copies=self.expert_copies,
        )

    @property
    def selection_config(self) -> SelectionConfig:
        return SelectionConfig(
            selection=self.selection,
            top_k=self.top_k,
            top_k_per_head=self.top_k_per_head,
            block=self.block,
            blocks=self.blocks,
            cache=self.cache,
            cache_step=self.cache_step,
            cache_lean=self.cache_lean,
            activation=self.activation,
            attention_graph=self.graph == "attention",
        )

    def build_core(self, *, length: int, max_length: int, causal: bool) -> Core:
        return ReSSFormerCore(self, causal=causal)

    def core_cost(self, shape: Shape) -> Cost:
        d, memory = self.d_model, None
        if self.memory_slots:
            dials = {"slots": self.memory_slots, "segment": self.memory_segment}
            memory = memory_cost(shape, d, pool=self.memory_pool, **dials).children
        if self.shared:
            parts = [self._step_cost("block", shape, memory[0] if memory else None).times(self.steps)]
        else:
            # The memory's weights are there once, whoever runs them.
            first = self._step_cost("block_1", shape, memory[0] if memory else None)
            later = self._step_cost("block", shape, replace(memory[0], params=0)) if memory else first
            parts = [first, *(later.named(f"block_{i + 1}") for i in range(1, self.steps))]
        if memory and self.steps > 1:
            # The gate mixes with the step before: K - 1 runs, and none to build where K = 1.
            parts.append(replace(memory[1], flops=memory[1].flops * (self.steps - 1)))
        if self.step_embedding:
            parts.append(Cost(name="step_embedding", params=self.steps * d))
        return group("core", *parts)

    @property
    def looped(self) -> bool:
        return self.shared

    @property
    def eval_depth(self) -> int:
        return self.eval_steps or self.steps

    def _step_cost(self, name: str, shape: Shape, pool: Cost | None) -> Cost:
        n, d = shape.length, self.d_model
        ages = len(cache_ages(self.cache, shape.causal)) * self.n_heads if self.cache else 0
        rank = self.edge_rank if self.graph == "edges" else 0
        dials = {"slots": self.memory_slots, "segment": self.memory_segment, "heads": self.n_heads}
        attention = sparse_attention_cost(shape, d, self.selection_config, edge_rank=rank, **dials)
        block = [norm("attention_norm", d), Cost(name="age_bias", params=ages), attention, norm("ff_norm", d)]
        block += [short_conv_cost(n, d, self.short_conv)] if self.short_conv else []
        block += [edge_cost(n, d, rank)] if rank else []
        block += [pool] if pool else []
        return group(name, *block, moe_cost(n, d, self.moe))

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
        read = {"token": self.top_k + self.cache, "block": self.blocks * self.block + self.cache, "all": n}
        keys = min(n, read[self.selection]) + self.memory_slots
        most = 2.0 * self.d_model * keys * rows
        least = most if self.activation == "softmax" else 2.0 * self.d_model * rows
        support = Spread("products with the values of the support", "FLOPs", least, most, most)
        if self.moe.n_experts == 1:
            return (support,)
        even = n * self.top_e / self.n_experts
        load = Spread("rows of the fullest expert, a step", "rows", even, even, float(n))
        return support, load

    def at_depth(self, depth: int) -> Self | None:
        gateless = self.steps == 1 and self.memory_slots and depth > 1
        return replace(self, steps=depth, eval_steps=0) if depth >= 1 and self.shared and not gateless else None

    def dials(self) -> tuple[Dial, ...]:
        fill, width = super().dials()
        routed, each = of_experts(self.n_experts, self.top_e)
        ranks = with_own(range(self.edge_rank // 2, 2 * self.edge_rank + 1, 4), self.edge_rank)
        edges = Dial(name="edge_rank", values=ranks, rank=TRIM, affine=True, ordinary=self.edge_rank, smooth=8)
        turns = range(2, 4 * self.steps + 1)  # the cost of two blocks is quicker to measure than that of many
        steps = Dial(name="steps", values=turns, rank=DEPTH, affine=True, anchors=(2, 3), ordinary=self.steps)
        read = {"token": ("top_k", self.top_k), "block": ("blocks", self.blocks)}.get(self.selection)
        keys = (Dial(name=read[0], values=around(read[1]), rank=LAST, ordinary=read[1]),) if read else ()
        experts = (routed, each) if self.moe.n_experts > 1 else ()
        return fill, *experts, *((edges,) if self.graph == "edges" else ()), steps, width, *keys


class Step(nn.Module):
    """The block of equation (1): memory, attention and experts, each with its residual.

    Args:
        memory: the memory to use; None = one of its own, where the config has any.
    """

    def __init__(self, config: ReSSFormerConfig, memory: SegmentMemory | None, *, causal: bool) -> None:
        super().__init__()
        d, scale = config.d_model, 1.0 / math.sqrt(2 * config.steps)
        self.config = config
        self.attention_norm = make_norm(config.norm, d)
        self.conv = short_conv(d, config.short_conv)
        self.edges: EdgeScorer | None = None
        if config.graph == "edges":
            self.edges = EdgeScorer(d, config.edge_rank, similarity=config.edge_similarity)
        if memory is None and config.memory_slots:
            dials = {"slots": config.memory_slots, "segment": config.memory_segment}
            memory = SegmentMemory(d, pool=config.memory_pool, causal=causal, gated=config.steps > 1, **dials)
        self.memory = memory
        self.attention = SparseAttention(d, config.n_heads, config.selection_config, causal=causal, out_scale=scale)
        self.ff_norm = make_norm(config.norm, d)
        self.experts = MixtureOfExperts(d, config.moe, out_scale=scale)

    def forward(self, h_Bnd: Tensor, mask_Bn: Tensor | None, state: State, *, diagnose: bool) -> tuple[Tensor, State]:
        """H(t+1) and what the next step gets from this one."""
        x_Bnd = self.conv(self.attention_norm(h_Bnd))
        edges = self.edges(x_Bnd) if self.edges is not None else None
        memory = self.memory(x_Bnd, mask_Bn, state.memory) if self.memory is not None else None
        wanted = bool(self.config.structure) or diagnose
        how = {"diagnose": diagnose, "want_graph": wanted}
        attended = self.attention(x_Bnd, mask_Bn, edges, memory, before=state.cache, **how)
        h_Bnd = h_Bnd + attended.y_Bnd
        y_Bnd, losses, load_E = self.experts(self.ff_norm(h_Bnd), mask_Bn)
        turnover: Tensor | None = None
        if state.graph is not None and attended.graph is not None:
            change, turnover = attended.graph.change(state.graph, mask_Bn)
            losses["structure"] = self.config.structure * change
        load_max = load_E.max() if diagnose else None
        seen = {"load_max": load_max, "support": attended.support, "support_full": attended.full}
        seen["edge_turnover"] = turnover
        return h_Bnd + y_Bnd, State(memory, attended.graph, losses, seen, attended.cache)


@dataclass
class State:
    """What a step hands on: memory, graph and token cache for the next, losses and diagnostics for the log."""

    memory: Memory | None = None
    graph: Any = None
    losses: dict[str, Tensor] = field(default_factory=dict)
    seen: dict[str, Tensor | None] = field(default_factory=dict)
    cache: TokenCache | None = None


class ReSSFormerCore(Core):
    """The loop and its block; or, not shared, its K blocks."""

    def __init__(self, config: ReSSFormerConfig, *, causal: bool) -> None:
        super().__init__()
        self.config = config
        first = Step(config, None, causal=causal)
        others = [Step(config, first.memory, causal=causal) for _ in range(0 if config.shared else config.steps - 1)]
        self.blocks = nn.ModuleList([first, *others])
        self.step_vectors_Kd = (
            nn.Parameter(torch.zeros(config.steps, config.d_model)) if config.step_embedding else None
        )

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> CoreOutput:
        config = self.config
        steps = config.steps if self.training else self.eval_depth or config.eval_steps or config.steps
        out, state = CoreOutput(x_Bnd), State()
        for step in range(steps):
            h_Bnd = out.h_Bnd
            if config.input_injection and step:
                h_Bnd = h_Bnd + x_Bnd
            if self.step_vectors_Kd is not None:
                # Beyond the trained K the last step's vector goes on: test-time K is its own axis.
                h_Bnd = h_Bnd + self.step_vectors_Kd[min(step, config.steps - 1)]
            block = self.blocks[step if len(self.blocks) > 1 else 0]
            out.h_Bnd, state = block(h_Bnd, mask_Bn, state, diagnose=self.diagnose)
            for key, value in state.losses.items():
                out.aux_losses[key] = out.aux_losses.get(key, 0.0) + value / steps
            if self.diagnose:
                seen = {**state.seen, "cosine": mean_cosine(out.h_Bnd)}
                found = {f"{key}/{step + 1}": value for key, value in seen.items() if value is not None}
                out.diagnostics |= {key: value.detach().float() for key, value in found.items()}
        return out
