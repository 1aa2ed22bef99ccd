"""Mirrors of the metrics: whatever happens to them, the run is unharmed."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy import frozen_plan, make_spec

from experiments.__main__ import program
from experiments.store.store import Lost, Store
from experiments.studies import sync as sync_module
from experiments.training.loggers import MetricsLog, Mirror, mirror_for, read_log, show_again, summary_of
from experiments.training.run import execute
from ressformer.module import SequenceModule


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
        self.summary: dict[str, Any] = {}

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
    module.teardown = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return run, seen


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_failing_wandb_is_harmless(store: Store, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    fake_wandb(monkeypatch, broken)
    spec = make_spec(steps=2, logger={"kind": "wandb"})
    assert execute(spec, store) == "done"


def test_wandb_is_offline_with_a_key_and_no_word_of_online(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    run, seen = fake_wandb(monkeypatch, "")
    spec = make_spec(steps=2, logger={"kind": "wandb", "group": "table"})
    assert execute(spec, store) == "done"
    assert seen["mode"] == "offline" and run.code == 0
    assert (seen["id"], seen["group"], seen["job_type"]) == (spec.id, "table", "toy")
    assert seen["name"].startswith("chain-toy-0-") and seen["tags"] == ["toy", "chain", "toy"]
    assert [step for step, _ in run.logged] == [2, 2] and run.summary["status"] == "done"


def test_under_an_agent_wandb_names_the_run_and_gets_what_is_known_of_one_that_is_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    spec = make_spec(steps=2, logger={"kind": "wandb"})
    run, seen = fake_wandb(monkeypatch, "")
    assert execute(spec, store) == "done"
    assert (seen["mode"], seen["id"]) == ("online", None)
    logged, again = list(run.logged), fake_wandb(monkeypatch, "")[0]
    show_again(spec, store.folder(spec.id), store.record(spec.id))
    assert again.logged == logged and again.summary == run.summary and again.code == 0
    monkeypatch.delenv("WANDB_SWEEP_ID")
    none = fake_wandb(monkeypatch, "")[0]
    show_again(spec, store.folder(spec.id), store.record(spec.id))
    assert none.code is None


def test_sync_prints_the_named_tables_runs_and_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, done, other = (make_spec(seed=seed) for seed in range(3))
    _, plan_file = frozen_plan(store, [mine, done])
    for spec in (mine, done, other):
        (store.folder(spec.id) / "wandb" / f"offline-run-1-{spec.id}").mkdir(parents=True)
    (store.folder(done.id) / "wandb" / f"offline-run-1-{done.id}" / f"run-{done.id}.wandb.synced").touch()
    (store.root / "exports").mkdir()
    for name in ("toy", "toy-timing", "toy-mine", "else"):
        (store.root / "exports" / f"{name}.csv").write_text("a\n1\n")
    made: list[str] = []
    monkeypatch.setattr(sync_module, "log_report", lambda name, root, settings: made.append(name) or "0")
    assert program(["sync", f"plan={plan_file}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].endswith(f"offline-run-1-{mine.id}") and made == ["toy"]
    assert program(["sync", f"results_dir={store.root}"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_interrupted_attempt_leaves_no_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, seen = fake_wandb(monkeypatch, "")
    mirror = mirror_for(make_spec(logger={"kind": "wandb"}), tmp_path)
    mirror.log({"train/loss": 1.0}, 3)
    mirror.finish(None)
    assert not seen


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
    mirror.finish(None)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert rows == [
        {"step": "1", "train/loss": "1.5", "val/accuracy": ""},
        {"step": "2", "train/loss": "", "val/accuracy": "0.5"},
    ]


def test_rewind_drops_later_and_half_written_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 3}\n{"step": 5}\n{"st')
    log = MetricsLog(path, Mirror())
    log.rewind(3, 24)
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n'
    log.log({"x": 0.5}, 4)
    whole = path.read_bytes()
    assert log.state() == {"bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
    log.rewind(0)
    assert path.read_bytes() == b"" and log.hash == ""


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of an offline file: LevelDB's log format (blocks of 32 KiB, a header of 7 bytes per chunk)."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, pending = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if (room := 32768 - position % 32768) < 7:
            position += room
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        pending += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = Record()
            record.ParseFromString(pending)
            yield record
            pending = b""


def items(found: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in found}


def test_every_metric_is_in_the_offline_file_and_no_secret(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef" * 3)
    monkeypatch.setenv("SECRET_OF_MINE", "open-sesame")
    spec = make_spec(logger={"kind": "wandb", "group": "table-x"})
    assert execute(spec, store) == "done"
    (path,) = store.folder(spec.id).glob("wandb/offline-run-*/*.wandb")
    history: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for record in wandb_records(path):
        if record.HasField("history"):
            history.append(items(record.history.item))
        if record.HasField("summary"):
            summary |= items(record.summary.update)
        if record.HasField("run") and record.run.run_id:
            run = record.run
    lines = list(read_log(store.folder(spec.id) / "metrics.jsonl"))
    for line in lines:
        (row,) = [row for row in history if row["_step"] == line["step"]]
        for key, value in line.items():
            assert row[{"step": "_step"}.get(key, key)] == value
    assert sum(len(line) - 1 for line in lines) == sum(not key.startswith("_") for row in history for key in row)
    found = store.record(spec.id)
    assert found is not None
    for key, value in summary_of(found).items():
        assert summary[key] == value
    assert (run.run_id, run.run_group, run.job_type) == (spec.id, "table-x", "toy")
    config = items(run.config.update)
    assert config["model"] == spec.config["model"] and config["steps"] == spec.steps
    uploaded = [path, *(p for p in (path.parent / "files").rglob("*") if p.is_file())]  # the logs stay here
    everything = b"".join(p.read_bytes() for p in uploaded)
    # A host's name of a few letters stands in any binary file by chance.
    host = [os.uname().nodename] if len(os.uname().nodename) >= 6 else []
    for secret in ("0123456789abcdef", "open-sesame", str(Path.home()) + "/", str(store.root), *host):
        assert secret.encode() not in everything, secret


def test_tensorboard_shows_each_step_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    spec = make_spec(logger={"kind": "tensorboard", "group": "table/x"})
    original = SequenceModule.training_step

    def training_step(self: SequenceModule, *rest: Any) -> Any:
        if self.trainer.global_step + 1 == 8:
            raise Lost("stopped after the checkpoint of step 6")
        return original(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceModule, "training_step", training_step)
        assert execute(spec, store) == "busy"
    assert execute(spec, store) == "done"
    name = f"chain-toy-0-{spec.id[:6]}"
    found = events.EventAccumulator(str(store.root / "tensorboard" / "table_x" / name))
    found.Reload()
    for line in read_log(store.folder(spec.id) / "metrics.jsonl"):
        for key in line.keys() - {"step"}:
            (value,) = [event.value for event in found.Scalars(key) if event.step == line["step"]]
            assert value == pytest.approx(line[key], rel=1e-6)
    assert found.Scalars("summary/test/id/accuracy")


@pytest.mark.slow
def test_sync_prints_the_commands_and_makes_the_report_a_run(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    spec = make_spec(steps=2, logger={"kind": "wandb"})
    assert program(["sync", f"results_dir={store.root}"]) == 0
    assert "no offline run" in capsys.readouterr().out
    assert execute(spec, store) == "done"
    (store.root / "exports").mkdir()
    (store.root / "exports" / "toy.csv").write_text("model,mean\na,0.5\nb,\n")
    for _ in range(2):  # the second time nothing is made anew
        capsys.readouterr()
        assert program(["sync", f"results_dir={store.root}"]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wandb sync --project")]
        assert len(lines) == 2 and spec.id in lines[0] and "exports/wandb/offline-run-" in lines[1]
    (table,) = (store.root / "exports").glob("wandb/offline-run-*/files/media/table/tables/*.table.json")
    assert json.loads(table.read_text())["data"][0] == ["a", 0.5]
