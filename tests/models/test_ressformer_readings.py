"""ReSSFormer's readings of keys per head and of a cache of earlier states, against a plain loop over the paper's words.

The oracle has no index tables: it lists the keys of each query and head in Python, and recomputes what the cache holds
from the hidden states of the step before.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from randomised import randomised
from torch import Tensor

from ressformer.layers.sparse.attention import SparseAttention
from ressformer.layers.sparse.entmax import normalise
from ressformer.layers.sparse.memory import Memory
from ressformer.models.ressformer import ReSSFormerConfig, ReSSFormerCore

VOCAB = 17
SMALL = ReSSFormerConfig(
    d_model=8, n_heads=2, steps=3, top_k=3, cache=3, edge_rank=3, ffn="dense", d_expert=8, memory_slots=2,
    memory_segment=4, memory_pool="mean", structure=1.0, activation="sparsemax",
)  # fmt: skip
READINGS: list[dict[str, Any]] = [
    {"top_k_per_head": True},
    {"top_k_per_head": True, "graph": "attention", "activation": "entmax15"},
    {"top_k_per_head": True, "graph": "none", "cache": 0},
    {"top_k_per_head": True, "cache": 0, "memory_slots": 0, "activation": "softmax"},
    {"cache_step": "previous"},
    {"cache_step": "previous", "graph": "none", "memory_slots": 0, "activation": "entmax15"},
    {"cache_step": "previous", "selection": "all", "cache": 2},
    {"cache_step": "previous", "top_k_per_head": True, "input_injection": True},
    {},  # the oracle against the defaults
]


def build(config: ReSSFormerConfig, length: int, *, causal: bool, seed: int = 0) -> ReSSFormerCore:
    core = randomised(config, length, vocab=VOCAB, causal=causal, seed=seed).double().core
    assert isinstance(core, ReSSFormerCore)
    return core


def plain_attention(
    layer: SparseAttention,
    now: tuple[Tensor, Tensor | None, Tensor | None],
    before: tuple[Tensor, Tensor | None, Tensor | None],
    memory: Memory | None,
    alive_Bn: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, the graph of each head [B, H, n, n], and where it has an edge; `now`, `before`: x, a, b of a step."""
    (batch, n, d), heads, config = now[0].shape, layer.n_heads, layer.config
    wide = d // heads
    rows: dict[tuple[int, int, int], Tensor] = {}
    graph, kept = torch.zeros(batch, heads, n, n, dtype=torch.double), torch.zeros(batch, heads, n, n).bool()
    for b in range(batch):
        tables = [[part.split(wide, -1) for part in layer.qkv(x[b]).split(d, -1)] for x in (now[0], before[0])]
        (q, k, v), (_, k_was, v_was) = tables
        edge = edge_was = torch.zeros(n, n, dtype=torch.double)
        if now[1] is not None and now[2] is not None and before[2] is not None:
            edge, edge_was = now[1][b] @ now[2][b].T, now[1][b] @ before[2][b].T
        logits = [q[h] @ k[h].T / math.sqrt(wide) for h in range(heads)]
        for h in range(heads):
            if config.top_k_per_head:
                choosing = logits[h] + edge
            else:
                choosing = edge if now[1] is not None else sum(logits, torch.zeros(n, n))
            order = choosing.tolist()
            for i in range(n):
                seen = [j for j in range(n) if alive_Bn[b, j] and (j <= i or not layer.causal)]
                far = [j for j in seen if abs(i - j) >= config.cache]
                far.sort(key=lambda j: math.inf if j == i else order[i][j], reverse=True)
                best = far if config.selection == "all" else far[: config.top_k]
                scores, values = [logits[h][i, j] + edge[i, j] for j in best], [v[h][j] for j in best]
                for j in (j for j in seen if abs(i - j) < config.cache):
                    bias = layer.age_bias_Hw[h, layer.ages.index(i - j)]
                    if j == i or config.cache_step == "current":
                        scores.append(logits[h][i, j] + edge[i, j] + bias)
                        values.append(v[h][j])
                    else:
                        scores.append(q[h][i] @ k_was[h][j] / math.sqrt(wide) + edge_was[i, j] + bias)
                        values.append(v_was[h][j])
                if memory is not None and memory.readable_n[i]:
                    slots = memory.slots_BGmd[b, i // memory.size] @ layer.qkv.weight[d:].T
                    scores += list(slots[:, :d].split(wide, -1)[h] @ q[h][i] / math.sqrt(wide))
                    values += list(slots[:, d:].split(wide, -1)[h])
                if not scores:
                    rows[b, h, i] = torch.zeros(wide, dtype=torch.double)
                    continue
                p = normalise(torch.stack(scores), config.activation)
                rows[b, h, i] = p @ torch.stack(values)
                weight = p[: len(best)]
                if not config.attention_graph and best:
                    weight = normalise(torch.stack([edge[i, j] for j in best]), config.activation)
                if alive_Bn[b, i]:
                    graph = graph.index_put(tuple(map(torch.tensor, (b, h, i, best))), weight) if best else graph
                    kept[b, h, i, best] = True
    y = torch.stack(
        [torch.stack([torch.cat([rows[b, h, i] for h in range(heads)]) for i in range(n)]) for b in range(batch)]
    )
    return layer.out(y), graph, kept


def plain_core(core: ReSSFormerCore, x_Bnd: Tensor, alive_Bn: Tensor) -> tuple[Tensor, Tensor]:
    """H(K) and the structure loss."""
    config, block = core.config, core.blocks[0]
    h, memory, before, last, loss = x_Bnd, None, None, None, torch.zeros((), dtype=torch.double)
    for step in range(config.steps):
        h = h + x_Bnd if config.input_injection and step else h
        x = block.attention_norm(h)
        now = (x, *(block.edges(x) if block.edges is not None else (None, None)))
        memory = block.memory(x, alive_Bn, memory) if block.memory is not None else None
        y, graph, kept = plain_attention(block.attention, now, before or now, memory, alive_Bn)
        h = h + y
        h = h + block.experts(block.ff_norm(h), alive_Bn)[0]
        if not config.top_k_per_head and config.graph == "attention":
            graph = graph.mean(1, keepdim=True)
        if last is not None and config.graph != "none":
            first = slice(0, None if config.top_k_per_head else 1)  # the heads' graphs are one
            union = (kept | last[1])[:, first].sum()
            loss = loss + (graph - last[0])[:, first].square().sum() / union / config.steps
        before, last = now, (graph, kept)
    return h, loss


@pytest.mark.parametrize("reading", READINGS, ids=str)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_each_reading_is_the_plain_loop_forward_and_backward(
    reading: dict[str, Any], causal: bool, padded: bool
) -> None:
    draw = random.Random(f"{reading}{causal}{padded}")
    length = draw.choice([9, 11, 13])
    core = build(replace(SMALL, **reading), length, causal=causal, seed=draw.randrange(99))
    x = torch.randn(2, length, SMALL.d_model, dtype=torch.double, requires_grad=True)
    alive = torch.arange(length) < torch.tensor([[length], [length - 4 * padded]])
    out = core(x, alive if padded else None)
    mine = [out.h_Bnd * alive.unsqueeze(-1), out.aux_losses.get("structure", torch.zeros(()))]
    h, loss = plain_core(core, x, alive)
    theirs = [h * alive.unsqueeze(-1), loss]
    assert torch.allclose(mine[0], theirs[0], atol=1e-9) and abs(mine[1] - theirs[1]) < 1e-9
    weigh = torch.randn_like(h)
    leaves = [x, *core.parameters()]
    slopes = [
        torch.autograd.grad((y * weigh).sum() + loss, leaves, allow_unused=True, materialize_grads=True)
        for y, loss in (mine, theirs)
    ]
    assert all(torch.allclose(one, two, atol=1e-8) for one, two in zip(*slopes, strict=True))
    assert slopes[0][0].abs().sum() > 0


def test_heads_choose_keys_of_their_own_by_more_than_the_edges() -> None:
    """The keys of two heads differ, and so do those of one set of edges under other queries."""
    core = build(replace(SMALL, top_k_per_head=True), 21, causal=True)
    block = core.blocks[0]
    x = torch.randn(1, 21, SMALL.d_model, dtype=torch.double)
    graph = block.attention(x, None, block.edges(x), None).graph
    assert graph.idx_Bnk.shape == (2, 21, 3) and not torch.equal(*graph.idx_Bnk)


def test_one_head_without_a_graph_chooses_as_ever() -> None:
    outs = []
    for own in (False, True):
        config = replace(SMALL, n_heads=1, graph="none", top_k_per_head=own)
        outs.append(build(config, 19, causal=True)(torch.randn(1, 19, 8).double() * 0 + torch.eye(19, 8), None).h_Bnd)
    assert torch.allclose(*outs, atol=1e-12)


@pytest.mark.parametrize("selection", ["token", "block", "all"])
def test_the_first_step_has_no_earlier_states_and_the_second_reads_them(selection: str) -> None:
    x = torch.randn(2, 15, 8, dtype=torch.double)
    for steps, same in ((1, True), (2, False)):
        config = replace(SMALL, steps=steps, selection=selection, block=4, blocks=2)
        now, was = (build(replace(config, cache_step=step), 15, causal=True) for step in ("current", "previous"))
        assert torch.allclose(now(x, None).h_Bnd, was(x, None).h_Bnd, atol=1e-9) == same


def test_all_blocks_are_dense_attention_with_earlier_states_too() -> None:
    x = torch.randn(2, 15, 8, dtype=torch.double)
    dense, blocks = (
        build(replace(SMALL, cache_step="previous", block=4, **variant), 15, causal=True)(x, None).h_Bnd
        for variant in ({"selection": "all"}, {"selection": "block", "blocks": 4})
    )
    assert torch.allclose(dense, blocks, atol=1e-9)


@pytest.mark.parametrize("reading", [{"top_k_per_head": True}, {"cache_step": "previous"}])
def test_a_reading_changes_no_weight_that_a_model_starts_with(reading: dict[str, Any]) -> None:
    make = partial(ReSSFormerConfig, d_model=16, n_heads=2, d_expert=8)
    weights = []
    for config in (make(), make(**reading)):
        torch.manual_seed(0)
        weights.append(config.build_core(length=9, max_length=9, causal=True).state_dict())
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ({"top_k_per_head": True, "selection": "block"}, "selection=block; set selection=token"),
        ({"top_k_per_head": True, "selection": "all"}, "selection=all; set selection=token"),
        ({"cache_step": "previous", "shared": False}, "shared=false cache=8; set shared=true"),
        ({"cache_step": "previous", "cache": 1}, "cache=1; set shared=true and cache=2 or more"),
        ({"cache_step": "earlier"}, "cache_step"),
    ],
)
def test_what_a_reading_cannot_do_is_refused_in_one_line(refused: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        ReSSFormerConfig(**refused)
    assert "\n" not in str(error.value)
