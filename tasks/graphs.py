"""Names for graphs of facts that do not depend on what their nodes are called."""

from __future__ import annotations

from collections.abc import Sequence

Fact = tuple[int, int, int]  # head node, relation, tail node
Question = tuple[int, tuple[int, ...], int]  # start node, relations in the order they are followed, answer node

_PRIME = 2**61 - 1
_SPREAD, _BACK, _OWN = 0x9E3779B97F4A7C1, 0x3C6EF372FE94F82, 0x1A54FF53A5F1D36F  # arbitrary, large and unrelated


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


def graph_name(edges: Sequence[Fact]) -> str:
    """As `canonical_graph` without questions, in a fraction of its time: colours are numbers, mixed by arithmetic.

    Squares of sums modulo a prime stand for multisets of neighbours; that they coincide by chance does no harm.
    """
    steps = [(u, v, relation * _SPREAD, relation * _SPREAD + _BACK) for u, relation, v in edges]
    colour = dict.fromkeys([node for u, _, v in edges for node in (u, v)], 1)
    for _ in range(2):
        around = {node: own * _OWN for node, own in colour.items()}
        for u, v, forth, back in steps:
            ahead, behind = colour[v] + forth, colour[u] + back
            around[u] += ahead * ahead % _PRIME
            around[v] += behind * behind % _PRIME
        colour = {node: mixed * mixed % _PRIME for node, mixed in around.items()}
    total = 0
    for u, v, forth, _ in steps:
        mixed = colour[u] * _OWN + colour[v] + forth
        total += mixed * mixed % _PRIME
    return f"{len(edges)} {total % _PRIME}"


def _ranks(signature: dict[int, tuple[object, ...]]) -> dict[int, int]:
    rank = {value: i for i, value in enumerate(sorted(set(signature.values())))}
    return {node: rank[value] for node, value in signature.items()}
