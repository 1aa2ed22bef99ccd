"""Is there a directed path from one node to another? See `tasks.structure.digraph` for the format.

Questions come in pairs with the same start: one target that is reached, one that is not and has as many edges coming
in. So degrees say nothing, and half of all answers are yes; lengths of paths are drawn evenly from those that the
graph offers, so that a look at one edge or two answers few questions.
"""

from __future__ import annotations

from typing import ClassVar

from tasks.base import TaskCard
from tasks.codec import Fact
from tasks.puzzles import Asked, Puzzle
from tasks.shortcuts import Rule
from tasks.stream import Stream
from tasks.structure.digraph import Edge, GraphTask, canonical, distances, pairs_by_distance, random_edges, walk_lengths


class Reachability(GraphTask):
    """The task `structure/reachability`, see the module. Keyword arguments: the fields of `GraphConfig`."""

    name = "reachability"
    version = 2
    answers: ClassVar[dict[str, str]] = {"ask": "answer"}

    def alphabets(self) -> dict[str, int]:
        """See `FactTask.alphabets`; answer 0 is no, 1 is yes."""
        return {"node": self.config.n_names, "answer": 2}

    def puzzle(self, stream: Stream, sizes: tuple[int, ...], split: str) -> Puzzle | None:
        """See `FactTask.puzzle`."""
        nodes, n_edges = sizes
        edges = random_edges(stream, nodes, n_edges)
        name = canonical(edges)
        if not self.owns(split, name):
            return None
        facts: list[Fact] = [("edge", edge) for edge in edges]
        reached, by_length = pairs_by_distance(edges, nodes)
        indegree = [0] * nodes
        for _, v in edges:
            indegree[v] += 1
        alike = [[v for v in range(nodes) if indegree[v] == indegree[node]] for node in range(nodes)]
        asked: dict[Edge, Edge] = {}
        lengths = sorted(by_length)
        seats = self.seats(facts, ["ask"], split) // 2
        while lengths and len(asked) < seats:
            length = stream.choice(lengths)
            start, yes = stream.pop(by_length[length])
            if not by_length[length]:
                lengths.remove(length)
            there = reached[start]
            outside = [v for v in alike[yes] if v not in there]
            no = (start, stream.choice(outside)) if outside else None
            if no and no not in asked.values():
                asked[start, yes] = no
        questions: list[Asked] = [("ask", pair, 1) for pair in asked]
        questions += [("ask", pair, 0) for pair in asked.values()]
        return Puzzle(
            facts=facts,
            questions=stream.shuffled(questions),
            difficulty={"nodes": nodes, "edges": n_edges, "longest": max((reached[u][v] for u, v in asked), default=0)},
            canonical=name,
        )

    def solve(self, facts: list[Fact], questions: list[Fact]) -> list[int]:
        """See `FactTask.solve`: by powers of the adjacency matrix."""
        return [int(length >= 0) for length in walk_lengths(facts, questions)]

    def rules(self) -> dict[str, Rule]:
        """An edge, a path of two edges, a way that ignores directions, edges at both ends."""
        return {
            "edge": self.score_rule(lambda edges, q: int(q in edges)),
            "two_edges": self.score_rule(lambda edges, q: int(_within_two(edges, q))),
            "undirected": self.score_rule(
                lambda edges, q: int(q[1] in distances([*edges, *((v, u) for u, v in edges)], q[0]))
            ),
            "edges_at_target": self.score_rule(lambda edges, q: int(sum(v == q[1] for _, v in edges) > 1)),
        }

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        (low, high), near, far = self.nodes(0), self.nodes(1), self.nodes(2)
        return TaskCard(
            summary="Is there a directed path from u to v in a shuffled edge list",
            family="structure",
            train=f"{low} to {high} nodes, 1 to 1.25 edges per node, all sizes mixed",
            in_distribution="as train; graphs of no training item, up to renaming and order",
            out_of_distribution={
                "test/ood_near": f"{near[0]} to {near[1]} nodes",
                "test/ood_far": f"{far[0]} to {far[1]} nodes (2 to 3 times the largest in training)",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of an item's questions",
            looping="helps: each step can extend what is known to be reached, so depth-bound as paths grow",
            licence="Apache-2.0 (generated)",
            citation="own generator; in the spirit of NLGraph (Wang et al., arXiv 2305.10037)",
        )

    def symbol(self, alphabet: str, index: int) -> str:
        """See `FactTask.symbol`."""
        return ("no", "yes")[index] if alphabet == "answer" else super().symbol(alphabet, index)


def _within_two(edges: list[Edge], question: Edge) -> bool:
    u, v = question
    middles = {b for a, b in edges if a == u}
    return v in middles or any(a in middles and b == v for a, b in edges)
