"""One run: its record, its end, and that an interrupted one ends as an uninterrupted one would, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import make_spec

from experiments.store import atomic_files as atomic
from experiments.store.records import Record, RunSpec
from experiments.store.store import Store
from experiments.training.checkpoint import newest, previous
from experiments.training.run import Run, execute
from ressformer.module import SequenceModule

KEEP = {"keep_checkpoint": True}


def result(store: Store, spec: RunSpec) -> dict[str, Any]:
    """All that must not depend on how often the run was interrupted."""
    record = store.record(spec.id)
    assert record is not None
    folder = store.folder(spec.id)
    checkpoint = torch.load(folder / "checkpoint.ckpt", weights_only=True)
    selected = next(state for key, state in checkpoint["callbacks"].items() if "Selector" in key)
    return {
        "record": record.model_dump(exclude={"measured", "provenance", "content_hash"}),
        "log": [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()],
        "last": {key: value.tolist() for key, value in checkpoint["state_dict"].items()},
        "best": {key: value.tolist() for key, value in selected["weights"].items()},
        "optimiser": str(checkpoint["optimizer_states"]),
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    store, spec = Store(tmp_path_factory.mktemp("whole")), make_spec(trainer=KEEP)
    assert execute(spec, store) == "done"
    return result(store, spec)


def test_the_record_of_a_run(store: Store, uninterrupted: dict[str, Any]) -> None:
    record = uninterrupted["record"]
    assert record["status"] == "done" and record["steps_done"] == 12
    assert set(record["metrics"]) == {"test/id", "test/ood_near", "test/ood_far"}
    items = [value for value in record["items"]["test/id"] if value is not None]
    assert len(record["items"]["test/id"]) == 16
    assert 0 <= record["metrics"]["test/id"]["accuracy"] <= 1 and all(0 <= value <= 1 for value in items)
    assert record["selected_step"] in (5, 10, 12)
    assert record["selection"]["accuracy"] >= 0
    steps = [line["step"] for line in uninterrupted["log"] if "train/loss" in line]
    assert steps == [2, 4, 6, 8, 10, 12]
    validated = [line for line in uninterrupted["log"] if "val/accuracy" in line]
    assert [line["step"] for line in validated] == [5, 10, 12]
    best = max(validated, key=lambda line: line["val/accuracy"])
    assert record["selected_step"] == best["step"]


def test_the_heartbeat_never_goes_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(Run, "beat", lambda self, phase, step, loss: seen.append((phase, step)))
    spec = make_spec()
    assert execute(spec, store) == "done"
    steps = [step for _, step in seen]
    assert steps == sorted(steps) and set(steps) == set(range(spec.steps + 1))
    assert {step for phase, step in seen if phase == "validate"} > {spec.steps}  # while it trains, too
    assert {step for phase, step in seen if phase == "evaluate"} == {spec.steps}


def test_a_finished_run_is_not_run_again(store: Store) -> None:
    spec = make_spec(steps=2)
    assert execute(spec, store) == "done"
    path = store.folder(spec.id) / "record.json"
    before = path.stat().st_mtime_ns
    assert execute(spec, store) == "done"
    assert path.stat().st_mtime_ns == before
    assert not list(store.folder(spec.id).glob("checkpoint*"))


def test_the_record_names_no_path_and_no_host(store: Store) -> None:
    spec = make_spec(steps=1)
    broken = spec.model_copy(update={"sizes": {**spec.sizes, "d_model": 15}})
    assert execute(broken, store) == "failed"
    found = store.record(spec.id)
    assert found is not None
    text = found.model_dump_json()
    for secret in (str(Path.cwd()), str(Path.home()), os.uname().nodename, str(store.root)):
        assert f'"{secret}"' not in text and f"{secret}/" not in text
    record = Record.model_validate_json(text)
    assert record.error is not None and "d_model=15" in record.error.message
    assert "Traceback" in record.error.traceback


KILLED = """
import os, signal, sys
from experiments.training.callbacks import Keeper
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.training.run import execute

after = Keeper.on_train_batch_end

def kill(self, trainer, *rest):
    after(self, trainer, *rest)
    if trainer.global_step == 8:
        os.kill(os.getpid(), signal.SIGKILL)

