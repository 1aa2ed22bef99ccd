"""What an error of the storage means, wherever it strikes: a run, a record, a lease, the line on the screen.

The file is longer than 300 lines: it is one list of what can befall a disk, and what is said of each.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy import make_record, make_spec

from experiments.errors import explain
from experiments.launching import run_process
from experiments.store import atomic_files as atomic
from experiments.store import blocks, lease
from experiments.store.group_folder import join_group
from experiments.store.provenance import ROOT
from experiments.store.storage_errors import in_words, kind_of, storage_error
from experiments.store.store import Store
from experiments.training.checkpoint import AtomicCheckpointIO
from experiments.training.run import execute

COMES_AND_GOES = ["ESTALE", "EIO", "ETIMEDOUT", "EAGAIN", "EINTR", "ENOTCONN"]
OTHERS = ["EBUSY", "ENOLCK", "EHOSTDOWN", "ENETUNREACH", "EREMOTEIO", "EMFILE", "ENFILE", "ENODATA"]
TO_MEND = ["EACCES", "EPERM", "ENOSPC", "EDQUOT", "EROFS", "EFBIG"]
NO_LINKS = ["ENOTSUP", "ENOSYS", "EMLINK", "EPERM", "EOPNOTSUPP"]
OTHER_NO_LINKS = ["EXDEV", "EINVAL", "EACCES", "ENOTTY"]


def error_of(name: str) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number), "/drive/file")


@pytest.mark.parametrize("name", COMES_AND_GOES + OTHERS)
def test_what_comes_and_goes_leaves_the_checkpoint_and_no_record(
    name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(steps=8)
    real, saves = AtomicCheckpointIO.save_checkpoint, iter(range(99))

    def save(self: Any, *words: Any, **more: Any) -> None:
        if next(saves) == 1:
            raise error_of(name)
        real(self, *words, **more)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", save)
    assert execute(spec, store) == "unsteady"
    assert store.state(spec.id) == "planned" and (store.folder(spec.id) / "checkpoint.ckpt").exists()
    assert [block.kind for block in blocks.found(store.root, [spec.id])] == ["transient"]
    assert execute(spec, store) == "done"


@pytest.mark.parametrize("name", TO_MEND)
def test_what_is_to_be_mended_stops_the_run_and_is_one_line(
    name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(steps=4)

    def save(self: Any, *words: Any, **more: Any) -> None:
        raise RuntimeError("unexpected pos 64 vs 0") from error_of(name)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", save)
    assert execute(spec, store) == "blocked"
    assert store.state(spec.id) == "planned"
    (block,) = blocks.found(store.root, [spec.id])
    assert block.kind in ("permission", "space") and "/drive/file" in block.words
    line = explain(error_of(name))
    assert line == block.words and "\n" not in line


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("k"), FileNotFoundError(2, "no such file", "data.txt")])
def test_an_unknown_error_keeps_its_traceback(error: Exception, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is raised while an error of the storage is handled: it is an error of its own."""

    def planted(*words: Any) -> None:
        try:
            raise error_of("EACCES")
        except OSError:
            raise error  # noqa: B904  its context is what is tried here

    monkeypatch.setattr("experiments.training.fit.build_module", planted)
    assert execute(make_spec(), store) == "failed"
    record = store.record(make_spec().id)
    assert record is not None and record.error is not None and record.error.type == type(error).__name__
    assert "in planted" in record.error.traceback
    assert storage_error(error) is None and explain(error) is None


def test_a_run_that_the_storage_stops_for_a_moment_is_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = iter(["unsteady", "unsteady", "done"])
    pauses: list[float] = []
    monkeypatch.setattr(run_process, "_run_once", lambda *_: next(ends))
    monkeypatch.setattr("time.sleep", pauses.append)
    assert run_process.run_isolated(make_spec(), store) == "done"
    assert pauses == [1.0, 4.0]
    monkeypatch.setattr(run_process, "_run_once", lambda *_: "unsteady")
    assert run_process.run_isolated(make_spec(), store) == "unsteady"


