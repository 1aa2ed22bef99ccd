"""How many edges has the shortest path from one node to another? See `tasks.structure.digraph` for the format.

Answers are 1 to distance_max, in equal shares as far as the graph offers them. A longer distance is never asked for:
a number that training never shows cannot be answered, however large the graph. What grows out of distribution is the
graph in which the path hides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from tasks.base import TaskCard, require
from tasks.codec import Fact
from tasks.puzzles import Asked, Puzzle
from tasks.shortcuts import Rule
from tasks.stream import Stream
from tasks.structure.digraph import (
    Edge,
    GraphConfig,
    GraphTask,
    canonical,
    pairs_by_distance,
    random_edges,
    walk_lengths,
)


@dataclass(frozen=True, kw_only=True)
class PathConfig(GraphConfig):
    """`distance_max` is the largest answer. Raises ValueError when it is below 2."""

    distance_max: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.distance_max >= 2, f"distance_max={self.distance_max} is too small: use 2 or more")


class ShortestPath(GraphTask):
    """The task `structure/shortest_path`, see the module. Keyword arguments: the fields of `PathConfig`."""

    name = "shortest_path"
    version = 2
    answers: ClassVar[dict[str, str]] = {"ask": "distance"}
    Config = PathConfig
    config: PathConfig

    def alphabets(self) -> dict[str, int]:
        """See `FactTask.alphabets`."""
        return {"node": self.config.n_names, "distance": self.config.distance_max + 1}

    def puzzle(self, stream: Stream, sizes: tuple[int, ...], split: str) -> Puzzle | None:
        """See `FactTask.puzzle`."""
        nodes, n_edges = sizes
        edges = random_edges(stream, nodes, n_edges)
        name = canonical(edges)
        if not self.owns(split, name):
            return None
        facts: list[Fact] = [("edge", edge) for edge in edges]
        _, pairs = pairs_by_distance(edges, nodes)
        lengths = [length for length in sorted(pairs) if length <= self.config.distance_max]
        questions: list[Asked] = []
        seats = self.seats(facts, ["ask"], split)
        while lengths and len(questions) < seats:
            length = stream.choice(lengths)
            pair = stream.pop(pairs[length])
            questions.append(("ask", pair, length))
            if not pairs[length]:
                lengths.remove(length)
        return Puzzle(
            facts=facts,
            questions=questions,
            difficulty={"nodes": nodes, "edges": n_edges, "longest": max(answer for *_, answer in questions)},
            canonical=name,
        )

    def solve(self, facts: list[Fact], questions: list[Fact]) -> list[int]:
        """See `FactTask.solve`: by powers of the adjacency matrix."""
        return walk_lengths(facts, questions)

    def rules(self) -> dict[str, Rule]:
        """1 where there is an edge, else each other answer that is left."""

        def guess(other: int, edges: list[Edge], question: Edge) -> int:
            return 1 if question in edges else other

        rest = range(2, self.config.distance_max + 1)
        return {f"edge_or_{other}": self.score_rule(partial(guess, other)) for other in rest}

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        (low, high), near, far = self.nodes(0), self.nodes(1), self.nodes(2)
        return TaskCard(
            summary="Length of the shortest directed path from u to v in a shuffled edge list",
            family="structure",
            train=f"{low} to {high} nodes, 1 to 1.25 edges per node, distances 1 to {self.config.distance_max}",
            in_distribution="as train; graphs of no training item, up to renaming and order",
            out_of_distribution={
                "test/ood_near": f"{near[0]} to {near[1]} nodes, same distances",
                "test/ood_far": f"{far[0]} to {far[1]} nodes (2 to 3 times the largest in training), same distances",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of an item's questions",
            looping="helps: breadth-first search takes one step per unit of distance",
            licence="Apache-2.0 (generated)",
            citation="own generator; in the spirit of NLGraph (Wang et al., arXiv 2305.10037) and CLRS "
            "(Velickovic et al., arXiv 2205.15659)",
        )

    def symbol(self, alphabet: str, index: int) -> str:
        """See `FactTask.symbol`."""
        return str(index) if alphabet == "distance" else super().symbol(alphabet, index)
