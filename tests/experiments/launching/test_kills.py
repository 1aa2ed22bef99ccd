"""What may befall a run: a full disk, a folder that can only be read, too little memory, a scheduler's signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import make_record, make_spec

from experiments.errors import UserError
from experiments.store.storage_errors import storage_error
from experiments.store.store import Store
from experiments.training.callbacks import Keeper
from experiments.training.run import execute
from ressformer.module import SequenceModule

# A results folder on a disk of a megabyte; the parent of the process does not see the mount.
FULL = """
import ctypes, os, subprocess, sys
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x00020000) or libc.mount(b"none", b"/", None, 1 << 18 | 1 << 14, None):
    sys.exit(77)
root = Path(sys.argv[1])
if libc.mount(b"tmpfs", bytes(root), b"tmpfs", 0, sys.argv[2].encode()):
    sys.exit(77)
"""

FILL = """
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.training.run import execute
store, spec = Store(root), RunSpec.model_validate_json(sys.stdin.read())
ballast = root / "ballast"
try:
    with open(ballast, "wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
except OSError:
    pass
with open(ballast, "r+b") as file:
    file.truncate(ballast.stat().st_size - int(sys.argv[3]))
ends = [execute(spec, store)]
states = [store.state(spec.id)]
ballast.unlink()
ends.append(execute(spec, store))
print("ends", *ends, *states, store.state(spec.id))
"""


def on_a_small_disk(code: str, root: Path, options: str, *words: str, text: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FULL + code, str(root), options, *words],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("no right to mount a small disk here")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 8_000, 20_000, 60_000, 100_000, 150_000])
def test_a_full_disk_stops_the_run_and_fails_nothing(tmp_path: Path, left: int) -> None:
    """However much there is left: the first attempt stops, and ends well once there is space."""
    said = on_a_small_disk(FILL, tmp_path, "size=1m", str(left), text=make_spec().model_dump_json())
    first, then, between, last = said.splitlines()[-1].split()[1:]
    assert (then, last) == ("done", "done")
    assert (first, between) == ("blocked", "planned") or (left >= 60_000 and first == "done")
    if first == "blocked":
        assert "No space left on device; free the disk and give the same command again" in said


READ_ONLY = """
import os
from experiments.errors import UserError
from experiments.store.store import Store
Store(root)
libc.mount(b"none", bytes(root), None, 32 | 1, None)
try:
    Store(root)
except UserError as error:
    print(error)
print(Store(root, write=False).ids())
"""


def test_a_folder_that_can_only_be_read(tmp_path: Path) -> None:
    said = on_a_small_disk(READ_ONLY, tmp_path, "size=1m").splitlines()
    assert "cannot be written (Read-only file system)" in said[0] and "results_dir=FOLDER" in said[0]
    assert said[1] == "[]"


def test_storage_error_while_a_checkpoint_is_written(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = make_spec()
    real, fsync = os.fsync, iter([None] * 3)

    def full(fd: int) -> None:
        if next(fsync, 1) is not None:
            raise OSError(28, "No space left on device")
        real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert execute(spec, store) == "blocked"
    assert "run " + spec.id + " stopped: No space left on device" in capsys.readouterr().out
    assert store.state(spec.id) == "planned"
    assert execute(spec, store) == "done"


def test_other_errors_are_not_taken_for_a_full_disk() -> None:
    error = ValueError("x")
    error.__cause__ = OSError(28, "full")
    assert storage_error(error) is error.__cause__
    assert storage_error(OSError(2, "no such file")) is None


MEMORY = """
import resource, sys
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.training.run import execute
import experiments.training.fit
from ressformer.module import SequenceModule
import torch
step = SequenceModule.training_step
def greedy(self, *rest):
    self.hoard = torch.zeros(1 << 36)
    return step(self, *rest)
SequenceModule.training_step = greedy
resource.setrlimit(resource.RLIMIT_AS, (1 << 35, 1 << 35))
print("end", execute(RunSpec.model_validate_json(sys.stdin.read()), Store(sys.argv[1])))
"""


def test_out_of_memory_fails_the_run_and_says_so(store: Store) -> None:
    spec = make_spec()
    words = [sys.executable, "-W", "ignore", "-c", MEMORY, str(store.root)]
    done = subprocess.run(words, input=spec.model_dump_json(), text=True, capture_output=True, check=False)
    assert done.returncode == 0 and "end failed" in done.stdout
    record = store.record(spec.id)
    assert record is not None and record.error is not None
    assert "allocate memory" in record.error.message and record.steps_done == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_signals_that_ask_to_stop_finish_the_step_and_save(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, original = make_spec(), SequenceModule.training_step

    def training_step(self: SequenceModule, *rest: Any) -> torch.Tensor:
        if self.trainer.global_step + 1 == 4:
            os.kill(os.getpid(), number)
        return original(self, *rest)

    monkeypatch.setattr(SequenceModule, "training_step", training_step)
    assert execute(spec, store) == "interrupted"
    assert "stopped at step 4; the same command again goes on from there" in capsys.readouterr().out
    assert torch.load(store.folder(spec.id) / "checkpoint.ckpt", weights_only=True)["global_step"] == 4
    assert store.deaths(spec.id) == (0, "")


def test_a_run_that_lost_its_lease_stops_without_a_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a long sleep of the machine, while another went on with the run."""
    spec, original = make_spec(), Keeper.on_train_batch_end

    def steal(self: Keeper, trainer: Any, *rest: Any) -> None:
        original(self, trainer, *rest)
        (store.folder(spec.id) / "lease.7").write_text('{"pid": "1", "machine": "elsewhere", "token": "other"}')

    monkeypatch.setattr(Keeper, "on_train_batch_end", steal)
    assert execute(spec, store) == "busy"
    assert store.record(spec.id) is None and (store.folder(spec.id) / "lease.7").exists()


@pytest.fixture
def twice(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    yield Store(tmp_path / "one"), Store(tmp_path / "two")


def test_the_same_config_and_seed_give_the_same_bytes(twice: tuple[Store, Store]) -> None:
    hashes = []
    for number, store in enumerate(twice):
        spec = make_spec(steps=6, trainer={"checkpoint_every_steps": 2 + number})
        assert execute(spec, store) == "done"
        record = store.record(spec.id)
        assert record is not None
        hashes.append(record.result_hash)
    assert hashes[0] == hashes[1] != ""
    other = make_spec(steps=6, seed=1)
    assert execute(other, twice[0]) == "done"
    record = twice[0].record(other.id)
    assert record is not None and record.result_hash != hashes[0]


def test_a_store_for_looking_sets_nothing_aside(store: Store) -> None:
    spec = make_spec()
    store.write_record(make_record(spec))
    path = store.folder(spec.id) / "record.json"
    path.write_text("torn")
    looking = Store(store.root, write=False)
    assert looking.record(spec.id) is None and path.read_text() == "torn"
    with pytest.raises(UserError, match="corrupt record"):
        looking.require_sound()
