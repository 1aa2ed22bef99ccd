"""What a model costs: parameters, FLOPs and bytes, in closed form and counted.

Convention, in words. A FLOP is one multiplication or one addition; a multiply-accumulate is 2. Every matrix
product is charged: projections, attention scores and values, selection scores, routers, memory, the output head.
The embedding look-up costs 0 FLOPs; norms, activations, softmax and entmax are not charged (they are linear
in quantities already counted and no counter charges them). Sorting, gathering and top-k are charged as bytes moved.

*Useful* FLOPs count the (query, key) pairs that may influence the output: the causal half, the window, the selected
keys. *Executed* FLOPs count what the kernels are handed: padding of blocks and masked pairs included. Both are
per sequence and forward; training costs 3x the forward pass (one product forward, two backward) except for
products without gradient (selection by score), which cost 1x. A weight used K times costs K times (repeats).

Shapes: B batch, n length, d width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a model is run on: `batch` sequences of `length` tokens out of `vocab`, causal or not.

    `max_length` is the longest sequence the model must be able to read (learned positions need a row each).
    """

    batch: int
    length: int
    vocab: int
    causal: bool = True
    max_length: int = 0

    def __post_init__(self) -> None:
        for key in ("batch", "length", "vocab"):
            if getattr(self, key) < 1:
                raise ValueError(f"shape.{key} must be at least 1, got {getattr(self, key)}")

    @property
    def positions(self) -> int:
        """Rows of a learned position table: the longest length known."""
        return max(self.max_length, self.length)


