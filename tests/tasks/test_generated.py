"""What generated tasks promise beyond `test_tasks.py`: disjoint splits, pinned data, no cheap answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from generated import GENERATED, within_bounds

from tasks.base import Task
from tasks.item import IGNORE, Item, item_bytes
from tasks.qa.chain import QUESTION, Chain
from tasks.registry import load
from tasks.shortcuts import measure_shortcuts
from tasks.stream import Stream, partition, permutation
from tasks.structure.digraph import distances, pairs_by_distance, random_edges
from tasks.structure.listops import DIGITS, OPERATORS, ListOps, apply, canonical_form, draw_arguments

TASKS: dict[str, Task] = {name: load(name, ["n_test=200"]) for name in GENERATED} | {"listops": ListOps(n_test=400)}


@pytest.mark.parametrize("name", TASKS)
def test_no_canonical_form_is_in_two_splits(name: str) -> None:
    task = TASKS[name]

    def key(split: str, seed: int, index: int) -> str:
        item = task.generate(split, seed, index)
        return item.split_key or item.canonical

    forms = {split: {key(split, 0, i) for i in range(40)} for split in task.splits}
    train = {key("train", seed, i) for seed in range(2) for i in range(150)}
    taught = {"scan_like", "table_lookup"}  # what must be shown is in train wherever its form falls
    assert name in taught or all(partition(form) == "train" for form in train)
    for split, held_out in forms.items():
        assert not train & held_out, split
        assert all(not held_out & other for name, other in forms.items() if name != split)


PINNED = {
    ("chain", "train"): "d23695aff988c555acc1da600abde8242ba0a3d2ec92085aa0b6eb24c8f6f4a5",
    ("chain", "test/ood_far"): "70a9a81585d1e124b09f751451c34ff91f5bfaf5635e87a3b23330d954cc4952",
    ("listops", "train"): "f8a8b4a048402e56ae21b0305f33aa019837def830f33e18d4a4f056c15c2dc0",
    ("listops", "test/ood_far"): "49941e28cbfc3e05570a4dd046a486b4b07f6c4b968636a19f2d7250ac02dab6",
}


@pytest.mark.parametrize(("name", "split"), PINNED)
def test_the_first_items_never_change(name: str, split: str) -> None:
    data = b"".join(item_bytes(TASKS[name].generate(split, 0, index)) for index in range(32))
    assert hashlib.sha256(data).hexdigest() == PINNED[name, split], "data changed: raise the task's version"


PINNED_WHOLE = {
    "babi_like": "7930d4a0501a1f134f65c6d2e110db151c542a80467663726a6dd1f129419d6e",
    "cogs_like": "e3c9f056c3609efd0e13bc44e6181a1ef0b752bda69d26b00190fd32f4ab4dd2",
    "dyck": "569a763cfaae0924dd65d0e8c2cd2a7b8e558bafc4b00a16710cbbc57395a67f",
    "induction": "cdba7217e62e9836e825bfee95cd3f1f2d21f5dbc066e9c7bae49a47cf24206e",
    "kinship": "57db5907283bf653e558db6ac913a0121bc24329a77becf66dab9f1e0b4ed19a",
    "mqar": "3bbfccae414efd6d891cb653eb001ca9fd655b0c05b4f26f3288bcb54983ea56",
    "pcfg": "8d5b5622b0a2206583e27c25a97e18bc912c07cb96748fd4b0f1199148e709ef",
    "reachability": "afb1a93a708c62f173b35cf0e38873ebe42c2524026c62d5c07699f0d02370a7",
    "scan_like": "5a92d59759c9b9d90dc2e7242e431dd130eb1a3d20ea3154b03c52d609c84b65",
    "selective_copy": "1f331e67309c4358513562dacc906b7a5969cee7121714b46028dce9c141c762",
    "shortest_path": "29696af73740a966a71eb8690c31801766b5c645718976cf7cd5ce98ccde8580",
    "state_tracking": "b685eb9f4c25eeb61e5fd16a5bdc8f32194eec0ee9f99888413e746393359acf",
    "table_lookup": "d51c8b2e2474f36cca1674f3eaba35efaa22e153925533ddb04de285837baca3",
    "table_qa": "be750dbe5889258a868c50fe26e3bd12b3fe034e3bcca1a6ed3917ad569c125a",
    "variable_tracking": "3d304d34f8b8bb508d140469d144ccd46bf57c368747cf776af9a17a8ad0aea1",
}


@pytest.mark.parametrize("name", PINNED_WHOLE)
def test_the_first_items_of_every_split_never_change(name: str) -> None:
    task = load(name)
    items = (task.generate(split, 0, index) for split in ("train", *task.splits) for index in range(8))
    data = b"".join(map(item_bytes, items))
    assert hashlib.sha256(data).hexdigest() == PINNED_WHOLE[name], "data changed: raise the task's version"


def test_streams_are_uniform_and_keyed() -> None:
    stream = Stream("a", 1)
    counts = Counter(stream.below(5) for _ in range(5000))
    assert set(counts) == set(range(5)) and max(counts.values()) < 1150 and min(counts.values()) > 850
    assert sorted(stream.shuffled(range(9))) == list(range(9)) and len(set(stream.sample(range(9), 4))) == 4
    assert {stream.between(2, 4) for _ in range(100)} == {2, 3, 4} and 0 <= stream.uniform() < 1
    assert (
        sorted(permutation(9, "a")) == list(range(9)) and permutation(9, "a").tolist() != permutation(9, "b").tolist()
    )
    assert Stream("a", 1).below(2**60) == Stream("a", 1).below(2**60) != Stream("a", 2).below(2**60)


def test_distances_in_a_graph_are_those_of_a_search() -> None:
    stream = Stream("distances")
    for nodes in (5, 9, 20):
        edges = random_edges(stream, nodes, nodes + 2)
        reached, pairs = pairs_by_distance(edges, nodes)
        assert reached == [distances(edges, node) for node in range(nodes)]
        assert all(reached[u][v] == length for length, found in pairs.items() for u, v in found)
        assert sum(map(len, pairs.values())) == sum(len(found) - 1 for found in reached)


def test_chain_facts_and_questions_are_unambiguous_and_different() -> None:
    task = Chain()
    for split in ("train", "test/ood_near", "test/ood_far"):
        low, high, hops_low, hops_high = task.ranges(split)
        for index in range(100):
            item = task.generate(split, 0, index)
            first = int((item.input_ids == QUESTION).argmax())
            facts = [tuple(fact) for fact in item.input_ids[:first].reshape(-1, 3).tolist()]
            assert low <= len(facts) <= high and len({fact[:2] for fact in facts}) == len(facts)
            starts = [*np.nonzero(item.input_ids == QUESTION)[0].tolist(), len(item.input_ids)]
            questions = [tuple(item.input_ids[i + 1 : j].tolist()) for i, j in pairwise(starts)]
            assert len(set(questions)) == len(questions) == item.difficulty["questions"]
            assert all(hops_low <= len(question) - 1 <= hops_high for question in questions)


def test_chain_sizes_and_hops_are_mixed() -> None:
    items = [Chain().generate("train", 0, index) for index in range(400)]
    assert {item.difficulty["facts"] for item in items} == set(range(1, 9))
    assert {item.difficulty["hops"] for item in items} == {1, 2}


def test_chain_score_per_hop() -> None:
    task = Chain()
    items = [task.generate("test/ood_near", 0, index) for index in range(20)]
    for item in items:
        ids, labels = torch.from_numpy(item.input_ids)[None], torch.from_numpy(item.labels)[None]
        single = torch.roll(ids == QUESTION, 2, 1) & (labels != IGNORE)  # Q r e: the label is two after the mark
        pred = torch.where(single, labels, 0)
        scores = task.score(labels, pred, torch.zeros(labels.shape), ids)
        share = float(single.sum() / (labels != IGNORE).sum())
        assert float(scores["accuracy"]) == pytest.approx(share)
        one, two = float(scores["accuracy/hops1"]), float(scores["accuracy/hops2"])
        assert (np.isnan(one) if share == 0 else one == 1) and (np.isnan(two) or two == 0)


def test_chain_with_one_relation_and_both_directions() -> None:
    task = Chain(n_relations=1, bidirectional=True)
    assert not task.causal and Chain().causal
    for index in range(50):
        item = task.generate("train", 0, index)
        assert task.check(item).tolist() == item.labels.tolist()


def test_listops_results_are_balanced_for_every_operator_and_depth() -> None:
    items = [ListOps().generate("train", 0, index) for index in range(3000)]
    results = Counter(int(item.labels[-1]) - DIGITS for item in items)
    assert set(results) == set(range(10)) and max(results.values()) < 360 and min(results.values()) > 240
    by_root = Counter((int(item.input_ids[0]), int(item.labels[-1])) for item in items)
    assert len(by_root) == 40 and max(by_root.values()) < 120
    depths = Counter(item.difficulty["depth"] for item in items)
    assert set(depths) == {1, 2, 3} and min(depths.values()) > 850


def depth_of(item: Item) -> int:
    text = ListOps().text(item)
    level = deepest = 0
    for character in text:
        level += (character == "[") - (character == "]")
        deepest = max(deepest, level)
    return deepest


def test_listops_depths_are_those_of_the_split() -> None:
    task = ListOps()
    for split in ("train", *task.splits):
        low, high = task.depths(split)
        depths = {depth_of(task.generate(split, 0, index)) for index in range(60)}
        assert depths == set(range(low, high + 1))


def test_listops_arguments_give_the_value_they_were_drawn_for() -> None:
    stream = Stream("test")
    for operator in OPERATORS:
        for value in range(10):
            for count in (2, 3, 4, 5):
                arguments = draw_arguments(stream, operator, value, count)
                assert len(arguments) == count and apply(operator, arguments) == value
                assert all(0 <= argument <= 9 for argument in arguments)
    assert apply("MED", [4, 1, 3, 2]) == 2 and apply("SM", [9, 8]) == 7


def test_listops_canonical_form_ignores_the_order_of_arguments() -> None:
    one = canonical_form(("MAX", [1, ("SM", [2, 3]), 4]))
    assert one == canonical_form(("MAX", [("SM", [3, 2]), 4, 1])) != canonical_form(("MIN", [1, ("SM", [2, 3]), 4]))


def test_deep_expressions_resist_the_digits_alone() -> None:
    assert measure_shortcuts(TASKS["listops"], "test/ood_far")["root_over_all_digits"] < 0.25


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATED)
def test_shortcuts_stay_within_their_bounds_at_length(name: str) -> None:
    task = load(name, ["n_test=10000"])
    assert within_bounds(name, measure_shortcuts(task, "test/id", 10_000), 0.0)


@pytest.mark.parametrize(
    ("build", "values", "message"),
    [
        (Chain, {"length": 40}, r"length=40 is too small for 16 facts .* use length >= 54 or facts_max <= 5"),
        (Chain, {"facts_min": 9}, r"facts_max=8 is below facts_min=9: use 9 or more"),
        (
            Chain,
            {"n_entities": 7},
            r"n_entities=7 is too small for 16 facts with 2 relations: use n_entities >= 8",
        ),
        (Chain, {"hops_max": 0}, r"hops_max=0 is too small: use 1 or more"),
        (Chain, {"bidirectional": 1}, r"bidirectional=1 must be of type bool"),
        (ListOps, {"length": 12}, r"length=12 is too small for depth 3: use length >= 15"),
        (
            ListOps,
            {"ood_length": 20, "length": 20},
            r"ood_length=20 is too small for depth 6: use ood_length >= 24",
        ),
        (ListOps, {"ood_length": 30}, r"ood_length=30 is below length=48: use ood_length >= 48"),
        (ListOps, {"args_max": 1}, r"args_max=1 is too small: use 2 or more"),
    ],
)
def test_impossible_sizes_are_one_clear_line(build: type[Task], values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build(**values)
    assert "\n" not in str(error.value)


def test_a_configuration_with_an_empty_split_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.base.REDRAWS", 200)
    task = Chain(facts_max=1, hops_max=1, n_relations=1)
    with pytest.raises(ValueError, match=r"no item for split '.*' in 200 draws: .*widen its ranges"):
        for split in task.splits:
            task.generate(split, 0, 0)


def test_longer_deep_splits_have_their_own_length() -> None:
    task = ListOps(ood_length=96)
    assert (task.length, task.max_length, task.length_of("test/ood_far"), task.length_of("test/id")) == (
        48,
        96,
        96,
        48,
    )
    assert max(len(task.generate("test/ood_far", 0, index).input_ids) for index in range(60)) > 48
