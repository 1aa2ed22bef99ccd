"""Levels against oracles of their own: n-grams by dictionaries, rules by hand, a reader of noise by enumeration."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.gaps import RuleGap, clustered_mean, rule_gaps
from tasks.item import IGNORE, collate
from tasks.language.pydocs import split_texts
from tasks.levels import CEILING, levels, metric_places, spread, strongest
from tasks.ngrams import ORDERS, NGrams
from tasks.noise import perfect_reader
from tasks.qa.chain import Chain
from tasks.registry import load


def witten_bell(texts: list[list[int]], vocab: int, context: list[int], symbol: int, order: int) -> float:
    """Probability by the definition, with a pass over the text for each count."""
    p = 1 / vocab
    for length in range(order):
        if length > len(context):
            break
        head = context[len(context) - length :]
        after = Counter(
            text[place + length]
            for text in texts
            for place in range(len(text) - length)
            if text[place : place + length] == head
        )
        if after:
            p = (after[symbol] + len(after) * p) / (sum(after.values()) + len(after))
    return p


def test_ngrams_are_those_of_a_count_by_hand() -> None:
    rng = np.random.default_rng(0)
    texts = [rng.choice(4, size=size, p=[0.6, 0.2, 0.1, 0.1]).tolist() for size in (60, 3, 1, 90)]
    windows = [rng.choice(4, size=size).tolist() for size in (1, 5, 12)] + [texts[0][:20], texts[3][-9:]]
    found = NGrams([np.array(text) for text in texts], 4).bits([np.array(window) for window in windows])
    for order in range(1, ORDERS + 1):
        for window, bits in zip(windows, found[order - 1], strict=True):
            by_hand = [
                -math.log2(witten_bell(texts, 4, window[:place], symbol, order)) for place, symbol in enumerate(window)
            ]
            assert bits.tolist() == pytest.approx(by_hand)


def test_ngrams_sum_to_one_and_hold_after_a_lead() -> None:
    text = np.frombuffer(b"abracadabra, abracadabra", dtype=np.uint8)
    model = NGrams([text], 256)
    context = np.frombuffer(b"cadab", dtype=np.uint8)
    windows = [np.append(context, symbol) for symbol in range(256)]
    for order in range(1, ORDERS + 1):
        assert sum(2.0 ** -window[-1] for window in model.bits(windows)[order - 1]) == pytest.approx(1)
    alone = model.bits([context])
    led = model.bits([context[1:]], before=int(context[0]))
    assert all(led[order][0].tolist() == pytest.approx(alone[order][0][1:].tolist()) for order in range(ORDERS))


def test_no_symbol_is_too_large() -> None:
    with pytest.raises(ValueError, match="512 symbols: at most 511"):
        NGrams([np.arange(3)], 512)


def test_levels_of_text_are_those_of_its_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESSFORMER_CACHE", str(tmp_path))
    task = load("pydocs", ["length=64", "n_validation=2"])
    found = levels(task, train_bytes=9_000)
    assert found == levels(task, train_bytes=9_000) and len(list(tmp_path.iterdir())) == 2  # the whole text, and a part
    value = {(level.split, level.name): level.value for level in found}
    train = [split_texts()["train"][:].decode("latin-1")]
    singles = Counter(train[0])
    total, kinds = len(train[0]), len(singles)
    labels = [label for item in task.eval_items("validation") for label in item.labels.tolist()]
    by_hand = [-math.log2((singles[chr(label)] + kinds / 256) / (total + kinds)) for label in labels]
    assert value["validation", "unigram"] == pytest.approx(float(np.mean(by_hand)))
    assert value["test/id", "5-gram"] < value["test/id", "unigram"]
    assert value["test/id", "5-gram"] < value["test/id", "5-gram of 9000 bytes"]
    assert strongest(found, higher_is_better=False)["test/id", "bits_per_byte"].name == "5-gram"


def test_a_part_of_a_text_is_spread_over_it() -> None:
    text = np.arange(100_000)
    parts = spread(text, 10_001)
    assert sum(map(len, parts)) == 10_001 == len(set(np.concatenate(parts).tolist())) and parts[-1][0] > 80_000
    assert spread(text, 100_000)[0] is text


def test_rules_are_scored_on_every_metric() -> None:
    task = Chain(facts_max=4, n_relations=1, length=40, n_test=60, n_validation=40)
    value = {(level.split, level.metric, level.name): level.value for level in levels(task)}
    assert value["test/id", "accuracy/hops1", "first_hop"] == 1 and value["test/id", "accuracy/hops2", "first_hop"] == 0
    items = task.eval_items("test/ood_near")
    batch = collate(items, range(len(items)), task.length)
    # One hop by a scan of the words: the value after the pair that the question ends with.
    pred = torch.full_like(batch["labels"], -1)
    for row, item in enumerate(items):
        ids = item.input_ids.tolist()
        for place in np.flatnonzero(item.labels != IGNORE).tolist():
            facts = [ids[k : k + 3] for k in range(0, 3 * item.difficulty["facts"], 3)]
            pred[row, place] = next((tail for r, head, tail in facts if [r, head] == ids[place - 1 : place + 1]), -1)
    scores = task.aggregate(task.score(batch["labels"], pred, torch.zeros(pred.shape), batch["input_ids"]))
    for metric in ("accuracy", "accuracy/hops1", "accuracy/hops2", "accuracy/hops3"):
        assert value["test/ood_near", metric, "first_hop"] == pytest.approx(scores[metric])


def test_metrics_know_their_places() -> None:
    task = load("table_qa", ["n_test=20"])
    items = task.eval_items("test/id")
    for places in metric_places(task, items, "test/id"):
        assert places["accuracy"].all()
        assert (sum(places[f"accuracy/{kind}"] for kind in ("lookup", "count", "argmax", "join")) == 1).all()


@pytest.mark.parametrize("name", ["chain", "mqar", "kinship", "babi_like", "variable_tracking", "reachability"])
@pytest.mark.parametrize("order_free", [False, True])
def test_a_perfect_reader_is_right_without_noise_and_falls_with_it(name: str, order_free: bool) -> None:
    free = ["order_free=true"] if order_free else []
    if order_free and name in ("babi_like", "variable_tracking"):
        pytest.skip("stories have an order")
    task = load(name, ["probe=noise", "n_test=60", "n_validation=20", *free])
    clean = task.eval_items("test/id")
    assert all((perfect_reader(task, item, item) == 1).all() for item in clean)
    value = [level.value for level in levels(task) if level.name == CEILING and level.metric == "accuracy"]
    assert len(value) == 4 and 1 > value[0] > value[3] > 0


@pytest.mark.parametrize("settings", [{"facts_max": 4, "n_relations": 1, "length": 40}, {"facts_min": 4}])
@pytest.mark.parametrize("share", [10, 40])
def test_a_perfect_reader_beats_simpler_ones(settings: dict[str, int], share: int) -> None:
    task = Chain(**settings, probe="noise", n_test=200)
    found: dict[str, list[float]] = {"perfect": [], "whole facts": [], "any relation": [], "any value": []}
    for clean, noised in zip(task.eval_items("test/id"), task.eval_items(f"probe/noise{share}"), strict=True):
        hits = perfect_reader(task, clean, noised)
        assert hits is not None
        found["perfect"] += hits.tolist()
        words = noised.input_ids.tolist()
        facts = [words[k : k + 3] for k in range(0, 3 * clean.difficulty["facts"], 3)]
        for end in np.flatnonzero(clean.labels != IGNORE).tolist():
            begin = max(k for k in range(end) if words[k] == 1) + 1
            path, right = words[begin:end][::-1], int(clean.labels[end])
            for name, fits in (("whole facts", lambda r, asked: r == asked), ("any relation", lambda r, asked: True)):
                at = {words[end]}
                for relation in path:
                    at = {tail for r, head, tail in facts if head in at and fits(r, relation)}
                found[name].append((right in at) / max(1, len(at)))
            values = [tail for _, _, tail in facts]
            found["any value"].append(values.count(right) / len(values))
    means = {name: float(np.mean(some)) for name, some in found.items()}
    assert means.pop("perfect") > max(means.values()), means


def test_clustered_errors_by_hand() -> None:
    mean, error = clustered_mean(np.array([1.0, 1.0, 0.0, 0.0, math.nan]), list("aabcz"))
    assert mean == 0.5 and error == pytest.approx(math.sqrt((1 + 0.25 + 0.25) * 3 / 2) / 4)
    assert clustered_mean(np.array([1.0, 0.0]), ["a", "a"]) == (0.5, math.inf)


def test_a_rule_that_train_rewards_and_test_punishes_is_flagged() -> None:
    taught = rule_gaps(load("table_lookup"), n=400)  # train alone has chains of one function
    assert {gap.rule for gap in taught if gap.flagged and gap.split == "test/id"} == {"first_function", "last_function"}
    assert all("standard error" in str(gap) for gap in taught)
    assert not [gap for gap in rule_gaps(load("listops", ["n_test=300"]), n=300) if gap.flagged]
    gap = RuleGap(rule="r", metric="m", split="test/id", train=0.5, held_out=0.1, error=0.2)
    assert not gap.flagged


def test_the_cached_levels_hold_every_order_of_a_grammar() -> None:
    found = levels(load("pcfg", ["n_test=20", "n_validation=20"]))
    by_name = {level.name: level.value for level in found if level.split == "test/id"}
    assert list(by_name.values()) == sorted(by_name.values(), reverse=True) and by_name["6-gram"] > 0