class Row(NamedTuple):
    """One line of a cost tree; FLOPs are forward, per sequence, with the repeats of all parents applied."""

    depth: int
    name: str
    params: int
    flops: float
    executed: float
    train_flops: float
    bytes_moved: float
    repeats: int
    train_executed: float
    params_non_embedding: int
    active: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A node of the cost tree. Own figures are those of one application; `repeats` multiplies compute, not weights.

    Sums are kept once asked for, so layers that share their children cost one sum.

    Attributes:
        params: weights held by this node itself (children apart).
        embedding: how many of `params` are look-up tables (token and position embeddings).
        active: weights that one token passes through (differs from `params` for experts); None = all.
        flops: useful forward FLOPs per sequence.
        executed: FLOPs handed to kernels per sequence; None = the same as `flops`.
        backward: useful FLOPs of the backward pass; None = 2x forward (one product for each operand's gradient).
        executed_backward: FLOPs handed to kernels in the backward pass; None = 2x `executed`, or the useful ones where
            `executed` is None, too.
        recomputed: the backward pass first runs this node and its children forward again (reversible layers). That is
            executed, not useful: it buys memory.
        bytes_moved: bytes read and written by sort, gather and top-k, forward, per sequence.
        repeats: how often the node runs per forward pass (loop steps).
    """

    name: str
    params: int = 0
    embedding: int = 0
    active: int | None = None
    flops: float = 0.0
    executed: float | None = None
    backward: float | None = None
    executed_backward: float | None = None
    recomputed: bool = False
    bytes_moved: float = 0.0
    repeats: int = 1
    children: tuple[Cost, ...] = ()

    @cached_property
    def params_total(self) -> int:
        """All weights, each counted once however often it is used."""
        return self.params + sum(c.params_total for c in self.children)

    @cached_property
    def params_embedding(self) -> int:
        return self.embedding + sum(c.params_embedding for c in self.children)

    @cached_property
    def params_non_embedding(self) -> int:
        """All weights less token and position tables (a tied head counts as embedding)."""
        return self.params_total - self.params_embedding

    @cached_property
    def params_active(self) -> int:
        """Non-embedding weights that one token passes through, each once."""
        own = self.params - self.embedding if self.active is None else self.active
        return own + sum(c.params_active for c in self.children)

    @cached_property
    def flops_forward(self) -> float:
        """Useful forward FLOPs per sequence."""
        return self.repeats * (self.flops + sum(c.flops_forward for c in self.children))

    @cached_property
    def flops_forward_executed(self) -> float:
        """Forward FLOPs per sequence as handed to the kernels."""
        own = self.flops if self.executed is None else self.executed
        return self.repeats * (own + sum(c.flops_forward_executed for c in self.children))

    @cached_property
    def flops_train(self) -> float:
        """Useful FLOPs of one training step, forward and backward, per sequence."""
        own = self.flops + (2 * self.flops if self.backward is None else self.backward)
        return self.repeats * (own + sum(c.flops_train for c in self.children))

    @cached_property
    def flops_train_executed(self) -> float:
        """FLOPs of one training step as handed to the kernels, per sequence."""
        own = self.flops if self.executed is None else self.executed
        if self.executed_backward is not None:
            own += self.executed_backward
        elif self.executed is None and self.backward is not None:
            own += self.backward
        else:
            own *= 3
        again = self.flops_forward_executed if self.recomputed else 0.0
        return again + self.repeats * (own + sum(c.flops_train_executed for c in self.children))

    @cached_property
    def bytes_total(self) -> float:
        """Bytes moved by sort, gather and top-k, forward, per sequence."""
        return self.repeats * (self.bytes_moved + sum(c.bytes_total for c in self.children))

    def times(self, repeats: int) -> Cost:
        """The same node run `repeats` times per forward pass with the same weights (a loop)."""
        return replace(self, repeats=self.repeats * repeats)

    def named(self, name: str) -> Cost:
        """The same node under another name; what was added up for it stays known."""
        twin = copy(self)
        object.__setattr__(twin, "name", name)
        return twin

    def rows(self, depth: int = 0, factor: int = 1) -> Iterator[Row]:
        """The tree, depth first, parents before children; a parent's figures include its children's."""
        yield Row(
            depth,
            self.name,
            self.params_total,
            factor * self.flops_forward,
            factor * self.flops_forward_executed,
            factor * self.flops_train,
            factor * self.bytes_total,
            factor * self.repeats,
            factor * self.flops_train_executed,
            self.params_non_embedding,
            self.params_active,
        )
        for child in self.children:
            yield from child.rows(depth + 1, factor * self.repeats)


class Spread(NamedTuple):
    """A figure that depends on the data: its least, what is charged for it, its most."""

    name: str
    unit: str
    best: float
    charged: float
    worst: float


def group(name: str, *children: Cost, repeats: int = 1) -> Cost:
    """A node that only holds others."""
    return Cost(name=name, children=children, repeats=repeats)


def linear(name: str, tokens: int, d_in: int, d_out: int) -> Cost:
    """A bias-free matrix product applied to `tokens` rows: 2 * tokens * d_in * d_out FLOPs."""
    return Cost(name=name, params=d_in * d_out, flops=2.0 * tokens * d_in * d_out)


def norm(name: str, width: int) -> Cost:
    """A gain-only norm: weights, no charged FLOPs."""
    return Cost(name=name, params=width)


def pairs_causal(n: int) -> int:
    """(query, key) pairs with key <= query."""
    return n * (n + 1) // 2


class Costed(Protocol):
    """What the cost of a whole model is made from; every `ressformer.decoder.ModelConfig` has it."""

    @property
    def family(self) -> str:
        """The name of the model's family."""

    @property
    def d_model(self) -> int:
        """Width d."""

    @property
    def tie_embeddings(self) -> bool:
        """Whether the head is the token embedding."""

    def core_cost(self, shape: Shape) -> Cost:
        """The cost of the core, per sequence."""


def model_cost(config: Costed, shape: Shape) -> Cost:
    """The closed-form cost of the whole model: embedding, core, final norm, head.

    Args:
        config: a model's config; its `core_cost(shape)` describes the core.
        shape: what the model is run on.

    Returns:
        The cost tree, per sequence.
    """
    if (whole := getattr(config, "whole_cost", None)) is not None:  # a decoder that brings its own embedding and head
        return whole(shape)  # type: ignore[no-any-return]
    d, n = config.d_model, shape.length
    head_params = 0 if config.tie_embeddings else d * shape.vocab
    return group(
        config.family,
        Cost(name="embedding", params=shape.vocab * d, embedding=shape.vocab * d),
        config.core_cost(shape),
        norm("final_norm", d),
        Cost(name="head", params=head_params, embedding=head_params, flops=2.0 * n * d * shape.vocab),
    )
