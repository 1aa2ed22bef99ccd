"""Mirrors of the metrics: whatever happens to them, the run is unharmed."""

from __future__ import annotations

import csv
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from toy import make_spec

from experiments.mirror import MetricsLog, Mirror, mirror_for
from experiments.runs import Store
from experiments.train import execute


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_SILENT", "WANDB_MODE"):
        monkeypatch.setenv(name, "")  # so that what the mirror sets is undone
        monkeypatch.delenv(name)


def test_wandb_missing(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    spec = make_spec(steps=2, logger={"kind": "wandb"})
    assert execute(spec, store) == "done"
    assert "logger=wandb is off" in capsys.readouterr().out


class FakeRun:
    def __init__(self, broken: str) -> None:
        self.broken, self.logged, self.code = broken, [], None  # type: ignore[var-annotated]

    def log(self, metrics: dict[str, float], step: int) -> None:
        if self.broken == "log":
            raise ConnectionError("no network")
        self.logged.append((step, metrics))

    def finish(self, exit_code: int) -> None:
        self.code = exit_code
        if self.broken == "finish":
            raise RuntimeError("no space")


def fake_wandb(monkeypatch: pytest.MonkeyPatch, broken: str) -> tuple[FakeRun, dict[str, Any]]:
    run, seen = FakeRun(broken), {}  # type: ignore[var-annotated]

    def init(**options: Any) -> FakeRun:
        if broken == "init":
            raise RuntimeError("no key")
        seen.update(options)
        return run

    module = types.ModuleType("wandb")
    module.init, module.Settings = init, lambda **options: options  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return run, seen


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_failing_wandb_is_harmless(store: Store, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    fake_wandb(monkeypatch, broken)
    spec = make_spec(steps=2, logger={"kind": "wandb"})
    assert execute(spec, store) == "done"


def test_wandb_is_offline_with_a_key_and_no_word_of_online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    run, seen = fake_wandb(monkeypatch, "")
    mirror = mirror_for(make_spec(logger={"kind": "wandb"}), tmp_path)
    mirror.log({"train/loss": 1.0}, 3)
    mirror.finish(False)
    assert seen["mode"] == "offline"
    assert run.logged == [(3, {"train/loss": 1.0})] and run.code == 1


def test_wandb_mode_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    _, seen = fake_wandb(monkeypatch, "")
    mirror_for(make_spec(logger={"kind": "wandb"}), tmp_path)
    assert seen["mode"] == "online"


def test_wandb_disabled_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setitem(sys.modules, "wandb", None)
    mirror_for(make_spec(logger={"kind": "wandb"}), tmp_path).log({"x": 1.0}, 1)


def test_csv_has_the_union_of_all_keys(tmp_path: Path) -> None:
    mirror = mirror_for(make_spec(logger={"kind": "csv"}), tmp_path)
    log = MetricsLog(tmp_path / "metrics.jsonl", mirror)
    log.log({"train/loss": 1.5}, 1)
    log.log({"val/accuracy": 0.5}, 2)
    mirror.finish(True)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert rows == [
        {"step": "1", "train/loss": "1.5", "val/accuracy": ""},
        {"step": "2", "train/loss": "", "val/accuracy": "0.5"},
    ]


def test_rewind_drops_later_and_half_written_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 5}\n{"step": 3}\n{"st')
    MetricsLog(path, Mirror()).rewind(3)
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n'
