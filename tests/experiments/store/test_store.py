"""The store: whole-or-absent files, corrupt records, leases."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from toy import make_record, make_spec

from experiments.errors import UserError
from experiments.store import atomic_files as atomic
from experiments.store import lease
from experiments.store.store import Lost, Progress, Store


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    atomic.write_text(target, "old")

    def crash(file: BinaryIO) -> None:
        file.write(b"half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic.write_with(target, crash)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    atomic.write_text(target, "old")
    code = f"""
import os, signal
from pathlib import Path
from experiments.store import atomic_files as atomic
os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
atomic.write_text(Path({str(target)!r}), "new")
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert target.read_text() == "old"


def test_a_record_comes_back_as_it_was_written(store: Store) -> None:
    record = make_record(make_spec(), 0.1 + 0.2)
    assert store.write_record(record)
    found = store.record(record.id)
    assert found == record.sealed() and found.sealed() == found
    assert store.state(record.id) == "done"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 1}', "\x00\x01"])
def test_a_corrupt_record_is_set_aside_and_the_run_is_missing(store: Store, text: str) -> None:
    spec = make_spec()
    path = store.folder(spec.id) / "record.json"
    for number in (1, 2):
        atomic.write_text(path, text)
        assert store.record(spec.id) is None
        aside = path.with_name(f"record.json.corrupt-{number}")
        assert aside.read_text() == text
        assert not path.exists() and store.state(spec.id) == "planned"
        assert spec.id in store.corrupt[-1] and aside.name in store.corrupt[-1]
    with pytest.raises(UserError, match="set aside"):
        store.require_sound()


def test_the_record_of_another_run_is_corrupt(store: Store) -> None:
    one, other = make_spec(seed=0), make_spec(seed=1)
    atomic.write_text(store.folder(one.id) / "record.json", make_record(other).sealed().model_dump_json())
    assert store.record(one.id) is None
    assert other.id in store.corrupt[0]


def test_states(store: Store) -> None:
    spec = make_spec()
    assert store.state(spec.id) == "planned"
    with store.claim(spec.id) as mine:
        assert mine and store.state(spec.id) == "running"
        store.beat(spec.id, Progress(phase="train", step=3, total=9, loss=None, time=0.0))
        progress = store.progress(spec.id)
        assert progress is not None and progress.step == 3
    assert store.state(spec.id) == "planned"
    store.write_record(make_record(spec, None))
    assert store.state(spec.id) == "failed"
    store.retire(spec.id)
    assert store.state(spec.id) == "planned"
    assert len(list(store.folder(spec.id).glob("record.retired-*.json"))) == 1


def _take(root: str, run: str, gate: Any, answers: Any) -> None:
    store = Store(root)
    gate.wait()
    with store.claim(run) as mine:
        answers.put(mine)
        gate.wait()  # until the other one has tried


def test_one_of_two_processes_gets_the_lease(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    gate, answers = context.Barrier(2), context.Queue()
    both = [context.Process(target=_take, args=(str(store.root), "run", gate, answers)) for _ in range(2)]
    for process in both:
        process.start()
    assert sorted(answers.get() for _ in both) == [False, True]
    for process in both:
        process.join()
    answers.close()
    answers.join_thread()


def test_a_dead_process_loses_its_lease(store: Store) -> None:
    code = f"""
import os
from experiments.store.store import Store
claim = Store({str(store.root)!r}).claim("run")
assert claim.__enter__()
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert store.state("run") == "stale"
    with store.claim("run") as mine:
        assert mine


def lease_file(store: Store, number: int = 1, **says: str) -> Path:
    path = store.folder("run") / f"lease.{number}"
    atomic.write_text(path, json.dumps({"pid": "1", "birth": "1", "machine": "elsewhere", "token": "x", **says}))
    return path


def age(path: Path, seconds: float) -> None:
    old = time.time() - seconds
    os.utime(path, (old, old))


def test_a_reused_pid_does_not_keep_a_lease(store: Store) -> None:
    lease_file(store, pid=str(os.getpid()), machine=lease.machine())
    assert not store.leased("run")


def test_a_lease_of_another_machine_lasts_as_long_as_its_heartbeat(store: Store) -> None:
    path = lease_file(store)
    assert store.leased("run")
    age(path, lease.STALE_SECONDS + 1)
    assert not store.leased("run") and store.state("run") == "stale"
    os.utime(path)
    assert store.leased("run") and store.state("run") == "running"


def test_the_heartbeat_goes_on_whatever_the_run_does(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.01)
    with store.claim("run"):
        path = store.folder("run") / "lease.1"
        age(path, 1000)
        while time.time() - path.stat().st_mtime > 500:
            time.sleep(0.01)


def test_a_half_written_lease_is_dead_after_a_while(store: Store) -> None:
    path = store.folder("run") / "lease.1"
    atomic.write_text(path, "{")
    with store.claim("run") as mine:
        assert not mine
    age(path, lease.TORN_SECONDS + 1)
    with store.claim("run") as mine:
        assert mine and [p.name for p in store.folder("run").glob("lease.*")] == ["lease.2"]
    assert not list(store.folder("run").glob("*lease*"))


def test_a_late_claim_of_an_old_number_is_void(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looked before all that happened finds the newer lease and steps back."""
    lease_file(store, 2)
    looked = iter([None])
    real = lease.held
    monkeypatch.setattr(lease, "held", lambda folder: next(looked, real(folder)))
    assert lease.take(store.folder("run")) is None
    assert [p.name for p in store.folder("run").iterdir()] == ["lease.2"]


def test_who_lost_its_lease_writes_no_more(store: Store) -> None:
    spec = make_spec()
    with store.claim(spec.id):
        thief = store.folder(spec.id) / "lease.2"
        atomic.write_text(thief, json.dumps({"pid": "1", "machine": "elsewhere", "token": "y"}))
        with pytest.raises(Lost, match="taken over"):
            store.beat(spec.id, Progress(phase="train", step=1, total=2, loss=None, time=0.0))
        with pytest.raises(Lost):
            store.write_record(make_record(spec))
    assert thief.exists() and store.record(spec.id) is None


def test_a_record_is_written_once(store: Store) -> None:
    spec = make_spec()
    assert store.write_record(make_record(spec, 0.5))
    assert not store.write_record(make_record(spec, 0.7))
    record = store.record(spec.id)
    assert record is not None and record.metrics["test/id"]["accuracy"] == 0.5


def test_deaths_count_until_the_run_gets_further(store: Store) -> None:
    for step, expected in ((0, 1), (0, 2), (5, 1), (5, 2), (4, 3), (9, 1)):
        atomic.write_text(
            store.folder("run") / "progress.json",
            Progress(phase="train", step=step, total=9, loss=None, time=0.0).model_dump_json(),
        )
        store.note_death("run", "killed" if step == 4 else "")
        assert store.deaths("run")[0] == expected
    assert store.deaths("run")[1] == "killed"


def test_hashes_of_a_record(store: Store) -> None:
    """The clock changes the content, not the result; a metric changes both."""
    record = make_record(make_spec()).sealed()
    later = record.measured.model_copy(update={"wall_seconds": 9.0})
    other = record.model_copy(update={"measured": later}).sealed()
    assert other.result_hash == record.result_hash and other.content_hash != record.content_hash
    assert make_record(make_spec(), 0.7).sealed().result_hash != record.result_hash


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written.*results_dir=FOLDER"):
        Store(tmp_path / "file" / "results")
