"""The published MQAR curve: its layout and our task's, the loss at what is asked; the benchmark says both figures."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks import mqar
from benchmarks.mqar import Point
from ressformer.module import IGNORE


def test_examples_of_the_published_layout_say_what_is_asked_first() -> None:
    seen = mqar.draw(Point(64, 4), "train", 200, "published")
    assert seen.ids_Nn.shape == seen.labels_Nn.shape == (200, 64)
    for ids, labels in zip(seen.ids_Nn.tolist(), seen.labels_Nn.tolist(), strict=True):
        told = dict(zip(ids[:8:2], ids[1:8:2], strict=True))
        assert len(told) == 4 and max(told) <= mqar.KEYS < min(told.values())
        places = [place for place in range(8, 64) if ids[place]]
        assert places == [place for place, label in enumerate(labels) if label != IGNORE]
        assert len(places) == 4 and all(place % 2 == 0 for place in places)
        assert {ids[place]: labels[place] for place in places} == told


def test_keys_of_an_example_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqar, "KEYS", 5)
    keys_NP = mqar.pairs(Point(64, 4), 500, torch.Generator().manual_seed(0))[:, :, 0]
    assert all(len(set(row)) == 4 for row in keys_NP.tolist())


def test_the_layout_of_the_task_is_its_items() -> None:
    seen = mqar.draw(Point(64, 4), "test/id", 3, "task")
    item = Point(64, 4).task().generate("test/id", 0, 2)
    assert seen.ids_Nn.shape == (3, 20) and seen.ids_Nn[2].tolist() == item.input_ids.tolist()
    assert seen.labels_Nn[2].tolist() == item.labels.tolist()


def test_gaps_follow_the_published_power_law() -> None:
    pairs_NP2 = torch.ones(20_000, 1, 2, dtype=torch.long)
    found = mqar.laid_out(pairs_NP2, Point(64, 1), torch.Generator().manual_seed(0)).labels_Nn[:, 2::2] != IGNORE
    slots = torch.arange(1, 32) ** -0.99
    torch.testing.assert_close(found.double().mean(0), slots.double() / slots.sum(), rtol=0, atol=0.015)


def test_the_head_at_what_is_asked_has_the_loss_of_training() -> None:
    seen = mqar.draw(Point(16, 2), "train", 8, "published")
    module = mqar.build(seen, 16, 1e-3, 0)
    whole = module.training_step({"input_ids": seen.ids_Nn, "labels": seen.labels_Nn}, 0)
    torch.testing.assert_close(cross_entropy(*mqar.answers(module.model, seen)), whole)


@pytest.mark.parametrize("layout", mqar.LAYOUTS)
def test_it_trains_and_says_both_figures(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mqar, "enter", lambda *args: None)
    for name, value in {"KEYS": 31, "VALUES": 2, "HELD": 100, "GLANCE": 50}.items():
        monkeypatch.setattr(mqar, name, value)
    threads = torch.get_num_threads()
    words = ["--points", "8x2", "--widths", "16", "--steps", "60", "--every", "30", "--rate", "1e-2"]
    try:
        assert mqar.main([*words, "--layout", layout, "--out", str(tmp_path)]) in (0, 1)
    finally:
        torch.set_num_threads(threads)
    assert "published" in capsys.readouterr().out
    with (tmp_path / "mqar.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["layout"] == layout and 0.3 < float(row["accuracy"]) <= 1  # of two values it has learned which there are
    assert len((tmp_path / "mqar_curve.csv").read_text().splitlines()) in (2, 3)


def test_a_point_whose_questions_do_not_fit_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("12x4", "64", "63x4", "64x0"):
        with pytest.raises(SystemExit) as ended:
            mqar.main(["--points", wrong])
        assert ended.value.code == 2 and "--points" in capsys.readouterr().err
