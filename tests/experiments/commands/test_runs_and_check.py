"""The verbs `runs` and `check`, and `--dry-run`: what they print, and what they leave alone."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from toy import VALUES, fill, make_record, make_spec, table_plan

from experiments.__main__ import program
from experiments.errors import UserError, main
from experiments.store import atomic_files as atomic
from experiments.store.store import Store

CHEATS = """
from dataclasses import dataclass

from ressformer.models import transformer


@dataclass(frozen=True, kw_only=True)
class Mine(transformer.TransformerConfig):
    def build_core(self, *sizes, causal, **named):
        return transformer.TransformerConfig.build_core(self, *sizes, causal=False, **named)
"""


@pytest.fixture
def here(store: Store) -> str:
    fill(store, table_plan())
    failed = make_spec(model="c", seed=7, labelled="c", trainer={"optim": {"lr": 0.5}})
    store.write_record(make_record(failed, None))
    planned = make_spec(model="d", seed=8, labelled="d")
    atomic.write_text(store.folder(planned.id) / "spec.json", planned.model_dump_json())
    return f"results_dir={store.root}"


def rows(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, str]]:
    assert program(["runs", "--csv", *words]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_runs_are_listed_with_what_they_have(here: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, here)
    assert [(r["model"], r["seed"]) for r in found] == [(m, str(s)) for m in "ab" for s in range(3)] + [
        *(("c", "7"), ("d", "8"))
    ]
    for r in found[:6]:
        value = VALUES[r["model"]][int(r["seed"])]
        assert (float(r["validation"]), float(r["test"]), r["status"]) == (value, value, "done")
        assert (float(r["train_flops"]), float(r["seconds"])) == (1e9, 2.0)
    assert [(r["status"], r["test"]) for r in found[6:]] == [("failed", ""), ("planned", "")]


def test_runs_are_filtered_and_sorted(here: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, here, "model=a,b", "status=done", "task=chain", "--sort", "test")
    assert [float(r["test"]) for r in found] == sorted((float(r["test"]) for r in found), reverse=True)
    assert len(found) == 6 and [r["model"] for r in rows(capsys, here, "status=failed")] == ["c"]
    assert [r["model"] for r in rows(capsys, here, "--sort=model")] == list("aaabbbcd")


def test_two_runs_are_compared(here: str, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = rows(capsys, here, "model=a,c")[2:]
    assert program(["runs", one["id"], other["id"][:9], here]) == 0
    out = capsys.readouterr().out
    assert "config.trainer.optim.lr: 0.01 | 0.5" in out and "config.seed: 2 | 7" in out and "val_every" not in out


def test_runs_diff_shows_keys_and_metrics_side_by_side(here: str, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = rows(capsys, here, "model=a,c")[2:]
    assert program(["runs", "diff", one["id"], other["id"][:9], here]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["config.trainer.optim.lr", "0.01", "0.5"] in lines and ["status", "done", "failed"] in lines
    assert any(line[:2] == ["test/id", "accuracy"] and len(line) == 3 for line in lines)
    assert not any("val_every" in word for line in lines for word in line)
    with pytest.raises(UserError, match="takes two runs or more"):
        program(["runs", "diff", one["id"], here])


def test_runs_of_a_table_sorted_by_a_metric(here: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(here.partition("=")[2])
    part = table_plan().model_copy(update={"runs": table_plan().runs[:2]})
    atomic.write_text(store.root / "plans" / "part-1.json", part.model_dump_json())
    found = rows(capsys, here, "table=part", "--sort=accuracy")
    assert {r["id"] for r in found} == {spec.id for spec in part.runs}
    every = rows(capsys, here, "--sort=accuracy")
    assert [float(r["test"]) for r in every[:6]] == [0.92, 0.91, 0.9, 0.52, 0.51, 0.5] and every[6]["test"] == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--sort=tset", "unknown column or metric 'tset' .did you mean test"),
        ("model=e", "unknown model among these runs 'e'"),
        ("tsak=chain", "unknown argument of runs 'tsak' .did you mean task"),
        ("zz", "no run begins with 'zz'"),
    ],
)
def test_what_is_not_there_is_named(words: str, message: str, here: str) -> None:
    with pytest.raises(UserError, match=message):
        program(["runs", here, *words.split()])


SMALL = ("model.d_model=16", "model.n_heads=2", "model.n_layers=1", "--lengths=5,9")


def test_check_prints_every_check_and_the_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert program(["check", "model=transformer", *SMALL]) == 0
    out = capsys.readouterr().out
    for name in ("build", "future", "padding", "batch", "state", "weights", "cost", "gradients"):
        assert f"  ok    {name} " in out
    assert "64 tokens, vocabulary 32, causal" in out and "lengths 5, 9" in out
    assert "FLOPs" in out and out.endswith("every check passed\n")


def test_check_refuses_a_model_of_another_package_that_looks_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text("_target_: model_that_cheats.Mine\n")
    (tmp_path / "model_that_cheats.py").write_text(CHEATS)
    monkeypatch.syspath_prepend(str(tmp_path))
    where = [f"hydra.searchpath=[file://{tmp_path}/conf]", "allow_targets=[model_that_cheats]"]
    assert program(["check", "model=mine", *SMALL, *where]) == 1
    out = capsys.readouterr().out
    assert "  FAIL  future " in out and "failed: future" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("task=chain", "check needs model=NAME"),
        ("model=transfomer", "transfomer"),
        ("model=transformer --lengths=65", "lengths must be in 1..64"),
        ("model=transformer ++model._target_=ressformer.cost.Shape", "is no config of a model"),
    ],
)
def test_check_says_what_is_wrong_with_its_words(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(lambda: program(["check", *words.split()]))
    assert left.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "compare transformer longformer tasks=chain seeds=0 table=smoke",
        "reproduce table=smoke table.tasks=[chain] table.models=[transformer]",
        "sweep model=transformer task=chain task.facts_min=2 trainer.optim.lr=1e-3,2e-3",
    ],
)
def test_a_dry_run_starts_nothing(
    words: str, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def launched(*_: object) -> None:
        raise AssertionError("a run was started")

    monkeypatch.setattr("experiments.launching.launch.Launch.go", launched)
    monkeypatch.setattr("experiments.training.throughput.time_cell", lambda *_: None)
    assert program([*words.split(), "--dry-run", f"results_dir={store.root}"]) == 0
    out = capsys.readouterr().out
    assert "transformer" in out and "FLOPs" in out and "frozen: " in out and not store.ids()
