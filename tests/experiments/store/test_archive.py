"""The archive: nothing is lost, a store reads it like run folders, and what is changed in it is found."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import fill, make_record, make_spec, table_plan

from experiments.__main__ import program
from experiments.errors import UserError
from experiments.planning.plan import load_plan, plan_files
from experiments.reporting.table import build, write
from experiments.store import atomic_files as atomic
from experiments.store import pack, seal
from experiments.store.archive import Archive
from experiments.store.store import Store

ROOT = Path(__file__).resolve().parents[3]
LOG = '{"step": 4, "train/loss": 1.5, "train/lr": 0.001}\n{"step": 5, "val/accuracy": 0.5}\n'


@pytest.fixture
def full(store: Store) -> Store:
    """Six runs of a table, one of them failed, with logs, a graph, a plan and exports."""
    plan = table_plan()
    fill(store, plan)
    for spec in plan.runs[1:]:
        (store.folder(spec.id) / "metrics.jsonl").write_text(LOG + f'{{"step": 9, "x": {spec.seed}, "y": NaN}}\n{{"st')
    graph = {"split": "test/id", "item": 0, "words": ["a", "b"], "steps": [[[0, 1, 0.5]]]}
    atomic.write_text(store.folder(plan.runs[0].id) / "graph.json", json.dumps(graph))
    store.write_record(make_record(make_spec(seed=77, model="other"), None))
    name, line = plan.frozen()
    atomic.write_bytes(store.root / "plans" / name, line)
    write(build(plan, store), "toy", store)
    return store


def packed(store: Store, to: Path) -> Store:
    pack.write_archive(pack.of_folder(store), to)
    return Store(to, write=False)


def test_a_store_reads_the_archive_like_the_folders(full: Store, tmp_path: Path) -> None:
    found = packed(full, tmp_path / "to")
    assert found.ids() == full.ids() and len(found.ids()) == 7
    for run in full.ids():
        assert found.record(run) == full.record(run)
        assert (found.status(run), found.state(run)) == (full.status(run), full.state(run))
        assert found.log(run) == full.log(run) and found.graph(run) == full.graph(run)
        assert found.raw(run) == full.raw(run)
    assert any(full.log(run) for run in full.ids()) and any(full.graph(run) for run in full.ids())
    assert found.export("toy.csv") == full.export("toy.csv") is not None
    (mine,), (theirs,) = plan_files(found.root / "plans"), plan_files(full.root / "plans")
    assert mine.name == theirs.name and load_plan(mine) == load_plan(theirs)
    found.require_sound()
    assert found.record("nothing") is None and found.log("nothing") == b"" and found.graph("nothing") is None


def test_it_is_unpacked_as_it_was_packed(full: Store, tmp_path: Path) -> None:
    archive = packed(full, tmp_path / "to").archive
    assert archive is not None
    back = tmp_path / "back"
    assert pack.unpack(archive, back) == 7
    for path in [path for path in full.root.rglob("*") if path.is_file()]:
        assert (back / path.relative_to(full.root)).read_bytes() == path.read_bytes()
    assert sorted(p.relative_to(back) for p in back.rglob("*")) == sorted(
        p.relative_to(full.root) for p in full.root.rglob("*")
    )


def test_records_that_were_written_indented_keep_their_hashes(full: Store, tmp_path: Path) -> None:
    before = full.records(full.ids())
    for run, record in before.items():
        (full.folder(run) / "record.json").write_text(record.model_dump_json(indent=1) + "\n")
    found = packed(full, tmp_path / "to")
    assert found.records(found.ids()) == before


numbers = st.floats(allow_nan=False, allow_infinity=False)
scores = st.dictionaries(st.sampled_from(["test/id", "test/ood", "é"]), st.lists(st.none() | numbers, max_size=6))
keys = st.text(string.printable + "é\u2028", max_size=6)
lines = st.binary(max_size=20) | st.dictionaries(keys, numbers | st.integers() | st.text(max_size=3) | st.none()).map(
    lambda values: json.dumps({"step": 3, **values}).encode()
)


@settings(max_examples=60, deadline=None)
@given(items=scores, weights=st.dictionaries(st.just("test/id"), st.lists(numbers, max_size=4)), log=st.lists(lines))
def test_whatever_is_in_a_record_or_log_comes_back(
    tmp_path_factory: pytest.TempPathFactory, items: Any, weights: Any, log: list[bytes]
) -> None:
    record = make_record(make_spec(), 0.5, items=items, item_weights=weights)
    contents = pack.Contents({record.id: seal.record_line(record)}, {record.id: b"\n".join(log)} if any(log) else {})
    root = tmp_path_factory.mktemp("any")
    archive = pack.write_archive(contents, root)  # compares what comes back
    assert Store(root, write=False).record(record.id) == record.sealed()
    assert archive.log(record.id) == contents.logs.get(record.id, b"")


def test_more_runs_are_added_and_a_run_folder_wins(full: Store, tmp_path: Path) -> None:
    here = f"results_dir={full.root}"
    assert program(["pack", here]) == 0
    kept = full.records(full.ids())
    shutil.rmtree(full.root / "runs")
    again = Store(full.root)
    assert again.records(again.ids()) == kept
    new, (old, *_) = make_record(make_spec(seed=5), 0.25), kept.values()
    assert again.write_record(new) and again.write_record(old.model_copy(update={"selected_step": 1}))
    found = again.record(old.id)
    assert found is not None and found.selected_step == 1
    assert program(["pack", here]) == 0
    shutil.rmtree(full.root / "runs")
    last = Store(full.root)
    assert set(last.ids()) == {*kept, new.id} and last.record(new.id) == new.sealed()
    found = last.record(old.id)
    assert found is not None and found.selected_step == 1


def test_a_failed_run_of_the_archive_can_be_retried(full: Store) -> None:
    program(["pack", f"results_dir={full.root}"])
    shutil.rmtree(full.root / "runs")
    again = Store(full.root)
    (failed,) = [run for run in again.ids() if again.state(run) == "failed"]
    again.retire(failed)
    assert again.state(failed) == "planned" and again.record(failed) is None
    assert len(list(again.folder(failed).glob("record.retired-*.json"))) == 1


def test_the_same_runs_give_the_same_lines(full: Store, tmp_path: Path) -> None:
    one, two = (packed(full, tmp_path / name).root / "archive" for name in "ab")
    program(["pack", f"results_dir={full.root}"])
    program(["pack", f"results_dir={full.root}", f"--to={two.parent}"])
    for name in ("records.jsonl.gz", "specs.jsonl.gz", "parts.jsonl.gz", "plans.jsonl.gz"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    records = gzip.decompress((one / "records.jsonl.gz").read_bytes())
    ids = [json.loads(line)["record"]["id"] for line in records.splitlines()]
    assert ids == sorted(ids) and b'"test/id":[' not in records


def verified(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = program(["verify", f"results_dir={root}"])
    return code, capsys.readouterr().out


def test_verify_of_an_archive_derives_all_again(
    full: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "to"
    program(["pack", f"results_dir={full.root}", f"--to={to}"])
    code, text = verified(to, capsys)
    assert code == 0 and text.endswith("sound\n") and "6 records of 6 runs hashed again" in text
    for part in (
        "toy.csv: derived again",
        "cells: 4 rows derived again",
        "intervals: ",
        "1 records of runs that no",
    ):
        assert part in text


@pytest.mark.parametrize(
    "name", ["records.jsonl.gz", "specs.jsonl.gz", "parts.jsonl.gz", "plans.jsonl.gz", "items.parquet", "steps.parquet"]
)
def test_a_change_anywhere_is_found(full: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    to = tmp_path / "to"
    program(["pack", f"results_dir={full.root}", f"--to={to}"])
    path = to / "archive" / name
    good, truth = path.read_bytes(), full.records(full.ids())
    for at in range(0, len(good), max(1, len(good) // 12)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        code, text = verified(to, capsys)
        assert code == 1 and name in text and "faults" in text
        looking = Store(to, write=False)
        with pytest.raises(UserError, match="take the archive anew"):
            looking.require_sound()
        for run in looking.ids():  # no changed value comes out as a record
            found = looking.record(run)
            assert found is None or found == truth[run]
    for cut in (0, 4, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:cut])
        assert verified(to, capsys)[0] == 1


def test_lines_that_changed_places_are_found(full: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids are swapped, and the sums of the files made to fit."""
    root = packed(full, tmp_path / "to").root
    path, index = root / "archive" / "records.jsonl.gz", root / "archive" / "archive.json"
    text = gzip.decompress(path.read_bytes()).decode()
    one, two = (json.loads(line)["record"]["id"] for line in text.splitlines()[:2])
    path.write_bytes(gzip.compress(text.replace(one, "x").replace(two, one).replace('"x"', f'"{two}"').encode()))

    files = json.loads(index.read_text())
    files["files"]["records.jsonl.gz"] = hashlib.sha256(path.read_bytes()).hexdigest()
    index.write_text(json.dumps(files))
    code, text = verified(root, capsys)
    assert code == 1 and one in text and two in text and "does not fit its hash" in text


