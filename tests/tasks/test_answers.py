"""Official comparison of answers on known pairs; greedy decoding against the teacher-forced score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hubdata import hotpot, tables

from tasks.base import Task
from tasks.hub.decode import greedy
from tasks.hub.examples import ExampleTask
from tasks.item import IGNORE
from tasks.loaders import EvalLoader
from tasks.qa.answers import exact_match, f1, joint, normalize, supporting_facts
from tasks.qa.denotation import denotation, same_value
from tasks.qa.hotpotqa import HotpotQA
from tasks.structure.wikitablequestions import WikiTableQuestions


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The  Beatles", "beatles"),
        ("an apple a day", "apple day"),
        ("U.S.A.", "usa"),
        ('"Théâtre", (The)', "théâtre"),
        ("Anna and the others", "anna and others"),
        ("rock-and-roll", "rockandroll"),
        ("\u2018quoted\u2019", "\u2018quoted\u2019"),
        ("the", ""),
        ("A-ha", "aha"),
    ],
)
def test_normalisation(text: str, plain: str) -> None:
    assert normalize(text) == plain == normalize(plain)


@pytest.mark.parametrize(
    ("said", "gold", "same", "overlap"),
    [
        ("The Beatles", "beatles", 1, 1),
        ("Barack Obama", "President Barack Obama", 0, 0.8),
        ("new new york", "New York", 0, 0.8),
        ("yes", "Yes.", 1, 1),
        ("yes", "no", 0, 0),
        ("no doubt", "no", 0, 0),
        ("yes", "yes sir", 0, 0),
        ("noanswer", "noanswer", 1, 1),
        ("1,000", "1000", 1, 1),
        ("Rome", "Paris", 0, 0),
        ("", "Paris", 0, 0),
    ],
)
def test_exact_match_and_f1(said: str, gold: str, same: float, overlap: float) -> None:
    assert exact_match(said, [gold]) == same and f1(said, [gold]) == pytest.approx(overlap)


def test_aliases_and_open_yes() -> None:
    assert exact_match("NYC", ["New York", "nyc"]) == 1 and f1("York", ["Leeds", "New York"]) == pytest.approx(2 / 3)
    assert f1("yes sir", ["yes"], closed=False) == pytest.approx(2 / 3) and f1("x", []) == 0
    assert f1("the", ["an"], closed=False) == 1 and f1("the", ["dog"], closed=False) == 0


def test_supporting_facts_and_joint_scores() -> None:
    golds = {("A", 0), ("B", 2)}
    assert supporting_facts(golds, golds) == {"sp_em": 1, "sp_f1": 1, "sp_precision": 1, "sp_recall": 1}
    some = supporting_facts([("A", 0), ("A", 0), ("A", 1), ("C", 0)], golds)
    assert some["sp_em"] == 0 and some["sp_precision"] == pytest.approx(1 / 3) and some["sp_recall"] == 0.5
    assert some["sp_f1"] == pytest.approx(0.4)
    assert set(supporting_facts([], golds).values()) == {0}
    assert joint("the Rome", "rome", golds, golds) == {"joint_em": 1, "joint_f1": 1}
    half = joint("old Rome", "Rome", [("A", 0)], golds)
    assert half["joint_em"] == 0 and half["joint_f1"] == pytest.approx(0.5)
    assert joint("no doubt", "no", golds, golds) == {"joint_em": 0, "joint_f1": 0}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Zürich", "zurich", True),
        ('"Blue"', "blue", True),
        ("Ohio[3]", "Ohio", True),
        ("Paris (France)", "paris", True),
        ("3", "3.0", True),
        ("3", "3.5", False),
        ("\u22125", "-5", True),
        ("1\u20133", "1-3", True),
        ("(a)", "a", False),
        ("nan", "nan.", True),
        ("end.", "end", True),
    ],
)
def test_values_of_tables(one: str, other: str, same: bool) -> None:
    assert same_value(one, other) is same is same_value(other, one)


def test_denotations_are_sets() -> None:
    assert denotation(["b", "A", "a"], ["a", "b"]) == 1 and denotation(["a"], ["a", "b"]) == 0
    assert denotation(["1.0", "x"], ["x", "1"]) == 1 and denotation([], ["a"]) == 0


def by_heart(task: ExampleTask, wrong: Callable[[int, int], bool]) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
    """A model that knows every answer of test/id by its prompt, but errs where `wrong(row, place)` is true.

    Off the right path it writes rubbish without an end.
    """
    known = {}
    for row, done in enumerate(task.parts["test/id"]):
        item = task.encoded_item(done)
        answer = item.labels[item.labels != IGNORE].tolist()
        said = [token if not wrong(row, place) else 5 for place, token in enumerate(answer)]
        known[tuple(done.prompt.tolist())] = (answer, said)

    def predict(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        ids, size = batch["input_ids"], task.vocabulary.size
        pred = torch.full_like(ids, 7)
        for row, line in enumerate(ids.tolist()):
            sep = line.index(size)
            answer, said = known[tuple(line[:sep])]
            for place in range(len(answer)):
                if line[sep + 1 : sep + 1 + place] == answer[:place]:
                    pred[row, sep + place] = said[place]
        return pred

    return predict


def forced(task: Task, predict: Callable[[dict[str, torch.Tensor]], torch.Tensor]) -> torch.Tensor:
    """Teacher-forced exact match of each item of test/id."""
    found = [
        task.score(batch["labels"], predict(batch), batch["labels"].float())["exact_match"]
        for batch in EvalLoader(task, "test/id", 16)
    ]
    return torch.cat(found)


def test_forced_exact_match_is_that_of_greedy_decoding(tmp_path: Path) -> None:
    task = HotpotQA(path=str(hotpot(tmp_path / "h")), length=160, bpe_vocab=400)
    predict = by_heart(task, lambda row, place: (row % 3 == 1 and place == 0) or (row % 3 == 2 and place == 2))
    rows = task.parts["test/id"]
    prompts = [np.append(done.prompt, task.vocabulary.size) for done in rows]
    end = task.vocabulary.size + 1
    written = greedy(predict, prompts, end, room=16, length=160, batch_size=7)
    free = [ids.tolist() == done.answer.tolist() for ids, done in zip(written, rows, strict=True)]
    assert forced(task, predict).tolist() == free and 0 < sum(free) < len(free)
    assert all(len(ids) == 16 for ids, right in zip(written, free, strict=True) if not right)
    scores = task.decoded("test/id", predict)
    assert set(scores) == {"answer_em", "answer_f1"} and np.mean(free) <= scores["answer_em"] < 1
    assert task.decoded("test/id", by_heart(task, lambda row, place: False)) == {"answer_em": 1, "answer_f1": 1}


def test_official_match_forgives_what_tokens_do_not(tmp_path: Path) -> None:
    task = HotpotQA(path=str(hotpot(tmp_path / "h")), length=400, tokenizer="bytes", answer_tokens=40)
    asked = task.parts["test/id"][0].example.info
    town = asked.golds[0]
    assert task.judge(f"the {town.upper()}!", asked) == {"answer_em": 1, "answer_f1": 1}
    assert task.judge("nowhere", asked)["answer_em"] == 0


def test_tables_are_answered_by_denotation(tmp_path: Path) -> None:
    task = WikiTableQuestions(path=str(tables(tmp_path / "t")), length=160, bpe_vocab=300)
    asked = task.parts["test/id"][0].example.info
    assert task.judge(f"{asked.golds[0]}.0", asked)["answer_em"] == 1 and task.judge("", asked)["answer_em"] == 0
    odd = asked._replace(golds=["a | b"])
    assert task.judge("a | b", odd)["answer_em"] == 1 and task.judge("a", odd)["answer_em"] == 0
    assert task.decoded("test/id", by_heart(task, lambda row, place: False))["answer_em"] == 1


def test_decoding_needs_room() -> None:
    with pytest.raises(ValueError, match="no room"):
        greedy(lambda batch: batch["input_ids"], [np.arange(9)], 3, room=4, length=12)
