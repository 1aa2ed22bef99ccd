"""What every task promises: purity, an agreeing checker, splits that share nothing, batches that resume."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from fakesite import packed
from generated import GENERATED, within_bounds
from hubdata import HUB
from omegaconf import OmegaConf
from userdata import USER

from tasks.base import Task
from tasks.item import IGNORE, collate, item_bytes
from tasks.loaders import EvalLoader, TrainLoader
from tasks.registry import CONF, load, names

FEW = {"n_validation": 40, "n_test": 60}
SMALL = {"pydocs": {}} | dict.fromkeys(GENERATED, FEW)
FILES = HUB | USER | {"pycode": (packed, ["length=64"])}


@pytest.fixture(scope="module", params=sorted({**SMALL, **FILES}))
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Task:
    name: str = request.param
    if name in FILES:
        make, settings = FILES[name]
        return load(name, [f"path={make(tmp_path_factory.mktemp(name) / 'data')}", *settings])
    return load(name, [f"{key}={value}" for key, value in SMALL[name].items()])


def splits_of(task: Task) -> list[str]:
    return ["train", *task.splits]


def agree(task: Task, split: str, count: int) -> None:
    for index in range(min(count, task.splits.get(split, count))):
        item = task.generate(split, 0, index)
        assert task.check(item).tolist() == item.labels.tolist(), task.text(item)


def test_every_yaml_is_covered_here() -> None:
    assert names() == sorted({**SMALL, **FILES})


def test_yaml_lists_every_field_with_its_default() -> None:
    for name in names():
        values = OmegaConf.load(CONF / f"{name}.yaml")
        assert values.pop("_target_").endswith(type(load(name)).__name__)
        assert values == {field.name: field.default for field in fields(load(name).Config)}


def test_checker_agrees(task: Task) -> None:
    for split in splits_of(task):
        agree(task, split, 60)


@pytest.mark.slow
def test_checker_agrees_at_length(task: Task) -> None:
    for split in splits_of(task):
        agree(task, split, 10_000)


def test_checker_notices_a_wrong_label(task: Task) -> None:
    item = task.generate("train", 0, 0)
    labels = item.labels.copy()
    labels[-1] += 1
    assert task.check(item).tolist() != labels.tolist()


def test_items_are_pure(task: Task) -> None:
    for split in splits_of(task):
        forwards = [item_bytes(task.generate(split, 3, index)) for index in range(8)]
        again = type(task)(**{field.name: getattr(task.config, field.name) for field in fields(task.config)})
        backwards = [item_bytes(again.generate(split, 3, index)) for index in reversed(range(8))]
        assert forwards == backwards[::-1]
    assert item_bytes(task.generate("train", 0, 0)) != item_bytes(task.generate("train", 1, 0))


def test_items_are_well_formed(task: Task) -> None:
    for split in splits_of(task):
        for index in range(min(20, task.splits.get(split, 20))):
            item = task.generate(split, 0, index)
            assert item.input_ids.dtype == item.labels.dtype == "int64"
            assert item.input_ids.shape == item.labels.shape
            assert 0 < len(item.input_ids) <= task.length_of(split) <= task.max_length
            assert item.input_ids.min() >= 0 and item.input_ids.max() < task.vocab_size
            scored = item.labels[item.labels != IGNORE]
            assert len(scored) and scored.min() >= 0 and scored.max() < task.vocab_size
            assert item.difficulty and task.text(item)


def test_train_batches_depend_on_seed_and_step_only(task: Task) -> None:
    whole = TrainLoader(task, 4, seed=5, steps=6)
    batches = list(whole)
    assert len(batches) == len(whole) == 6 and whole.state_dict() == {"step": 6}
    resumed = TrainLoader(task, 4, seed=5, steps=6)
    resumed.load_state_dict({"step": 4})
    for expected, got in zip(batches[4:], resumed, strict=True):
        assert expected.keys() == got.keys() and all(torch.equal(expected[key], got[key]) for key in got)
    assert batches[1]["index"].tolist() == [4, 5, 6, 7]
    other = TrainLoader(task, 4, seed=6).batch(0)
    assert not torch.equal(other["input_ids"], batches[0]["input_ids"])


def test_train_loader_is_endless_unless_told(task: Task) -> None:
    with pytest.raises(TypeError, match="steps="):
        len(TrainLoader(task, 4, seed=0))


def test_eval_batches_are_fixed_padded_and_complete(task: Task) -> None:
    for split, count in task.splits.items():
        loader = EvalLoader(task, split, 32)
        batches = list(loader)
        assert len(batches) == len(loader)
        assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(count))
        for batch in batches:
            assert batch["input_ids"].shape[1] == batch["labels"].shape[1] == task.length_of(split)
            if "attention_mask" in batch:
                padding = ~batch["attention_mask"]
                assert (batch["labels"][padding] == IGNORE).all()
                assert (batch["input_ids"][padding] == task.pad_id).all()
                assert not (padding[:, :-1] & ~padding[:, 1:]).any(), "padding must be on the right"
        assert all(torch.equal(batches[0][key], again) for key, again in next(iter(loader)).items())


def test_mask_is_absent_without_padding(task: Task) -> None:
    item = task.generate("train", 0, 0)
    assert "attention_mask" not in collate([item], [0], len(item.input_ids))
    assert collate([item], [0], len(item.input_ids) + 1)["attention_mask"].sum() == len(item.input_ids)


def test_score_of_right_and_wrong_answers(task: Task) -> None:
    if not task.by_position:
        pytest.skip("what is scored is a whole row: test_user_rows")
    batch = next(iter(EvalLoader(task, "validation", 8)))
    labels = batch["labels"]
    nll = torch.where(labels == IGNORE, 0.0, 2.0 * torch.log(torch.tensor(2.0)))
    right = task.aggregate(task.score(labels, labels, nll, batch["input_ids"]))
    wrong = task.aggregate(task.score(labels, labels + 1, nll, batch["input_ids"]))
    metric = task.describe().metric
    if metric == "excess_bits":  # two bits per token, less what the grammar itself pays
        assert right["bits_per_token"] == pytest.approx(2) and right[metric] == wrong[metric]
        return
    assert (right[metric], wrong[metric]) == pytest.approx(
        (1, 0) if task.describe().higher_is_better else (2, 2), rel=0.05
    )
    assert all(value.shape == (8,) for value in task.score(labels, labels, nll).values())


def test_card_is_complete_and_chance_is_the_best_trivial_rule(task: Task) -> None:
    card = task.card
    assert all([card.summary, card.family, card.train, card.in_distribution, card.metric, card.looping, card.licence])
    tests = {split for split in task.splits if split.startswith("test/")}
    assert set(card.chance) == tests and set(card.out_of_distribution) == tests - {"test/id"}
    best = max if card.higher_is_better else min
    assert card.shortcuts and best([*card.shortcuts.values(), card.chance["test/id"]]) in card.shortcuts.values()


def test_shortcuts_stay_within_their_bounds(task: Task) -> None:
    if task.name not in GENERATED:
        pytest.skip("real text: its card says what a look at the words gives")
    assert within_bounds(task.name, task.levels["test/id"], 0.1), task.levels["test/id"]  # 60 items: 3 standard errors
    assert not within_bounds(task.name, task.levels["test/id"] | {"unknown": 0.0}, 0.1)


def test_fingerprint_follows_the_data_and_not_the_batch(task: Task) -> None:
    values = {field.name: getattr(task.config, field.name) for field in fields(task.config)}
    same = type(task)(**values | {"batch_size": 7})
    more = {"ood_length": values["ood_length"] + 80} if "ood_length" in values else {}
    longer = type(task)(**values | {"length": task.length + 40} | more)
    assert task.fingerprint() == same.fingerprint() != longer.fingerprint()


def test_unknown_names_and_values_are_one_clear_line(task: Task) -> None:
    cases = {
        "colour=1": r"unknown key 'colour'; known keys: .*batch_size",
        "batch_size=0": r"batch_size=0 is too small: use 1 or more",
        "batch_size=many": r"batch_size='many' must be of type int",
        "length=1": r"length=1 .*use",
    }
    for override, message in cases.items():
        with pytest.raises(ValueError, match=message) as error:
            load(task.name, [override])
        assert "\n" not in str(error.value) and task.name in str(error.value)
    for call in (
        lambda: task.generate("test", 0, 0),
        lambda: EvalLoader(task, "exam", 4),
        lambda: task.eval_items("x"),
    ):
        with pytest.raises(ValueError, match=r"unknown split .* splits: .*validation, test/id"):
            call()
