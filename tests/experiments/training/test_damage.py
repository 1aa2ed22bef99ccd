"""What training reads back is checked: checkpoints byte by byte, metrics.jsonl against the checkpoint."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import make_spec

from experiments.store import seal
from experiments.store.records import Record
from experiments.store.store import Store
from experiments.training.checkpoint import AtomicCheckpointIO, newest, previous
from experiments.training.run import execute
from ressformer.module import SequenceModule


def stopped(store: Store, monkeypatch: pytest.MonkeyPatch, step: int = 8, **trainer: Any) -> Path:
    """The folder of a run that was told to stop at `step`: its checkpoint and, before it, that of step 6."""
    spec = make_spec(trainer=trainer)
    original = SequenceModule.training_step

    def training_step(self: SequenceModule, *rest: Any) -> torch.Tensor:
        if self.trainer.global_step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceModule, "training_step", training_step)
        assert execute(spec, store) == "interrupted"
    return store.folder(spec.id)


def finished(store: Store, **trainer: Any) -> tuple[Record, str]:
    """The record of the run, and its log."""
    spec = make_spec(trainer=trainer)
    assert execute(spec, store) == "done"
    record = store.record(spec.id)
    assert record is not None
    return record, (store.folder(spec.id) / "metrics.jsonl").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, str]:
    """The same run, never stopped."""
    return finished(Store(tmp_path_factory.mktemp("whole")))


def test_no_byte_of_a_checkpoint_can_change(tmp_path: Path) -> None:
    target, draws = tmp_path / "checkpoint.ckpt", random.Random(0)
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"w": torch.ones(500)}, "global_step": 1}, target)
    good = target.read_bytes()
    assert newest(target) == (target, [])
    for at in [*draws.sample(range(len(good)), 60), *range(len(good) - 80, len(good))]:
        target.write_bytes(good[:at] + bytes([good[at] ^ (1 << draws.randrange(8))]) + good[at + 1 :])
        with pytest.raises(ValueError, match="check sum"):
            AtomicCheckpointIO().load_checkpoint(target)
    found, (line,) = newest(target)
    assert found is None and "check sum" in line and "checkpoint.ckpt.corrupt-1" in line
    for size in (0, 10, len(good) - 1):
        target.write_bytes(good[:size])
        assert newest(target)[0] is None


def test_flipped_bytes_in_tensors_give_no_other_result(
    store: Store, monkeypatch: pytest.MonkeyPatch, whole: tuple[Record, str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = stopped(store, monkeypatch) / "checkpoint.ckpt"
    data = bytearray(path.read_bytes())
    torch.load(path, weights_only=True)
    for at in range(len(data) // 2, len(data) // 2 + 64):
        data[at] ^= 0x10
    path.write_bytes(data)
    torch.load(path, weights_only=True)  # torch takes it
    record, log = finished(store)
    assert (record.result_hash, log) == (whole[0].result_hash, whole[1])
    said = capfd.readouterr().out
    assert "check sum" in said and "goes on from checkpoint.ckpt.previous" in said


def emptied(_: str) -> str:
    return ""


def shortened(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[:-1])


def early_edit(text: str) -> str:
    return text.replace('"step": 2', '"step": 1', 1)


def late_edit(text: str) -> str:
    return text.replace('"step": 8', '"step": 7')


def longer(text: str) -> str:
    return text + '{"step": 9, "train/loss": 1.0}\n{"ste'


CHANGES: list[tuple[Callable[[str], str], str]] = [
    (emptied, "begins anew"),
    (shortened, "goes on from checkpoint.ckpt.previous"),
    (early_edit, "begins anew"),
    (late_edit, "goes on from checkpoint.ckpt.previous"),
    (longer, "goes on from checkpoint.ckpt\n"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_a_log_that_was_changed_lacks_no_step_in_the_end(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    whole: tuple[Record, str],
    capfd: pytest.CaptureFixture[str],
    change: Callable[[str], str],
    said: str,
) -> None:
    path = stopped(store, monkeypatch) / "metrics.jsonl"
    before = path.read_text()
    path.write_text(change(before))
    record, log = finished(store)
    assert (record.result_hash, log) == (whole[0].result_hash, whole[1])
    assert said in capfd.readouterr().out
    if said == "begins anew":
        assert path.with_name("metrics.jsonl.corrupt-1").read_text() == change(before)
    assert record.log_hash == seal.short_hash(log.encode())


def test_a_log_that_is_gone_is_written_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch, whole: tuple[Record, str]
) -> None:
    (stopped(store, monkeypatch) / "metrics.jsonl").unlink()
    assert finished(store)[1] == whole[1]


def test_the_record_has_the_threads_of_all_attempts(
    store: Store, monkeypatch: pytest.MonkeyPatch, whole: tuple[Record, str]
) -> None:
    folder = stopped(store, monkeypatch, threads=1)
    record, _ = finished(store, threads=2)
    assert folder.name == record.id
    assert (record.provenance.threads, record.provenance.attempt_threads) == (2, [1, 2])
    assert whole[0].provenance.attempt_threads == []
    assert "attempt_threads" not in json.loads(whole[0].model_dump_json())["provenance"]


def test_a_checkpoint_of_before_is_kept_beside(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stopped(store, monkeypatch) / "checkpoint.ckpt"
    steps = [torch.load(each, weights_only=True)["global_step"] for each in (path, previous(path))]
    assert steps == [8, 6]
