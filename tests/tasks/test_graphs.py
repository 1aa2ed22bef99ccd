"""Names of graphs and tables: the same for every naming and order, and by their definition."""

from __future__ import annotations

from tasks.graphs import Fact, Question, canonical_graph, graph_name, table_name
from tasks.stream import Stream
from tasks.structure.digraph import random_edges


def test_chain_canonical_form_ignores_names_and_order() -> None:
    facts = [(0, 0, 1), (1, 1, 2), (2, 0, 0), (3, 1, 1)]
    questions = [(0, (0, 1), 2), (3, (1,), 1)]
    name = {0: 3, 1: 2, 2: 0, 3: 1}
    renamed = [(name[head], relation, name[tail]) for head, relation, tail in facts]
    asked = [(name[start], relations, name[answer]) for start, relations, answer in questions]
    form = canonical_graph(facts, questions)
    assert form == canonical_graph(renamed[::-1], asked[::-1])
    assert form != canonical_graph([*facts[:3], (3, 0, 1)], questions)
    assert form != canonical_graph(facts, [(0, (0,), 1), (3, (1,), 1)])


def three_rounds(facts: list[Fact], questions: list[Question]) -> str:
    """What `canonical_graph` is by its definition: three rounds, whatever they change."""
    colour = {node: 0 for fact in facts for node in (fact[0], fact[2])}
    dye = {relation: 0 for _, relation, _ in facts}

    def path(relations: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        return tuple((dye[relation], relations.index(relation)) for relation in relations)

    def ranked(seen: dict[int, tuple[object, ...]]) -> dict[int, int]:
        order = sorted(set(seen.values()))
        return {key: order.index(value) for key, value in seen.items()}

    for _ in range(3):
        beside: dict[int, list[tuple[object, ...]]] = {node: [] for node in colour}
        uses: dict[int, list[tuple[object, ...]]] = {relation: [] for relation in dye}
        for head, relation, tail in facts:
            beside[head].append((0, dye[relation], colour[tail]))
            beside[tail].append((1, dye[relation], colour[head]))
            uses[relation].append((0, colour[head], colour[tail]))
        for start, relations, _ in questions:
            beside[start].append((2, *path(relations)))
            for place, relation in enumerate(relations):
                uses[relation].append((1, place, colour[start], *path(relations)))
        colour, dye = (
            ranked({node: (colour[node], *sorted(seen)) for node, seen in beside.items()}),
            ranked({relation: (dye[relation], *sorted(seen)) for relation, seen in uses.items()}),
        )
    told = sorted((colour[head], dye[relation], colour[tail]) for head, relation, tail in facts)
    return repr((told, sorted((colour[start], path(relations)) for start, relations, _ in questions)))


def test_rounds_that_change_nothing_are_left_out() -> None:
    stream, seen = Stream("rounds"), set()
    for _ in range(1500):
        n, names = stream.between(2, 9), stream.between(1, 3)
        slots = [(node, relation) for node in range(n) for relation in range(names)]
        facts = [(h, r, stream.below(n)) for h, r in stream.sample(slots, stream.between(1, len(slots)))]
        told, known = sorted({node for h, _, t in facts for node in (h, t)}), sorted({r for _, r, _ in facts})
        questions = [
            (stream.choice(told), tuple(stream.choice(known) for _ in range(stream.between(1, 3))), 0)
            for _ in range(stream.between(0, 4))
        ]
        seen.add(form := canonical_graph(facts, questions))
        assert form == three_rounds(facts, questions)
    ring = [(node, 0, (node + 1) % 12) for node in range(12)]  # one question in a ring: each round reaches one further
    assert canonical_graph(ring, [(0, (0,), 1)]) == three_rounds(ring, [(0, (0,), 1)])
    assert len(seen) > 1000


def test_names_of_graphs_and_tables_ignore_names_and_order() -> None:
    stream, forms = Stream("forms"), set()
    for _ in range(60):
        edges = random_edges(stream, 7, 8)
        new = stream.shuffled(range(30))
        moved = stream.shuffled([(new[u], 0, new[v]) for u, v in edges])
        forms.add(graph_name(moved))
        assert graph_name(moved) == graph_name([(u, 0, v) for u, v in edges])
        assert graph_name(moved) != graph_name([*moved, (new[0], 1, new[1])])
    assert graph_name([(0, 0, 1), (0, 0, 2)]) != graph_name([(1, 0, 0), (2, 0, 0)])
    assert len(forms) > 30
    grid, refs = [[1, 5], [2, 5], [7, 0]], [1, 2, 0]
    order = [2, 0, 1]
    shuffled = [grid[row][::-1] for row in order]
    assert table_name(grid, refs) == table_name(shuffled, [order.index(refs[row]) for row in order])
    assert table_name(grid, refs) != table_name(grid, [2, 2, 0])