Keeper.on_train_batch_end = kill
execute(RunSpec.model_validate_json(sys.stdin.read()), Store(sys.argv[1]))
"""


def test_killed_and_started_again_ends_the_same(store: Store, uninterrupted: dict[str, Any]) -> None:
    spec = make_spec(trainer=KEEP)
    words = [sys.executable, "-W", "ignore", "-c", KILLED, str(store.root)]
    done = subprocess.run(words, input=spec.model_dump_json(), text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert store.state(spec.id) == "stale" and store.record(spec.id) is None
    logged = (store.folder(spec.id) / "metrics.jsonl").read_text()
    assert '"step": 8' in logged  # beyond the checkpoint of step 6: these lines must not be there twice
    assert execute(spec, store) == "done"
    assert result(store, spec) == uninterrupted


def noisy(monkeypatch: pytest.MonkeyPatch, stop_at: int | None) -> None:
    """Draw from every generator in each step, as dropout and the like do; stop by SIGTERM after `stop_at`."""
    original = SequenceModule.training_step

    def step(self: SequenceModule, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        noise = float(torch.rand(())) + random.random() + float(np.random.rand())
        if stop_at is not None and self.trainer.global_step + 1 == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx) * (1 + noise)

    monkeypatch.setattr(SequenceModule, "training_step", step)


def test_sigterm_saves_the_step_and_the_generators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, results = make_spec(trainer={**KEEP, "val_every": 4}), []
    for name, stop_at in (("whole", None), ("parts", 5)):
        store = Store(tmp_path / name)
        with monkeypatch.context() as patch:
            noisy(patch, stop_at)
            if stop_at is not None:
                assert execute(spec, store) == "interrupted"
                assert "stopped at step 5; the same command again" in capsys.readouterr().out
                assert store.state(spec.id) == "planned"
        with monkeypatch.context() as patch:
            noisy(patch, None)
            random.seed(99), np.random.seed(99), torch.manual_seed(99)
            assert execute(spec, store) == "done"
        results.append(result(store, spec))
    assert results[0] == results[1]


def test_a_corrupt_checkpoint_is_set_aside_for_the_one_before(
    store: Store, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, Any]
) -> None:
    spec = make_spec(trainer=KEEP)
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        assert execute(spec, store) == "interrupted"
    path = store.folder(spec.id) / "checkpoint.ckpt"
    assert torch.load(previous(path), weights_only=True)["global_step"] == 6
    path.write_bytes(path.read_bytes()[:1000])
    assert execute(spec, store) == "done"
    assert (store.folder(spec.id) / "checkpoint.ckpt.corrupt-1").stat().st_size == 1000
    assert result(store, spec) == uninterrupted


def stop_after(patch: pytest.MonkeyPatch, step: int) -> None:
    original = SequenceModule.training_step

    def training_step(self: SequenceModule, *rest: Any) -> torch.Tensor:
        if self.trainer.global_step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *rest)

    patch.setattr(SequenceModule, "training_step", training_step)


def test_checkpoints_are_whole_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint.ckpt"
    assert newest(target) == (None, [])
    atomic.write_text(target, "no checkpoint")
    found, lines = newest(target)
    assert found is None and "set aside as checkpoint.ckpt.corrupt-1" in lines[0]


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    original = SequenceModule.training_step

    def explode(self: SequenceModule, *rest: Any) -> torch.Tensor:
        return original(self, *rest) * (float("nan") if self.trainer.global_step == 3 else 1.0)

    monkeypatch.setattr(SequenceModule, "training_step", explode)
    spec = make_spec()
    assert execute(spec, store) == "diverged"
    record = store.record(spec.id)
    assert record is not None and record.error is not None
    assert (record.status, record.steps_done, record.metrics) == ("diverged", 3, {})
    assert "step 4" in record.error.message and record.error.traceback == ""


def test_select_last_evaluates_the_last_weights(store: Store) -> None:
    spec = make_spec(steps=6, trainer={"select": "last"})
    assert execute(spec, store) == "done"
    record = store.record(spec.id)
    assert record is not None and record.selected_step == 6


def test_another_process_holds_the_run(store: Store) -> None:
    spec = make_spec()
    with store.claim(spec.id):
        assert execute(spec, store) == "busy"
