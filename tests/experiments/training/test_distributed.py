"""One run on two processes gives what one process gives for the same global batch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import make_spec

from experiments.errors import UserError
from experiments.planning.settings import TrainerSettings
from experiments.store.records import Record, RunSpec
from experiments.store.store import Store
from experiments.training.distributed import Place, agree, free_port, own_place, share
from experiments.training.run import execute

DDP = {"strategy": "ddp", "devices": 2, "keep_checkpoint": True}


def run_apart(spec: RunSpec, store: Store, code: str = "") -> int:
    """Execute in a process of its own, as every launcher does: torch's process group is one per process."""
    code = f"""
import sys
from experiments.store.records import RunSpec
from experiments.store.store import Store
{code}
from experiments.training.run import execute
print(execute(RunSpec.model_validate_json(sys.stdin.read()), Store(sys.argv[1])))
"""
    words = [sys.executable, "-W", "ignore", "-c", code, str(store.root)]
    return subprocess.run(words, input=spec.model_dump_json(), text=True, check=False).returncode


def found(store: Store, spec: RunSpec) -> tuple[Record, dict[str, Any]]:
    record = store.record(spec.id)
    assert record is not None and record.status == "done"
    return record, torch.load(store.folder(spec.id) / "checkpoint.ckpt", weights_only=True)


def same(one: tuple[Record, dict[str, Any]], two: tuple[Record, dict[str, Any]]) -> None:
    (record, checkpoint), (other, others) = one, two
    for key, value in checkpoint["state_dict"].items():
        torch.testing.assert_close(value, others["state_dict"][key], atol=1e-5, rtol=0)
    for split, metrics in record.metrics.items():
        assert other.metrics[split] == pytest.approx(metrics, abs=1e-5)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    alone, together = Store(tmp_path / "alone"), Store(tmp_path / "together")
    one, two = make_spec(trainer={"keep_checkpoint": True}), make_spec(trainer=DDP)
    assert execute(one, alone) == "done"
    assert run_apart(two, together) == 0
    same(found(alone, one), found(together, two))
    lines = [(store.folder(spec.id) / "metrics.jsonl").read_text() for store, spec in ((alone, one), (together, two))]
    assert lines[0].count("\n") == lines[1].count("\n")


STOP = """
import os, signal
from ressformer.module import SequenceModule
step = SequenceModule.training_step
def stop(self, *rest):
    if self.trainer.global_step == 7:
        os.kill(os.getpid(), {number})
    return step(self, *rest)
SequenceModule.training_step = stop
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_two_processes_stop_and_go_on_together(tmp_path: Path, number: int) -> None:
    alone, together = Store(tmp_path / "alone"), Store(tmp_path / "together")
    one, two = make_spec(trainer={"keep_checkpoint": True}), make_spec(trainer=DDP)
    assert execute(one, alone) == "done"
    assert run_apart(two, together, STOP.format(number=int(number))) in (0, -number)
    saved = torch.load(together.folder(two.id) / "checkpoint.ckpt", weights_only=True)["global_step"]
    assert saved == (8 if number == signal.SIGTERM else 6) and together.record(two.id) is None
    assert run_apart(two, together) == 0
    same(found(alone, one), found(together, two))


JOIN = """
import sys
from pathlib import Path
from experiments.training.distributed import own_place
from experiments.training.distributed import join
from experiments.planning.settings import TrainerSettings
place = own_place(TrainerSettings(strategy="ddp", devices=1, nodes=2))
sys.exit(0 if join(Path(sys.argv[1]), place) else 1)
"""


def meet(monkeypatch: pytest.MonkeyPatch, node: int, port: int) -> None:
    for key, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": node}.items():
        monkeypatch.setenv(key, str(value))


@pytest.mark.slow
def test_two_machines_give_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines that are one: each is given the command with the variables that a scheduler sets.

    The first is killed at step 7, which ends the second one's rank; both go on from the checkpoint of step 6.
    """
    alone, together, port = Store(tmp_path / "alone"), Store(tmp_path / "together"), free_port()
    one = make_spec(trainer={"keep_checkpoint": True})
    two = make_spec(trainer={"strategy": "ddp", "devices": 1, "nodes": 2, "keep_checkpoint": True})
    assert execute(one, alone) == "done"
    words = [sys.executable, "-W", "ignore", "-c", JOIN, str(together.folder(two.id))]
    for code, ends in ((STOP.format(number=int(signal.SIGKILL)), (-signal.SIGKILL, 1)), ("", (0, 0))):
        meet(monkeypatch, 1, port)
        with subprocess.Popen(words) as second:
            meet(monkeypatch, 0, port)
            assert run_apart(two, together, code) == ends[0]
            assert second.wait() == ends[1]
    same(found(alone, one), found(together, two))
    assert not (together.folder(two.id) / "ranks.json").exists()


def test_machines_that_do_not_know_where_to_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainerSettings(strategy="ddp", devices=2, nodes=3)
    meet(monkeypatch, 2, 29500)
    assert own_place(settings) == Place(4, 6, 0, "127.0.0.1", 29500, 3)
    meet(monkeypatch, 3, 29500)
    with pytest.raises(UserError, match=r"NODE_RANK \(0 to 2\) .* got '127.0.0.1', '29500' and '3'"):
        own_place(settings)


def test_shares_make_up_the_batch() -> None:
    labels = torch.tensor([[1, -100], [1, 1], [-100, 1], [1, 1]])
    batch = {"input_ids": torch.arange(8).view(4, 2), "labels": labels}
    parts = [share(batch, Place(rank, 2)) for rank in (0, 1)]
    assert [rows["input_ids"][:, 0].tolist() for rows, _ in parts] == [[0, 4], [2, 6]]
    assert [weight for _, weight in parts] == [2 * 2 / 6, 4 * 2 / 6]  # the mean of weighted means is the mean


def test_a_batch_too_small_for_the_ranks() -> None:
    batch = {"labels": torch.tensor([[1], [-100]])}
    with pytest.raises(UserError, match="batch_size=2 leaves a rank of 2 without a scored position"):
        share(batch, Place(1, 2))


def test_a_lone_process_agrees_with_itself() -> None:
    assert agree(Place(), [1.5, 0.0]) == [1.5, 0.0]
    assert os.environ.get("RANK") is None