@pytest.mark.parametrize("name", ["ESTALE", "EIO"])
def test_a_record_that_cannot_be_read_for_a_moment_is_read_again(
    name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = make_record(make_spec())
    store.write_record(record)
    real, tries = Path.read_bytes, iter(range(99))

    def read(path: Path) -> bytes:
        if next(tries) < 2:
            raise error_of(name)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert store.record(record.id) is not None


def create(target: str, gate: Any, answers: Any) -> None:
    def no_link(*words: Any, **more: Any) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    os.link = no_link
    gate.wait()
    text = f"{os.getpid()} " * 40_000
    answers.put((atomic.create_bytes(Path(target), text.encode()), text))


def test_without_links_exactly_one_process_makes_the_file(tmp_path: Path) -> None:
    context: Any = multiprocessing.get_context("fork")
    for number in range(10):
        target, gate, answers = tmp_path / f"{number}", context.Event(), context.Queue()
        several = [context.Process(target=create, args=(str(target), gate, answers)) for _ in range(6)]
        for process in several:
            process.start()
        gate.set()
        found = [answers.get() for _ in several]
        for process in several:
            process.join()
        winners = [text for won, text in found if won]
        assert len(winners) == 1 and target.read_text() == winners[0]
    assert len(list(tmp_path.iterdir())) == 10


@pytest.mark.parametrize("name", NO_LINKS + OTHER_NO_LINKS)
def test_a_drive_without_links_holds_runs_as_well(name: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*words: Any, **more: Any) -> None:
        raise error_of(name)

    monkeypatch.setattr(os, "link", no_link)
    spec = make_spec()
    with store.claim(spec.id) as mine:
        assert mine and lease.take(store.folder(spec.id)) is None
        assert store.write_record(make_record(spec)) and not store.write_record(make_record(spec))
    assert store.record(spec.id) is not None and not store.leased(spec.id)


def test_a_record_in_the_making_is_waited_for(store: Store) -> None:
    """On a drive without links a reader may come while the record is half-written."""
    record = make_record(make_spec())
    path = store.folder(record.id) / "record.json"
    whole = record.sealed().model_dump_json(indent=1).encode()
    atomic.write_bytes(path, whole[:200])
    tmp = path.with_name(".record.json.1.tmp")
    tmp.touch()
    code = f"import time; time.sleep(0.5); open({str(path)!r}, 'wb').write({whole!r})"
    with subprocess.Popen([sys.executable, "-c", code]):
        assert store.record(record.id) is not None
    os.utime(tmp, (0, 0))  # its writer died long ago
    path.write_bytes(whole[:200])
    assert store.record(record.id) is None and "set aside" in store.corrupt[-1]


NEARLY_FULL = """
import ctypes, os, sys
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
root = Path(sys.argv[1])
if libc.unshare(0x00020000) or libc.mount(b"none", b"/", None, 0x44000, None):
    sys.exit(77)
if libc.mount(b"none", bytes(root), b"tmpfs", 0, b"size=8m"):
    sys.exit(77)
sys.path.insert(0, sys.argv[2])
from toy import MODEL, frozen_plan, make_spec
from experiments.errors import main
from experiments.store.store import Store
from experiments.studies.reproduce import reproduce
model = {**MODEL, "d_model": 256, "d_ff": 1024}  # a checkpoint of 13 MB
specs = [make_spec(seed=seed, steps=6).model_copy(update={"sizes": model}) for seed in range(2)]
_, path = frozen_plan(Store(root), specs)
(root / "ballast").write_bytes(bytes(5 << 20))
main(lambda: reproduce([f"plan={path}", "launcher=" + sys.argv[3], "launcher.n_jobs=1"]))
"""


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_a_nearly_full_disk_ends_the_launch_with_one_line(launcher: str, tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        NEARLY_FULL,
        str(tmp_path),
        str(ROOT / "tests/experiments"),
        launcher,
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("no right to mount a small disk here")
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: run ") and "No space left on device" in last and "Traceback" not in done.stderr


@pytest.fixture
def umask() -> Any:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_what_is_written_in_a_groups_folder_belongs_to_the_group(tmp_path: Path, umask: None) -> None:
    for mode, shared in ((0o2775, True), (0o2755, False), (0o0775, False), (0o700, False)):
        os.umask(0o027)
        root = tmp_path / f"{mode:o}"
        root.mkdir()
        root.chmod(mode)
        store = Store(root / "deeper" / "results")
        store.write_record(make_record(make_spec()))
        store.write_spec(make_spec())
        atomic.write_text(store.root / "exports" / "x.csv", "x")
        for path in store.root.rglob("*"):
            assert bool(path.stat().st_mode & stat.S_IWGRP) is shared, path


SECOND_USER = """
import sys
sys.path.insert(0, sys.argv[2])
from toy import make_spec
from experiments.errors import main
from experiments.store.store import Store
from experiments.training.run import execute
def body():
    store = Store(sys.argv[1])
    print("state", store.state(make_spec(seed=0).id))
    print("end", execute(make_spec(seed=1, steps=4), store))
main(body)
"""


def as_second_user(root: Path, group: int) -> subprocess.CompletedProcess[str]:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("to be another user one must be root")
    words = [setpriv, "--reuid=54321", f"--regid={group}", "--clear-groups", sys.executable, "-W", "ignore", "-c"]
    environment = {**os.environ, "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*words, SECOND_USER, str(root), str(ROOT / "tests/experiments")],
        capture_output=True, text=True, check=False, env=environment, cwd="/",
    )  # fmt: skip
    if "No module named" in done.stderr or "Fatal Python error" in done.stderr:
        pytest.skip("other users cannot reach the interpreter here")
    return done


def test_a_second_user_of_the_group_goes_on_where_the_first_left(open_folder: Path, umask: None) -> None:
    root = open_folder / "shared"
    root.mkdir()
    os.chown(root, 0, 54000)
    root.chmod(0o2775)
    store = Store(root)
    store.write_record(make_record(make_spec(seed=0)))
    assert execute(make_spec(seed=1, steps=2), store) == "done"  # another run: its folders are there
    with store.claim(make_spec(seed=1, steps=4).id):
        pass
    done = as_second_user(root, 54000)
    assert done.stdout.splitlines()[-2:] == ["state done", "end done"], done.stderr


@pytest.mark.parametrize("what", ["record", "folder", "root"])
def test_what_another_user_may_not_read_is_one_line_and_not_planned(open_folder: Path, what: str, umask: None) -> None:
    root = open_folder / "closed"
    store = Store(root)
    record = make_record(make_spec(seed=0))
    store.write_record(record)
    for path in (root, root / "runs"):
        path.chmod(0o777)
    places: dict[str, tuple[Path, int]] = {
        "record": (store.folder(record.id) / "record.json", 0o600),
        "folder": (store.folder(record.id), 0o700),
        "root": (root, 0o755),
    }
    path, mode = places[what]
    path.chmod(mode)
    done = as_second_user(root, 54000)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "planned" not in done.stdout and done.stderr.count("\n") == 1 and "Permission denied" in done.stderr


def test_the_process_of_another_user_is_alive(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """Where /proc hides the processes of others, a signal that may not be sent tells that there is one."""

    def hidden(path: Path, *words: Any, **more: Any) -> str:
        raise FileNotFoundError(2, "No such file", str(path))

    def forbidden(pid: int, number: int) -> None:
        raise PermissionError

    spec = make_spec()
    with store.claim(spec.id):
        held = lease.held(store.folder(spec.id))
        assert held is not None
        monkeypatch.setattr(lease.os, "kill", forbidden)
        monkeypatch.setattr(Path, "read_text", hidden)
        assert held.alive()


def test_every_number_has_one_meaning() -> None:
    from experiments.store import storage_errors as these

    sets = [these.TRANSIENT, these.PERMISSION, these.SPACE]
    assert sum(map(len, sets)) == len(frozenset().union(*sets))
    for name in ("ENOENT", "EEXIST", "ENOTDIR", "EISDIR", "EPIPE", "EBADF", "EINVAL"):
        assert kind_of(error_of(name)) is None
    for name in COMES_AND_GOES + TO_MEND:
        words: Callable[[OSError], str] = in_words
        assert os.strerror(getattr(errno, name)) in words(error_of(name))
    join_group(Path("/nonexistent"))  # no folder above it but the root
