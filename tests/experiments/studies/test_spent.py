"""What was spent: every record counts, failed ones by the steps they made, and none twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from toy import make_record, make_spec

from experiments.__main__ import program
from experiments.errors import UserError
from experiments.planning.plan import load_plan
from experiments.store.records import Measured
from experiments.store.store import Store
from experiments.studies.named_plan import frozen
from experiments.studies.spent import spent

CLOCK = Measured(
    started="2026-01-01T00:00:00+00:00",
    finished="2026-01-01T01:00:00+00:00",
    wall_seconds=3600.0,
    train_seconds=1800.0,
    tokens_per_second=None,
    peak_memory_mib=None,
)


def test_a_run_of_two_folders_counts_once_and_a_failed_one_by_its_steps(tmp_path: Path) -> None:
    specs = [make_spec(seed=seed) for seed in range(3)]
    first, second = Store(tmp_path / "a"), Store(tmp_path / "deep" / "b")
    for spec in specs:
        first.write_record(make_record(spec, measured=CLOCK))
    shutil.copytree(first.folder(specs[0].id), second.folder(specs[0].id))
    half = make_spec(seed=7)
    second.write_record(make_record(half, None, measured=CLOCK, steps_done=half.steps // 2))
    found = spent(tmp_path)
    assert {name: (one.runs, one.bad, one.seconds, one.training) for name, one in found.items()} == {
        "a": (3, 0, 3 * 3600.0, 3 * 1800.0),
        "deep/b": (2, 1, 2 * 3600.0, 2 * 1800.0),
        "all, each run once": (4, 1, 4 * 3600.0, 4 * 1800.0),
    }
    whole = specs[0].cost.flops_train
    assert found["deep/b"].flops == pytest.approx(whole * (1 + (half.steps // 2) / half.steps))


def test_it_is_a_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path).write_record(make_record(make_spec(), measured=CLOCK))
    assert program(["spent", f"results_dir={tmp_path}"]) == 0
    assert "1.00" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"no records below .*; name a results folder"):
        spent(tmp_path / "nowhere")


def test_a_sweep_is_priced_before_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep=lr", "table=quick", "task=chain", "model=longformer", "trials=3", f"results_dir={tmp_path}"]
    assert program(["plan", *words, "--no-measure"]) == 0
    (path,) = (tmp_path / "plans").glob("lr-quick-*.json")
    assert path.name in capsys.readouterr().out.replace("\n", "")
    entries = load_plan(path).table.entries()
    assert [entry.label for entry in entries] == ["longformer #0", "longformer #1", "longformer #2"]
    assert not (tmp_path / "sweeps").exists()  # a study begins with the sweep
    assert frozen(["sweep=lr", "table=quick", f"results_dir={tmp_path}"])[1] == path