@pytest.mark.parametrize("name", ["records.jsonl", "records.jsonl.gz"])
def test_a_folder_that_is_called_archive_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "archive").mkdir()
    assert Archive.at(tmp_path) is None
    (tmp_path / "archive" / name).write_text("")
    with pytest.raises(UserError, match="take the archive anew"):
        Archive.at(tmp_path)


def test_corrupt_records_and_plans_are_not_packed(full: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = next((full.root / "plans").glob("*.json"))
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"steps":12', b'"steps":13'))
    with pytest.raises(UserError, match="not as it was frozen"):
        program(["pack", f"results_dir={full.root}"])
    path.write_bytes(good)
    record = full.folder(full.ids()[0]) / "record.json"
    record.write_bytes(record.read_bytes().replace(b'"steps_done":12', b'"steps_done":11'))
    with pytest.raises(UserError, match="corrupt record"):
        program(["pack", f"results_dir={full.root}"])
    assert not (full.root / "archive").exists()


KILLED = """
import os, signal, sys
from experiments.__main__ import program
from experiments.store import pack

left = int(sys.argv[2])
def audit(event, args):
    global left
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree") and armed:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
armed = False
write = pack.write_archive
def arm(*rest):
    global armed
    armed = True
    return write(*rest)
from experiments.studies import archiving
archiving.write_archive = arm
sys.addaudithook(audit)
program(["pack", f"results_dir={sys.argv[1]}"])
"""


@pytest.mark.slow
def test_a_killed_pack_leaves_the_old_or_the_new_archive(full: Store, tmp_path: Path) -> None:
    """Killed at its n-th step on the file system, for many n, with an archive there and with none."""
    program(["pack", f"results_dir={full.root}"])
    old = set(full.ids())
    new = make_record(make_spec(seed=5), 0.25)
    full.write_record(new)
    seen = set()
    for steps in (0, 3, 6, 9, 12, 15, 20, 25, 30, 40, 50, 60, 70, 80, 100, 1000):
        root = tmp_path / f"kill{steps}"
        shutil.copytree(full.root, root)
        for run in old:
            shutil.rmtree(root / "runs" / run)
        done = subprocess.run([sys.executable, "-c", KILLED, str(root), str(steps)], cwd=ROOT, check=False)
        archive = Archive.at(root)
        assert archive is not None and not list(archive.faults())
        assert set(archive.ids) in (old, old | {new.id})
        seen.add((done.returncode == 0, new.id in archive))
        found = Store(root, write=False)
        assert set(found.ids()) == old | {new.id} and len(found.records(found.ids())) == len(old) + 1
        assert program(["pack", f"results_dir={root}"]) == 0  # and the next pack goes through
        assert not (root / "archive.old").exists()
    assert (False, False) in seen and (True, True) in seen


def test_the_twelve_seeds_are_sound(capsys: pytest.CaptureFixture[str]) -> None:
    root = ROOT / "tests" / "data" / "quick_twelve_seeds"
    code, text = verified(root, capsys)
    assert code == 0 and "144 records of 144 runs hashed again" in text
    assert all(f"{name}: " in text for name in ("cells", "intervals", "curves"))
    assert sum(1 for path in root.rglob("*") if path.is_file()) < 20


def test_what_is_committed_is_small() -> None:
    files = [path for path in (ROOT / "results" / "reference").rglob("*") if path.is_file()]
    assert len(files) <= 100 and sum(path.stat().st_size for path in files) <= 6e6
