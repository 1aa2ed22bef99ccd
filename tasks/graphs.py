"""Names for graphs of facts that do not depend on what their nodes are called."""

from __future__ import annotations

from collections.abc import Sequence

Fact = tuple[int, int, int]  # head node, relation, tail node
Question = tuple[int, tuple[int, ...], int]  # start node, relations in the order they are followed, answer node


def canonical_graph(facts: Sequence[Fact], questions: Sequence[Question]) -> str:
    """A name that renaming entities, or reordering facts or questions, cannot change.

    Nodes are coloured by the questions that start there, then twice by their neighbours' colours
    (Weisfeiler-Leman). Different items may share a name, equal ones cannot differ: what splits need.
    """
    nodes = sorted({node for head, _, tail in facts for node in (head, tail)})
    asked: dict[int, list[tuple[int, ...]]] = {node: [] for node in nodes}
    for start, relations, _ in questions:
        asked[start].append(relations)
    signature: dict[int, tuple[object, ...]] = {node: tuple(sorted(asked[node])) for node in nodes}
    for _ in range(2):
        colour = _ranks(signature)
        around: dict[int, list[tuple[int, int, int]]] = {node: [] for node in nodes}
        for head, relation, tail in facts:
            around[head].append((0, relation, colour[tail]))
            around[tail].append((1, relation, colour[head]))
        signature = {node: (colour[node], *sorted(around[node])) for node in nodes}
    colour = _ranks(signature)
    return repr(
        (
            sorted((colour[head], relation, colour[tail]) for head, relation, tail in facts),
            sorted((colour[start], relations) for start, relations, _ in questions),
        )
    )


def _ranks(signature: dict[int, tuple[object, ...]]) -> dict[int, int]:
    rank = {value: i for i, value in enumerate(sorted(set(signature.values())))}
    return {node: rank[value] for node, value in signature.items()}
