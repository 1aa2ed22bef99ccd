"""How large a test is: what may be renamed makes no other item, what may not does; effective numbers by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations, permutations

import networkx as nx
import numpy as np
import pytest
from generated import GENERATED

from tasks.item import IGNORE, Item
from tasks.probes import ProbedTask
from tasks.qa.chain import FIRST_RELATION, QUESTION, Chain
from tasks.registry import load
from tasks.size import SplitSize, effective_number, split_sizes, too_small
from tasks.stream import Stream
from tasks.structure.cogs_like import PASSIVE, CogsLike

TASKS = {name: load(name) for name in GENERATED}


def renamed(task: ProbedTask, item: Item, stream: Stream) -> Item:
    """The item with the words of every class exchanged at random; words that share a token with none but themselves."""
    forth = np.arange(task.vocab_size)
    for words in task.exchangeable():
        movable = [word for word in words if len(set(word)) == max(map(len, words))]
        for old, new in zip(movable, stream.shuffled(movable), strict=True):
            forth[list(old)] = new
    labels = np.where(item.labels == IGNORE, IGNORE, forth[item.labels.clip(0)])
    return replace(item, input_ids=forth[item.input_ids], labels=labels)


@pytest.mark.parametrize("name", GENERATED)
def test_a_renaming_makes_no_other_item(name: str) -> None:
    task, stream = TASKS[name], Stream("rename", name)
    assert isinstance(task, ProbedTask)
    assert bool(task.exchangeable()) <= (task.same_item != "nothing")
    for split in ("train", *task.splits):
        for index in range(12):
            item = task.generate(split, 0, index)
            other = renamed(task, item, stream)
            assert task.form(item) == item.canonical == task.form(other)
            assert task.check(other).tolist() == other.labels.tolist()


@pytest.mark.parametrize("name", GENERATED)
def test_reordering_what_has_no_order_makes_no_other_item(name: str) -> None:
    task, stream = TASKS[name], Stream("permute", name)
    if "permute" not in task.probes or name == "mqar":
        pytest.skip("its parts have an order, or what is counted is where a pair stands")
    for index in range(20):
        item = task.generate("test/id", 0, index)
        assert task.form(task.permute(item, stream)) == item.canonical


@pytest.mark.parametrize("name", ["induction", "selective_copy", "mqar", "dyck", "scan_like"])
def test_forms_are_equal_just_where_a_renaming_exists(name: str) -> None:
    """Brute force over pairs: one scan along both items decides whether a one-to-one renaming joins them."""
    few = {"induction": ["tokens_max=5"], "selective_copy": ["symbols_max=2"], "dyck": ["depth_max=2", "length=7"]}
    task = load(name, few.get(name, []))
    classes = list(enumerate(task.exchangeable()))
    kind_of = {t: (k, slot) for k, words in classes for w in words for slot, t in enumerate(w)}
    word_of = {t: (k, number) for k, words in classes for number, w in enumerate(words) for t in w}
    items = [task.generate("train", 0, index) for index in range(150)]
    equal = 0
    for a, b in combinations(items, 2):
        forth, back = dict[object, object](), dict[object, object]()
        joined = len(a.input_ids) == len(b.input_ids)
        for s, t in zip(a.input_ids.tolist(), b.input_ids.tolist(), strict=False):
            if kind_of.get(s) != kind_of.get(t) or (s not in kind_of and s != t):
                joined = False
            elif s in kind_of:
                joined &= forth.setdefault(word_of[s], word_of[t]) == word_of[t]
                joined &= back.setdefault(word_of[t], word_of[s]) == word_of[s]
        if name == "scan_like" and joined:  # outputs follow from inputs, which is all that a form names
            assert a.canonical == b.canonical
        assert (a.canonical == b.canonical) == joined
        equal += joined
    assert equal > 0


def graph(item: Item, relations: tuple[int, ...]) -> nx.MultiDiGraph:
    """A chain item as a graph: facts as edges, questions as edges of a label of their own."""
    ids = item.input_ids.tolist()
    start = ids.index(QUESTION)
    found = nx.MultiDiGraph()
    for place in range(0, start, 3):
        relation, head, tail = ids[place : place + 3]
        found.add_edge(head, tail, label=str(relations[relation - FIRST_RELATION]))
    asked: list[list[int]] = []
    for token in ids[start:]:
        if token == QUESTION:
            asked.append([])
        else:
            asked[-1].append(token)
    for *path, node in asked:
        found.add_edge(node, node, label="ask " + " ".join(str(relations[r - FIRST_RELATION]) for r in path))
    return found


@pytest.mark.parametrize("n_relations", [1, 2])
def test_forms_of_chain_are_graphs_up_to_isomorphism(n_relations: int) -> None:
    task = Chain(facts_max=4, n_relations=n_relations, length=40)
    items = [task.generate("train", 0, index) for index in range(90)]
    same_name = same_graph = 0
    match = nx.algorithms.isomorphism.categorical_multiedge_match("label", "")
    plain = tuple(range(n_relations))
    for a, b in combinations(items, 2):
        if len(a.input_ids) != len(b.input_ids):
            assert a.canonical != b.canonical
            continue
        ways = [graph(b, way) for way in permutations(plain)]
        isomorphic = any(nx.is_isomorphic(graph(a, plain), way, edge_match=match) for way in ways)
        same_name += a.canonical == b.canonical
        same_graph += isomorphic
        assert a.canonical == b.canonical or not isomorphic
    assert 0 < same_graph <= same_name <= 1.3 * same_graph  # colours see less than an isomorphism


def test_a_changed_fact_makes_another_item() -> None:
    task, changed = Chain(), 0
    for index in range(60):
        item = task.generate("test/id", 0, index)
        ids = item.input_ids.copy()
        if item.difficulty["facts"] >= 4 and ids[2] != ids[5] and ids[2] != ids[4] and ids[5] != ids[1]:
            ids[2], ids[5] = ids[5], ids[2]
            other = replace(item, input_ids=ids)
            changed += task.form(other) != item.canonical
    assert changed > 3


def test_cogs_counts_no_names_and_keeps_its_sentences_apart() -> None:
    task = CogsLike()
    one = ["emma", "saw", "the", "cat"]
    assert task._form(one) == task._form(["mia", "liked", "the", "box"]) == task._form(["noah", "found", "the", "girl"])
    for other in ("emma saw a cat", "emma slept", "the cat saw emma", "emma gave the cat", "emma saw the hedgehog"):
        assert task._form(other.split()) != task._form(one)
    twice, both = "the cat was seen by the cat", "the cat was seen by the dog"
    assert task._form(twice.split()) != task._form(both.split())
    passive = task._form(["liam", "was", "liked", "by", "ava"])
    assert all(task._form(f"emma was {word} by mia".split()) == passive for word in PASSIVE)
    keys = {split: {task.generate(split, 0, i).split_key for i in range(100)} for split in ("train", *task.splits)}
    assert all(not keys[a] & keys[b] for a, b in combinations(keys, 2))


def test_effective_numbers_by_hand() -> None:
    assert effective_number([1] * 7) == 7 and effective_number([9]) == 1 and effective_number([]) == 0
    assert effective_number([2, 1, 1]) == pytest.approx(16 / 6) and effective_number([3, 1]) == 1.6


def test_sizes_of_splits_are_counts_of_forms() -> None:
    task = Chain(facts_max=4, n_relations=1, length=40)
    sizes = split_sizes(task, n=300)
    counts = Counter(task.generate("test/id", 0, index).canonical for index in range(300))
    shares = [count / 300 for count in counts.values()]
    assert sizes["test/id"].different == len(counts) < 10
    assert sizes["test/id"].effective == pytest.approx(1 / sum(share * share for share in shares))
    assert sizes["test/id"].exact and not sizes["train"].exact and "or more" in str(sizes["train"])
    lines = too_small(sizes)
    assert len(lines) == 2 and all("effectively" in line and "\n" not in line for line in lines)
    assert "test/id has" in lines[1] and "100 or more" in lines[1]


def test_a_split_that_is_large_enough_is_no_finding() -> None:
    def size(split: str, effective: float) -> SplitSize:
        return SplitSize(split=split, items=500, different=400, effective=effective, documents=None, exact=True)

    large = {"validation": size("validation", 50), "test/id": size("test/id", 100), "test/ood": size("test/ood", 1)}
    assert too_small(large) == [] and len(too_small(large | {"test/id": size("test/id", 99.9)})) == 1


def test_text_is_counted_in_windows_and_documents() -> None:
    task = load("pydocs", ["length=128"])
    sizes = split_sizes(task, n=50)
    assert sizes["test/id"].items == 50 == sizes["test/id"].effective and sizes["test/id"].documents > 3
    assert sizes["train"].documents > sizes["test/id"].documents and "documents" in str(sizes["test/id"])
