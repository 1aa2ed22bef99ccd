"""The text of `language/pydocs`: whole, split by groups of topics, without quotations across splits."""

from __future__ import annotations

from pydoc_data.topics import topics

import numpy as np
import pytest

from tasks.item import Item
from tasks.language.pydocs import BOS, PyDocs, split_texts, topic_groups


def test_every_topic_is_in_one_split_whole() -> None:
    texts = split_texts()
    for name, text in topics.items():
        assert sum(text.encode() in part for part in texts.values()) >= 1, name
    assert sorted(name for group in topic_groups() for name in group) == sorted(topics)
    total = sum(map(len, texts.values()))
    assert 0.75 < len(texts["train"]) / total < 0.9
    assert min(len(texts["validation"]), len(texts["test"])) > 0.05 * total


def test_held_out_text_is_not_in_train() -> None:
    texts = split_texts()
    width = 96
    train = {texts["train"][i : i + width] for i in range(len(texts["train"]) - width)}
    for split in ("validation", "test"):
        text = texts[split]
        shared = np.mean([text[i : i + width] in train for i in range(len(text) - width)])
        assert shared < 0.01, split


def test_groups_share_no_long_paragraph() -> None:
    owner: dict[str, int] = {}
    for number, group in enumerate(topic_groups()):
        for name in group:
            for paragraph in topics[name].split("\n\n"):
                words = " ".join(paragraph.split())
                if len(words) >= 60:
                    assert owner.setdefault(words, number) == number


def test_windows_cover_the_whole_test_text_once() -> None:
    task = PyDocs(n_validation=0)
    for split, owner in (("validation", "validation"), ("test/id", "test")):
        windows = [bytes(item.labels.tolist()) for item in task.eval_items(split)]
        assert b"".join(windows) == split_texts()[owner]


def test_a_part_of_the_windows_is_spread_over_the_text() -> None:
    starts = [item.difficulty["start"] for item in PyDocs(n_validation=8).eval_items("validation")]
    assert len(set(starts)) == 8 and starts[0] == 0 and starts[-1] > 0.7 * len(split_texts()["validation"])


def test_inputs_are_the_labels_shifted_behind_bos() -> None:
    item = PyDocs(length=40).generate("train", 0, 0)
    assert item.input_ids[0] == BOS and (item.input_ids[1:] == item.labels[:-1]).all() and len(item.labels) == 40


def test_check_refuses_text_of_no_split() -> None:
    item = PyDocs().generate("train", 0, 0)
    for position, message in ((0, "BOS"), (9, "no split")):
        ids = item.input_ids.copy()
        ids[position] = 1
        with pytest.raises(ValueError, match=message):
            PyDocs().check(Item(input_ids=ids, labels=item.labels, difficulty={}, canonical=""))


def test_levels_are_those_of_english_bytes() -> None:
    levels = PyDocs().levels["test/id"]
    assert 4 < levels["unigram"] < 5.2 and 3 < levels["bigram"] < levels["unigram"]


def test_aggregate_weighs_by_bytes() -> None:
    import torch

    scores = {
        "bits_per_byte": torch.tensor([1.0, 4.0, float("nan")]),
        "weight": torch.tensor([3.0, 1.0, 0.0]),
    }
    assert PyDocs().aggregate(scores) == {"bits_per_byte": pytest.approx(1.75)}
