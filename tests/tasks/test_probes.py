"""Probes: paired items whose answers must not change, and what they add to an evaluation."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from generated import GENERATED

from tasks.codec import Codec
from tasks.item import IGNORE, Item, item_bytes
from tasks.probes import ProbedTask, agreement
from tasks.registry import load

SETS = [name for name in GENERATED if "order_free" in {field.name for field in fields(load(name).Config)}]


def probed(name: str, *overrides: str) -> ProbedTask:
    plain = load(name)
    assert isinstance(plain, ProbedTask)
    task = load(name, [f"probe={'+'.join(plain.probes)}", "n_test=30", *overrides])
    assert isinstance(task, ProbedTask)
    return task


@pytest.mark.parametrize("name", GENERATED)
def test_probes_are_paired_and_keep_the_answers(name: str) -> None:
    task = probed(name)
    base = task.eval_items("test/id")
    for split in (split for split in task.splits if split.startswith("probe/")):
        assert task.paired(split) == "test/id"
        items = task.eval_items(split)
        assert any(item_bytes(new) != item_bytes(old) for new, old in zip(items, base, strict=True)), split
        for new, old in zip(items, base, strict=True):
            assert len(new.input_ids) <= task.length_of(split) <= task.max_length
            answers = new.labels[new.labels != IGNORE]
            undone = answers if new.back is None else new.back[answers]
            assert undone.tolist() == old.labels[old.labels != IGNORE].tolist()
            if not split.startswith("probe/noise"):
                assert task.check(new).tolist() == new.labels.tolist(), f"{split}: {task.text(new)}"
        again = [task.item(split, 0, index) for index in range(5)]
        assert list(map(item_bytes, again)) == list(map(item_bytes, items[:5]))


@pytest.mark.parametrize("name", SETS)
def test_noise_hits_the_share_it_says(name: str) -> None:
    task = probed(name)
    for item, noisy in zip(task.eval_items("test/id"), task.eval_items("probe/noise40"), strict=True):
        places = task.context(item)
        changed = np.nonzero(item.input_ids != noisy.input_ids)[0]
        assert set(changed) <= set(places) and len(changed) <= round(0.4 * len(places))
        assert (noisy.labels == item.labels).all()


@pytest.mark.parametrize("name", SETS)
def test_an_order_free_item_is_a_set(name: str) -> None:
    """One token per fact: any order of the tokens has the same answers, and the labels move with their questions."""
    task = probed(name, "order_free=true")
    assert task.order_free and not task.causal
    for split in ("train", *task.splits):
        for index in range(20):
            item = task.item(split, 0, index)
            if split.startswith("probe/noise"):
                continue
            assert task.check(item).tolist() == item.labels.tolist()
            scored = item.labels != IGNORE
            facts, asked = item.input_ids[~scored], item.input_ids[scored]
            order = np.random.default_rng(index).permutation(len(facts))
            shuffled = replace(item, input_ids=np.concatenate([facts[order], asked]))
            assert (task.check(shuffled) == item.labels).all()


@pytest.mark.parametrize("name", [name for name in SETS if "permute" in load(name).probes])
def test_permuting_keeps_what_is_there(name: str) -> None:
    for overrides in ([], ["order_free=true"]):
        task = probed(name, *overrides)
        for new, old in zip(task.eval_items("probe/permute"), task.eval_items("test/id"), strict=True):
            assert Counter(new.input_ids.tolist()) == Counter(old.input_ids.tolist())


def test_unknown_probe_is_one_clear_line() -> None:
    with pytest.raises(
        ValueError, match=r"task dyck: unknown probe 'permute' in probe=size\+permute; join some of size"
    ):
        load("dyck", ["probe=size+permute"])


def test_agreement_undoes_names() -> None:
    back = np.array([0, 2, 1])
    items = [
        Item(input_ids=np.zeros(2, np.int64), labels=np.ones(2, np.int64), difficulty={}, canonical="", back=back),
        Item(input_ids=np.zeros(1, np.int64), labels=np.ones(1, np.int64), difficulty={}, canonical=""),
    ]
    answers, base = [np.array([1, 2]), np.array([2])], [np.array([2, 2]), np.array([2])]
    assert agreement(items, answers, base) == pytest.approx(0.75)


def test_size_curve_is_the_mean_per_bucket() -> None:
    task = load("mqar", ["probe=size", "n_test=50"])
    assert not any(split.startswith("probe/") for split in task.splits)
    values = torch.arange(50.0)
    curve = task.curve("test/id", values)
    sizes = [item.difficulty["pairs"] for item in task.eval_items("test/id")]
    assert set(curve) == {f"accuracy/pairs{size}" for size in sizes}
    assert curve["accuracy/pairs2"] == pytest.approx(np.mean([i for i, size in enumerate(sizes) if size == 2]))
    assert load("mqar").curve("test/id", torch.ones(512)) == {}


@pytest.mark.parametrize("order_free", [False, True])
def test_codec_reads_what_it_writes(order_free: bool) -> None:
    codec = Codec({"a": 3, "b": 4}, {"x": ("a", "b"), "y": ("b", "b", "a")}, order_free)
    facts = [("x", (2, 3)), ("y", (0, 3, 1)), ("x", (0, 0)), ("y", (3, 3, 2))]
    tokens = codec.write(facts)
    assert codec.read(tokens) == facts and max(tokens) < codec.size and min(tokens) > 0
    assert len(tokens) == (4 if order_free else 14)
    with pytest.raises(ValueError):
        codec.read([1])


def test_a_set_of_too_many_tokens_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match=r"task mqar: order_free=true needs \d+ tokens.* 32768 is the most"):
        load("mqar", ["order_free=true", "n_keys=500", "n_values=500"])
