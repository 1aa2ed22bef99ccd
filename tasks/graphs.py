"""Names for graphs and tables of facts that do not depend on what their nodes, or rows and columns, are called."""

from __future__ import annotations

from collections.abc import Sequence

Fact = tuple[int, int, int]  # head node, relation, tail node
Question = tuple[int, tuple[int, ...], int]  # start node, relations in the order they are followed, answer node

_PRIME = 2**61 - 1
_SPREAD, _BACK, _OWN = 0x9E3779B97F4A7C1, 0x3C6EF372FE94F82, 0x1A54FF53A5F1D36F  # arbitrary, large and unrelated


def canonical_graph(facts: Sequence[Fact], questions: Sequence[Question]) -> str:
    """A name that renaming entities or relations, or reordering facts or questions, cannot change.

    Nodes are coloured by the questions that start there, relations by how often they are told and asked for; then both,
    twice, by the colours beside them (Weisfeiler-Leman). Different items may share a name, equal ones cannot differ:
    what splits need.
    """
    nodes = sorted({node for head, _, tail in facts for node in (head, tail)})
    names = sorted({relation for _, relation, _ in facts})
    colour, dye = dict.fromkeys(nodes, 0), dict.fromkeys(names, 0)
    classes = 0
    for _ in range(3):
        paths = [(start, _path(relations, dye), relations) for start, relations, _ in questions]
        told = [(head, dye[relation], tail, relation) for head, relation, tail in facts]
        node_is: dict[int, list[tuple[object, ...]]] = {node: [] for node in nodes}
        relation_is: dict[int, list[tuple[object, ...]]] = {relation: [] for relation in names}
        for head, shade, tail, relation in told:
            node_is[head].append((0, shade, colour[tail]))
            node_is[tail].append((1, shade, colour[head]))
            relation_is[relation].append((0, colour[head], colour[tail]))
        for start, path, relations in paths:
            node_is[start].append((2, *path))
            for place, relation in enumerate(relations):
                relation_is[relation].append((1, place, colour[start], *path))
        colour = _ranks({node: (colour[node], *sorted(found)) for node, found in node_is.items()})
        dye = _ranks({relation: (dye[relation], *sorted(found)) for relation, found in relation_is.items()})
        before, classes = classes, len(set(colour.values())) + len(set(dye.values()))
        if classes in (before, len(nodes) + len(names)):
            break  # colours only ever divide: from here on they stay
    return repr(
        (
            sorted((colour[head], dye[relation], colour[tail]) for head, relation, tail in facts),
            sorted((colour[start], _path(relations, dye)) for start, relations, _ in questions),
        )
    )


def _path(relations: tuple[int, ...], dye: dict[int, int]) -> tuple[tuple[int, int], ...]:
    """Relations of a question as their colours, and as the first place in the question that has the same one."""
    return tuple([(dye[relation], relations.index(relation)) for relation in relations])


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


def table_name(grid: Sequence[Sequence[int]], refs: Sequence[int]) -> str:
    """The same for every naming and order of rows and columns: values by row with those referred to, and by column."""
    rows = [sorted(line) for line in grid]
    columns = sorted([sorted(column) for column in zip(*grid, strict=True)])
    return repr((sorted([(row, rows[ref]) for row, ref in zip(rows, refs, strict=True)]), columns))


def _ranks(signature: dict[int, tuple[object, ...]]) -> dict[int, int]:
    rank = {value: i for i, value in enumerate(sorted(set(signature.values())))}
    return {node: rank[value] for node, value in signature.items()}
