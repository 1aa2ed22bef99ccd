"""Directed graphs as shuffled edge lists, for the tasks `reachability` and `shortest_path`.

    EDGE a b  EDGE b c  EDGE d a  ASK a c -> answer

Node names are drawn anew for each item. Train and test/id have nodes_min to nodes_max nodes and 1 to 1.25 edges per
node; test/ood_near up to 1.5 times, test/ood_far 2 to 3 times as many nodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.base import require
from tasks.codec import Fact
from tasks.facts import FactTask
from tasks.graphs import graph_name
from tasks.item import Item
from tasks.puzzles import FactConfig
from tasks.shortcuts import Floats, hits
from tasks.stream import Stream

Edge = tuple[int, int]
STRAIGHT = 0.75  # share of nodes that follow the one before: the more, the longer the paths
SPAN = 4


@dataclass(frozen=True, kw_only=True)
class GraphConfig(FactConfig):
    """Sizes. Raises ValueError when there are too few nodes, or fewer names than the largest graph has nodes."""

    length: int = 64
    ood_length: int = 136
    nodes_min: int = 5
    nodes_max: int = 10
    n_names: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.nodes_min >= 4, f"nodes_min={self.nodes_min} is too small: use 4 or more")
        require(
            self.nodes_max >= self.nodes_min,
            f"nodes_max={self.nodes_max} is below nodes_min={self.nodes_min}: use {self.nodes_min} or more",
        )
        require(
            self.n_names >= 3 * self.nodes_max,
            f"n_names={self.n_names} is too small for the {3 * self.nodes_max} nodes of test/ood_far: "
            f"use n_names >= {3 * self.nodes_max}",
        )


class GraphTask(FactTask):
    """What the two tasks share."""

    renamed = ("node",)
    same_item = "nodes, the order of edges, and the questions"
    buckets = ("nodes",)
    Config = GraphConfig
    config: GraphConfig

    def nodes(self, level: int) -> tuple[int, int]:
        """Fewest and most nodes of a level."""
        c = self.config
        near = -(-3 * c.nodes_max // 2)
        return [(c.nodes_min, c.nodes_max), (c.nodes_max + 1, near), (2 * c.nodes_max + 1, 3 * c.nodes_max)][level]

    def largest(self, level: int) -> int:
        """See `FactTask.largest`."""
        return 5 * self.nodes(level)[1] // 4 * self.codec.width("edge") + 2 * self.codec.width("ask")

    def sizes(self, stream: Stream, level: int) -> tuple[int, ...]:
        """Nodes and edges."""
        nodes = stream.between(*self.nodes(level))
        return nodes, stream.between(nodes, 5 * nodes // 4)

    def kinds(self) -> dict[str, tuple[str, ...]]:
        """See `FactTask.kinds`."""
        return {"edge": ("node", "node"), "ask": ("node", "node")}

    def extra(self, facts: list[Fact], questions: list[Fact], stream: Stream) -> list[Fact]:
        """Edges among nodes that the graph does not have: a component of its own."""
        used = {node for _, pair in facts for node in pair}
        spare = [node for node in range(self.config.n_names) if node not in used]
        pairs = [(u, v) for u in spare for v in spare if u != v]
        return [("edge", pair) for pair in stream.sample(pairs, min(len(facts), len(pairs)))]

    def name_of(self, facts: Sequence[Fact], questions: Sequence[Fact]) -> str:
        """See `FactTask.name_of`: the graph alone, whatever is asked about it."""
        return canonical([(pair[0], pair[1]) for _, pair in facts])

    def score_rule(self, guess: Callable[[list[Edge], Edge], int]) -> Callable[[Item], Floats]:
        """A shortcut from edges and one question to an answer."""

        def expected(item: Item) -> Floats:
            facts, questions = self.parts(item)
            edges = [(pair[0], pair[1]) for _, pair in facts]
            first = self.codec.first[self.answers["ask"]]
            return hits(guess(edges, (q[0], q[1])) == item.labels[place] - first for _, q, place in questions)

        return expected


def random_edges(stream: Stream, nodes: int, edges: int) -> list[Edge]:
    """A thin tree, and some short cuts of up to SPAN nodes along its direction.

    So there are long paths, many pairs without one, and all is connected when directions are ignored.
    """
    found: set[Edge] = set()
    for node in range(1, nodes):
        found.add((node - 1 if stream.uniform() < STRAIGHT else stream.below(node), node))
    while len(found) < edges:
        v = stream.between(1, nodes - 1)
        found.add((v - stream.between(1, min(SPAN, v)), v))
    return sorted(found)


def pairs_by_distance(edges: list[Edge], nodes: int) -> tuple[list[dict[int, int]], dict[int, list[Edge]]]:
    """For each node what it reaches and how far; and the pairs of nodes at each distance from 1.

    Edges lead to larger nodes, so what a node reaches is known once that is known of all larger ones.
    """
    after: list[list[int]] = [[] for _ in range(nodes)]
    for u, v in edges:
        after[u].append(v)
    reached: list[dict[int, int]] = [{node: 0} for node in range(nodes)]
    pairs: dict[int, list[Edge]] = {}
    for start in reversed(range(nodes)):
        found = reached[start]
        for v in after[start]:
            for node, length in reached[v].items():
                if found.get(node, nodes) > length + 1:
                    found[node] = length + 1
        for node, length in found.items():
            if length:
                pairs.setdefault(length, []).append((start, node))
    return reached, pairs


def distances(edges: list[Edge], start: int) -> dict[int, int]:
    """Fewest edges from `start` to each node it reaches, breadth first."""
    after: dict[int, list[int]] = {}
    for u, v in edges:
        after.setdefault(u, []).append(v)
    found = {start: 0}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for target in after.get(node, ()):
            if target not in found:
                found[target] = found[node] + 1
                queue.append(target)
    return found


def walk_lengths(facts: list[Fact], questions: list[Fact]) -> list[int]:
    """Fewest edges per question by powers of the adjacency matrix; -1 where there is no path."""
    size = 1 + max(node for _, pair in (*facts, *questions) for node in pair)
    step_NN = np.zeros((size, size), dtype=np.int64)
    for _, (u, v) in facts:
        step_NN[u, v] = 1
    reach_NN, lengths_NN = np.eye(size, dtype=np.int64), np.full((size, size), -1)
    for length in range(size):
        lengths_NN[(reach_NN > 0) & (lengths_NN < 0)] = length
        reach_NN = np.minimum(reach_NN @ step_NN, 1)
    return [int(lengths_NN[pair[0], pair[1]]) for _, pair in questions]


def canonical(edges: list[Edge]) -> str:
    """The same for every naming of the nodes and every order of edges."""
    return graph_name([(u, 0, v) for u, v in edges])
